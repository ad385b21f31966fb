use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_schemas::model::{Artifact, ArtifactCache, BuildArg, Platform, Template};

use super::*;
use crate::order::Iteration;
use crate::testing::{artifact, engine};

fn tree() -> BuildTree {
    let files = ["Dockerfile", "main.go"].map(PathBuf::from);
    BuildTree::new(
        Path::new("/project"),
        files,
        Path::new("/project/Dockerfile"),
    )
}

fn order(artifact: Artifact, reference: &str) -> Order {
    let iteration = Iteration {
        reference: reference.into(),
        ..Iteration::default()
    };
    Order::render(Arc::new(artifact), iteration, &engine()).unwrap()
}

fn contract(artifact: Artifact, reference: &str) -> Vec<String> {
    contract_args(&order(artifact, reference), &tree())
}

/// What skaffold 2 gives to kaniko for the caching article's configuration.
#[test]
fn the_caching_articles_arguments_are_skaffolds() {
    let mut artifact = artifact("europe-north1-docker.pkg.dev/com-seankhliao/kluster/feed-agg");
    artifact.flags.reproducible = true;
    artifact.flags.single_snapshot = true;
    artifact.flags.skip_unused_stages = true;
    artifact.flags.use_new_run = true;
    artifact.flags.whitelist_var_run = Some(true);
    artifact
        .flags
        .mirrors
        .insert("index.docker.io".into(), vec!["mirror.gcr.io".into()]);
    for (name, value) in [
        ("GOPROXY", "http://athens.athens.svc.cluster.local"),
        ("GOCACHE", "/var/run/gobuildcache"),
        ("GOMODCACHE", "/var/run/gomodcache"),
    ] {
        artifact
            .build_args
            .insert(name.into(), BuildArg::Value(Template(value.into())));
    }
    let reference = "europe-north1-docker.pkg.dev/com-seankhliao/kluster/feed-agg:v1";
    assert_eq!(
        contract(artifact, reference),
        [
            "--destination",
            "europe-north1-docker.pkg.dev/com-seankhliao/kluster/feed-agg:v1",
            "--dockerfile",
            "Dockerfile",
            "--context",
            "dir:///kaniko/buildcontext",
            "--build-arg",
            "GOCACHE=/var/run/gobuildcache",
            "--build-arg",
            "GOMODCACHE=/var/run/gomodcache",
            "--build-arg",
            "GOPROXY=http://athens.athens.svc.cluster.local",
            "--digest-file",
            "/dev/termination-log",
            "--registry-mirror",
            "mirror.gcr.io",
            "--reproducible",
            "--single-snapshot",
            "--skip-unused-stages",
            "--use-new-run",
            "--whitelist-var-run",
        ]
    );
}

