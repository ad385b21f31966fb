use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kiln_schemas::model::{Artifact, ArtifactCache, EnvVar, Platform, Template};

use super::*;
use crate::order::Iteration;
use crate::testing::{artifact, cluster, engine};

const NOW: &str = "2026-01-01T10:00:00Z";

struct Case {
    artifact: Artifact,
    build: ClusterBuild,
    executor: Executor,
    secrets: PodSecrets,
    platform: Option<Platform>,
}

impl Case {
    fn kiln() -> Self {
        Self {
            artifact: artifact("r.example/app"),
            build: cluster(),
            executor: Executor::Kiln {
                image: "r.example/app:kiln-executor-1".into(),
            },
            secrets: PodSecrets::default(),
            platform: None,
        }
    }

    fn as_written() -> Self {
        let init = Init::Shell {
            image: "busybox".into(),
        };
        let image = "gcr.io/kaniko-project/executor:latest".into();
        Self {
            executor: Executor::AsWritten { image, init },
            ..Self::kiln()
        }
    }

    fn pod(&self) -> Value {
        let iteration = Iteration {
            reference: "r.example/app:v1".into(),
            platform: self.platform.clone(),
            ..Iteration::default()
        };
        let order = Order::render(Arc::new(self.artifact.clone()), iteration, &engine()).unwrap();
        let dockerfile = Path::new("/project/Dockerfile");
        let tree = BuildTree::new(Path::new("/project"), [PathBuf::from("a")], dockerfile);
        let pod = pod(&PodRequest {
            order: &order,
            tree: &tree,
            look_up: &[],
            build: &self.build,
            session: &session(),
            executor: &self.executor,
            secrets: &self.secrets,
            reach: &RegistryReach::default(),
            arch: Some("amd64"),
            now: NOW.parse().unwrap(),
        });
        let typed: Pod = serde_json::from_value(pod.clone()).expect("the API's own type reads it");
        assert_eq!(typed.spec.unwrap().restart_policy.as_deref(), Some("Never"));
        pod
    }
}

fn session() -> Session {
    Session {
        project: "shop".into(),
        user: "alice".into(),
        id: "s1".into(),
        version: "1.2.3".into(),
    }
}

/// The pod of skaffold.md 3.2, with Kiln's labels, lease and deadline added.
#[test]
fn an_executor_as_written_gets_skaffolds_pod() {
    let mut case = Case::as_written();
    let mount = json!({"name": "modcache", "mountPath": "/var/run/gomodcache"});
    let volume = json!({"name": "modcache", "hostPath": {"path": "/opt/modcache"}});
    case.artifact.volume_mounts = vec![mount.clone()];
    case.build.volumes = vec![volume.clone()];
    case.build.labels.insert("team".into(), "a".into());
    case.build
        .annotations
        .insert("sidecar.istio.io/inject".into(), "false".into());
    case.build.resources = Some(json!({"limits": {"memory": "2Gi"}}));
    let pod = case.pod();
    let context = json!({"name": "kaniko-emptydir", "mountPath": "/kaniko/buildcontext"});
    assert_eq!(
        pod,
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "generateName": "kaniko-",
                "labels": {
                    "app.kubernetes.io/managed-by": "kiln", "kiln.dev/role": "build",
                    "kiln.dev/project": "shop", "kiln.dev/session": "s1", "kiln.dev/user": "alice",
                    "skaffold-kaniko": "skaffold-kaniko", "team": "a",
                },
                "annotations": {
                    "kiln.dev/image": "r.example/app",
                    // 20 min build, 3 attempts of 5 min, 10 min to start.
                    "kiln.dev/leased-until": "2026-01-01T10:45:00Z",
                    "sidecar.istio.io/inject": "false",
                },
            },
            "spec": {
                "initContainers": [{
                    "name": "kaniko-init-container",
                    "image": "busybox",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", "while [ ! -f /tmp/complete ]; do sleep 1; done"],
                    "volumeMounts": [context, mount],
                    "resources": {"limits": {"memory": "2Gi"}},
                }],
                "containers": [{
                    "name": "kaniko",
                    "image": "gcr.io/kaniko-project/executor:latest",
                    "imagePullPolicy": "IfNotPresent",
                    "args": [
                        "--destination", "r.example/app:v1", "--dockerfile", "Dockerfile",
                        "--context", "dir:///kaniko/buildcontext",
                        "--digest-file", "/dev/termination-log",
                    ],
                    "env": [
                        {"name": "UPSTREAM_CLIENT_TYPE", "value": "UpstreamClient(kiln-1.2.3)"},
                        {"name": "IMAGE_REPO", "value": "r.example"},
                        {"name": "IMAGE_NAME", "value": "app"},
                        {"name": "IMAGE_TAG", "value": "v1"},
                    ],
                    "terminationMessagePath": "/dev/termination-log",
                    "volumeMounts": [context, mount],
                    "resources": {"limits": {"memory": "2Gi"}},
                }],
                "restartPolicy": "Never",
                "volumes": [{"name": "kaniko-emptydir", "emptyDir": {}}, volume],
                "activeDeadlineSeconds": 2700,
            },
        })
    );
}

