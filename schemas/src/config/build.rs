//! `build` and `registries`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::image::{Empty, Hooks};

/// The pods that build. Everything has a default.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuildSection {
    /// Their namespace. Default: the kube-context's.
    pub namespace: Option<String>,
    /// Limit for one build, after its context was sent. Default: 20m
    pub timeout: Option<String>,
    /// How many images are built at once; 0 means no limit. Default: 0
    #[serde(default)]
    pub concurrency: usize,
    /// Environment of the build container; values may be Go templates.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The program that builds.
    #[serde(default)]
    pub executor: Executor,
    /// A pod template that is laid over the build pod as a strategic merge
    /// patch: `{metadata: …, spec: …}`. The build container is named
    /// `kaniko`, the one that receives the context `kaniko-init-container`.
    pub pod: Option<Map<String, Value>>,
    /// Folders that outlive a build, by name: RUN sees each at its path, and
    /// no layer holds what is in them.
    #[serde(default)]
    pub caches: BTreeMap<String, Cache>,
    /// Secrets that the build pod gets.
    #[serde(default)]
    pub secrets: Secrets,
    /// Platforms of images that name none.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// How long a looked-up digest of a base image is trusted. Default: 10m
    pub base_digest_ttl: Option<String>,
    /// Commands on this machine around the whole build.
    #[serde(default)]
    pub hooks: Hooks,
}

/// The program that builds: Kiln's own unless an image is named.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Executor {
    /// An image with kaniko's command line. Default: Kiln's own.
    pub image: Option<String>,
    /// The image of the container that receives the context; it needs `sh`
    /// and `tar`. Default: Kiln's own.
    pub init_image: Option<String>,
    /// Name of a pull secret for these images.
    pub pull_secret: Option<String>,
    /// Further flags, as on the executor's command line.
    #[serde(default)]
    pub flags: Vec<String>,
}

/// A folder that outlives a build: a path and exactly one place for it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cache {
    /// Where RUN sees it, absolute.
    pub path: String,
    /// An existing PersistentVolumeClaim.
    pub claim: Option<String>,
    /// A folder of the node; it is made when it is absent.
    pub host_path: Option<String>,
    /// A fresh folder per build.
    pub empty_dir: Option<Empty>,
}

/// Secrets of the build pod.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Secrets {
    /// Credentials for registries.
    pub registry: Option<RegistryCredentials>,
    /// A cloud's key file, named by GOOGLE_APPLICATION_CREDENTIALS.
    pub cloud: Option<CloudKey>,
}

/// Credentials in the form of docker's `config.json`: one of the fields.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryCredentials {
    /// An existing secret, of type kubernetes.io/dockerconfigjson or with the
    /// key `config.json`.
    pub secret: Option<String>,
    /// A file on this machine; a secret is made from it for each build.
    pub file: Option<String>,
}

/// A key file: an existing secret, or a file on this machine.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CloudKey {
    /// An existing secret.
    pub secret: Option<String>,
    /// The key in that secret. Default: the secret's name.
    pub key: Option<String>,
    /// A file on this machine; a secret is made from it for each build.
    pub file: Option<String>,
    /// Where it is mounted. Default: /secret
    pub mount_path: Option<String>,
}

/// What is special about a registry.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryHost {
    /// Hosts that are asked first when images are pulled, in order.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Speak HTTP to it. Default: false
    #[serde(default)]
    pub insecure: bool,
    /// Do not check its certificate. Default: false
    #[serde(default)]
    pub skip_tls_verify: bool,
    /// A CA certificate for it: a path in the build pod. Mount it with `pod`.
    pub certificate: Option<String>,
}
