use serde_json::json;

use super::*;
use crate::desired::{Concurrency, Controller, Job, Target};

fn deployment(spec: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"selector": {}, "template": {"spec": spec}}})
}

#[test]
fn what_cannot_be_done_is_listed_and_what_only_schedules_is_noted_once() {
    let spec = json!({"hostPID": true, "nodeSelector": {"a": "b"}, "containers": [
        {"name": "a", "image": "x", "securityContext": {"privileged": true},
            "resources": {"limits": {"cpu": "1"}}}],
        "volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}]});
    let ingress =
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i"}});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}});
    let reading = read(
        &[deployment(&spec), deployment(&spec), ingress, role],
        "default",
    )
    .unwrap();
    let once: BTreeSet<&String> = reading.unsupported.iter().collect();
    let starts: Vec<&str> = once
        .iter()
        .filter_map(|line| line.split(": ").next())
        .collect();
    assert_eq!(
        starts,
        [
            "Deployment web",
            "Deployment web",
            "Deployment web",
            "Ingress i"
        ]
    );
    assert_eq!(reading.notes.len(), 3, "{:?}", reading.notes);
}

#[test]
fn what_would_be_answered_differently_is_listed() {
    let spec = json!({"dnsPolicy": "None", "dnsConfig": {"searches": ["a.example"]}, "containers": [{
        "name": "a", "image": "x",
        "readinessProbe": {"httpGet": {"path": "/", "port": 8443, "scheme": "GOPHER"}}}],
        "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]});
    let reading = read(&[deployment(&spec)], "default").unwrap();
    let told = |text: &str| reading.unsupported.iter().any(|line| line.contains(text));
    assert!(
        told("dnsPolicy None: it needs a name server") && told("the scheme GOPHER"),
        "{:?}",
        reading.unsupported
    );
    assert!(
        reading
            .notes
            .iter()
            .any(|note| note.starts_with("emptyDir"))
    );
}

#[test]
fn a_reference_to_nothing_names_both_sides() {
    let missing =
        json!({"containers": [{"name": "a", "envFrom": [{"configMapRef": {"name": "conf"}}]}]});
    let error = read(&[deployment(&missing)], "default").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Deployment web refers to the ConfigMap conf, which no manifest has"
    );
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"a": "b"}});
    let key = json!({"containers": [{"name": "a", "env": [
        {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "nope"}}}]}]});
    let error = read(&[map.clone(), deployment(&key)], "default").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the key nope of the ConfigMap conf"),
        "{error}"
    );
    read(&[deployment(&missing), map], "default").unwrap();
}

#[test]
fn names_and_paths_that_lead_elsewhere_are_refused() {
    let says = |object: Value| read(&[object], "default").unwrap_err().to_string();
    let pod =
        |name: &str, spec: Value| json!({"kind": "Pod", "metadata": {"name": name}, "spec": spec});
    let box_ = json!([{"name": "a", "image": "x"}]);
    let with_items = |items: Value| {
        let volume = json!({"name": "v", "projected": {"sources": [{"configMap": {"name": "c", "items": items}}]}});
        json!({"containers": box_, "volumes": [volume]})
    };
    let cases = [
        (
            pod("../../home", json!({"containers": box_})),
            "metadata.name",
        ),
        (pod("", json!({"containers": box_})), "metadata.name"),
        (pod("Big", json!({"containers": box_})), "metadata.name"),
        (
            pod("a", json!({"containers": [{"name": "..", "image": "x"}]})),
            "container's name",
        ),
        (
            pod("a", json!({"containers": [box_[0], box_[0]]})),
            "each name once",
        ),
        (pod("a", json!({"containers": []})), "has no containers"),
        (
            pod(
                "a",
                json!({"containers": box_, "volumes": [{"name": "../x", "emptyDir": {}}]}),
            ),
            "volume's name",
        ),
        (
            pod("a", with_items(json!([{"key": "k", "path": "a/../../b"}]))),
            "without `..`",
        ),
        (
            pod(
                "a",
                json!({"containers": box_, "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "../x"}}]}),
            ),
            "claimName",
        ),
        (
            json!({"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"../../.profile": "x"}}),
            "the key",
        ),
        (
            json!({"kind": "Secret", "metadata": {"name": "c", "namespace": "a/b"}}),
            "metadata.namespace",
        ),
    ];
    for (object, wanted) in cases {
        let said = says(object.clone());
        assert!(said.contains(wanted), "{object}: {said}");
    }
    let fine = json!({"kind": "ConfigMap", "metadata": {"name": "a.b-1"}, "data": {".profile": "x", "a_B.c": "y"}});
    read(
        &[fine, pod("a.b-1", json!({"containers": box_}))],
        "default",
    )
    .unwrap();
}

#[test]
fn numbers_of_controllers_have_the_apis_defaults() {
    let strategy = |strategy: Value| {
        let mut object = deployment(&json!({"containers": [{"name": "a"}]}));
        object["spec"]["replicas"] = json!(5);
        object["spec"]["strategy"] = strategy;
        read(&[object], "default").unwrap().desired.workloads[0]
            .controller
            .clone()
    };
    // 25 % of five: up for the surge, down for the unavailable.
    let expected = |surge, unavailable| Controller::Replicas {
        replicas: 5,
        surge,
        unavailable,
    };
    assert_eq!(strategy(json!({})), expected(Some(2), 1));
    assert_eq!(strategy(json!({"type": "Recreate"})), expected(None, 0));
    let none = json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "10%"}});
    assert_eq!(strategy(none), expected(Some(0), 1));
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"},
        "spec": {"schedule": "* * * * *", "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}}}});
    let reading = read(&[cron], "default").unwrap();
    let job = Job {
        completions: 1,
        parallelism: 1,
        backoff_limit: 6,
        deadline: None,
    };
    assert_eq!(
        reading.desired.workloads[0].controller,
        Controller::Cron {
            schedule: "* * * * *".into(),
            time_zone: None,
            concurrency: Concurrency::Forbid,
            suspended: false,
            job,
        }
    );
}

#[test]
fn a_service_leads_to_the_same_port_unless_it_says_otherwise() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"},
        "spec": {"ports": [{"port": 80}, {"port": 81, "targetPort": "http"}, {"port": 82, "targetPort": 8}]}});
    let reading = read(&[service], "default").unwrap();
    let service = &reading.desired.services[0];
    assert_eq!(service.name.to_string(), "n/s");
    let targets: Vec<&Target> = service.ports.iter().map(|port| &port.target).collect();
    assert_eq!(
        targets,
        [
            &Target::Number(80),
            &Target::Name("http".into()),
            &Target::Number(8)
        ]
    );
}

#[test]
fn an_invalid_object_names_its_field() {
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": "two"}});
    let error = read(&[object], "default").unwrap_err();
    assert_eq!(error.to_string(), "Deployment web is not valid");
    assert!(std::error::Error::source(&error).is_some());
}