#[test]
fn kilns_executor_needs_no_init_container_and_no_token() {
    let pod = Case::kiln().pod();
    let spec = &pod["spec"];
    assert_eq!(spec.get("initContainers"), None);
    assert_eq!(spec["containers"].as_array().unwrap().len(), 1);
    assert_eq!(
        spec["containers"][0]["command"],
        json!(["/kaniko/executor"])
    );
    assert_eq!(
        spec["containers"][0]["args"]
            .as_array()
            .unwrap()
            .last()
            .unwrap(),
        "--await-context"
    );
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["nodeSelector"], json!({"kubernetes.io/arch": "amd64"}));
    let mounts: Vec<_> = spec["containers"][0]["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    assert_eq!(mounts[1]["mountPath"], "/kaniko/store");
}

#[test]
fn a_volume_for_the_store_takes_the_place_of_kilns() {
    let mut case = Case::kiln();
    let mount = json!({"name": "keep", "mountPath": "/kaniko/store/"});
    case.artifact.volume_mounts = vec![mount.clone()];
    let pod = case.pod();
    let mounts = pod["spec"]["containers"][0]["volumeMounts"]
        .as_array()
        .unwrap();
    assert_eq!(mounts.len(), 2);
    assert_eq!(mounts[1], mount);
}

#[test]
fn a_named_service_account_keeps_its_token() {
    let mut case = Case::kiln();
    case.build.service_account = Some("builder".into());
    let pod = case.pod();
    assert_eq!(pod["spec"]["serviceAccountName"], "builder");
    assert_eq!(pod["spec"].get("automountServiceAccountToken"), None);
}

#[test]
fn variables_stand_in_skaffolds_order_and_empty_ones_vanish() {
    let mut case = Case::as_written();
    let value = |name: &str, value: &str| EnvVar {
        name: name.into(),
        value: Template(value.into()),
        value_from: None,
    };
    let source = json!({"secretKeyRef": {"name": "s", "key": "k"}});
    case.artifact.env = vec![
        value("A", "1"),
        value("EMPTY", ""),
        EnvVar {
            name: "S".into(),
            value: Template(String::new()),
            value_from: Some(source.clone()),
        },
    ];
    case.build.http_proxy = Some("http://proxy".into());
    case.build.https_proxy = Some("https://proxy".into());
    case.secrets.cloud_key = Some(CloudKey {
        secret: "gcp".into(),
        key: "kaniko-secret".into(),
        mount_path: "/secret/".into(),
    });
    let pod = case.pod();
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let names: Vec<_> = env
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "UPSTREAM_CLIENT_TYPE",
            "A",
            "S",
            "IMAGE_REPO",
            "IMAGE_NAME",
            "IMAGE_TAG",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "GOOGLE_APPLICATION_CREDENTIALS",
        ]
    );
    assert_eq!(env[2]["valueFrom"], source);
    assert_eq!(env[8]["value"], "/secret/kaniko-secret");
}

