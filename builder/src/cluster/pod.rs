//! What the build pod looks like: an order becomes a Pod, as JSON so that
//! volumes, mounts and the rest reach the API server exactly as written.
//!
//! The shape is skaffold's (`kanikoPodSpec`, skaffold.md 3.2, kaniko.md 1.3).
//! For Kiln's own executor there is no init container: the context is sent
//! into the running container, which saves the time of a container's start.

use std::time::Duration;

use jiff::Timestamp;
use kiln_schemas::model::ClusterBuild;
use serde_json::{Map, Value, json};

use super::args::{self, CACHE_MOUNT, CERTIFICATES_MOUNT};
use super::overlay::overlay;
use super::tree::{BuildTree, CONTEXT_MOUNT};
use super::{RegistryReach, Session, lease};
use crate::order::{EnvEntry, Order};

/// The container that builds, and whose termination message is the digest.
pub const CONTAINER: &str = "kaniko";
/// The container that takes the context, for executors used as written.
pub const INIT_CONTAINER: &str = "kaniko-init-container";
/// Where the context is, as a volume.
const CONTEXT_VOLUME: &str = "kaniko-emptydir";
/// What an init container waits for, and what ends its waiting.
pub const COMPLETE: &str = "/tmp/complete";
/// What Kiln's receiver makes when everything has arrived.
const RECEIVED: &str = "/kaniko/buildcontext.complete";
/// The state of Kiln's executor; a directory of overlay's uppers cannot lie on
/// the container's own overlay.
const STORE_MOUNT: &str = "/kaniko/store";
/// Where the executor's files arrive when no registry has its image.
pub const STREAMED_ARCHIVE: &str = "/tmp/kiln-executor.tar";
/// The executor in Kiln's image.
pub const EXECUTOR: &str = "/kaniko/executor";
/// For starting and for sending the context, on top of the build's timeout.
const START_ALLOWANCE: Duration = Duration::from_mins(10);

/// What runs in the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Executor {
    /// Kiln's own image.
    Kiln {
        /// Its reference.
        image: String,
    },
    /// Kiln's own executor, streamed into an image with a shell and tar.
    Streamed {
        /// That image.
        image: String,
    },
    /// The image that the configuration names.
    AsWritten {
        /// Its reference.
        image: String,
        /// Who takes the context.
        init: Init,
    },
}

/// The init container of an executor used as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// An image with `sh` and `tar`, as skaffold needs it.
    Shell {
        /// Its reference.
        image: String,
    },
    /// Kiln's own image.
    Kiln {
        /// Its reference.
        image: String,
    },
}

/// Secrets that the pod refers to; they exist already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodSecrets {
    /// The cloud key: secret and key within it.
    pub cloud_key: Option<CloudKey>,
    /// Docker's config.json: secret and the key that holds it.
    pub docker_config: Option<(String, String)>,
    /// Certificates of [`RegistryReach`].
    pub certificates: Option<String>,
    /// For the kubelet.
    pub image_pull: Vec<String>,
}

/// A cloud key as it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudKey {
    /// The secret.
    pub secret: String,
    /// The key's name, and so the file's.
    pub key: String,
    /// Where the secret is mounted.
    pub mount_path: String,
}

/// Everything that a pod is made of.
#[derive(Debug)]
pub struct PodRequest<'a> {
    /// The build.
    pub order: &'a Order,
    /// What is sent.
    pub tree: &'a BuildTree,
    /// Images to ask for instead of building; empty for a build.
    pub look_up: &'a [String],
    /// `build.cluster`.
    pub build: &'a ClusterBuild,
    /// Whose it is.
    pub session: &'a Session,
    /// What runs.
    pub executor: &'a Executor,
    /// Secrets.
    pub secrets: &'a PodSecrets,
    /// User-level registry settings.
    pub reach: &'a RegistryReach,
    /// The architecture of Kiln's executor binary, which the node must have.
    pub arch: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
}

/// The pod, with the configuration's `pod_template` laid over it.
pub fn pod(request: &PodRequest<'_>) -> Value {
    let mut spec = Map::new();
    if let Some(init) = init_container(request) {
        spec.insert("initContainers".into(), json!([init]));
    }
    spec.insert("containers".into(), json!([build_container(request)]));
    spec.insert("restartPolicy".into(), "Never".into());
    spec.insert("volumes".into(), volumes(request).into());
    let seconds = deadline(request).as_secs();
    spec.insert("activeDeadlineSeconds".into(), seconds.into());
    scheduling(request, &mut spec);
    identity(request, &mut spec);
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(request),
        "spec": spec,
    });
    match &request.build.pod_template {
        Some(template) => overlay(pod, template),
        None => pod,
    }
}

/// After this the cluster ends the pod by itself, whatever became of Kiln.
fn deadline(request: &PodRequest<'_>) -> Duration {
    let upload = &request.order.artifact.upload;
    request.build.timeout + upload.timeout * upload.attempts.max(1) + START_ALLOWANCE
}

