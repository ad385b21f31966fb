//! Reading `skaffold.yaml`: what reaches the model, and what is refused where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_schemas::model::{BuildArg, Dialect, GitVariant, Module, TagPolicy, Template};
use kiln_schemas::{Environment, ProfileChoice, Reading, skaffold};
use serde_json::json;

const FEED_AGG: &str = include_str!("feed-agg.yaml");

fn environment() -> Environment {
    Environment {
        vars: BTreeMap::from([("HOME".to_owned(), "/home/dev".to_owned())]),
        cwd: PathBuf::from("/src/app"),
        kube_context: Some("kind-cluster30".to_owned()),
        command: "dev".to_owned(),
    }
}

fn read(text: &str) -> Reading {
    let file = Path::new("skaffold.yaml");
    match skaffold::read(text, file, &environment(), &ProfileChoice::default()) {
        Ok(reading) => reading,
        Err(errors) => panic!("{errors:#?}"),
    }
}

fn module(text: &str) -> Module {
    read(text).project.modules.remove(0)
}

/// `line:column: message` of every error, with its help after `|`.
fn errors(text: &str) -> Vec<String> {
    let file = Path::new("skaffold.yaml");
    skaffold::read(text, file, &environment(), &ProfileChoice::default())
        .expect_err("the configuration was accepted")
        .iter()
        .map(|error| {
            let place = error.to_string();
            let place = place.strip_prefix("skaffold.yaml:").unwrap_or(&place);
            match &error.help {
                Some(help) => format!("{} | {help}", place.trim_start()),
                None => place.trim_start().to_owned(),
            }
        })
        .collect()
}

#[test]
fn the_caching_article_is_read_unchanged() {
    let Reading { project, notes } = read(FEED_AGG);
    assert_eq!(notes, []);
    assert_eq!(
        (project.name.as_str(), project.dialect),
        ("feed-agg", Dialect::Skaffold)
    );
    assert_eq!(project.files, [PathBuf::from("/src/app/skaffold.yaml")]);
    let module = &project.modules[0];
    let artifact = &module.build.artifacts[0];
    assert_eq!(
        artifact.image,
        "europe-north1-docker.pkg.dev/com-seankhliao/kluster/feed-agg"
    );
    assert_eq!(artifact.context, PathBuf::from("/src/app"));
    assert_eq!(artifact.dockerfile, PathBuf::from("Dockerfile"));
    assert_eq!(
        artifact.build_args["GOCACHE"],
        BuildArg::Value(Template("/var/run/gobuildcache".to_owned()))
    );
    let flags = &artifact.flags;
    assert!(flags.reproducible && flags.single_snapshot && flags.skip_unused_stages);
    assert!(flags.use_new_run && flags.whitelist_var_run == Some(true));
    assert_eq!(flags.mirrors["index.docker.io"], ["mirror.gcr.io"]);
    assert_eq!(artifact.cache, None);
    assert_eq!(
        artifact.executor.image.as_deref(),
        Some("gcr.io/kaniko-project/executor:latest")
    );
    assert_eq!(
        artifact.volume_mounts[1],
        json!({"name": "buildcache", "mountPath": "/var/run/gobuildcache"})
    );
    let cluster = &module.build.cluster;
    assert_eq!(cluster.namespace.as_deref(), Some("skaffold"));
    assert_eq!(
        cluster.volumes[0],
        json!({"name": "modcache", "hostPath": {"path": "/opt/kind/cluster30/kaniko-gomodcache"}})
    );
    let secret = cluster.pull_secret.as_ref().unwrap();
    assert_eq!(
        (
            secret.name.as_str(),
            secret.path.as_deref(),
            secret.mount_path.as_str()
        ),
        ("kaniko-secret", Some("kaniko-secret"), "/secret")
    );
    assert_eq!(
        module.deploy.kube_context.as_deref(),
        Some("kind-cluster30")
    );
    assert_eq!(
        module.manifests.kustomize[0].path,
        Template("kustomize/overlays/cluster30".to_owned())
    );
    assert_eq!(
        module.build.tags,
        TagPolicy::GitCommit {
            variant: GitVariant::Tags,
            prefix: String::new(),
            ignore_changes: false
        }
    );
}
