//! Kiln's images in the pods that people run kaniko's in, on a real cluster: as printed in the write-ups, with nothing
//! changed but the name of the registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use base64::Engine as _;
use kiln_test_cluster::{
    Cluster, Namespace, PLAIN_REGISTRY, PUSH_AND_PULL, TLS_REGISTRY, TLS_REGISTRY_BY_ADDRESS,
};
use serde_json::{Value, json};

use crate::kiln::{self, PATIENCE, Project, said};
use crate::objects;
use crate::structure::root;

/// The names under which the write-ups have kaniko's images. The node gets every public name from the plain registry.
const EXECUTOR: &str = "gcr.io/kaniko-project/executor:latest";
const DEBUG: &str = "gcr.io/kaniko-project/executor:v1.9.2-debug";
const SLIM: &str = "gcr.io/kaniko-project/executor:v1.9.2-slim";

/// Kiln's images, built and pushed once; with what this cluster's network needs: its private authority, and where
/// public names are.
fn images(cluster: &Cluster) {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let work = tempfile::tempdir().expect("a folder");
        let programs = kiln::binary().parent().expect("target/debug").to_owned();
        let registry = format!("{PLAIN_REGISTRY}/kiln-images");
        let run = |command: &mut Command| {
            let output = command.output().expect("it starts");
            assert!(output.status.success(), "{}", said(&output));
        };
        run(cluster
            .command(root().join("scripts/images"))
            .arg(&registry)
            .arg("--insecure")
            .env("KILN_PROGRAMS", &programs)
            .env("KILN_IMAGES_DIR", work.path().join("images")));
        let context = work.path().join("context");
        fs::create_dir(&context).expect("a folder");
        fs::copy(cluster.layout().ca_certificate(), context.join("test.pem"))
            .expect("the authority");
        for (tag, target) in [("latest", EXECUTOR), ("debug", DEBUG), ("slim", SLIM)] {
            let dockerfile = format!(
                "FROM {registry}/executor:{tag}\nCOPY test.pem /kaniko/ssl/certs/test.pem\n\
                 ENV KANIKO_REGISTRY_MAP=index.docker.io=http://{PLAIN_REGISTRY}\n"
            );
            fs::write(context.join("Dockerfile"), dockerfile).expect("a Dockerfile");
            let destination = target.replace("gcr.io", PLAIN_REGISTRY);
            run(cluster
                .command(programs.join("executor"))
                .arg("-c")
                .arg(&context)
                .args(["-d", &destination, "--insecure", "--insecure-pull"])
                .env("KANIKO_DIR", work.path().join("kaniko")));
        }
    });
}

/// Kiln's own image of this tag, as the node pulls it.
pub fn pushed(cluster: &Cluster, tag: &str) -> String {
    images(cluster);
    format!("{PLAIN_REGISTRY}/kiln-images/executor:{tag}")
}

/// A namespace, and folders of the node.
struct Place {
    namespace: Namespace,
    node: tempfile::TempDir,
}

impl Place {
    fn new(name: &str) -> Option<Self> {
        let cluster = Cluster::for_test()?;
        images(&cluster);
        Some(Self {
            namespace: cluster.namespace(name).expect("a namespace"),
            node: tempfile::tempdir().expect("a folder of the node"),
        })
    }

    fn cluster(&self) -> &Cluster {
        self.namespace.cluster()
    }

    /// A folder of the node with these files.
    fn folder(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.node.path().join(name);
        for (file, text) in files {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        dir
    }

    /// A repository of the registry with TLS and tokens.
    fn repository(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace.name())
    }

    fn post(&self, path: &str, body: &Value) {
        objects::create(self.cluster(), path, body);
    }

