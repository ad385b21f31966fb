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

/// Every field of the kaniko artifact (v4beta14): what is written, and where
/// in the model (as JSON) it must show up as what.
const KANIKO_FIELDS: &str = r#"
dockerfile: build/Dockerfile | /dockerfile | "build/Dockerfile"
target: final | /target | "final"
image: mine:v1 | /executor/image | "mine:v1"
initImage: busybox | /executor/initImage | "busybox"
imagePullSecret: regcred | /executor/imagePullSecret | "regcred"
destination: [r/a:b] | /flags/destinations | ["r/a:b"]
buildArgs: {A: 1.20, B: } | /buildArgs | {"A": {"value": "1.20"}, "B": "fromEnvironment"}
env: [{name: A, value: b}] | /env/0 | {"name": "A", "value": "b"}
cache: {} | /cache | {"repo": null, "hostPath": null, "ttl": null, "copyLayers": false, "runLayers": true}
cache: {repo: r/c} | /cache/repo | "r/c"
cache: {hostPath: /c} | /cache/hostPath | "/c"
cache: {ttl: 48h} | /cache/ttl | "48h"
cache: {cacheCopyLayers: true} | /cache/copyLayers | true
cache: {cacheRunLayers: false} | /cache/runLayers | false
cleanup: true | /flags/cleanup | true
digestFile: /d | /flags/digestFile | "/d"
imageNameWithDigestFile: /n | /flags/imageNameWithDigestFile | "/n"
ociLayoutPath: /o | /flags/ociLayoutPath | "/o"
tarPath: /t | /flags/tarPath | "/t"
force: true | /flags/force | true
imageFSExtractRetry: 2 | /flags/imageFsExtractRetry | "2"
pushRetry: 3 | /flags/pushRetry | "3"
insecure: true | /flags/insecure | true
insecurePull: true | /flags/insecurePull | true
insecureRegistry: [r] | /flags/insecureRegistries | ["r"]
skipTLS: true | /flags/skipTls | true
skipTLSVerifyPull: true | /flags/skipTlsVerifyPull | true
skipTLSVerifyRegistry: [r] | /flags/skipTlsVerifyRegistries | ["r"]
registryMirror: m | /flags/mirrors | {"index.docker.io": ["m"]}
registryCertificate: {r: /c} | /flags/registryCertificates | {"r": "/c"}
label: {a: b} | /labels | {"a": "b"}
logFormat: json | /flags/logFormat | "json"
logTimestamp: true | /flags/logTimestamp | true
verbosity: debug | /flags/verbosity | "debug"
reproducible: true | /flags/reproducible | true
singleSnapshot: true | /flags/singleSnapshot | true
skipUnusedStages: true | /flags/skipUnusedStages | true
useNewRun: true | /flags/useNewRun | true
snapshotMode: redo | /flags/snapshotMode | "redo"
whitelistVarRun: false | /flags/whitelistVarRun | false
ignorePaths: [/x] | /flags/ignorePaths | ["/x"]
volumeMounts: [{name: v, mountPath: /v}] | /volumeMounts/0 | {"name": "v", "mountPath": "/v"}
contextSubPath: services/app | /contextSubPath | "services/app"
copyMaxRetries: 5 | /upload/attempts | 5
copyTimeout: 90s | /upload/timeout/secs | 90
buildContextCompressionLevel: 0 | /upload/compressionLevel | 0
"#;

#[test]
fn every_kaniko_field_reaches_the_model() {
    let default = artifact("{}");
    for row in KANIKO_FIELDS.trim().lines() {
        let columns: Vec<&str> = row.split(" | ").collect();
        let [written, pointer, expected] = columns[..] else {
            panic!("{row}")
        };
        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
        let artifact = artifact(&format!("{{{written}}}"));
        assert_eq!(artifact.pointer(pointer), Some(&expected), "{written}");
        assert_ne!(
            default.pointer(pointer),
            Some(&expected),
            "{written} is the default"
        );
    }
}

/// An artifact with these kaniko fields, as JSON.
fn artifact(kaniko: &str) -> serde_json::Value {
    let text = format!(
        "apiVersion: skaffold/v4beta14\nkind: Config\nbuild:\n  artifacts:\n  - image: app\n    \
         kaniko: {kaniko}\n  cluster: {{volumes: [{{name: v, emptyDir: {{}}}}]}}\n"
    );
    serde_json::to_value(&module(&text).build.artifacts[0]).unwrap()
}

