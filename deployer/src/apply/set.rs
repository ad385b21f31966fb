//! The ApplySet of a module: its name, its id, its parent object.

/// Identifies what one module of a project deployed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetName {
    /// The project's name.
    pub project: String,
    /// The module's name.
    pub module: String,
    /// Where the parent object lives: the namespace that is deployed to.
    pub namespace: String,
}

/// Why a set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetError {}
