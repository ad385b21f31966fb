//! A DaemonSet is ready when every node that should run it runs the newest
//! template.

use serde_json::Value;

use super::{Related, Status, all_ready, count, is_owned_by, is_unobserved, unobserved};

pub(super) fn status(set: &Value, related: &Related<'_>) -> Status {
    if is_unobserved(set) {
        return unobserved();
    }
    let newest = &set["metadata"]["annotations"]["deprecated.daemonset.template.generation"];
    let of_newest = |pod: &Value| {
        let generation = &pod["metadata"]["labels"]["pod-template-generation"];
        newest.is_null() || generation.is_null() || generation == newest
    };
    let pods = related
        .pods
        .iter()
        .copied()
        .filter(|pod| is_owned_by(pod, set) && of_newest(pod));
    rollout(set).explained_by(pods, related.now)
}

fn rollout(set: &Value) -> Status {
    let wanted = count(set, "desiredNumberScheduled");
    let (updated, available) = (
        count(set, "updatedNumberScheduled"),
        count(set, "numberAvailable"),
    );
    if set["spec"]["updateStrategy"]["type"] != "OnDelete" && updated < wanted {
        return Status::in_progress(format!("{updated} of {wanted} pods updated"));
    }
    if available < wanted {
        return Status::in_progress(format!("{available} of {wanted} pods ready"));
    }
    all_ready(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::of;
    use super::*;

    #[test]
    fn every_node_must_run_the_newest_template() {
        let at = |status: Value| {
            let set = json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
                "metadata": {"name": "agent", "generation": 4}, "status": status});
            of(
                &set,
                &Related {
                    pods: &[],
                    replica_sets: &[],
                    now: jiff::Timestamp::UNIX_EPOCH,
                },
            )
        };
        let status = |updated: u32, available: u32| {
            json!({"observedGeneration": 4, "desiredNumberScheduled": 2,
                "updatedNumberScheduled": updated, "numberAvailable": available})
        };
        assert_eq!(
            at(json!({"observedGeneration": 3})).message,
            "the controller has not seen the change yet"
        );
        assert_eq!(at(status(1, 2)), Status::in_progress("1 of 2 pods updated"));
        assert_eq!(at(status(2, 1)), Status::in_progress("1 of 2 pods ready"));
        assert_eq!(at(status(2, 2)), Status::ready("2 pods ready"));
    }
}
