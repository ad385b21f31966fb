//! When a pod is ready, and what is wrong with one that is not.

use jiff::Timestamp;
use kiln_schemas::event::Readiness;
use serde_json::Value;

use super::conditions::condition;
use super::{Culprit, Status};

/// How often a container must have come back from a crash before more of the
/// same is expected: a first crash may only have been early, before what the
/// container needs was there (skaffold issue 5210).
const RESTARTS_BEYOND_REPAIR: i64 = 2;

/// How long a running container may be unready, in seconds, before that is
/// worth a word.
const UNREADY_AFTER: i64 = 15;

/// How long a container that crashed must run again, in seconds, before it is
/// trusted: without a readiness probe it counts as ready the moment it starts.
const SETTLED_AFTER: i64 = 10;

/// Something wrong with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// In words, without the pod's name.
    pub message: String,
    /// Whether it will not go away without a change.
    pub fatal: bool,
    /// Where to look.
    pub culprit: Culprit,
}

/// How far a pod that stands alone is.
pub(super) fn status(pod: &Value, now: Timestamp) -> Status {
    let phase = pod["status"]["phase"].as_str().unwrap_or("Pending");
    if phase == "Succeeded" {
        return Status::ready("completed");
    }
    match trouble(pod, now) {
        Some(trouble) => Status {
            readiness: if trouble.fatal {
                Readiness::Failed
            } else {
                Readiness::InProgress
            },
            message: trouble.message,
            culprit: Some(trouble.culprit),
        },
        None if phase == "Running" => match condition(pod, "Ready") {
            Some(ready) if ready.is_true() => Status::ready("ready"),
            _ => Status::in_progress("running, not ready yet"),
        },
        None => Status::in_progress("starting"),
    }
}

/// What is wrong with a pod, the worst first; `None` when it is ready or on
/// its way.
pub fn trouble(pod: &Value, now: Timestamp) -> Option<Trouble> {
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return None;
    }
    let of_pod = |message: String, fatal: bool| Trouble {
        message,
        fatal,
        culprit: culprit(pod, None, false),
    };
    let containers = ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|field| pod["status"][field].as_array().into_iter().flatten());
    let mut troubles: Vec<_> = containers
        .filter_map(|container| of_container(pod, container, now))
        .collect();
    troubles.sort_by_key(|trouble| !trouble.fatal);
    if pod["status"]["phase"] == "Failed" {
        let reason = pod["status"]["reason"].as_str().unwrap_or("failed");
        let words = pod["status"]["message"].as_str().unwrap_or_default().trim();
        // A controller puts another pod in its place.
        let fatal = pod["metadata"]["ownerReferences"]
            .as_array()
            .is_none_or(Vec::is_empty);
        // A container's own exit says more than `failed`.
        if reason == "failed"
            && let Some(trouble) = troubles.into_iter().next()
        {
            return Some(Trouble { fatal, ..trouble });
        }
        return Some(of_pod(sentence(reason, words), fatal));
    }
    if let Some(scheduled) = condition(pod, "PodScheduled")
        && scheduled.status == "False"
    {
        // A node may still come, by the cluster's autoscaler or by hand.
        return Some(of_pod(
            sentence("cannot be scheduled", scheduled.words()),
            false,
        ));
    }
    troubles.into_iter().next()
}

