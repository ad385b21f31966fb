//! Objects that cannot be updated: when deleting and creating them again loses
//! nothing, and how.

use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, Preconditions};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, api::PropagationPolicy};
use serde_json::Value;

use super::Replace;
use super::prune::holds_data;
use crate::cluster::RequestError;

/// Built-in kinds that come back as they were: what they hold is in the
/// manifest or made by a controller.
const SAFE: [&str; 17] = [
    "ClusterRoleBinding.rbac.authorization.k8s.io",
    "ConfigMap",
    "CronJob.batch",
    "DaemonSet.apps",
    "Deployment.apps",
    "Endpoints",
    "Ingress.networking.k8s.io",
    "Job.batch",
    "Pod",
    "PodDisruptionBudget.policy",
    "PriorityClass.scheduling.k8s.io",
    "ReplicaSet.apps",
    "RoleBinding.rbac.authorization.k8s.io",
    "RuntimeClass.node.k8s.io",
    "Secret",
    "Service",
    "StorageClass.storage.k8s.io",
];

/// Whether an object may be deleted and created again to change it.
pub(super) fn may_replace(group_kind: &str, replace: Replace) -> bool {
    if holds_data(group_kind) || group_kind == "PersistentVolume" {
        return false;
    }
    replace == Replace::Force || SAFE.contains(&group_kind)
}

/// How long an object may take to go.
pub(super) const GONE: Duration = Duration::from_secs(60);

/// Deletes this very object (by uid) with its dependents and waits until it
/// is gone. `false` when it was still there after [`GONE`].
pub(super) async fn delete_and_wait(
    api: &Api<DynamicObject>,
    name: &str,
    live: &Value,
) -> Result<bool, RequestError> {
    let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            ..Preconditions::default()
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(true),
        Err(error) => return Err(error.into()),
    }
    gone(api, name, uid).await
}

/// Waits until the object with this uid is gone, at most [`GONE`].
pub(super) async fn gone(
    api: &Api<DynamicObject>,
    name: &str,
    uid: &str,
) -> Result<bool, RequestError> {
    let deleted = await_condition(api.clone(), name, conditions::is_deleted(uid));
    Ok(tokio::time::timeout(GONE, deleted)
        .await
        .is_ok_and(|waited| waited.is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_holds_data_is_ever_replaced() {
        for kind in [
            "Namespace",
            "PersistentVolumeClaim",
            "PersistentVolume",
            "CustomResourceDefinition.apiextensions.k8s.io",
        ] {
            assert!(!may_replace(kind, Replace::Force), "{kind}");
        }
    }

    #[test]
    fn a_job_is_replaced_and_an_unknown_kind_only_when_told() {
        assert!(may_replace("Job.batch", Replace::WhereSafe));
        for kind in ["StatefulSet.apps", "Postgres.example.com"] {
            assert!(!may_replace(kind, Replace::WhereSafe), "{kind}");
            assert!(may_replace(kind, Replace::Force), "{kind}");
        }
    }
}
