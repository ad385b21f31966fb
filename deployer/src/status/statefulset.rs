//! A StatefulSet is ready when its pods are, and are of the newest revision
//! down to its partition.

use serde_json::Value;

use super::{
    Related, Status, all_ready, count, is_owned_by, is_unobserved, unobserved, wanted_replicas,
};

pub(super) fn status(set: &Value, related: &Related<'_>) -> Status {
    if is_unobserved(set) {
        return unobserved();
    }
    let revision = &set["status"]["updateRevision"];
    let newest = |pod: &Value| {
        is_owned_by(pod, set) && pod["metadata"]["labels"]["controller-revision-hash"] == *revision
    };
    let pods = related.pods.iter().copied().filter(|pod| newest(pod));
    rollout(set).explained_by(pods, related.now)
}

fn rollout(set: &Value) -> Status {
    let wanted = wanted_replicas(set);
    let (ready, updated) = (count(set, "readyReplicas"), count(set, "updatedReplicas"));
    let strategy = &set["spec"]["updateStrategy"];
    if strategy["type"] != "OnDelete" {
        let partition = strategy["rollingUpdate"]["partition"]
            .as_i64()
            .unwrap_or_default();
        let to_update = (wanted - partition).max(0);
        if updated < to_update {
            return Status::in_progress(format!("{updated} of {to_update} pods updated"));
        }
    }
    if ready < wanted {
        return Status::in_progress(format!("{ready} of {wanted} pods ready"));
    }
    if count(set, "replicas") > wanted {
        return Status::in_progress(format!("{} of {wanted} pods left", count(set, "replicas")));
    }
    all_ready(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::of;
    use super::*;

    fn status_of(strategy: Value, status: Value) -> Status {
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "db", "uid": "s", "generation": 1},
            "spec": {"replicas": 3, "updateStrategy": strategy}, "status": status});
        of(
            &set,
            &Related {
                pods: &[],
                replica_sets: &[],
                now: jiff::Timestamp::UNIX_EPOCH,
            },
        )
    }

    #[test]
    fn pods_above_the_partition_must_be_new_and_all_must_be_ready() {
        let rolling = json!({"type": "RollingUpdate"});
        let half = json!({"observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "updatedReplicas": 1});
        assert_eq!(
            status_of(rolling.clone(), half.clone()),
            Status::in_progress("1 of 3 pods updated")
        );
        let partition = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
        assert_eq!(
            status_of(partition, half.clone()),
            Status::ready("3 pods ready")
        );
        assert_eq!(
            status_of(json!({"type": "OnDelete"}), half),
            Status::ready("3 pods ready")
        );
        let starting = json!({"observedGeneration": 1, "replicas": 2, "readyReplicas": 1, "updatedReplicas": 3});
        assert_eq!(
            status_of(rolling, starting),
            Status::in_progress("1 of 3 pods ready")
        );
    }
}
