//! Files that go into running containers without a build.

use serde::{Deserialize, Serialize};

use super::HookPair;

/// File sync of one artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// Which files go where.
    pub rules: SyncRules,
    /// Commands on this host around a sync.
    pub hooks: HookPair,
}

/// Which files go where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SyncRules {
    /// Globs below the context with their destinations.
    Manual(Vec<ManualSync>),
    /// Globs below the context; the COPY and ADD instructions of the last
    /// stage say where each file goes.
    Inferred(Vec<String>),
}

/// One manual rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManualSync {
    /// Glob below the context.
    pub src: String,
    /// Folder in the container; a relative one is below the image's WORKDIR.
    pub dest: String,
    /// Prefix that is cut off the source's path.
    pub strip: String,
}
