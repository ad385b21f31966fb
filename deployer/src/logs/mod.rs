//! Follows the logs of deployed workloads: every line once, none lost, across
//! broken connections, restarted containers and redeploys.
//!
//! Lines are handed on as they come, whatever else the loop is doing.

mod follow;
mod format;
mod position;
mod selection;

use jiff::Timestamp;
use kiln_schemas::event::Events;
use kiln_schemas::model::Logs;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
pub use format::prefix;
pub use selection::{PodLabels, Selection, pods_of};

/// Follows logs until it is dropped.
#[derive(Debug)]
pub struct LogFollower {
    selection: watch::Sender<Selection>,
    task: JoinHandle<()>,
}

impl LogFollower {
    /// Starts following, from now on; see [`LogFollower::start_since`].
    pub fn start(cluster: &Cluster, selection: Selection, settings: Logs, events: Events) -> Self {
        Self::start_since(cluster, selection, settings, events, Timestamp::now())
    }

    /// Starts following. Pods that are older than `since`, the moment at which
    /// applying began, show what they write from then on, newer ones
    /// everything. Each line becomes one `Event::Log`, its text reduced by
    /// `settings.json_fields`.
    ///
    /// Must be called within a Tokio runtime.
    pub fn start_since(
        cluster: &Cluster,
        selection: Selection,
        settings: Logs,
        events: Events,
        since: Timestamp,
    ) -> Self {
        let (sender, receiver) = watch::channel(selection);
        let lines = follow::Lines {
            events,
            fields: settings.json_fields.into(),
            prefix: settings.prefix,
        };
        let task = tokio::spawn(follow::run(cluster.clone(), receiver, lines, since));
        Self {
            selection: sender,
            task,
        }
    }

    /// Follows others from now on; logs that are followed and still selected
    /// go on without a gap.
    pub fn select(&self, selection: Selection) {
        self.selection.send_if_modified(|current| {
            let differs = *current != selection;
            *current = selection;
            differs
        });
    }
}

impl Drop for LogFollower {
    fn drop(&mut self) {
        // The followers of single containers end with the task that owns them.
        self.task.abort();
    }
}
