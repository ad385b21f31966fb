//! Follows one pod. The API server ends watches when it likes to; this one is
//! taken up again until the pod is gone.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ResourceExt, WatchEvent, WatchParams};
use tokio::sync::mpsc;

use super::error::ApiError;

/// Failures in a row after which the watch is given up.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const GONE: u16 = 410;

/// One observation.
#[derive(Debug)]
pub(super) enum Seen {
    /// The pod as it is now.
    Pod(Box<Pod>),
    /// It does not exist any more.
    Gone,
    /// It cannot be followed.
    Lost(ApiError),
}

/// Observations of a pod from `created` on. Ends after `Gone` or `Lost`, or
/// when the receiver is dropped.
pub(super) fn follow(pods: Api<Pod>, namespace: String, created: Pod) -> mpsc::Receiver<Seen> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut watch = Watch {
            name: created.name_any(),
            version: created.resource_version().unwrap_or_default(),
            pods,
            namespace,
            sender,
        };
        let mut failures = 0;
        while !watch.sender.is_closed() {
            match watch.once().await {
                Ok(Flow::Again) => failures = 0,
                Ok(Flow::Stop) => return,
                Err(error) if failures < ATTEMPTS => {
                    tracing::debug!(%error, "watching the build pod again");
                    tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(failures)).await;
                    failures += 1;
                }
                Err(error) => {
                    let lost = ApiError::new("watch the build pod", &watch.namespace, error);
                    let _ = watch.sender.send(Seen::Lost(lost)).await;
                    return;
                }
            }
        }
    });
    receiver
}

struct Watch {
    pods: Api<Pod>,
    namespace: String,
    name: String,
    version: String,
    sender: mpsc::Sender<Seen>,
}

enum Flow {
    Again,
    Stop,
}

impl Watch {
    /// One watch request, until the server ends it.
    async fn once(&mut self) -> Result<Flow, kube::Error> {
        if self.version.is_empty() {
            // The version is too old to watch from: look, and go on from there.
            let Some(pod) = self.pods.get_opt(&self.name).await? else {
                return Ok(self.tell(Seen::Gone).await);
            };
            self.version = pod.resource_version().unwrap_or_default();
            self.tell(Seen::Pod(Box::new(pod))).await;
        }
        let params = WatchParams::default().fields(&format!("metadata.name={}", self.name));
        let mut events = self.pods.watch(&params, &self.version).await?.boxed();
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    self.version = pod.resource_version().unwrap_or_default();
                    if let Flow::Stop = self.tell(Seen::Pod(Box::new(pod))).await {
                        return Ok(Flow::Stop);
                    }
                }
                WatchEvent::Deleted(_) => return Ok(self.tell(Seen::Gone).await),
                WatchEvent::Bookmark(mark) => self.version = mark.metadata.resource_version,
                WatchEvent::Error(status) if status.code == GONE => {
                    self.version.clear();
                    return Ok(Flow::Again);
                }
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
        Ok(Flow::Again)
    }

    async fn tell(&self, seen: Seen) -> Flow {
        let last = matches!(seen, Seen::Gone);
        let heard = self.sender.send(seen).await.is_ok();
        if last || !heard {
            Flow::Stop
        } else {
            Flow::Again
        }
    }
}
