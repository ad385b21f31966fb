//! What one build works on.

use crate::schema::Schemas;
use crate::yaml::Tree;

/// The trees of all resources, the schemas in use and what a person should
/// hear about.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) tree: Tree,
    pub(crate) schemas: Schemas,
    pub(crate) warnings: Vec<String>,
}

impl Work {
    /// Notes a warning once.
    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }
}
