//! One accepted connection: choose a pod, carry bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kiln_schemas::event::{Event, Events};
use kiln_schemas::model::ForwardPort;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Target;
use super::resolve::{Pods, backend, container_port};
use crate::cluster::Cluster;

/// How long a connection waits for a ready pod, as in the middle of a
/// redeploy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Carries the connections of one target.
struct Carrier {
    cluster: Cluster,
    target: Target,
    events: Events,
    /// What is said again when a forward that was lost works again.
    forwarding: Event,
    lost: AtomicBool,
}

/// Accepts connections for ever.
pub(super) async fn serve(
    cluster: Cluster,
    target: Target,
    listener: TcpListener,
    events: Events,
    forwarding: Event,
) {
    let carrier = Arc::new(Carrier {
        cluster,
        target,
        events,
        forwarding,
        lost: AtomicBool::new(false),
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => drop(connections.spawn(Arc::clone(&carrier).carry(socket))),
                // Out of file descriptors: it passes when connections end.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Carrier {
    async fn carry(self: Arc<Self>, socket: TcpStream) {
        match self.connect(socket).await {
            Ok(()) => {
                if self.lost.swap(false, Ordering::Relaxed) {
                    self.events.emit(self.forwarding.clone());
                }
            }
            // Said once until it works again: clients try often.
            Err(reason) => {
                if !self.lost.swap(true, Ordering::Relaxed) {
                    self.events.emit(Event::ForwardLost {
                        resource: self.target.resource(),
                        reason,
                    });
                }
            }
        }
    }

    /// Carries a connection to its end; the error is for the user.
    async fn connect(&self, mut socket: TcpStream) -> Result<(), String> {
        let backend = backend(&self.cluster, &self.target)
            .await
            .map_err(|error| chain(&error))?;
        let pods: Api<Pod> = Api::namespaced(self.cluster.client().clone(), &self.target.namespace);
        let pod = newest_ready(pods.clone(), &backend.pods).await?;
        let name = pod.metadata.name.clone().unwrap_or_default();
        let port = port_in(&pod, &backend.port)
            .ok_or_else(|| format!("pod {name} has no port named {:?}", backend.port))?;
        let failed =
            |error: kube::Error| format!("cannot reach port {port} of pod {name}: {error}");
        let mut forward = pods.portforward(&name, &[port]).await.map_err(failed)?;
        let (Some(mut stream), Some(error)) = (forward.take_stream(port), forward.take_error(port))
        else {
            return Err(format!("cannot reach port {port} of pod {name}"));
        };
        // An error of the kubelet ends the connection; it says what the bytes
        // cannot. A reset by either end is the connection's own business.
        tokio::select! {
            biased;
            Some(error) = error => Err(format!("port {port} of pod {name}: {}", error.trim())),
            _ = copy_bidirectional(&mut socket, &mut stream) => Ok(()),
        }
    }
}

/// The newest pod that is ready, waiting for one if there is none.
async fn newest_ready(api: Api<Pod>, pods: &Pods) -> Result<Pod, String> {
    let config = match pods {
        Pods::Named(name) => watcher::Config::default().fields(&format!("metadata.name={name}")),
        Pods::Selected(selector) => watcher::Config::default().labels(selector),
    };
    let found = async {
        let mut events = watcher(api, config).default_backoff().boxed();
        let mut best: Option<Pod> = None;
        let mut listed = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => (best, listed) = (None, false),
                Ok(watcher::Event::InitDone) => listed = true,
                Ok(watcher::Event::InitApply(pod) | watcher::Event::Apply(pod))
                    if is_ready(&pod) =>
                {
                    best = newer(best, pod);
                }
                Ok(_) => {}
                Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) => {
                    return Err(status.message);
                }
                Err(_) => {}
            }
            if listed && let Some(pod) = best.take() {
                return Ok(pod);
            }
        }
        Err("the watch on its pods ended".to_owned())
    };
    tokio::time::timeout(PATIENCE, found)
        .await
        .unwrap_or_else(|_| {
            Err(format!(
                "no pod became ready within {} s",
                PATIENCE.as_secs()
            ))
        })
}

fn newer(best: Option<Pod>, pod: Pod) -> Option<Pod> {
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    match best {
        Some(best) if created(&best) >= created(&pod) => Some(best),
        _ => Some(pod),
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn port_in(pod: &Pod, port: &ForwardPort) -> Option<u16> {
    match port {
        ForwardPort::Number(number) => Some(*number),
        ForwardPort::Name(name) => container_port(&serde_json::to_value(&pod.spec).ok()?, name),
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
