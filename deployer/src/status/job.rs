//! A Job is ready when it has completed.

use serde_json::Value;

use super::conditions::{Condition, condition};
use super::{Related, Status, count, is_owned_by, pod};

pub(super) fn status(job: &Value, related: &Related<'_>) -> Status {
    let pods = || {
        related
            .pods
            .iter()
            .copied()
            .filter(|pod| is_owned_by(pod, job))
    };
    if let Some(failed) = condition(job, "Failed").filter(Condition::is_true) {
        let mut status = Status::failed(format!("failed: {}", failed.words()));
        // The newest run explains best.
        let troubles = pods().filter_map(|pod| {
            pod::trouble(pod, related.now).map(|trouble| (created(pod), trouble))
        });
        status.culprit = troubles
            .max_by_key(|(created, _)| created.clone())
            .map(|(_, trouble)| trouble.culprit);
        return status;
    }
    if condition(job, "Complete").is_some_and(|complete| complete.is_true()) {
        return Status::ready("completed");
    }
    if job["spec"]["suspend"] == true {
        return Status::ready("suspended");
    }
    let wanted = job["spec"]["completions"].as_i64().unwrap_or(1);
    let done = count(job, "succeeded");
    let failures = match count(job, "failed") {
        0 => String::new(),
        failures => format!(", {failures} failed"),
    };
    let status = Status::in_progress(format!("{done} of {wanted} runs completed{failures}"));
    // Whether a run that failed is the end is for the Job's backoff limit to
    // say; a pod that cannot even start never gets there.
    status.explained_by(pods().filter(|pod| !has_run(pod)), related.now)
}

/// Timestamps of the API sort as text.
fn created(pod: &Value) -> String {
    pod["metadata"]["creationTimestamp"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn has_run(pod: &Value) -> bool {
    let containers = pod["status"]["containerStatuses"].as_array();
    containers.into_iter().flatten().any(|status| {
        let ended = |state: &Value| state["terminated"].is_object();
        ended(&status["state"]) || ended(&status["lastState"])
    })
}

#[cfg(test)]
mod tests {
    use kiln_schemas::event::Readiness;
    use serde_json::json;

    use super::super::of;
    use super::*;

    fn at(status: Value, pods: &[&Value]) -> Status {
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "m", "uid": "j"},
            "spec": {"completions": 2}, "status": status});
        of(
            &job,
            &Related {
                pods,
                replica_sets: &[],
                now: jiff::Timestamp::UNIX_EPOCH,
            },
        )
    }

    fn condition(kind: &str) -> Value {
        json!({"conditions": [{"type": kind, "status": "True", "reason": "R", "message": "said why"}]})
    }

    #[test]
    fn it_runs_until_it_has_completed_or_failed() {
        assert_eq!(
            at(json!({"succeeded": 1, "failed": 3}), &[]).message,
            "1 of 2 runs completed, 3 failed"
        );
        assert_eq!(at(condition("Complete"), &[]), Status::ready("completed"));
        assert_eq!(
            at(condition("Failed"), &[]),
            Status::failed("failed: said why")
        );
    }

    #[test]
    fn a_run_that_failed_is_tried_again_but_an_image_that_cannot_be_pulled_is_the_end() {
        let pod = |phase: &str, state: Value| {
            json!({"metadata": {"name": "m-1", "ownerReferences": [{"uid": "j"}]},
                "spec": {"restartPolicy": "Never"},
                "status": {"phase": phase, "containerStatuses": [{"name": "c", "state": state}]}})
        };
        let failed = pod("Running", json!({"terminated": {"exitCode": 1}}));
        assert_eq!(
            at(json!({"failed": 1}), &[&failed]).readiness,
            Readiness::InProgress
        );
        let stuck = pod(
            "Pending",
            json!({"waiting": {"reason": "ImagePullBackOff"}}),
        );
        assert_eq!(at(json!({}), &[&stuck]).readiness, Readiness::Failed);
    }
}
