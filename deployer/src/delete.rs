//! Takes down what a module deployed.

use kiln_schemas::event::{Events, Failure};

use crate::apply::{Prune, SetName};
use crate::cluster::{Cluster, RequestError};
use crate::object::Object;

/// How dependents of a deleted object go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cascade {
    /// After the object, by the garbage collector.
    #[default]
    Background,
    /// Before the object.
    Foreground,
}

/// How to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeleteSettings {
    /// What may be deleted; [`Prune::Off`] deletes nothing.
    pub reach: Prune,
    /// How dependents go.
    pub cascade: Cascade,
    /// Wait until everything is gone, at most this long.
    pub wait: Option<std::time::Duration>,
}

/// Why deleting failed.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {}

impl DeleteError {
    /// The error in the shape that every renderer shows.
    pub fn failure(&self) -> Failure {
        Failure::from_error(self)
    }
}

/// Deletes every member of the set, and those of `rendered` that are not in
/// any set (as when an older tool deployed them); then the set itself.
pub async fn delete(
    cluster: &Cluster,
    set: &SetName,
    rendered: &[Object],
    settings: &DeleteSettings,
    events: &Events,
) -> Result<(), DeleteError> {
    todo!()
}
