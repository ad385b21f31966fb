//! Removes what an earlier run of the same developer left behind: build pods
//! and secrets whose lease is over. A running build renews its lease, and
//! other people's and projects' objects are not selected at all.

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::error::ApiError;
use super::{ClusterBackend, lease};

/// How often an object that changes meanwhile is looked at.
const ATTEMPTS: u32 = 3;
const CONFLICT: u16 = 409;

/// What the sweep removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Pods.
    pub pods: Vec<String>,
    /// Secrets.
    pub secrets: Vec<String>,
}

impl ClusterBackend {
    /// Removes leftovers of this project and user. Missing rights are not an
    /// error: then there is nothing that Kiln could remove.
    pub async fn sweep(&self, now: Timestamp) -> Result<Swept, ApiError> {
        let pods: Api<Pod> = Api::namespaced(self.place.client.clone(), &self.place.namespace);
        let secrets: Api<Secret> =
            Api::namespaced(self.place.client.clone(), &self.place.namespace);
        Ok(Swept {
            pods: self.sweep_kind(&pods, "build pods", now).await?,
            secrets: self.sweep_kind(&secrets, "build secrets", now).await?,
        })
    }

    async fn sweep_kind<K>(
        &self,
        api: &Api<K>,
        what: &str,
        now: Timestamp,
    ) -> Result<Vec<String>, ApiError>
    where
        K: k8s_openapi::Resource<Scope = NamespaceResourceScope>
            + k8s_openapi::Metadata<Ty = ObjectMeta>
            + kube::Resource<DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let namespace = &self.place.namespace;
        let params = ListParams::default().labels(&lease::selector(&self.session));
        let found = match api.list(&params).await {
            Ok(found) => found,
            Err(error) => {
                return match ApiError::new(&format!("list {what}"), namespace, error) {
                    ApiError::Forbidden(_) => Ok(Vec::new()),
                    error => Err(error),
                };
            }
        };
        let mut gone = Vec::new();
        for object in found {
            if let Some(name) = remove(api, object, now).await {
                gone.push(name);
            }
        }
        Ok(gone)
    }
}

/// Removes an object whose lease is over, only as it was seen: a lease that was
/// renewed meanwhile counts. Another change, as the scheduler's, is looked at
/// again. The name, if it was removed.
async fn remove<K>(api: &Api<K>, mut object: K, now: Timestamp) -> Option<String>
where
    K: k8s_openapi::Metadata<Ty = ObjectMeta> + Clone + DeserializeOwned + std::fmt::Debug,
{
    for _ in 0..ATTEMPTS {
        let metadata = object.metadata();
        let name = metadata.name.clone()?;
        if !lease::is_over(metadata.annotations.as_ref(), now) {
            return None;
        }
        let mut params = DeleteParams::default().grace_period(0);
        params.preconditions = Some(kube::api::Preconditions {
            resource_version: metadata.resource_version.clone(),
            uid: metadata.uid.clone(),
        });
        match api.delete(&name, &params).await {
            Ok(_) => return Some(name),
            Err(kube::Error::Api(status)) if status.code == CONFLICT => {
                object = api.get_opt(&name).await.ok().flatten()?;
            }
            Err(error) => {
                tracing::debug!(%error, name, "cannot remove a leftover");
                return None;
            }
        }
    }
    None
}

/// Renews the lease of a pod until the task is aborted. Where that is not
/// allowed, the pod keeps the long lease that it was created with.
pub(super) async fn keep_alive(pods: Api<Pod>, name: String) {
    loop {
        let until = lease::until(Timestamp::now(), lease::RENEW_FOR);
        let patch = json!({"metadata": {"annotations": {lease::LEASED_UNTIL: until}}});
        let result = pods
            .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        if let Err(kube::Error::Api(status)) = &result
            && (status.code == 403 || status.code == 404)
        {
            return;
        }
        tokio::time::sleep(lease::RENEW_EVERY).await;
    }
}
