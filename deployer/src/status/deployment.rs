//! A Deployment is ready when every pod is of the newest template and
//! available (the rule of `kubectl rollout status`).

use serde_json::Value;

use super::conditions::condition;
use super::{
    Related, Status, all_ready, count, is_owned_by, is_unobserved, unobserved, wanted_replicas,
};

pub(super) fn status(deployment: &Value, related: &Related<'_>) -> Status {
    if is_unobserved(deployment) {
        return unobserved();
    }
    let newest = newest_replica_set(deployment, related.replica_sets);
    let pods = related.pods.iter().copied();
    let pods = pods.filter(|pod| newest.is_some_and(|newest| is_owned_by(pod, newest)));
    rollout(deployment).explained_by(pods, related.now)
}

fn rollout(deployment: &Value) -> Status {
    if deployment["spec"]["paused"] == true {
        return Status::ready("the rollout is paused");
    }
    let wanted = wanted_replicas(deployment);
    let (all, updated, available) = (
        count(deployment, "replicas"),
        count(deployment, "updatedReplicas"),
        count(deployment, "availableReplicas"),
    );
    let message = if updated < wanted {
        format!("{updated} of {wanted} pods updated")
    } else if all > updated {
        format!(
            "{} of {wanted} pods ready, {} old to go",
            available.min(wanted),
            all - updated
        )
    } else if available < updated {
        format!("{available} of {wanted} pods ready")
    } else {
        return all_ready(wanted);
    };
    if let Some(progressing) = condition(deployment, "Progressing")
        && progressing.reason == "ProgressDeadlineExceeded"
    {
        return Status::failed(format!("{message} at the end of its progress deadline"));
    }
    match condition(deployment, "ReplicaFailure") {
        Some(failure) if failure.is_true() => {
            Status::in_progress(format!("{message}: {}", failure.words()))
        }
        _ => Status::in_progress(message),
    }
}

/// Pods of older ReplicaSets do not count: they are what is being replaced.
fn newest_replica_set<'a>(deployment: &Value, replica_sets: &[&'a Value]) -> Option<&'a Value> {
    let revision = |set: &Value| {
        let revision = &set["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
        revision
            .as_str()
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or_default()
    };
    replica_sets
        .iter()
        .copied()
        .filter(|set| is_owned_by(set, deployment))
        .max_by_key(|set| revision(set))
}

#[cfg(test)]
mod tests {
    use kiln_schemas::event::Readiness;
    use serde_json::json;

    use super::super::{Related, of};
    use super::*;

    fn deployment(generation: u32, status: Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "uid": "d", "generation": generation},
            "spec": {"replicas": 2}, "status": status})
    }

    fn alone(object: &Value) -> Status {
        of(
            object,
            &Related {
                pods: &[],
                replica_sets: &[],
                now: jiff::Timestamp::UNIX_EPOCH,
            },
        )
    }

    #[test]
    fn it_is_ready_when_all_pods_are_new_and_available() {
        let ready = deployment(
            3,
            json!({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2,
            "readyReplicas": 2, "availableReplicas": 2}),
        );
        assert_eq!(alone(&ready), Status::ready("2 pods ready"));
    }

    #[test]
    fn each_stage_of_a_rollout_has_its_words() {
        let at = |status: Value| {
            let status = alone(&deployment(2, status));
            assert_eq!(status.readiness, Readiness::InProgress);
            status.message
        };
        assert_eq!(
            at(json!({"observedGeneration": 1})),
            "the controller has not seen the change yet"
        );
        assert_eq!(
            at(
                json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, "availableReplicas": 2})
            ),
            "1 of 2 pods updated"
        );
        assert_eq!(
            at(
                json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2})
            ),
            "2 of 2 pods ready, 1 old to go"
        );
        assert_eq!(
            at(
                json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1})
            ),
            "1 of 2 pods ready"
        );
        let quota = json!({"observedGeneration": 2, "conditions": [{"type": "ReplicaFailure",
            "status": "True", "reason": "FailedCreate", "message": "exceeded quota: pods=1"}]});
        assert_eq!(at(quota), "0 of 2 pods updated: exceeded quota: pods=1");
    }

    #[test]
    fn a_missed_progress_deadline_is_a_failure() {
        let late = deployment(
            1,
            json!({"observedGeneration": 1, "updatedReplicas": 2, "replicas": 2,
            "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}),
        );
        assert_eq!(
            alone(&late),
            Status::failed("0 of 2 pods ready at the end of its progress deadline")
        );
    }

    #[test]
    fn only_pods_of_the_newest_replica_set_count() {
        let web = deployment(
            2,
            json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1}),
        );
        let set = |uid: &str, revision: &str| {
            json!({"metadata": {"uid": uid, "ownerReferences": [{"uid": "d"}],
                "annotations": {"deployment.kubernetes.io/revision": revision}}})
        };
        let (old, new) = (set("old", "9"), set("new", "10"));
        let pod = |owner: &str| {
            json!({"metadata": {"name": format!("web-{owner}"), "ownerReferences": [{"uid": owner}]},
                "status": {"containerStatuses": [{"name": "app", "state": {"waiting":
                    {"reason": "ImagePullBackOff", "message": "not found"}}}]}})
        };
        let (old_pod, new_pod) = (pod("old"), pod("new"));
        let now = jiff::Timestamp::UNIX_EPOCH;
        let only_old = Related {
            pods: &[&old_pod],
            replica_sets: &[&old, &new],
            now,
        };
        assert_eq!(of(&web, &only_old).readiness, Readiness::InProgress);
        let both = Related {
            pods: &[&old_pod, &new_pod],
            replica_sets: &[&old, &new],
            now,
        };
        let status = of(&web, &both);
        assert_eq!(status.readiness, Readiness::Failed);
        assert!(
            status.message.contains("pod web-new: "),
            "{}",
            status.message
        );
    }
}
