//! Every project under `examples/` runs as it stands. (The Go service is in
//! `spine.rs`.)

use std::thread::sleep;
use std::time::{Duration, Instant};

use kiln_schemas::event::{BuildOutcome, Event};
use kiln_test_cluster::{Cluster, PLAIN_REGISTRY};

use crate::kiln::{PATIENCE, Project};
use crate::objects;

/// Where an example's images go: one repository for each test.
fn repo(name: &str) -> String {
    format!("{PLAIN_REGISTRY}/tests/{name}-{}", std::process::id())
}

/// Asks a service until it says what is wanted. The deploy is ready before;
/// what may still be on its way are the node's rules for the service.
pub fn says(
    project: &Project,
    cluster: &Cluster,
    namespace: &str,
    (service, wanted): (&str, &str),
) {
    let (service, path) = service.split_once('/').unwrap_or((service, ""));
    let address = objects::service_address(cluster, namespace, service);
    let url = format!("http://{address}/{path}");
    let give_up = Instant::now() + PATIENCE;
    loop {
        match project.get(&url) {
            Ok(text) if text.trim() == wanted => return,
            other => assert!(
                Instant::now() < give_up,
                "{url}: {other:?} instead of {wanted}"
            ),
        }
        sleep(Duration::from_millis(200));
    }
}

fn outcomes(events: &[Event]) -> Vec<(String, BuildOutcome)> {
    let mut outcomes: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::BuildFinished { image, outcome, .. } => Some((image.clone(), *outcome)),
            _ => None,
        })
        .collect();
    outcomes.sort_by(|a, b| a.0.cmp(&b.0));
    outcomes
}

#[test]
fn a_node_service_of_a_kiln_yaml_runs_and_an_unchanged_one_is_found() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("node-service").expect("a namespace");
    let project = Project::example(&cluster, "node-service", &[]);
    let repo = repo("node");
    let run = ["run", "-n", namespace.name(), "-d", &repo];

    let events = project.events(&run);
    assert_eq!(
        outcomes(&events),
        [("node-service".to_owned(), BuildOutcome::Built)]
    );
    says(
        &project,
        &cluster,
        namespace.name(),
        ("node-service", "hello from node"),
    );
    // Manifests get the digest, not only a tag.
    let images = objects::images(&cluster, namespace.name(), "node-service");
    assert!(images[0].contains("@sha256:"), "{images:?}");

    // A content tag says what is in the image: nothing changed, nothing built.
    let again = project.events(&run);
    assert_eq!(
        outcomes(&again),
        [("node-service".to_owned(), BuildOutcome::Cached)]
    );
}

#[test]
fn two_services_are_built_on_the_third() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("three").expect("a namespace");
    let project = Project::example(&cluster, "three-services", &[]);
    let repo = repo("three");
    let events = project.events(&["run", "-n", namespace.name(), "-d", &repo]);

    let finished: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            Event::BuildFinished { image, .. } => Some(image.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(finished.len(), 3);
    assert_eq!(
        finished[0], "base",
        "the base is built before what stands on it"
    );
    for service in ["front", "back"] {
        says(
            &project,
            &cluster,
            namespace.name(),
            (service, &format!("<h1>{service}</h1>")),
        );
    }

    // A change of the base rebuilds what stands on it.
    project.write("base/motd", "hello\n");
    project.edit("base/Dockerfile", "EXPOSE", "COPY motd /etc/motd\nEXPOSE");
    let events = project.events(&["run", "-n", namespace.name(), "-d", &repo]);
    let built = outcomes(&events);
    assert!(
        built
            .iter()
            .all(|(_, outcome)| *outcome == BuildOutcome::Built),
        "{built:?}"
    );
    assert_eq!(built.len(), 3);
}

#[test]
fn a_profile_changes_tag_arguments_and_overlay() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("profiles").expect("a namespace");
    let project = Project::example(&cluster, "profiles", &[]);
    let repo = repo("profiles");

    let mut dev = project.kiln(&["run", "-n", namespace.name(), "-d", &repo]);
    let output = dev
        .env("RELEASE_CHANNEL", "nightly")
        .output()
        .expect("kiln runs");
    assert!(output.status.success(), "{}", crate::kiln::said(&output));
    let images = objects::images(&cluster, namespace.name(), "greeter-dev");
    assert!(
        images[0].starts_with(&format!("{repo}/greeter:dev-nightly@sha256:")),
        "{images:?}"
    );

    project.run(&["run", "-n", namespace.name(), "-d", &repo, "-p", "prod"]);
    let deployments = objects::names(&cluster, namespace.name(), "deployments");
    // What the other overlay had deployed has gone from the manifests.
    assert_eq!(
        deployments.into_iter().collect::<Vec<_>>(),
        ["greeter-prod"]
    );
    let pods = objects::list(&cluster, namespace.name(), "pods");
    let address = pods
        .iter()
        .filter(|pod| {
            pod["metadata"]["name"]
                .as_str()
                .is_some_and(|n| n.starts_with("greeter-prod"))
        })
        .find_map(|pod| pod["status"]["podIP"].as_str())
        .expect("a pod with an address");
    let text = project
        .get(&format!("http://{address}:8080/"))
        .expect("the pod answers");
    assert_eq!(text.trim(), "hello from prod");
}

#[test]
fn plain_manifests_are_deployed_and_deleted() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("raw").expect("a namespace");
    let project = Project::example(&cluster, "raw-yaml", &[]);
    let repo = repo("raw");
    project.run(&["run", "-n", namespace.name(), "-d", &repo]);
    says(
        &project,
        &cluster,
        namespace.name(),
        ("page", "<h1>plain manifests</h1>"),
    );
    project.run(&["delete", "-n", namespace.name(), "--wait"]);
    assert!(objects::names(&cluster, namespace.name(), "deployments").is_empty());
    let services = objects::names(&cluster, namespace.name(), "services");
    assert!(!services.contains("page"), "{services:?}");
}
