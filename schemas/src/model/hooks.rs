//! Commands on the developer's machine around a phase.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Commands before and after something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookPair {
    /// Before; one that fails stops the phase.
    pub before: Vec<HostHook>,
    /// After success.
    pub after: Vec<HostHook>,
}

impl HookPair {
    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    /// The pair without the hooks before that name their outputs.
    #[must_use]
    pub fn without_outputs(&self) -> Self {
        let before = self.before.iter().filter(|hook| hook.outputs.is_empty());
        Self {
            before: before.cloned().collect(),
            after: self.after.clone(),
        }
    }
}

/// One command on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostHook {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Only on these systems (Go's names); empty means all.
    pub os: Vec<String>,
    /// Where it runs, absolute; the module's folder when absent.
    pub dir: Option<PathBuf>,
    /// Files and folders that it reads, absolute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<PathBuf>,
    /// Files that it makes, absolute. With outputs it is skipped while each of them is newer than
    /// every input, and run before the image's files are looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<PathBuf>,
}

/// A command after rendering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderHook {
    /// The command.
    pub hook: HostHook,
    /// It gets the manifests on stdin and its stdout replaces them.
    pub with_change: bool,
}