    /// `kubectl create secret docker-registry`
    fn secret(&self, name: &str) {
        let (user, password) = (PUSH_AND_PULL.name, PUSH_AND_PULL.password);
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let config = json!({"auths": {TLS_REGISTRY: {"username": user, "password": password, "auth": auth}}});
        let body = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": name}, "stringData": {".dockerconfigjson": config.to_string()},
        });
        self.post(
            &format!("/api/v1/namespaces/{}/secrets", self.namespace.name()),
            &body,
        );
    }

    /// Makes a pod and waits for its end; gives the termination message of its last container.
    fn pod(&self, name: &str, spec: &Value) -> String {
        let body =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
        let pods = format!("/api/v1/namespaces/{}/pods", self.namespace.name());
        self.post(&pods, &body);
        let started = Instant::now();
        loop {
            let pod = objects::get(self.cluster(), &format!("{pods}/{name}"));
            let phase = pod["status"]["phase"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let statuses = pod["status"]["containerStatuses"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            if phase == "Succeeded" {
                let message =
                    &statuses.last().expect("a container")["state"]["terminated"]["message"];
                return message.as_str().unwrap_or_default().to_owned();
            }
            assert!(
                phase != "Failed" && started.elapsed() < PATIENCE,
                "{phase}: {}\n{}",
                pod["status"],
                objects::log(self.cluster(), self.namespace.name(), name)
            );
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }

    /// Runs crane at the registry with TLS, as its user.
    fn crane(&self, arguments: &[&str]) -> String {
        let config = self.folder(
            "crane",
            &[(
                "config.json",
                &json!({"auths": {TLS_REGISTRY_BY_ADDRESS: {
                    "username": PUSH_AND_PULL.name, "password": PUSH_AND_PULL.password,
                }}})
                .to_string(),
            )],
        );
        let output = self
            .cluster()
            .command("crane")
            .args(arguments)
            .env("DOCKER_CONFIG", config)
            .env("SSL_CERT_FILE", self.cluster().layout().ca_certificate())
            .output()
            .expect("crane runs");
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout)
            .expect("text")
            .trim()
            .to_owned()
    }

    fn digest(&self, name: &str) -> String {
        self.crane(&[
            "digest",
            &format!("{TLS_REGISTRY_BY_ADDRESS}/{}", self.repository(name)),
        ])
    }

    /// The content of a file of an image.
    fn file(&self, name: &str, path: &str) -> String {
        let image = format!("{TLS_REGISTRY_BY_ADDRESS}/{}", self.repository(name));
        let tar = self.node.path().join("export.tar");
        self.crane(&["export", &image, &tar.display().to_string()]);
        let output = Command::new("tar")
            .arg("-xOf")
            .arg(&tar)
            .arg(path)
            .output()
            .expect("tar runs");
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    fn config(&self, name: &str) -> Value {
        let text = self.crane(&[
            "config",
            &format!("{TLS_REGISTRY_BY_ADDRESS}/{}", self.repository(name)),
        ]);
        serde_json::from_str(&text).expect("JSON")
    }
}

fn host_path(name: &str, path: &Path) -> Value {
    json!({"name": name, "hostPath": {"path": path}})
}

/// "The kaniko tutorial, live": a volume on the node, a claim, a secret and the pod as printed.
#[test]
fn the_tutorials_pod_pushes_its_image() {
    let Some(place) = Place::new("tutorial") else {
        return;
    };
    let files = place.folder(
        "kaniko",
        &[(
            "dockerfile",
            "FROM ubuntu\nENTRYPOINT [\"/bin/bash\", \"-c\", \"echo hello\"]\n",
        )],
    );
    let namespace = place.namespace.name();
    let volume = format!("dockerfile-{namespace}");
    place.post(
        "/api/v1/persistentvolumes",
        &json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": volume, "labels": {"type": "local"}},
            "spec": {
                "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"],
                "storageClassName": volume, "hostPath": {"path": files},
            },
        }),
    );
    place.post(
        &format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims"),
        &json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "dockerfile-claim"},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "8Gi"}},
                "storageClassName": volume,
            },
        }),
    );
    place.secret("regcred");
    let destination = format!("{TLS_REGISTRY}/{}", place.repository("hello"));
    place.pod(
        "kaniko",
        &json!({
            "containers": [{
                "name": "kaniko",
                "image": EXECUTOR,
                "args": [
                    "--dockerfile=/workspace/dockerfile", "--context=dir://workspace",
                    format!("--destination={destination}"),
                ],
                "volumeMounts": [
                    {"name": "kaniko-secret", "mountPath": "/kaniko/.docker"},
                    {"name": "dockerfile-storage", "mountPath": "/workspace"},
                ],
            }],
            "restartPolicy": "Never",
            "volumes": [
                {"name": "kaniko-secret", "secret": {
                    "secretName": "regcred", "items": [{"key": ".dockerconfigjson", "path": "config.json"}],
                }},
                {"name": "dockerfile-storage", "persistentVolumeClaim": {"claimName": "dockerfile-claim"}},
            ],
        }),
    );
    // No tag means `latest`.
    let config = place.config("hello:latest");
    assert_eq!(
        config["config"]["Entrypoint"],
        json!(["/bin/bash", "-c", "echo hello"])
    );
    objects::delete(
        place.cluster(),
        &format!("/api/v1/persistentvolumes/{volume}"),
    );
}

