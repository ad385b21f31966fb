//! Leaves nothing behind: the pod and the secrets that were made for it, whatever happened.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::DeleteParams;

use super::{ClusterBackend, secret};

/// For deleting, each time.
const DELETE_ATTEMPTS: u32 = 3;

/// Deletes the pod and what was made for it: when told to, or when dropped.
pub(super) struct Cleanup {
    pods: Api<Pod>,
    pub(super) secrets: Api<Secret>,
    /// Absent until it is made.
    pub(super) pod: Option<String>,
    /// Names of secrets.
    pub(super) made: Vec<String>,
}

impl Cleanup {
    /// Nothing is made yet.
    pub(super) fn new(backend: &ClusterBackend) -> Self {
        let client = &backend.place.client;
        Self {
            pods: Api::namespaced(client.clone(), &backend.place.namespace),
            secrets: Api::namespaced(client.clone(), &backend.place.namespace),
            pod: None,
            made: Vec::new(),
        }
    }

    /// Deletes now, and waits for it.
    pub(super) async fn now(&mut self) {
        let (pod, made) = (self.pod.take(), std::mem::take(&mut self.made));
        Self::run(self.pods.clone(), self.secrets.clone(), pod, made).await;
    }

    async fn run(pods: Api<Pod>, secrets: Api<Secret>, pod: Option<String>, made: Vec<String>) {
        if let Some(pod) = pod {
            delete_pod(&pods, &pod).await;
        }
        secret::delete(&secrets, &made).await;
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        if self.pod.is_none() && self.made.is_empty() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (pod, made) = (self.pod.take(), std::mem::take(&mut self.made));
        runtime.spawn(Self::run(
            self.pods.clone(),
            self.secrets.clone(),
            pod,
            made,
        ));
    }
}

async fn delete_pod(pods: &Api<Pod>, name: &str) {
    for attempt in 1..=DELETE_ATTEMPTS {
        match pods
            .delete(name, &DeleteParams::default().grace_period(0))
            .await
        {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(error) => {
                tracing::debug!(%error, attempt, pod = name, "cannot delete the build pod");
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