fn metadata(request: &PodRequest<'_>) -> Value {
    let mut labels = request.build.labels.clone();
    labels.extend(lease::labels(request.session));
    let mut prefix = "kiln-build-";
    if matches!(request.executor, Executor::AsWritten { .. }) {
        labels
            .entry("skaffold-kaniko".into())
            .or_insert_with(|| "skaffold-kaniko".into());
        prefix = "kaniko-";
    }
    let mut annotations = request.build.annotations.clone();
    annotations.insert(lease::IMAGE.into(), request.order.artifact.image.clone());
    // Long at first: the first renewal makes it short. Where renewing is not
    // allowed the pod stays leased until its deadline.
    annotations.insert(
        lease::LEASED_UNTIL.into(),
        lease::until(request.now, deadline(request)),
    );
    json!({"generateName": prefix, "labels": labels, "annotations": annotations})
}

fn init_container(request: &PodRequest<'_>) -> Option<Value> {
    let Executor::AsWritten { init, .. } = request.executor else {
        return None;
    };
    let (image, command) = match init {
        Init::Shell { image } => {
            let wait = format!("while [ ! -f {COMPLETE} ]; do sleep 1; done");
            (image, json!(["sh", "-c", wait]))
        }
        Init::Kiln { image } => (image, json!([EXECUTOR, "receive-wait", RECEIVED])),
    };
    let mut container = Map::new();
    container.insert("name".into(), INIT_CONTAINER.into());
    container.insert("image".into(), image.as_str().into());
    container.insert("imagePullPolicy".into(), "IfNotPresent".into());
    container.insert("command".into(), command);
    container.insert(
        "volumeMounts".into(),
        with_users_mounts(request, vec![context_mount()]).into(),
    );
    if let Some(resources) = &request.build.resources {
        container.insert("resources".into(), resources.clone());
    }
    Some(container.into())
}

fn build_container(request: &PodRequest<'_>) -> Value {
    let mut container = Map::new();
    container.insert("name".into(), CONTAINER.into());
    let kiln = || match request.look_up {
        [] => args::kiln_args(request.order, request.tree, request.reach),
        names => args::lookup_args(request.order, names, request.reach),
    };
    let (image, command, args) = match request.executor {
        Executor::Kiln { image } => (image, Some(json!([EXECUTOR])), kiln()),
        Executor::Streamed { image } => (image, Some(streamed_command()), kiln()),
        Executor::AsWritten { image, .. } => (
            image,
            None,
            args::contract_args(request.order, request.tree),
        ),
    };
    container.insert("image".into(), image.as_str().into());
    container.insert("imagePullPolicy".into(), "IfNotPresent".into());
    if let Some(command) = command {
        container.insert("command".into(), command);
    }
    container.insert("args".into(), args.into());
    container.insert("env".into(), env(request).into());
    container.insert(
        "terminationMessagePath".into(),
        args::digest_file(request.order).into(),
    );
    container.insert("volumeMounts".into(), mounts(request).into());
    if let Some(resources) = &request.build.resources {
        container.insert("resources".into(), resources.clone());
    }
    container.into()
}

/// Waits for the executor's files, puts them where its image would have them,
/// and becomes the executor. What follows in `args` is `"$@"`.
fn streamed_command() -> Value {
    let script = format!(
        "while [ ! -f {STREAMED_ARCHIVE}.complete ]; do sleep 0.1 2>/dev/null || sleep 1; done; \
         tar -xf {STREAMED_ARCHIVE} -C / && rm -f {STREAMED_ARCHIVE} && exec {EXECUTOR} \"$@\""
    );
    json!(["sh", "-c", script, EXECUTOR])
}

/// In skaffold's order: client type, the user's and generated variables (empty
/// ones are dropped), proxies, the cloud key.
fn env(request: &PodRequest<'_>) -> Vec<Value> {
    let client = format!("UpstreamClient(kiln-{})", request.session.version);
    let mut env = vec![json!({"name": "UPSTREAM_CLIENT_TYPE", "value": client})];
    for entry in &request.order.env {
        match entry {
            EnvEntry::Value { name, value } if value.is_empty() || name.is_empty() => {}
            EnvEntry::Value { name, value } => env.push(json!({"name": name, "value": value})),
            EnvEntry::From { name, source } => {
                env.push(json!({"name": name, "valueFrom": source}));
            }
        }
    }
    let proxies = [
        ("HTTP_PROXY", &request.build.http_proxy),
        ("HTTPS_PROXY", &request.build.https_proxy),
    ];
    for (name, proxy) in proxies {
        if let Some(proxy) = proxy.as_deref().filter(|proxy| !proxy.is_empty()) {
            env.push(json!({"name": name, "value": proxy}));
        }
    }
    if let Some(key) = &request.secrets.cloud_key {
        let path = format!("{}/{}", key.mount_path.trim_end_matches('/'), key.key);
        env.push(json!({"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": path}));
    }
    if matches!(request.executor, Executor::Streamed { .. }) {
        // The image has none of what Kiln's own would say.
        env.push(json!({"name": "DOCKER_CONFIG", "value": "/kaniko/.docker/"}));
        env.push(json!({"name": "SSL_CERT_DIR", "value": "/etc/ssl/certs"}));
    }
    env
}