fn of_container(pod: &Value, status: &Value, now: Timestamp) -> Option<Trouble> {
    let name = status["name"].as_str().unwrap_or_default();
    let trouble = |message: String, fatal: bool, previous: bool| {
        Some(Trouble {
            message: format!("container {name} {message}"),
            fatal,
            culprit: culprit(pod, Some(name), previous),
        })
    };
    if let Some(reason) = status["state"]["waiting"]["reason"].as_str() {
        let words = status["state"]["waiting"]["message"]
            .as_str()
            .unwrap_or_default();
        let image = status["image"].as_str().unwrap_or_default();
        return match reason {
            "ContainerCreating" | "PodInitializing" => None,
            "CrashLoopBackOff" => {
                let restarts = status["restartCount"].as_i64().unwrap_or_default();
                let exit =
                    exit(&status["lastState"]["terminated"]).unwrap_or("keeps crashing".to_owned());
                let message = format!("{exit} and was restarted {}", times(restarts));
                trouble(message, restarts >= RESTARTS_BEYOND_REPAIR, true)
            }
            "ErrImagePull" => trouble(
                sentence(&format!("cannot pull {image}"), words),
                false,
                false,
            ),
            "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => trouble(
                sentence(&format!("cannot pull {image} ({reason})"), words),
                true,
                false,
            ),
            // CreateContainerConfigError, CreateContainerError, RunContainerError, …
            _ => trouble(
                sentence(&format!("cannot start ({reason})"), words),
                true,
                false,
            ),
        };
    }
    let terminated = &status["state"]["terminated"];
    if let Some(exit) = exit(terminated) {
        let is_final = pod["spec"]["restartPolicy"] == "Never";
        return trouble(exit, is_final, false);
    }
    let started = status["state"]["running"]["startedAt"]
        .as_str()
        .and_then(|at| at.parse::<Timestamp>().ok());
    if let Some(started) = started {
        let seconds = now.as_second() - started.as_second();
        // Below 0 the clocks differ, and nothing can be said.
        let is_fresh = (0..SETTLED_AFTER).contains(&seconds);
        if let Some(exit) = exit(&status["lastState"]["terminated"])
            && (is_fresh || status["ready"] == false)
        {
            return trouble(format!("{exit} and was started again"), false, true);
        }
        if status["ready"] == false && seconds >= UNREADY_AFTER && has_probe(pod, name) {
            return trouble(
                "runs, but its readiness probe does not succeed".to_owned(),
                false,
                false,
            );
        }
    }
    None
}

/// How a container ended, if it ended badly.
fn exit(terminated: &Value) -> Option<String> {
    let code = terminated["exitCode"].as_i64().filter(|code| *code != 0)?;
    let words = terminated["message"].as_str().unwrap_or_default();
    Some(match terminated["reason"].as_str() {
        Some("OOMKilled") => {
            "was killed for using more memory than its limit (OOMKilled)".to_owned()
        }
        Some(reason @ ("ContainerCannotRun" | "StartError")) => {
            sentence(&format!("cannot start ({reason})"), words)
        }
        _ => sentence(&format!("exited with code {code}"), words),
    })
}

fn has_probe(pod: &Value, container: &str) -> bool {
    let containers = pod["spec"]["containers"].as_array();
    containers.into_iter().flatten().any(|spec| {
        spec["name"] == container
            && (spec["readinessProbe"].is_object() || spec["startupProbe"].is_object())
    })
}

