//! Sync or rebuild: decided from the changed files and the rules.

use std::path::PathBuf;

use kiln_schemas::image::BuiltImage;
use kiln_schemas::model::SyncRules;

/// Files that differ from what is in the image; paths below the context, with
/// `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// New or changed.
    pub written: Vec<String>,
    /// Gone.
    pub deleted: Vec<String>,
}

/// What to do in the containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Context-relative source and absolute destination.
    pub copies: Vec<(String, PathBuf)>,
    /// Absolute paths.
    pub deletions: Vec<PathBuf>,
}

/// What a change of files asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Copy and delete.
    Sync(Plan),
    /// Build, because of this.
    Rebuild(String),
}

/// Decides; a sync only when every file has a place.
pub fn plan(changes: &Changes, rules: &SyncRules, image: &BuiltImage) -> Decision {
    todo!()
}
