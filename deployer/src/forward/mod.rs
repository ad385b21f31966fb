//! Ports of workloads on this machine.

use kiln_schemas::event::Events;
use kiln_schemas::model::ForwardPort;

use crate::cluster::Cluster;
use crate::object::Object;

/// One port to forward, with templates expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Kind, lower case: `service`, `deployment`, `pod`, ….
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Port of the resource.
    pub port: ForwardPort,
    /// Address to listen on.
    pub address: String,
    /// Port to listen on; absent means the resource's own, or the next free.
    pub local_port: Option<u16>,
}

/// Why nothing is forwarded.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {}

/// Forwards until it is dropped; survives redeploys.
#[derive(Debug)]
pub struct Forwarder {}

impl Forwarder {
    /// Listens for every target. A local port that was asked for and is taken
    /// is an error at once.
    pub async fn start(
        cluster: &Cluster,
        targets: Vec<Target>,
        events: &Events,
    ) -> Result<Self, ForwardError> {
        todo!()
    }
}

/// Every TCP port of every Service among `objects` (`--port-forward=services`).
pub fn services(objects: &[Object], default_namespace: &str) -> Vec<Target> {
    todo!()
}
