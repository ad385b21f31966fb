//! A PersistentVolumeClaim is ready when it is bound.

use serde_json::Value;

use super::{Related, Status};

pub(super) fn status(claim: &Value, related: &Related<'_>) -> Status {
    match claim["status"]["phase"].as_str() {
        Some("Bound") => Status::ready("bound"),
        Some("Lost") => Status::failed("its volume is lost"),
        // A storage class may wait for the first consumer, so a claim that
        // nothing uses never binds, and nothing waits for it.
        _ if !related.pods.iter().any(|pod| uses(pod, claim)) => {
            Status::ready("is bound when a pod uses it")
        }
        _ => Status::in_progress("no volume is bound to it yet"),
    }
}

fn uses(pod: &Value, claim: &Value) -> bool {
    let volumes = pod["spec"]["volumes"].as_array();
    volumes
        .into_iter()
        .flatten()
        .any(|volume| volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::of;
    use super::*;

    #[test]
    fn a_claim_is_waited_for_once_a_pod_uses_it() {
        let claim = |phase: &str| {
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": "data"}, "status": {"phase": phase}})
        };
        let pod = json!({"spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "data"}}]}});
        let now = jiff::Timestamp::UNIX_EPOCH;
        let used = Related {
            pods: &[&pod],
            replica_sets: &[],
            now,
        };
        let unused = Related {
            pods: &[],
            replica_sets: &[],
            now,
        };
        assert_eq!(of(&claim("Bound"), &used), Status::ready("bound"));
        assert_eq!(
            of(&claim("Pending"), &used),
            Status::in_progress("no volume is bound to it yet")
        );
        assert_eq!(
            of(&claim("Pending"), &unused),
            Status::ready("is bound when a pod uses it")
        );
        assert_eq!(
            of(&claim("Lost"), &unused),
            Status::failed("its volume is lost")
        );
    }
}
