//! Registries that this machine does not reach, or that name themselves.

use std::fs;

use kiln_schemas::event::{BuildOutcome, Event};
use kiln_test_cluster::{Cluster, Namespace, PLAIN_REGISTRY, WEAK_CONTEXT};
use serde_json::json;

use crate::kiln::{Project, said};
use crate::objects;

/// A Service whose name only pods can resolve, in front of the cluster's registry.
fn registry_inside(cluster: &Cluster, namespace: &Namespace) -> String {
    let (node, port) = PLAIN_REGISTRY.split_once(':').expect("a port");
    let port: u16 = port.parse().expect("a number");
    let ports = json!([{"name": "http", "port": port, "protocol": "TCP"}]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "registry"},
        "spec": {"ports": ports},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "registry-1", "labels": {"kubernetes.io/service-name": "registry"}},
        "endpoints": [{"addresses": [node]}], "ports": ports,
    });
    let name = namespace.name();
    objects::create(
        cluster,
        &format!("/api/v1/namespaces/{name}/services"),
        &service,
    );
    objects::create(
        cluster,
        &format!("/apis/discovery.k8s.io/v1/namespaces/{name}/endpointslices"),
        &slice,
    );
    format!("registry.{name}.svc.cluster.local:{port}")
}

fn outcome(events: &[Event]) -> BuildOutcome {
    let finished = events.iter().find_map(|event| match event {
        Event::BuildFinished { outcome, .. } => Some(*outcome),
        _ => None,
    });
    finished.unwrap_or_else(|| panic!("no build ended: {events:#?}"))
}

#[test]
fn a_registry_that_only_pods_reach_is_asked_from_inside_for_bases_and_for_what_is_built() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("inside").expect("a namespace");
    let host = registry_inside(&cluster, &namespace);
    let project = Project::empty(&cluster, &[]);
    project.write(
        "Dockerfile",
        &format!("FROM {host}/library/busybox\nCOPY index.html /\n"),
    );
    project.write("index.html", "one\n");
    project.write(
        "kiln.yaml",
        &format!(
            "apiVersion: kiln.dev/v1\nname: inside\nimages:\n  - name: app\nbuild:\n  executor: {{initImage: busybox}}\nregistries:\n  \"{host}\": {{insecure: true}}\n"
        ),
    );
    let repo = format!("{host}/tests/inside-{}", namespace.name());
    let build = ["build", "-n", namespace.name(), "-d", &repo];

    let events = project.events(&build);
    assert_eq!(outcome(&events), BuildOutcome::Built);
    let asked = |e: &Event| matches!(e, Event::Note { message } if message.contains("a pod of the cluster asks"));
    assert!(events.iter().any(asked), "{events:#?}");
    objects::no_build_pods(&cluster, namespace.name());

    // The base is remembered; the image is found by the pod, which is sent nothing.
    let events = project.events(&build);
    assert_eq!(outcome(&events), BuildOutcome::Cached);
    assert!(!events.iter().any(asked), "{events:#?}");
    assert!(
        !events
            .iter()
            .any(|e| matches!(e, Event::BuildLog { line, .. } if line.contains("COPY"))),
        "{events:#?}"
    );

    project.edit("index.html", "one", "two");
    assert_eq!(outcome(&project.events(&build)), BuildOutcome::Built);
    objects::no_build_pods(&cluster, namespace.name());
}

#[test]
fn triggers_of_a_base_are_remembered_across_runs_by_its_digest() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("onbuild").expect("a namespace");
    let project = Project::empty(&cluster, &[]);
    let repo = format!("{PLAIN_REGISTRY}/tests/onbuild-{}", namespace.name());
    project.write(
        "base/Dockerfile",
        "FROM busybox\nONBUILD COPY wanted.txt /\n",
    );
    project.write(
        "base/kiln.yaml",
        "apiVersion: kiln.dev/v1\nname: base\nimages: [{name: base}]\n",
    );
    project.write(
        "app/Dockerfile",
        &format!("FROM {repo}/base:1\nCOPY index.html /\n"),
    );
    project.write(
        "app/kiln.yaml",
        "apiVersion: kiln.dev/v1\nname: app\nimages: [{name: app}]\n",
    );
    for file in ["wanted.txt", "index.html", "other.txt"] {
        project.write(&format!("app/{file}"), file);
    }
    let of = ["-n", namespace.name(), "-d", &repo];
    project.run(&[&["build", "-f", "base/kiln.yaml", "-t", "1"], &of[..]].concat());

    let context = || {
        let text = said(&project.run(&["context", "-f", "app/kiln.yaml", "app"]));
        ["wanted.txt", "index.html", "other.txt"].map(|file| text.contains(file))
    };
    // Before the base is known everything might be wanted; here it is asked for at once.
    assert_eq!(context(), [true, true, false]);

    // The registry goes away; the digest of the name and its triggers are remembered.
    let settings = project.dir().join("../.config/kiln/config.yaml");
    let text = fs::read_to_string(&settings).expect("settings");
    let gone = format!("{text}    {PLAIN_REGISTRY}: {{host: \"127.0.0.1:1\", insecure: true}}\n");
    fs::write(&settings, gone).expect("settings");
    assert_eq!(context(), [true, true, false]);
}

/// The ConfigMap belongs to the whole cluster: no other test may depend on its absence, unless as a
/// user who may not read it.
#[test]
fn the_clusters_own_registry_is_the_destination_where_none_is_named() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("hosting").expect("a namespace");
    let hosting = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "local-registry-hosting"},
        "data": {"localRegistryHosting.v1": format!("host: \"{PLAIN_REGISTRY}\"\n")},
    });
    objects::create(
        &cluster,
        "/api/v1/namespaces/kube-public/configmaps",
        &hosting,
    );
    let project = Project::example(&cluster, "raw-yaml", &[]);
    project.run(&[
        "build",
        "-n",
        namespace.name(),
        "-q",
        "--file-output=built.json",
    ]);
    let built = fs::read_to_string(project.dir().join("built.json")).expect("a file");
    assert!(
        built.contains(&format!("{PLAIN_REGISTRY}/page:")),
        "{built}"
    );

    let weak = [
        "build",
        "-n",
        namespace.name(),
        "--kube-context",
        WEAK_CONTEXT,
    ];
    let (code, words) = project.fails(&weak);
    assert_eq!(code, 4);
    assert!(words.contains("--default-repo"), "{words}");
}