fn culprit(pod: &Value, container: Option<&str>, previous: bool) -> Culprit {
    Culprit {
        pod: pod["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        container: container.map(str::to_owned),
        previous,
    }
}

fn times(count: i64) -> String {
    if count == 1 {
        "once".to_owned()
    } else {
        format!("{count} times")
    }
}

fn sentence(what: &str, words: &str) -> String {
    let words = words.trim();
    if words.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: {words}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(containers: Value) -> Value {
        json!({"metadata": {"name": "p"},
            "spec": {"restartPolicy": "Always", "containers": [{"name": "app", "readinessProbe": {}}]},
            "status": {"phase": "Pending", "containerStatuses": containers}})
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn told(pod: &Value) -> (String, bool) {
        let trouble = trouble(pod, at(1000)).unwrap();
        (trouble.message, trouble.fatal)
    }

    #[test]
    fn an_image_that_is_not_there_is_named_with_the_kubelets_words() {
        let waiting = |reason: &str| {
            pod(json!([{"name": "app", "image": "r/app:1",
                "state": {"waiting": {"reason": reason, "message": "manifest unknown"}}}]))
        };
        assert_eq!(
            told(&waiting("ImagePullBackOff")),
            (
                "container app cannot pull r/app:1 (ImagePullBackOff): manifest unknown".into(),
                true
            )
        );
        assert_eq!(
            told(&waiting("ErrImagePull")),
            (
                "container app cannot pull r/app:1: manifest unknown".into(),
                false
            )
        );
        assert_eq!(
            told(&waiting("CreateContainerConfigError")),
            (
                "container app cannot start (CreateContainerConfigError): manifest unknown".into(),
                true
            )
        );
        assert_eq!(trouble(&waiting("ContainerCreating"), at(0)), None);
    }

    #[test]
    fn a_first_crash_is_told_and_repeated_ones_are_the_end() {
        let crash = |restarts: u32| {
            pod(json!([{"name": "app", "restartCount": restarts,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}}]))
        };
        assert_eq!(
            told(&crash(1)),
            (
                "container app exited with code 3 and was restarted once".into(),
                false
            )
        );
        assert_eq!(
            told(&crash(2)),
            (
                "container app exited with code 3 and was restarted 2 times".into(),
                true
            )
        );
        let trouble = trouble(&crash(2), at(0)).unwrap();
        assert_eq!(
            trouble.culprit,
            Culprit {
                pod: "p".into(),
                container: Some("app".into()),
                previous: true
            }
        );
    }

    #[test]
    fn running_out_of_memory_is_said_as_such() {
        let killed = pod(json!([{"name": "app", "state":
            {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]));
        assert_eq!(
            told(&killed),
            (
                "container app was killed for using more memory than its limit (OOMKilled)".into(),
                false
            )
        );
    }

    #[test]
    fn an_exit_is_final_where_nothing_restarts_it() {
        let mut ended = pod(json!([{"name": "app", "state": {"terminated": {"exitCode": 1}}}]));
        assert!(!told(&ended).1);
        ended["spec"]["restartPolicy"] = "Never".into();
        assert_eq!(
            told(&ended),
            ("container app exited with code 1".into(), true)
        );
    }

    #[test]
    fn init_containers_count_too() {
        let mut pod =
            pod(json!([{"name": "app", "state": {"waiting": {"reason": "PodInitializing"}}}]));
        pod["status"]["initContainerStatuses"] = json!([{"name": "setup", "state": {"waiting": {"reason": "InvalidImageName"}}, "image": "A"}]);
        assert_eq!(
            told(&pod),
            (
                "container setup cannot pull A (InvalidImageName)".into(),
                true
            )
        );
    }

    #[test]
    fn the_scheduler_and_the_eviction_manager_are_quoted() {
        let mut pending = pod(json!([]));
        pending["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu."}]);
        assert_eq!(
            told(&pending),
            (
                "cannot be scheduled: 0/1 nodes are available: 1 Insufficient cpu.".into(),
                false
            )
        );
        let mut evicted = pod(json!([]));
        evicted["status"] =
            json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
        assert_eq!(told(&evicted), ("Evicted: low on memory".into(), true));
    }

    #[test]
    fn a_probe_that_fails_is_worth_a_word_after_a_while() {
        let unready = pod(json!([{"name": "app", "ready": false,
            "state": {"running": {"startedAt": "1970-01-01T00:16:00Z"}}}]));
        assert_eq!(trouble(&unready, at(961)), None);
        assert_eq!(
            trouble(&unready, at(1000)).unwrap().message,
            "container app runs, but its readiness probe does not succeed"
        );
    }

    #[test]
    fn a_container_that_crashed_is_trusted_after_a_while() {
        let again = pod(json!([{"name": "app", "ready": true,
            "state": {"running": {"startedAt": "1970-01-01T00:16:00Z"}},
            "lastState": {"terminated": {"exitCode": 1}}}]));
        let fresh = trouble(&again, at(965)).unwrap();
        assert_eq!(
            fresh.message,
            "container app exited with code 1 and was started again"
        );
        assert!(!fresh.fatal);
        assert_eq!(trouble(&again, at(970)), None);
    }

    #[test]
    fn a_controllers_evicted_pod_is_replaced_and_not_the_end() {
        let mut evicted = pod(json!([]));
        evicted["status"] =
            json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
        evicted["metadata"]["ownerReferences"] = json!([{"uid": "r"}]);
        assert_eq!(told(&evicted), ("Evicted: low on memory".into(), false));
    }

    #[test]
    fn a_pod_that_stands_alone_is_ready_or_completed() {
        let mut running = pod(json!([{"name": "app", "ready": true, "state": {"running": {}}}]));
        running["status"]["phase"] = "Running".into();
        assert_eq!(
            status(&running, at(0)),
            Status::in_progress("running, not ready yet")
        );
        running["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        assert_eq!(status(&running, at(0)), Status::ready("ready"));
        running["status"]["phase"] = "Succeeded".into();
        assert_eq!(status(&running, at(0)), Status::ready("completed"));
    }
}
