//! The one module that touches YAML crates: text to a tree that keeps its
//! places, text to JSON values as kubectl sees them, and values back to text.
//!
//! Two sets of scalar rules exist because Kubernetes' tools disagree:
//! manifests are read by `sigs.k8s.io/yaml` (YAML 1.1 booleans, octal numbers,
//! integral floats become integers), configuration by `yaml.v3`.

mod compose;
mod emit;
mod manifest;
mod node;
mod scalar;

pub use emit::{EmitError, to_string};
pub use manifest::manifests;
pub use node::{Content, Key, Map, Node, Source, Span};

use crate::diagnostic::Diagnostic;

/// Reads configuration: every document that is not empty, in order, by the
/// rules of `yaml.v3` (`yes` is a string, `0777` is 511, merge keys are
/// merged). Duplicate keys are errors.
pub fn parse(text: &str, file: &str) -> Result<Vec<Node>, Diagnostic> {
    compose::documents(&Source::new(file, text), scalar::Rules::Config)
}

/// Whether a text without quotes is the same string to every reader of YAML,
/// as far as its type goes; its punctuation is the caller's concern.
pub(crate) fn is_plain_string(text: &str) -> bool {
    matches!(
        scalar::resolve(text, scalar::Rules::Kubectl),
        Ok(serde_json::Value::String(_))
    )
}

#[cfg(test)]
mod tests;
