//! Waits until what was applied is ready.

use std::time::Duration;

use kiln_schemas::event::{Events, Failure, ObjectName};
use kiln_schemas::model::StatusCheck;

use crate::apply::Applied;
use crate::cluster::{Cluster, RequestError};

/// Everything became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// How many objects were waited for.
    pub objects: usize,
    /// How long it took.
    pub took: Duration,
}

/// Why waiting ended without success.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {}

impl NotReady {
    /// The error in the shape that every renderer shows.
    pub fn failure(&self) -> Failure {
        Failure::from_error(self)
    }
}

/// Watches what was applied until all of it is ready, one object fails beyond
/// repair (unless failures are tolerated) or the deadline passes. Says each
/// change of state with [`kiln_schemas::event::Event::Status`] and the end
/// with `DeployReady`.
pub async fn wait_ready(
    cluster: &Cluster,
    applied: &Applied,
    check: &StatusCheck,
    events: &Events,
) -> Result<Ready, NotReady> {
    todo!()
}
