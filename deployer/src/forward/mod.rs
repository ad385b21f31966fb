//! Ports of workloads on this machine: one listener per port that stays, and
//! for each connection that it accepts the newest ready pod of that moment. So
//! a forward survives redeploys, and nothing has to be restarted.

mod connection;
mod listener;
mod resolve;

use std::io;

use kiln_schemas::event::{Event, Events, Failure};
use kiln_schemas::model::ForwardPort;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, RequestError};
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
    /// Port to listen on, which must be free; absent means the resource's
    /// own, or the next free one.
    pub local_port: Option<u16>,
}

impl Target {
    /// `service/web`, as events name it.
    pub fn resource(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}

/// Why nothing is forwarded.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The local port that was asked for is taken.
    #[error("port {port} on {address} is in use, and {resource} is to be forwarded to it")]
    Occupied {
        /// Address.
        address: String,
        /// Port.
        port: u16,
        /// `service/web`.
        resource: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address} for {resource}")]
    Listen {
        /// Address, with the port where one was asked for.
        address: String,
        /// `service/web`.
        resource: String,
        /// Why.
        source: io::Error,
    },
    /// The server serves no such kind.
    #[error("cannot forward {resource}: the cluster serves no kind `{kind}`")]
    Kind {
        /// `service/web`.
        resource: String,
        /// As written.
        kind: String,
    },
    /// There is no such object.
    #[error("cannot forward {resource}: there is none in namespace {namespace}")]
    Absent {
        /// `service/web`.
        resource: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// The resource selects no pods.
    #[error("cannot forward {resource}: it selects no pods")]
    NoSelector {
        /// `service/web`.
        resource: String,
    },
    /// The resource has no such port.
    #[error("cannot forward {resource}: it has no port {port}; it has {has}")]
    NoPort {
        /// `service/web`.
        resource: String,
        /// As configured.
        port: String,
        /// The ports that it has.
        has: String,
    },
    /// The server could not be asked.
    #[error("cannot forward {resource}")]
    Request {
        /// `service/web`.
        resource: String,
        /// Why.
        source: RequestError,
    },
}

impl ForwardError {
    /// The error in the shape that every renderer shows.
    pub fn failure(&self) -> Failure {
        let failure = Failure::from_error(self);
        match self {
            Self::Occupied { .. } => {
                failure.hint("Stop what listens there, or change or remove localPort.")
            }
            _ => failure,
        }
    }
}

/// Forwards until it is dropped; survives redeploys.
#[derive(Debug)]
pub struct Forwarder {
    // Dropping the set ends every listener and every connection.
    _tasks: JoinSet<()>,
}

impl Forwarder {
    /// Listens for every target and says each with `Event::Forwarding`. A
    /// local port that was asked for and is taken is an error at once; then
    /// nothing is forwarded.
    ///
    /// Must be called within a Tokio runtime.
    pub async fn start(
        cluster: &Cluster,
        targets: Vec<Target>,
        events: &Events,
    ) -> Result<Self, ForwardError> {
        // Ports that the user named go first, so that none of them is taken
        // by a target that would have been content with another.
        let (named, free): (Vec<_>, Vec<_>) = targets
            .into_iter()
            .partition(|target| target.local_port.is_some());
        let mut bound: Vec<(Target, u16, TcpListener)> = Vec::new();
        for target in named.into_iter().chain(free) {
            let remote = resolve::port_number(cluster, &target).await?;
            let listener = listener::bind(&target, remote).await?;
            bound.push((target, remote, listener));
        }
        let mut tasks = JoinSet::new();
        for (target, remote, listener) in bound {
            let local = listener
                .local_addr()
                .map_err(|source| ForwardError::Listen {
                    address: target.address.clone(),
                    resource: target.resource(),
                    source,
                })?;
            let said = Event::Forwarding {
                resource: target.resource(),
                local: local.to_string(),
                remote,
            };
            events.emit(said.clone());
            tasks.spawn(connection::serve(
                cluster.clone(),
                target,
                listener,
                events.clone(),
                said,
            ));
        }
        Ok(Self { _tasks: tasks })
    }
}

/// Every TCP port of every Service among `objects` that selects pods
/// (`--port-forward=services`).
pub fn services(objects: &[Object], default_namespace: &str) -> Vec<Target> {
    let services = objects
        .iter()
        .filter(|object| object.group_kind() == "Service");
    let mut targets = Vec::new();
    for service in services {
        let spec = &service.value()["spec"];
        let selects = spec["selector"]
            .as_object()
            .is_some_and(|selector| !selector.is_empty());
        if !selects || spec["type"] == "ExternalName" {
            continue;
        }
        let ports = spec["ports"].as_array().into_iter().flatten();
        let tcp = ports.filter(|port| {
            port["protocol"]
                .as_str()
                .is_none_or(|protocol| protocol == "TCP")
        });
        let numbers = tcp.filter_map(|port| {
            port["port"]
                .as_u64()
                .and_then(|port| u16::try_from(port).ok())
        });
        targets.extend(numbers.map(|port| Target {
            kind: "service".into(),
            name: service.name().to_owned(),
            namespace: service.namespace().unwrap_or(default_namespace).to_owned(),
            port: ForwardPort::Number(port),
            address: "127.0.0.1".into(),
            local_port: None,
        }));
    }
    targets
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_tcp_port_of_a_service_with_pods_is_a_target() {
        let service = |name: &str, spec: serde_json::Value| {
            Object::new(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})).unwrap()
        };
        let objects = [
            service(
                "web",
                json!({"selector": {"app": "web"}, "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}),
            ),
            service("outside", json!({"ports": [{"port": 80}]})),
            service(
                "alias",
                json!({"type": "ExternalName", "selector": {"a": "b"}, "ports": [{"port": 80}]}),
            ),
        ];
        let targets = services(&objects, "shop");
        assert_eq!(targets.len(), 1);
        assert_eq!(
            (targets[0].resource().as_str(), &targets[0].port),
            ("service/web", &ForwardPort::Number(80))
        );
        assert_eq!(targets[0].namespace, "shop");
    }
}