/// The lines of "GitLab CI, Node, pipeline cache through the context", as printed.
const GITLAB: &str = r#"
if [[ "$CI_COMMIT_BRANCH" == "master" ]]; then ADD_LATEST_TAG="--destination $CI_REGISTRY_IMAGE:latest"; fi
if [[ -n "$ADDITIONAL_TAG_LIST" ]]; then
  for TAG in $ADDITIONAL_TAG_LIST; do FORMATTED_TAG_LIST="${FORMATTED_TAG_LIST} --destination $CI_REGISTRY_IMAGE:$TAG "; done
fi
echo "{\"auths\":{\"$CI_REGISTRY\":{\"auth\":\"$(echo -n $CI_REGISTRY_USER:$CI_REGISTRY_PASSWORD | base64)\"}}}" > /kaniko/.docker/config.json
/kaniko/executor --cache=true --use-new-run --snapshot-mode=redo \
  --context $CI_PROJECT_DIR --dockerfile $CI_PROJECT_DIR/Dockerfile \
  --destination $CI_REGISTRY_IMAGE:${CI_COMMIT_REF_NAME//\//-} \
  --destination $CI_REGISTRY_IMAGE:$CI_COMMIT_SHA \
  --destination $CI_REGISTRY_IMAGE:$CI_COMMIT_SHORT_SHA $ADD_LATEST_TAG $FORMATTED_TAG_LIST $IMAGE_LABELS \
  --label build-date=`date -Iseconds` \
  --build-arg CI_PROJECT_DIR=$CI_PROJECT_DIR --build-arg CI_COMMIT_SHORT_SHA=$CI_COMMIT_SHORT_SHA
"#;

/// Its first two stages, and what the last one takes of them.
const NODE: &str = "FROM node:18.16.0-alpine as dependencies
ARG CI_PROJECT_DIR
WORKDIR $CI_PROJECT_DIR
RUN yarn install --frozen-lockfile --prefer-offline --cache-folder .yarn

FROM node:18.16.0-alpine as builder
ARG CI_PROJECT_DIR
WORKDIR /builder
COPY --from=dependencies $CI_PROJECT_DIR/node_modules ./node_modules
COPY --from=dependencies $CI_PROJECT_DIR/.yarn ./.yarn
COPY . .

FROM node:18.16.0-alpine
ARG UID=12345
ARG GID=23456
ENV USER=docker
ENV GROUP=docker
ENV WORKDIR=/srv/http/www/backend
USER root
RUN apk add --no-cache shadow sudo && \\
    if [ -z \"`getent group $GID`\" ]; then \\
      addgroup -S -g $GID $GROUP; \\
    else \\
      groupmod -n $GROUP `getent group $GID | cut -d: -f1`; \\
    fi && \\
    if [ -z \"`getent passwd $UID`\" ]; then \\
      adduser -S -u $UID -G $GROUP -s /bin/sh $USER; \\
    else \\
      usermod -l $USER -g $GID -d /home/$USER -m `getent passwd $UID | cut -d: -f1`; \\
    fi
WORKDIR $WORKDIR
RUN chown -R $USER:$GROUP $WORKDIR
USER $USER
COPY --chown=$USER:$GROUP --from=builder /builder/node_modules ./node_modules
COPY --chown=$USER:$GROUP --from=builder /builder/server.js .
HEALTHCHECK CMD wget --no-verbose --tries=1 --spider http://localhost:8080/probe || exit 1
EXPOSE 8080
CMD [\"yarn\", \"start:server\"]
";

#[test]
fn a_gitlab_jobs_lines_run_in_the_debug_image_and_a_changed_checkout_changes_the_image() {
    let Some(place) = Place::new("gitlab") else {
        return;
    };
    let checkout = place.folder(
        "app",
        &[
            ("Dockerfile", NODE),
            ("package.json", r#"{"name": "app", "version": "1.0.0"}"#),
            ("yarn.lock", "# yarn lockfile v1\n"),
            ("server.js", "console.log(1)\n"),
            // What the pipeline's cache restored.
            ("node_modules/.cache/state", "one\n"),
            (".yarn/state", "one\n"),
        ],
    );
    let image = format!("{TLS_REGISTRY}/{}", place.repository("app"));
    let job = |name: &str, sha: &str| {
        let variables = [
            ("CI_PROJECT_DIR", "/builds/team/app"),
            ("CI_COMMIT_BRANCH", "master"),
            ("CI_COMMIT_REF_NAME", "feature/one"),
            ("CI_COMMIT_SHA", sha),
            ("CI_COMMIT_SHORT_SHA", &sha[..8]),
            ("CI_REGISTRY", TLS_REGISTRY),
            ("CI_REGISTRY_IMAGE", &image),
            ("CI_REGISTRY_USER", PUSH_AND_PULL.name),
            ("CI_REGISTRY_PASSWORD", PUSH_AND_PULL.password),
            ("ADDITIONAL_TAG_LIST", "nightly"),
            (
                "IMAGE_LABELS",
                "--label vcs-url=https://example.com/app --label com.gitlab.ci.email=me@example.com",
            ),
        ];
        let env: Vec<Value> = variables
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        place.pod(
            name,
            &json!({
                "containers": [{
                    "name": "build", "image": DEBUG, "command": ["sh", "-ec", GITLAB], "env": env,
                    "workingDir": "/builds/team/app",
                    "volumeMounts": [{"name": "builds", "mountPath": "/builds/team/app"}],
                }],
                "restartPolicy": "Never",
                "volumes": [host_path("builds", &checkout)],
            }),
        );
    };
    let first = "0123456789abcdef0123456789abcdef01234567";
    job("first", first);
    let digest = place.digest("app:feature-one");
    for tag in [first, "01234567", "latest", "nightly"] {
        assert_eq!(place.digest(&format!("app:{tag}")), digest, "{tag}");
    }
    let config = place.config("app:latest");
    assert_eq!(
        config["config"]["Labels"]["vcs-url"],
        "https://example.com/app"
    );
    assert!(
        config["config"]["Labels"]["build-date"]
            .as_str()
            .is_some_and(|date| date.contains('T'))
    );
    assert_eq!(config["config"]["User"], "docker");
    let state = "srv/http/www/backend/node_modules/.cache/state";
    assert_eq!(place.file("app:latest", state), "one\n");
    fs::write(checkout.join("node_modules/.cache/state"), "two\n").expect("a file");
    job("second", "2123456789abcdef0123456789abcdef01234567");
    assert_eq!(place.file("app:latest", state), "two\n");
}

#[test]
fn a_tekton_step_finds_its_credentials_and_leaves_its_results() {
    let Some(place) = Place::new("tekton") else {
        return;
    };
    let source = place.folder(
        "source",
        &[
            (
                "docker/Dockerfile",
                "FROM alpine\nRUN echo built > /built\nCOPY file /\n",
            ),
            ("file", "x"),
        ],
    );
    place.secret("regcred");
    let destination = format!("{TLS_REGISTRY}/{}", place.repository("app:v1"));
    // As the catalogue's task has it: workspaces are volumes, results are files.
    let digest = place.pod(
        "step",
        &json!({
            "containers": [{
                "name": "step-build-and-push", "image": SLIM,
                "workingDir": "/workspace/source",
                "command": ["/kaniko/executor"],
                "args": [
                    "--dockerfile=docker/Dockerfile", "--context=/workspace/source/.",
                    format!("--destination={destination}"), "--digest-file=/tekton/results/IMAGE_DIGEST",
                ],
                "env": [{"name": "HOME", "value": "/tekton/home"}, {"name": "DOCKER_CONFIG", "value": "/tekton/home/.docker"}],
                "securityContext": {"runAsUser": 0},
                "terminationMessagePath": "/tekton/results/IMAGE_DIGEST",
                "volumeMounts": [
                    {"name": "source", "mountPath": "/workspace/source"},
                    {"name": "home", "mountPath": "/tekton/home"},
                    {"name": "results", "mountPath": "/tekton/results"},
                    {"name": "credentials", "mountPath": "/tekton/home/.docker"},
                ],
            }],
            "restartPolicy": "Never",
            "volumes": [
                host_path("source", &source),
                {"name": "home", "emptyDir": {}},
                {"name": "results", "emptyDir": {}},
                {"name": "credentials", "secret": {
                    "secretName": "regcred", "items": [{"key": ".dockerconfigjson", "path": "config.json"}],
                }},
            ],
        }),
    );
    assert_eq!(digest, place.digest("app:v1"));
}

#[test]
fn a_cloud_build_step_writes_its_images() {
    let Some(place) = Place::new("cloud-build") else {
        return;
    };
    let workspace = place.folder(
        "workspace",
        &[("Dockerfile", "FROM alpine\nRUN echo built > /built\n")],
    );
    place.secret("regcred");
    let destination = format!("{TLS_REGISTRY}/{}", place.repository("app:v1"));
    let images = place.pod(
        "step",
        &json!({
            "containers": [{
                "name": "step-0", "image": EXECUTOR, "workingDir": "/workspace",
                "args": [format!("--destination={destination}"), "--cache=true", "--cache-ttl=6h"],
                "env": [
                    {"name": "HOME", "value": "/builder/home"},
                    {"name": "BUILDER_OUTPUT", "value": "/builder/outputs"},
                    {"name": "DOCKER_CONFIG", "value": "/builder/home/.docker"},
                ],
                "terminationMessagePath": "/builder/outputs/images",
                "volumeMounts": [
                    {"name": "workspace", "mountPath": "/workspace"},
                    {"name": "home", "mountPath": "/builder/home/.docker"},
                    {"name": "outputs", "mountPath": "/builder/outputs"},
                ],
            }],
            "restartPolicy": "Never",
            "volumes": [
                host_path("workspace", &workspace),
                {"name": "home", "secret": {
                    "secretName": "regcred", "items": [{"key": ".dockerconfigjson", "path": "config.json"}],
                }},
                {"name": "outputs", "emptyDir": {}},
            ],
        }),
    );
    let images: Value = serde_json::from_str(images.trim()).expect("a line of JSON");
    assert_eq!(
        images,
        json!({"name": destination, "digest": place.digest("app:v1")})
    );
}

/// `docker run -v $PWD:/workspace executor -c /workspace --no-push`, of "kaniko beside docker".
#[test]
fn the_docker_run_shape_builds_without_a_push() {
    let Some(place) = Place::new("docker-run") else {
        return;
    };
    let dockerfile = "FROM node:12 AS build\nRUN echo \"hello\" > /result.txt\nRUN cat /result.txt\nFROM node:12\nCOPY --from=build /result.txt /\n";
    let workspace = place.folder("workspace", &[("Dockerfile", dockerfile)]);
    place.pod(
        "executor",
        &json!({
            "containers": [{
                "name": "executor", "image": EXECUTOR,
                "args": ["-c", "/workspace", "--no-push", "--tar-path=/workspace/image.tar"],
                "volumeMounts": [{"name": "workspace", "mountPath": "/workspace"}],
            }],
            "restartPolicy": "Never",
            "volumes": [host_path("workspace", &workspace)],
        }),
    );
    let log = objects::log(place.cluster(), place.namespace.name(), "executor");
    assert!(log.contains("hello"), "{log}");
    assert!(workspace.join("image.tar").is_file());
}

/// The pod that skaffold makes: an init container takes the context, the termination message is the digest.
#[test]
fn skaffolds_own_pod_runs_with_this_image_in_kanikos_place() {
    let Some(place) = Place::new("skaffold") else {
        return;
    };
    let project = Project::empty(place.cluster(), &[]);
    project.write(
        "Dockerfile",
        "FROM alpine\nRUN echo built > /built\nCOPY file /\n",
    );
    project.write("file", "x");
    let namespace = place.namespace.name();
    project.write(
        "skaffold.yaml",
        &format!(
            "apiVersion: skaffold/v4beta13\nkind: Config\nmetadata: {{name: app}}\nbuild:\n  \
             insecureRegistries: [\"{PLAIN_REGISTRY}\"]\n  artifacts:\n  - image: app\n    kaniko:\n      \
             image: {EXECUTOR}\n      insecure: true\n      insecurePull: true\n  cluster:\n    namespace: {namespace}\n"
        ),
    );
    let repo = format!("{PLAIN_REGISTRY}/tests/{namespace}");
    let built = project.run(&["build", "-q", "--executor=as-written", "-d", &repo]);
    let list: Value = serde_json::from_slice(&built.stdout).expect("JSON");
    let tag = list["builds"][0]["tag"].as_str().expect("a tag");
    assert!(
        tag.starts_with(&format!("{repo}/app:")) && tag.contains("@sha256:"),
        "{tag}"
    );
}