#[test]
fn every_cluster_field_reaches_the_model() {
    let resources = json!({"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}, "limits": {"memory": "2Gi", "storage": "3Gi"}});
    let secret = |name: &str, path: Option<&str>, mount: &str| json!({"name": name, "path": path, "mountPath": mount, "randomName": false});
    let rows = [
        ("HTTP_PROXY: http://p", "/httpProxy", json!("http://p")),
        ("HTTPS_PROXY: http://p", "/httpsProxy", json!("http://p")),
        (
            "pullSecretPath: ~/key.json",
            "/pullSecret",
            secret("kaniko-secret", Some("/home/dev/key.json"), "/secret"),
        ),
        (
            "pullSecretName: s",
            "/pullSecret",
            secret("s", None, "/secret"),
        ),
        (
            "pullSecretName: s, pullSecretMountPath: /m",
            "/pullSecret/mountPath",
            json!("/m"),
        ),
        (
            "pullSecretPath: k, randomPullSecret: true",
            "/pullSecret/randomName",
            json!(true),
        ),
        (
            "dockerConfig: {path: ~/.docker/config.json}",
            "/dockerConfig",
            json!({"secretName": null, "path": "/home/dev/.docker/config.json", "randomName": false}),
        ),
        (
            "dockerConfig: {secretName: s}",
            "/dockerConfig/secretName",
            json!("s"),
        ),
        (
            "dockerConfig: {}",
            "/dockerConfig/secretName",
            json!("docker-cfg"),
        ),
        (
            "dockerConfig: {path: c}, randomDockerConfigSecret: true",
            "/dockerConfig/randomName",
            json!(true),
        ),
        ("namespace: n", "/namespace", json!("n")),
        ("timeout: 1h30m", "/timeout/secs", json!(5400)),
        ("serviceAccount: s", "/serviceAccount", json!("s")),
        (
            "tolerations: [{key: k, operator: Exists, tolerationSeconds: 5}]",
            "/tolerations/0",
            json!({"key": "k", "operator": "Exists", "tolerationSeconds": 5}),
        ),
        ("nodeSelector: {a: b}", "/nodeSelector", json!({"a": "b"})),
        (
            "annotations: {sidecar.istio.io/inject: false}",
            "/annotations",
            json!({"sidecar.istio.io/inject": "false"}),
        ),
        ("labels: {a: b}", "/labels", json!({"a": "b"})),
        ("runAsUser: 0", "/runAsUser", json!(0)),
        (
            "resources: {requests: {cpu: 1, ephemeralStorage: 1Gi}, limits: {memory: 2Gi, resourceStorage: 3Gi}}",
            "/resources",
            resources,
        ),
        ("concurrency: 4", "/concurrency", json!(4)),
        (
            "volumes: [{name: v, hostPath: {path: /p}}]",
            "/volumes/0",
            json!({"name": "v", "hostPath": {"path": "/p"}}),
        ),
    ];
    for (written, pointer, expected) in rows {
        let text = format!(
            "apiVersion: skaffold/v4beta14\nkind: Config\nbuild:\n  cluster: {{{written}}}\n"
        );
        let cluster = serde_json::to_value(module(&text).build.cluster).unwrap();
        assert_eq!(cluster.pointer(pointer), Some(&expected), "{written}");
    }
    let cluster = module("apiVersion: skaffold/v4beta14\nkind: Config\n")
        .build
        .cluster;
    assert_eq!((cluster.timeout.as_secs(), cluster.concurrency), (1200, 0));
}

#[test]
fn manifests_deploy_and_forwards_reach_the_model() {
    let module = module(
        "\
apiVersion: skaffold/v4beta14
kind: Config
manifests:
  rawYaml: ['k8s/{{.ENV}}.yaml']
  kustomize: {paths: [a, b], buildArgs: [--enable-helm --load-restrictor LoadRestrictionsNone]}
  remoteManifests: [{manifest: apps:deployment/x, kubeContext: other}]
  hooks:
    before: [{host: {command: [make], os: [linux], dir: gen}}]
    after: [{host: {command: [sed], withChange: true}}]
deploy:
  kubectl:
    flags: {apply: [--force, --server-side], disableValidation: true}
    defaultNamespace: '{{.NS}}'
    hooks: {after: [{host: {command: [echo]}}]}
  statusCheck: false
  statusCheckDeadlineSeconds: 30
  tolerateFailuresUntilDeadline: true
  logs: {prefix: none, jsonParse: {fields: [message]}}
portForward:
- {resourceType: Deployment, resourceName: web, namespace: n, port: http, localPort: 8080, address: 0.0.0.0}
- {resourceType: service, resourceName: db, port: 5432}
resourceSelector:
  allow: [{groupKind: Rollout.argoproj.io, image: [.spec.image], labels: [.metadata.labels], podSpec: [.spec.template]}]
  deny: [{groupKind: Job.batch}]
",
    );
    let value = serde_json::to_value(&module).unwrap();
    for (pointer, expected) in [
        ("/manifests/raw", json!(["k8s/{{.ENV}}.yaml"])),
        ("/manifests/kustomize/1/path", json!("b")),
        (
            "/manifests/kustomize/0/buildArgs",
            json!(["--enable-helm", "--load-restrictor", "LoadRestrictionsNone"]),
        ),
        (
            "/manifests/remote/0",
            json!({"manifest": "apps:deployment/x", "kubeContext": "other"}),
        ),
        (
            "/manifests/before/0",
            json!({"command": ["make"], "os": ["linux"], "dir": "/src/app/gen"}),
        ),
        ("/manifests/after/0/withChange", json!(true)),
        ("/deploy/force", json!(true)),
        ("/deploy/skipValidation", json!(true)),
        ("/deploy/defaultNamespace", json!("{{.NS}}")),
        ("/deploy/hooks/after/0/command", json!(["echo"])),
        ("/deploy/status/enabled", json!(false)),
        ("/deploy/status/deadline/secs", json!(30)),
        ("/deploy/status/tolerateFailures", json!(true)),
        (
            "/deploy/logs",
            json!({"prefix": "none", "jsonFields": ["message"]}),
        ),
        (
            "/forward/0",
            json!({"resourceType": "deployment", "resourceName": "web", "namespace": "n",
                "port": {"name": "http"}, "address": "0.0.0.0", "localPort": 8080}),
        ),
        ("/forward/1/address", json!("127.0.0.1")),
        ("/forward/1/port", json!({"number": 5432})),
        (
            "/resourceSelector/allow/0/podSpec",
            json!([".spec.template"]),
        ),
        ("/resourceSelector/deny/0/groupKind", json!("Job.batch")),
    ] {
        assert_eq!(value.pointer(pointer), Some(&expected), "{pointer}");
    }
}

#[test]
fn defaults_are_skaffolds() {
    let text = "apiVersion: skaffold/v4beta14\nkind: Config\n";
    let reading = read(text);
    let module = &reading.project.modules[0];
    assert_eq!(reading.project.name, "app");
    assert_eq!(module.manifests.raw, [Template("k8s/*.yaml".to_owned())]);
    let deploy = serde_json::to_value(&module.deploy).unwrap();
    assert_eq!(deploy["logs"]["prefix"], "container");
    assert_eq!(deploy["status"]["deadline"]["secs"], 600);
    let two = format!("{text}---\n{text}metadata: {{name: two}}\n");
    let project = read(&two).project;
    assert!(
        project
            .modules
            .iter()
            .all(|module| module.manifests.raw.is_empty())
    );
}

#[test]
fn a_kustomization_without_paths_is_the_working_folder_and_said() {
    let reading =
        read("apiVersion: skaffold/v4beta14\nkind: Config\nmanifests:\n  kustomize: {}\n");
    let module = &reading.project.modules[0];
    assert_eq!(module.manifests.kustomize[0].path, Template(".".to_owned()));
    assert!(module.manifests.raw.is_empty());
    assert_eq!(
        reading.notes[0].to_string(),
        "skaffold.yaml:4:14: `manifests.kustomize.paths` is `[.]` because it is not given"
    );
}

#[test]
fn paths_are_below_the_working_directory_and_a_difference_is_said() {
    let text = "apiVersion: skaffold/v4beta14\nkind: Config\nbuild:\n  artifacts: [{image: a, context: web}]\n";
    let file = Path::new("deploy/skaffold.yaml");
    let reading = skaffold::read(text, file, &environment(), &ProfileChoice::default()).unwrap();
    let module = &reading.project.modules[0];
    assert_eq!(
        module.build.artifacts[0].context,
        PathBuf::from("/src/app/web")
    );
    assert_eq!(module.dir, PathBuf::from("/src/app"));
    assert_eq!(
        reading.notes[0].to_string(),
        "deploy/skaffold.yaml: relative paths in it are below /src/app, not beside it, as in skaffold"
    );
}

#[test]
fn tag_policies_reach_the_model() {
    let policy = |written: &str| {
        let text = format!(
            "apiVersion: skaffold/v4beta14\nkind: Config\nbuild:\n  tagPolicy: {{{written}}}\n"
        );
        serde_json::to_value(module(&text).build.tags).unwrap()
    };
    for (written, expected) in [
        ("sha256: {}", json!("latest")),
        ("inputDigest: {}", json!("inputDigest")),
        (
            "gitCommit: {variant: abbrevTreeSHA, prefix: v, ignoreChanges: true}",
            json!({"gitCommit": {"variant": "abbrevTreeSha", "prefix": "v", "ignoreChanges": true}}),
        ),
        (
            "envTemplate: {template: '{{.A}}'}",
            json!({"envTemplate": {"template": "{{.A}}"}}),
        ),
        (
            "dateTime: {timezone: UTC}",
            json!({"dateTime": {"format": "2006-01-02_15-04-05.999_MST", "timezone": "UTC"}}),
        ),
    ] {
        assert_eq!(policy(written), expected, "{written}");
    }
    let custom = policy(
        "customTemplate: {template: '{{.X}}-{{.DATE}}', components: [{name: X, sha256: {}}]}",
    );
    let names: Vec<_> = custom["custom"]["components"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    assert_eq!(names[0], &json!({"name": "X", "policy": "latest"}));
    assert!(
        names
            .iter()
            .any(|component| component["name"] == "INPUT_DIGEST")
    );
}

#[test]
fn docker_artifacts_mean_the_same_in_the_cluster() {
    let module = module(
        "\
apiVersion: skaffold/v4beta14
kind: Config
build:
  artifacts:
  - image: app
    docker: {dockerfile: Dockerfile.dev, target: dev, buildArgs: {A: b}, squash: true, pullParent: true}
  - image: fresh
    docker: {noCache: true}
  local: {push: true, concurrency: 3, useBuildkit: false}
",
    );
    let app = &module.build.artifacts[0];
    assert_eq!(app.dockerfile, PathBuf::from("Dockerfile.dev"));
    assert_eq!(app.target.as_deref(), Some("dev"));
    assert_eq!(
        app.build_args["A"],
        BuildArg::Value(Template("b".to_owned()))
    );
    assert!(app.flags.single_snapshot);
    // A cache in the registry is made only where the file asks for one.
    assert_eq!(app.cache, None);
    assert_eq!(module.build.cluster.concurrency, 3);
}

#[test]
fn sync_rules_reach_the_model() {
    let sync = |written: &str| {
        let text = format!(
            "apiVersion: skaffold/v4beta14\nkind: Config\nbuild:\n  artifacts:\n  - image: app\n    {written}\n"
        );
        serde_json::to_value(&module(&text).build.artifacts[0].sync).unwrap()
    };
    assert_eq!(sync("context: ."), json!(null));
    assert_eq!(sync("sync: {}")["rules"], json!({"inferred": ["**/*"]}));
    assert_eq!(
        sync("sync: {infer: ['*.go']}")["rules"],
        json!({"inferred": ["*.go"]})
    );
    assert_eq!(sync("sync: {auto: false}"), json!(null));
    assert_eq!(
        sync(
            "sync: {manual: [{src: 'a/*', dest: /b, strip: a/}], hooks: {before: [{host: {command: [x]}}]}}"
        ),
        json!({
            "rules": {"manual": [{"src": "a/*", "dest": "/b", "strip": "a/"}]},
            "hooks": {"before": [{"command": ["x"], "os": [], "dir": null}], "after": []},
        })
    );
}

#[test]
fn keys_with_a_dot_hold_anchors_and_nothing_else() {
    let text = "\
apiVersion: skaffold/v4beta14
kind: Config
.args: &args {GOPROXY: http://proxy}
build:
  artifacts:
  - {image: a, kaniko: {buildArgs: *args}}
  - {image: b, kaniko: {buildArgs: {<<: *args, EXTRA: x}}}
";
    let module = module(text);
    assert_eq!(module.build.artifacts[0].build_args.len(), 1);
    assert_eq!(module.build.artifacts[1].build_args.len(), 2);
}
