//! The line through every room: an existing skaffold.yaml of a Go service,
//! built in the cluster, deployed, answering; then an edit, and the new answer
//! from the pod. Nothing in it is a stand-in but the registry hosts, which
//! user-level settings lead to the cluster's own.

use std::collections::BTreeSet;

use kiln_schemas::event::{BuildReason, Event};
use kiln_test_cluster::{Cluster, download_modules};

use crate::examples::says;
use crate::kiln::Project;
use crate::objects;
use crate::structure::root;

const REGISTRY: &str = "europe-north1-docker.pkg.dev";

fn feed_agg(cluster: &Cluster) -> Project {
    download_modules(&root().join("examples/feed-agg")).expect("modules are downloaded");
    cluster.module_proxy().expect("the module proxy runs");
    objects::namespace(cluster, "skaffold");
    objects::secret(
        cluster,
        "skaffold",
        "kaniko-secret",
        &[("kaniko-secret", "{}")],
    );
    Project::example(cluster, "feed-agg", &[REGISTRY])
}

#[test]
fn an_existing_skaffold_project_is_built_deployed_and_follows_its_edits() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let project = feed_agg(&cluster);

    project.run(&["run"]);
    says(
        &project,
        &cluster,
        "feed-agg",
        ("feed-agg", "feeds, aggregated"),
    );
    objects::no_build_pods(&cluster, "skaffold");

    let mut dev = project.dev(&[]);
    dev.ready();
    dev.forget();
    project.edit("main.go", "feeds, aggregated", "feeds, edited");
    dev.wait("a build", |e| {
        matches!(e, Event::BuildStarted { reason: BuildReason::Changed(paths), .. }
            if paths.iter().any(|p| p.ends_with("main.go")))
    });
    dev.ready();
    says(
        &project,
        &cluster,
        "feed-agg",
        ("feed-agg", "feeds, edited"),
    );

    // A save that changes no bytes is none.
    project.edit("main.go", "feeds, edited", "feeds, edited");
    // The next real change proves that the loop has seen what came before it.
    dev.forget();
    project.edit("conf.yaml", "name: go", "name: golang");
    dev.ready();
    let builds = dev
        .seen()
        .iter()
        .filter(|e| matches!(e, Event::BuildStarted { .. }))
        .count();
    assert_eq!(
        builds,
        1,
        "a save without a change was built: {:#?}",
        dev.seen()
    );

    // Ctrl-C deletes what was deployed (skaffold.yaml's default), and no pod
    // of ours stays.
    let (code, _) = dev.interrupt();
    assert_eq!(code, 0);
    assert_eq!(
        objects::names(&cluster, "feed-agg", "deployments"),
        BTreeSet::new()
    );
    objects::no_build_pods(&cluster, "skaffold");
}
