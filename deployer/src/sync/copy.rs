//! Copies files into containers with tar over exec.

use std::collections::BTreeSet;
use std::path::Path;

use kiln_schemas::event::Events;
use kiln_schemas::image::BuiltImage;

use super::rule::Plan;
use crate::cluster::Cluster;

/// Why files were not copied; the caller builds instead.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {}

/// Where a plan is carried out.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// The folder that the plan's sources are below.
    pub context: &'a Path,
    /// Namespaces in which running containers of the image are looked for.
    pub namespaces: &'a BTreeSet<String>,
}

/// Carries a plan out in every running container of the image and says it
/// with `Event::Synced`. No running container is an error.
pub async fn copy(
    cluster: &Cluster,
    place: &Place<'_>,
    image: &BuiltImage,
    plan: &Plan,
    events: &Events,
) -> Result<usize, SyncError> {
    todo!()
}