#[test]
fn secrets_are_mounted_where_kaniko_looks() {
    let mut case = Case::as_written();
    case.secrets = PodSecrets {
        cloud_key: Some(CloudKey {
            secret: "kaniko-secret".into(),
            key: "kaniko-secret".into(),
            mount_path: "/secret".into(),
        }),
        docker_config: Some(("regcred".into(), ".dockerconfigjson".into())),
        certificates: None,
        image_pull: vec!["regcred".into()],
    };
    let pod = case.pod();
    let spec = &pod["spec"];
    assert_eq!(
        spec["volumes"].as_array().unwrap()[1..],
        [
            json!({"name": "kaniko-secret", "secret": {"secretName": "kaniko-secret"}}),
            json!({"name": "docker-cfg", "secret": {
                "secretName": "regcred",
                "items": [{"key": ".dockerconfigjson", "path": "config.json"}],
            }}),
        ]
    );
    assert_eq!(
        spec["containers"][0]["volumeMounts"].as_array().unwrap()[1..],
        [
            json!({"name": "kaniko-secret", "mountPath": "/secret"}),
            json!({"name": "docker-cfg", "mountPath": "/kaniko/.docker"}),
        ]
    );
    // The init container needs none of them.
    assert_eq!(
        spec["initContainers"][0]["volumeMounts"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "regcred"}]));
}

#[test]
fn the_nodes_image_cache_is_mounted_where_the_flag_points() {
    let mut case = Case::as_written();
    case.artifact.cache = Some(ArtifactCache {
        host_path: Some("/var/bases".into()),
        ..ArtifactCache::default()
    });
    let pod = case.pod();
    let container = &pod["spec"]["containers"][0];
    let args: Vec<_> = container["args"].as_array().unwrap().iter().collect();
    let flag = args.iter().position(|arg| *arg == "--cache-dir").unwrap();
    assert_eq!(*args[flag + 1], container["volumeMounts"][1]["mountPath"]);
    assert_eq!(
        pod["spec"]["volumes"][1],
        json!({"name": "kaniko-cache", "hostPath": {"path": "/var/bases"}})
    );
}

#[test]
fn a_platform_pins_the_node_unless_the_user_does() {
    let mut case = Case::as_written();
    case.platform = Platform::parse("linux/arm64");
    case.build
        .node_selector
        .insert("kubernetes.io/os".into(), "special".into());
    case.build.tolerations = vec![json!({"key": "arm", "operator": "Exists"})];
    case.build.run_as_user = Some(0);
    let pod = case.pod();
    assert_eq!(
        pod["spec"]["nodeSelector"],
        json!({"kubernetes.io/arch": "arm64", "kubernetes.io/os": "special"})
    );
    assert_eq!(
        pod["spec"]["tolerations"],
        json!([{"key": "arm", "operator": "Exists"}])
    );
    assert_eq!(pod["spec"]["securityContext"], json!({"runAsUser": 0}));
}

#[test]
fn a_streamed_executor_waits_for_its_files_and_becomes_itself() {
    let mut case = Case::kiln();
    case.executor = Executor::Streamed {
        image: "busybox".into(),
    };
    let pod = case.pod();
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["image"], "busybox");
    let command = container["command"].as_array().unwrap();
    assert_eq!((&command[0], &command[1]), (&json!("sh"), &json!("-c")));
    let script = command[2].as_str().unwrap();
    assert!(
        script.contains("tar -xf /tmp/kiln-executor.tar -C /"),
        "{script}"
    );
    assert!(script.ends_with("exec /kaniko/executor \"$@\""), "{script}");
    assert_eq!(container["args"][0], "--destination");
}

#[test]
fn the_pod_template_has_the_last_word() {
    let mut case = Case::kiln();
    case.build.pod_template = Some(json!({"spec": {
        "hostUsers": false,
        "containers": [{"name": "kaniko", "env": [{"name": "EXTRA", "value": "1"}]}],
    }}));
    let pod = case.pod();
    assert_eq!(pod["spec"]["hostUsers"], false);
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    assert_eq!(env.last().unwrap(), &json!({"name": "EXTRA", "value": "1"}));
}
