//! What is built, with what, and how it is tagged.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{HookPair, Platform, Sync, Template};

/// Everything under `build`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Build {
    /// The images to build, in file order.
    pub artifacts: Vec<Artifact>,
    /// How tags are chosen.
    pub tags: TagPolicy,
    /// Registry hosts that are spoken to without TLS.
    pub insecure_registries: Vec<String>,
    /// Platforms for artifacts that name none.
    pub platforms: Vec<Platform>,
    /// Commands on this host around the whole build.
    pub hooks: HookPair,
    /// The pods that build.
    pub cluster: ClusterBuild,
    /// How long looked-up digests of base images are trusted.
    pub base_digest_ttl: Duration,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// The name that manifests use; carries neither tag nor digest.
    pub image: String,
    /// The context folder, absolute.
    pub context: PathBuf,
    /// Below which folder of the sent tree the context lies (kaniko's
    /// `contextSubPath`); the Dockerfile is found below it too.
    pub context_sub_path: Option<PathBuf>,
    /// The Dockerfile as written: relative to the context, or absolute.
    pub dockerfile: PathBuf,
    /// The stage to build; the last one when absent.
    pub target: Option<String>,
    /// Build arguments by name.
    pub build_args: BTreeMap<String, BuildArg>,
    /// Labels put on the image.
    pub labels: BTreeMap<String, Template>,
    /// Images that are built first and passed in as build arguments.
    pub requires: Vec<Requirement>,
    /// Commands on this host around this image's build.
    pub hooks: HookPair,
    /// Files that are copied into running containers instead of a rebuild.
    pub sync: Option<Sync>,
    /// Platforms; empty means the build's, and then the node's.
    pub platforms: Vec<Platform>,
    /// Paths that do not cause a rebuild (globs below the context).
    pub watch_ignore: Vec<String>,
    /// Further paths that do (globs, absolute).
    pub watch_extra: Vec<PathBuf>,
    /// The executor that builds it.
    pub executor: ExecutorChoice,
    /// The flags that the executor gets.
    pub flags: ExecutorFlags,
    /// The layer cache; absent means none.
    pub cache: Option<ArtifactCache>,
    /// Environment of the build container.
    pub env: Vec<EnvVar>,
    /// Volume mounts of the build container, in the Kubernetes shape.
    pub volume_mounts: Vec<Value>,
    /// How the context is sent.
    pub upload: UploadLimits,
}

/// The value of a build argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BuildArg {
    /// A template, rendered per build.
    Value(Template),
    /// Named without a value: the executor takes it from its environment.
    FromEnvironment,
}

/// An image that must be built before another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The required artifact's name.
    pub image: String,
    /// The build argument that carries its reference.
    pub alias: String,
}

/// An environment variable of the build container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// Value, rendered per build. Empty values are dropped, as in skaffold.
    pub value: Template,
    /// A `valueFrom` in the Kubernetes shape, instead of a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<Value>,
}

/// Which image runs the build, and which sends the context.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutorChoice {
    /// The image that the configuration names; absent means Kiln's own.
    pub image: Option<String>,
    /// The init container's image; absent means Kiln's own.
    pub init_image: Option<String>,
    /// Name of a pull secret for these images.
    pub image_pull_secret: Option<String>,
}

/// The executor's flags that are not arguments, labels or the cache; each
/// field is the kaniko flag of the same name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutorFlags {
    /// `--cleanup`
    pub cleanup: bool,
    /// `--destination`, on top of the artifact's own reference.
    pub destinations: Vec<String>,
    /// `--digest-file`, also the container's termination message path.
    pub digest_file: Option<String>,
    /// `--force`
    pub force: bool,
    /// `--image-fs-extract-retry`
    pub image_fs_extract_retry: Option<String>,
    /// `--image-name-with-digest-file`
    pub image_name_with_digest_file: Option<String>,
    /// `--insecure`
    pub insecure: bool,
    /// `--insecure-pull`
    pub insecure_pull: bool,
    /// `--insecure-registry`
    pub insecure_registries: Vec<String>,
    /// `--log-format`
    pub log_format: Option<String>,
    /// `--log-timestamp`
    pub log_timestamp: bool,
    /// `--oci-layout-path`
    pub oci_layout_path: Option<String>,
    /// `--push-retry`
    pub push_retry: Option<String>,
    /// Mirrors by registry host, each list in order. `index.docker.io` is
    /// what `--registry-mirror` sets; other hosts become `--registry-map`.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// `--registry-certificate`: host to path in the pod.
    pub registry_certificates: BTreeMap<String, Template>,
    /// `--reproducible`
    pub reproducible: bool,
    /// `--single-snapshot`
    pub single_snapshot: bool,
    /// `--skip-tls-verify` and the destination's `--skip-tls-verify-registry`
    pub skip_tls: bool,
    /// `--skip-tls-verify-pull`
    pub skip_tls_verify_pull: bool,
    /// `--skip-tls-verify-registry`
    pub skip_tls_verify_registries: Vec<String>,
    /// `--skip-unused-stages`
    pub skip_unused_stages: bool,
    /// `--snapshot-mode`
    pub snapshot_mode: Option<String>,
    /// `--tarPath`
    pub tar_path: Option<String>,
    /// `--use-new-run`
    pub use_new_run: bool,
    /// `--verbosity`
    pub verbosity: Option<String>,
    /// `--whitelist-var-run`; `Some(false)` is passed on too.
    pub whitelist_var_run: Option<bool>,
    /// `--ignore-path`
    pub ignore_paths: Vec<String>,
    /// Further flags, as written (kiln.yaml's `executor.flags`).
    pub extra: Vec<String>,
}

