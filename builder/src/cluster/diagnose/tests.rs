//! Statuses as a 1.34 kubelet and scheduler write them.

use serde_json::{Value, json};

use super::*;

fn pod(status: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "kiln-build-x"},
        "spec": {
            "activeDeadlineSeconds": 2700,
            "containers": [{"name": "kaniko", "resources": {"limits": {"memory": "64Mi"}}}],
        },
        "status": status,
    }))
    .unwrap()
}

fn waiting(reason: &str, message: &str) -> Pod {
    pod(&json!({"phase": "Pending", "containerStatuses": [{
        "name": "kaniko", "image": "r.example/x:1", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"waiting": {"reason": reason, "message": message}},
    }]}))
}

fn terminated(phase: &str, state: &Value) -> Pod {
    pod(&json!({"phase": phase, "containerStatuses": [{
        "name": "kaniko", "image": "r.example/x:1", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"terminated": state},
    }]}))
}

#[test]
fn a_pull_that_fails_is_retried_and_says_the_registrys_words() {
    let words = "failed to pull and unpack image \"r.example/x:1\": r.example/x:1: not found";
    let trouble = trouble(&waiting("ErrImagePull", words), &[]).unwrap();
    assert!(matches!(trouble, Trouble::Retried(_)));
    assert_eq!(
        trouble.diagnosis().to_string(),
        format!("the image r.example/x:1 of container kaniko cannot be pulled: {words}")
    );
}

#[test]
fn a_name_that_is_none_is_final() {
    let pod = waiting("InvalidImageName", "couldn't parse image name \"A B\"");
    assert!(matches!(
        trouble(&pod, &[]),
        Some(Trouble::Final(Diagnosis::ImagePull { .. }))
    ));
}

#[test]
fn a_starting_container_is_no_trouble() {
    assert_eq!(trouble(&waiting("ContainerCreating", ""), &[]), None);
    assert_eq!(trouble(&waiting("PodInitializing", ""), &[]), None);
}

#[test]
fn the_schedulers_words_are_kept() {
    let words = "0/1 nodes are available: 1 Insufficient cpu.";
    let pod = pod(&json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words,
    }]}));
    let trouble = trouble(&pod, &[]).unwrap();
    assert_eq!(
        trouble.diagnosis().to_string(),
        format!("no node takes the build pod: {words}")
    );
}

#[test]
fn a_missing_secret_shows_in_the_state_or_in_an_event() {
    let state = waiting("CreateContainerConfigError", "secret \"s\" not found");
    let expected = Trouble::Retried(Diagnosis::Missing {
        words: "secret \"s\" not found".into(),
    });
    assert_eq!(trouble(&state, &[]), Some(expected));

    let words = "MountVolume.SetUp failed for volume \"docker-cfg\" : secret \"s\" not found";
    let event: Event = serde_json::from_value(json!({
        "metadata": {}, "involvedObject": {}, "reason": "FailedMount", "message": words,
    }))
    .unwrap();
    let creating = waiting("ContainerCreating", "");
    let expected = Trouble::Retried(Diagnosis::Missing {
        words: words.into(),
    });
    assert_eq!(trouble(&creating, &[event]), Some(expected));
}

#[test]
fn running_and_success_are_no_death() {
    let running = pod(&json!({"phase": "Running", "containerStatuses": [{
        "name": "kaniko", "image": "x", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {}},
    }]}));
    assert_eq!(death(&running, "kaniko"), None);
    assert_eq!(
        death(&terminated("Succeeded", &json!({"exitCode": 0})), "kaniko"),
        None
    );
}

#[test]
fn out_of_memory_names_the_limit() {
    let pod = terminated("Failed", &json!({"exitCode": 137, "reason": "OOMKilled"}));
    assert_eq!(
        death(&pod, "kaniko").unwrap().to_string(),
        "container kaniko was killed for using more memory than its limit of 64Mi"
    );
}

#[test]
fn an_exit_code_carries_the_end_of_the_log() {
    let pod = terminated("Failed", &json!({"exitCode": 2, "reason": "Error"}));
    let diagnosis = death(&pod, "kaniko")
        .unwrap()
        .with_log(vec!["go: no module".into()]);
    assert_eq!(diagnosis.to_string(), "the build failed with exit code 2");
    assert_eq!(diagnosis.log(), ["go: no module"]);
}

#[test]
fn a_process_that_does_not_exist_is_said_as_the_runtime_says_it() {
    let words = "exec: \"/kaniko/executor\": no such file or directory";
    let pod = terminated(
        "Failed",
        &json!({"exitCode": 128, "reason": "StartError", "message": words}),
    );
    assert_eq!(
        death(&pod, "kaniko").unwrap().to_string(),
        format!("container kaniko cannot be started: {words}")
    );
}

#[test]
fn eviction_and_deadline_win_over_the_kill_that_they_cause() {
    let killed = json!([{
        "name": "kaniko", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 137, "reason": "Error"}},
    }]);
    let words = "The node was low on resource: ephemeral-storage.";
    let evicted = pod(
        &json!({"phase": "Failed", "reason": "Evicted", "message": words,
                              "containerStatuses": killed}),
    );
    assert_eq!(
        death(&evicted, "kaniko").unwrap().to_string(),
        format!("the node evicted the build pod: {words}")
    );
    let late = pod(&json!({"phase": "Failed", "reason": "DeadlineExceeded",
                           "containerStatuses": killed}));
    assert_eq!(
        death(&late, "kaniko").unwrap().to_string(),
        "the build pod ran longer than its deadline of 2700 s"
    );
}

#[test]
fn a_sidecars_end_is_not_the_builds() {
    let with_sidecar = |phase: &str| {
        pod(&json!({"phase": phase, "containerStatuses": [
            {"name": "istio-proxy", "image": "x", "imageID": "", "ready": false,
             "restartCount": 0, "state": {"terminated": {"exitCode": 1}}},
            {"name": "kaniko", "image": "x", "imageID": "", "ready": true,
             "restartCount": 0, "state": {"running": {}}},
        ]}))
    };
    assert_eq!(death(&with_sidecar("Running"), "kaniko"), None);
}
