//! A ReplicaSet or ReplicationController that stands alone is ready when its
//! pods are available.

use serde_json::Value;

use super::conditions::{Condition, condition};
use super::{
    Related, Status, all_ready, count, is_owned_by, is_unobserved, unobserved, wanted_replicas,
};

pub(super) fn status(set: &Value, related: &Related<'_>) -> Status {
    if is_unobserved(set) {
        return unobserved();
    }
    let wanted = wanted_replicas(set);
    let available = count(set, "availableReplicas");
    let pods = related
        .pods
        .iter()
        .copied()
        .filter(|pod| is_owned_by(pod, set));
    let status = if count(set, "replicas") > wanted {
        Status::in_progress(format!("{} of {wanted} pods left", count(set, "replicas")))
    } else if available >= wanted {
        all_ready(wanted)
    } else {
        let failure = condition(set, "ReplicaFailure").filter(Condition::is_true);
        let why = failure.map_or(String::new(), |failure| format!(": {}", failure.words()));
        Status::in_progress(format!("{available} of {wanted} pods ready{why}"))
    };
    status.explained_by(pods, related.now)
}