/// Every field of KanikoArtifact that becomes a flag, in skaffold's order.
#[test]
fn all_flags_stand_in_skaffolds_order() {
    let mut artifact = artifact("r.example:5000/app");
    artifact.target = Some("final".into());
    artifact
        .build_args
        .insert("FROM_ENV".into(), BuildArg::FromEnvironment);
    artifact
        .labels
        .insert("team".into(), Template("{{.IMAGE_TAG}}".into()));
    artifact.cache = Some(ArtifactCache {
        repo: Some("r.example:5000/cache".into()),
        host_path: Some("/var/bases".into()),
        ttl: Some("24h".into()),
        copy_layers: true,
        run_layers: true,
    });
    let some = |text: &str| Some(text.to_owned());
    let flags = &mut artifact.flags;
    flags.cleanup = true;
    flags.destinations = vec!["r.example:5000/app:second".into()];
    flags.digest_file = some("/digest");
    flags.force = true;
    flags.image_fs_extract_retry = some("2");
    flags.image_name_with_digest_file = some("/name");
    flags.insecure = true;
    flags.insecure_pull = true;
    flags.insecure_registries = vec!["a.example".into()];
    flags.log_format = some("text");
    flags.log_timestamp = true;
    flags.oci_layout_path = some("/layout");
    flags.push_retry = some("3");
    flags
        .mirrors
        .insert("ghcr.io".into(), vec!["ghcr.mirror".into()]);
    flags.mirrors.insert(
        "index.docker.io".into(),
        vec!["one.mirror".into(), "two.mirror".into()],
    );
    flags
        .registry_certificates
        .insert("r.example".into(), Template("/certs/ca.pem".into()));
    flags.reproducible = true;
    flags.single_snapshot = true;
    flags.skip_tls = true;
    flags.skip_tls_verify_pull = true;
    flags.skip_tls_verify_registries = vec!["b.example".into()];
    flags.skip_unused_stages = true;
    flags.snapshot_mode = some("redo");
    flags.tar_path = some("/image.tar");
    flags.use_new_run = true;
    flags.verbosity = some("debug");
    flags.whitelist_var_run = Some(false);
    flags.ignore_paths = vec!["/tmp".into()];
    flags.extra = vec!["--compression=zstd".into()];
    let expected = "--destination r.example:5000/app:v1 --dockerfile Dockerfile \
         --context dir:///kaniko/buildcontext --build-arg FROM_ENV \
         --cache --cache-repo r.example:5000/cache --cache-dir /cache --cache-ttl 24h \
         --cache-copy-layers --cache-run-layers=true --target final --cleanup \
         --destination r.example:5000/app:second --digest-file /digest --force \
         --image-fs-extract-retry 2 --image-name-with-digest-file /name --insecure \
         --insecure-pull --log-format text --log-timestamp --oci-layout-path /layout \
         --registry-map ghcr.io=ghcr.mirror --registry-mirror one.mirror \
         --registry-mirror two.mirror --reproducible --single-snapshot --skip-tls-verify \
         --skip-tls-verify-registry r.example:5000 --skip-tls-verify-pull \
         --skip-unused-stages --snapshot-mode redo --push-retry 3 --tarPath /image.tar \
         --use-new-run --verbosity debug --whitelist-var-run=false \
         --insecure-registry a.example --skip-tls-verify-registry b.example \
         --ignore-path /tmp --registry-certificate r.example=/certs/ca.pem \
         --label team=v1 --compression=zstd";
    assert_eq!(
        contract(artifact, "r.example:5000/app:v1").join(" "),
        expected
    );
}

#[test]
fn two_orders_do_not_add_up() {
    let artifact = Arc::new(artifact("app"));
    let make = || {
        let iteration = Iteration {
            reference: "r.example/app:v1".into(),
            insecure_registries: vec!["r.example".into()],
            ..Iteration::default()
        };
        contract_args(
            &Order::render(artifact.clone(), iteration, &engine()).unwrap(),
            &tree(),
        )
    };
    let first = make();
    assert_eq!(first, make());
    assert_eq!(
        first
            .iter()
            .filter(|arg| *arg == "--insecure-registry")
            .count(),
        1
    );
}

#[test]
fn kilns_executor_gets_the_users_registry_settings_on_top() {
    let mut order = order(artifact("r.example/app"), "r.example/app:v1");
    order.platform = Platform::parse("linux/arm64");
    let reach = RegistryReach {
        insecure: vec!["plain.example".into()],
        hosts: [("r.example".to_owned(), "10.0.0.1:5000".to_owned())].into(),
        certificates: [("10.0.0.1:5000".to_owned(), b"PEM".to_vec())].into(),
        pull_config: None,
    };
    let args = kiln_args(&order, &tree(), &reach);
    let own = &args[contract_args(&order, &tree()).len()..];
    assert_eq!(
        own,
        [
            "--insecure-registry",
            "plain.example",
            "--registry-certificate",
            "10.0.0.1:5000=/kaniko/certs/10.0.0.1_5000.pem",
            "--registry-host",
            "r.example=10.0.0.1:5000",
            "--custom-platform",
            "linux/arm64",
            "--progress=json",
            "--await-context",
        ]
    );
}
