//! Follows the logs of deployed workloads.

use std::collections::{BTreeMap, BTreeSet};

use kiln_schemas::event::Events;
use kiln_schemas::image::BuiltImage;
use kiln_schemas::model::{LogPrefix, Logs};

use crate::apply::Applied;
use crate::cluster::Cluster;

/// Whose logs are followed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Namespaces that are watched.
    pub namespaces: BTreeSet<String>,
    /// Containers that run one of these images.
    pub images: Vec<BuiltImage>,
    /// All containers of pods with these labels, whatever their image; see
    /// [`pods_of`].
    pub pods: Vec<PodLabels>,
}

/// Pods by their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLabels {
    /// Their namespace.
    pub namespace: String,
    /// Every one of these must be there.
    pub labels: BTreeMap<String, String>,
}

/// The pods of every workload that was applied.
pub fn pods_of(applied: &Applied) -> Vec<PodLabels> {
    todo!()
}

/// Follows logs until it is dropped.
#[derive(Debug)]
pub struct LogFollower {}

impl LogFollower {
    /// Starts following; only lines written from now on are shown. Each line
    /// becomes one `Event::Log`, its text reduced by `settings.json_fields`.
    pub fn start(cluster: &Cluster, selection: Selection, settings: Logs, events: Events) -> Self {
        todo!()
    }

    /// Follows others from now on; logs that are followed and still selected
    /// go on without a gap.
    pub fn select(&self, selection: Selection) {
        todo!()
    }
}

/// What stands in front of a line: `[container]`, `[pod container]` or
/// nothing; with a trailing space unless empty.
pub fn prefix(mode: LogPrefix, pod: &str, container: &str) -> String {
    todo!()
}
