//! What a reader must be told about the world, because it does not look.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;
use crate::model::Project;

/// The world around a configuration, passed in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Environment variables of the process.
    pub vars: BTreeMap<String, String>,
    /// The working directory, absolute.
    pub cwd: PathBuf,
    /// The kube-context in effect, if there is one.
    pub kube_context: Option<String>,
    /// The command that runs: `dev`, `run`, `build`, ….
    pub command: String,
}

impl Environment {
    /// `path` made absolute: `~/` is the home folder, a relative path is
    /// below `base`. `.` components vanish, `..` stays for the kernel.
    pub(crate) fn resolve(&self, base: &Path, path: &str) -> PathBuf {
        let expanded = self.expand_home(path);
        base.join(expanded).components().collect()
    }

    /// `~` and `~/…` with the home folder, when it is known.
    pub(crate) fn expand_home(&self, path: &str) -> PathBuf {
        let home = self.vars.get("HOME").filter(|home| !home.is_empty());
        match (path.strip_prefix('~'), home) {
            (Some(""), Some(home)) => PathBuf::from(home),
            (Some(rest), Some(home)) if rest.starts_with('/') => Path::new(home).join(&rest[1..]),
            _ => PathBuf::from(path),
        }
    }
}

/// Which profiles the user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileChoice {
    /// As given on the command line, in order; a leading `-` deactivates.
    pub names: Vec<String>,
    /// Whether profiles may activate themselves.
    pub automatic: bool,
}

impl Default for ProfileChoice {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            automatic: true,
        }
    }
}

impl ProfileChoice {
    /// The names that are switched on, in order, without duplicates.
    pub(crate) fn wanted(&self) -> Vec<&str> {
        let mut wanted: Vec<&str> = Vec::new();
        for name in &self.names {
            if !name.starts_with('-') && !wanted.contains(&name.as_str()) {
                wanted.push(name);
            }
        }
        wanted
    }

    /// The names that are switched off.
    pub(crate) fn unwanted(&self) -> Vec<&str> {
        self.names
            .iter()
            .filter_map(|name| name.strip_prefix('-'))
            .collect()
    }
}

/// A configuration that was read without an error.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What it says.
    pub project: Project,
    /// What the user should know although it stops nothing.
    pub notes: Vec<Diagnostic>,
}