fn context_mount() -> Value {
    json!({"name": CONTEXT_VOLUME, "mountPath": CONTEXT_MOUNT})
}

fn with_users_mounts(request: &PodRequest<'_>, mut mounts: Vec<Value>) -> Vec<Value> {
    mounts.extend(request.order.artifact.volume_mounts.iter().cloned());
    mounts
}

fn mounts(request: &PodRequest<'_>) -> Vec<Value> {
    let mut mounts = vec![context_mount()];
    let secrets = request.secrets;
    if let Some(key) = &secrets.cloud_key {
        mounts.push(json!({"name": "kaniko-secret", "mountPath": key.mount_path}));
    }
    if cache_host_path(request).is_some() {
        mounts.push(json!({"name": "kaniko-cache", "mountPath": CACHE_MOUNT}));
    }
    if secrets.docker_config.is_some() {
        mounts.push(json!({"name": "docker-cfg", "mountPath": "/kaniko/.docker"}));
    }
    if secrets.certificates.is_some() {
        mounts
            .push(json!({"name": "kiln-certs", "mountPath": CERTIFICATES_MOUNT, "readOnly": true}));
    }
    if own_store(request) {
        mounts.push(json!({"name": "kiln-store", "mountPath": STORE_MOUNT}));
    }
    with_users_mounts(request, mounts)
}

fn volumes(request: &PodRequest<'_>) -> Vec<Value> {
    let secret = |name: &str, secret: &str| json!({"name": name, "secret": {"secretName": secret}});
    let mut volumes = vec![json!({"name": CONTEXT_VOLUME, "emptyDir": {}})];
    let secrets = request.secrets;
    if let Some(key) = &secrets.cloud_key {
        volumes.push(secret("kaniko-secret", &key.secret));
    }
    if let Some(path) = cache_host_path(request) {
        volumes.push(json!({"name": "kaniko-cache", "hostPath": {"path": path}}));
    }
    if let Some((name, key)) = &secrets.docker_config {
        // Whatever the key is called, the file is config.json.
        let items = json!([{"key": key, "path": "config.json"}]);
        volumes.push(json!({"name": "docker-cfg", "secret": {"secretName": name, "items": items}}));
    }
    if let Some(name) = &secrets.certificates {
        volumes.push(secret("kiln-certs", name));
    }
    if own_store(request) {
        volumes.push(json!({"name": "kiln-store", "emptyDir": {}}));
    }
    volumes.extend(request.build.volumes.iter().cloned());
    volumes
}

fn cache_host_path<'a>(request: &PodRequest<'a>) -> Option<&'a str> {
    request.order.artifact.cache.as_ref()?.host_path.as_deref()
}

/// Whether Kiln has to mount a place for the executor's store: not for other
/// executors, and not where the user mounts one to keep.
fn own_store(request: &PodRequest<'_>) -> bool {
    let kiln = !matches!(request.executor, Executor::AsWritten { .. });
    let users = request.order.artifact.volume_mounts.iter().any(|mount| {
        mount["mountPath"]
            .as_str()
            .map(|path| path.trim_end_matches('/'))
            == Some(STORE_MOUNT)
    });
    kiln && !users
}

/// A single platform pins the node; what the user selects wins.
fn scheduling(request: &PodRequest<'_>, spec: &mut Map<String, Value>) {
    let mut selector = Map::new();
    match &request.order.platform {
        Some(platform) => {
            selector.insert("kubernetes.io/arch".into(), platform.arch.as_str().into());
            selector.insert("kubernetes.io/os".into(), platform.os.as_str().into());
        }
        None if !matches!(request.executor, Executor::AsWritten { .. }) => {
            if let Some(arch) = request.arch {
                selector.insert("kubernetes.io/arch".into(), arch.into());
            }
        }
        None => {}
    }
    for (name, value) in &request.build.node_selector {
        selector.insert(name.clone(), value.as_str().into());
    }
    if !selector.is_empty() {
        spec.insert("nodeSelector".into(), selector.into());
    }
    if !request.build.tolerations.is_empty() {
        spec.insert(
            "tolerations".into(),
            request.build.tolerations.clone().into(),
        );
    }
}

fn identity(request: &PodRequest<'_>, spec: &mut Map<String, Value>) {
    match &request.build.service_account {
        Some(account) => {
            spec.insert("serviceAccountName".into(), account.as_str().into());
        }
        // Kiln's executor never speaks to the API server.
        None if !matches!(request.executor, Executor::AsWritten { .. }) => {
            spec.insert("automountServiceAccountToken".into(), false.into());
        }
        None => {}
    }
    if let Some(user) = request.build.run_as_user {
        spec.insert("securityContext".into(), json!({"runAsUser": user}));
    }
    let secrets: Vec<Value> = request
        .secrets
        .image_pull
        .iter()
        .map(|name| json!({"name": name}))
        .collect();
    if !secrets.is_empty() {
        spec.insert("imagePullSecrets".into(), secrets.into());
    }
}

#[cfg(test)]
mod tests;