/// kaniko's layer cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactCache {
    /// `--cache-repo`
    pub repo: Option<String>,
    /// A folder of the node with base images, mounted at `/cache`.
    pub host_path: Option<String>,
    /// `--cache-ttl`, a Go duration.
    pub ttl: Option<String>,
    /// `--cache-copy-layers`
    pub copy_layers: bool,
    /// `--cache-run-layers`
    pub run_layers: bool,
}

/// Limits on sending the context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadLimits {
    /// Attempts in all.
    pub attempts: u32,
    /// For one attempt.
    pub timeout: Duration,
    /// gzip level 0 to 9 where the other side unpacks with gzip; absent means
    /// that Kiln decides (its own receiver takes plain tar).
    pub compression_level: Option<u32>,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self {
            attempts: 3,
            timeout: Duration::from_mins(5),
            compression_level: None,
        }
    }
}

/// How the tag of an image is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TagPolicy {
    /// A digest over everything that decides the image's bytes.
    Content,
    /// From git; see [`GitVariant`].
    GitCommit {
        /// What of git.
        variant: GitVariant,
        /// Put in front after sanitising.
        prefix: String,
        /// No `-dirty` for a work tree with changes.
        ignore_changes: bool,
    },
    /// skaffold's `sha256`: the tag is always `latest`.
    Latest,
    /// A template over the environment and `IMAGE_NAME`.
    EnvTemplate {
        /// The template.
        template: Template,
    },
    /// The time of the build.
    DateTime {
        /// Go's reference-time layout.
        format: String,
        /// IANA name; the local zone when absent.
        timezone: Option<String>,
    },
    /// A template over named components.
    Custom {
        /// The template.
        template: Template,
        /// The components, by name.
        components: Vec<TagComponent>,
    },
    /// A digest over names and contents of the sources (skaffold's own
    /// `inputDigest`; it leaves out build arguments, which `Content` does not).
    InputDigest,
}

/// A named part of [`TagPolicy::Custom`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagComponent {
    /// The name that the template uses.
    pub name: String,
    /// How its value is made; never itself `Custom`.
    pub policy: TagPolicy,
}

/// What of git a tag shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GitVariant {
    /// `git describe --tags --always`
    #[default]
    Tags,
    /// The commit's full hash.
    CommitSha,
    /// The commit's short hash.
    AbbrevCommitSha,
    /// The hash of the context's tree.
    TreeSha,
    /// Its short form.
    AbbrevTreeSha,
    /// The branch's name.
    Branches,
}

/// The pods that build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterBuild {
    /// Their namespace; absent means the kube-context's.
    pub namespace: Option<String>,
    /// For one build, after the context was sent.
    pub timeout: Duration,
    /// How many builds at once; 0 means no limit.
    pub concurrency: usize,
    /// `HTTP_PROXY` of the build container.
    pub http_proxy: Option<String>,
    /// `HTTPS_PROXY` of the build container.
    pub https_proxy: Option<String>,
    /// Credentials of a cloud, as a key file.
    pub pull_secret: Option<PullSecret>,
    /// Registry credentials, as docker's config.json.
    pub docker_config: Option<DockerConfig>,
    /// Volumes, in the Kubernetes shape.
    pub volumes: Vec<Value>,
    /// Resources of both containers, in the Kubernetes shape.
    pub resources: Option<Value>,
    /// Service account.
    pub service_account: Option<String>,
    /// Tolerations, in the Kubernetes shape.
    pub tolerations: Vec<Value>,
    /// Node selector.
    pub node_selector: BTreeMap<String, String>,
    /// Annotations of the pod.
    pub annotations: BTreeMap<String, String>,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
    /// `securityContext.runAsUser` of the pod.
    pub run_as_user: Option<i64>,
    /// A pod template laid over the finished pod (strategic merge), from
    /// kiln.yaml.
    pub pod_template: Option<Value>,
}

/// A secret with a cloud key, mounted and named by
/// `GOOGLE_APPLICATION_CREDENTIALS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullSecret {
    /// Its name. An existing secret of that name is used as it is.
    pub name: String,
    /// Key in an existing secret, or a file on this host from which the
    /// secret is made when it is absent.
    pub path: Option<String>,
    /// Where it is mounted.
    pub mount_path: String,
    /// A made secret gets a unique name per build.
    pub random_name: bool,
}

/// A secret with docker's config.json, mounted at `/kaniko/.docker`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DockerConfig {
    /// An existing secret: `Opaque` with the key `config.json`, or of type
    /// `kubernetes.io/dockerconfigjson`.
    pub secret_name: Option<String>,
    /// A file on this host from which a secret is made per build.
    pub path: Option<PathBuf>,
    /// A made secret gets a unique name per build.
    pub random_name: bool,
}
