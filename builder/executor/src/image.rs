//! The image configuration, as Docker and OCI write it.
//!
//! Sources: OCI image specification, config.md; Docker image specification 1.2 for `Healthcheck`,
//! `OnBuild` and `Shell`, which OCI does not have.

use std::collections::BTreeMap;

use kiln_dockerfile::platform::Platform;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// The search path of an image that does not set one (BuildKit's `DefaultPathEnvUnix`).
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration of an image.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// `MAINTAINER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// `GOARCH`.
    #[serde(default)]
    pub architecture: String,
    /// Variant of the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// `GOOS`.
    #[serde(default)]
    pub os: String,
    /// How a container of the image runs.
    #[serde(default, deserialize_with = "or_default")]
    pub config: Runtime,
    /// The uncompressed layers.
    #[serde(default)]
    pub rootfs: RootFs,
    /// How the image came to be.
    #[serde(default, deserialize_with = "or_default")]
    pub history: Vec<History>,
    /// What else a base had (`os.version`, …).
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How a container of the image runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Runtime {
    /// `USER`, as written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `EXPOSE`: `8080/tcp` to `{}`.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `ENV`: `NAME=value`.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// `ENTRYPOINT`.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub entrypoint: Option<Vec<String>>,
    /// `CMD`.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub cmd: Option<Vec<String>>,
    /// Docker sets it with every `CMD`; only Windows reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_escaped: Option<bool>,
    /// `HEALTHCHECK`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Health>,
    /// `VOLUME`: path to `{}`.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub volumes: BTreeMap<String, Empty>,
    /// `WORKDIR`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// `LABEL`.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// `STOPSIGNAL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// `ONBUILD` triggers.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub on_build: Vec<String>,
    /// `SHELL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// What else a base had.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `{}`: a set's element in Go's JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// `HEALTHCHECK`; durations in nanoseconds, 0 means "inherit".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two probes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// Of one probe.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// While failures do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// Between two probes of the start period.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: u64,
    /// Failures until unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u64,
}

/// An empty list is as good as none, and written as none.
fn is_nothing(argv: &Option<Vec<String>>) -> bool {
    argv.as_ref().is_none_or(Vec::is_empty)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The layers of an image by the digests of their uncompressed tars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Base first.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<String>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self {
            kind: "layers".to_owned(),
            diff_ids: Vec::new(),
        }
    }
}

/// One entry of the history.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// `MAINTAINER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// True when no layer belongs to this entry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// Go writes empty lists and maps as `null`.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Fields of Docker's first format that describe the container an image was committed from; an
/// image built on top of it was not.
const OF_THE_CONTAINER: [&str; 5] = [
    "container",
    "container_config",
    "docker_version",
    "id",
    "parent",
];

impl ImageConfig {
    /// Says for which platform the image is, where its base says another one or none: the one that was
    /// asked for, if it is not the machine's own (BuildKit, and kaniko's `--custom-platform`).
    pub fn be_for(&mut self, target: &Platform, own: &Platform) {
        let says = (self.os.as_str(), self.architecture.as_str());
        let is_nothing = says.0.is_empty() || says.1.is_empty();
        let is_asked_for = target != own && says != (target.os.as_str(), target.arch.as_str());
        if is_nothing || is_asked_for {
            self.os.clone_from(&target.os);
            self.architecture.clone_from(&target.arch);
            self.variant = Some(target.variant.clone()).filter(|variant| !variant.is_empty());
        }
    }

    /// What `FROM scratch` starts with.
    #[must_use]
    pub fn scratch(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
            config: Runtime {
                env: vec![format!("PATH={DEFAULT_PATH}")],
                working_dir: "/".to_owned(),
                ..Runtime::default()
            },
            ..Self::default()
        }
    }

    /// Reads the config of a base image.
    ///
    /// # Errors
    /// When the JSON is not an image config.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut config: Self = serde_json::from_slice(bytes)?;
        for field in OF_THE_CONTAINER {
            config.other.remove(field);
        }
        Ok(config)
    }
}

impl Runtime {
    /// The environment as pairs; an entry without `=` has an empty value.
    pub fn env_pairs(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.env.iter().map(|entry| {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            (name.to_owned(), value.to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_of_go_and_fields_of_others_are_read() {
        let text = r#"{"architecture":"arm64","os":"linux","os.version":"1","container":"abc",
            "config":{"Env":null,"Volumes":null,"Labels":null,"OnBuild":null,"Domainname":"d",
            "Healthcheck":{"Test":["CMD","x"],"StartInterval":5}},
            "rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        let health = config.config.healthcheck.as_ref().unwrap();
        assert_eq!(health.start_interval, 5);
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!(written["os.version"], "1");
        assert_eq!(written["config"]["Domainname"], "d");
        assert_eq!(written.get("container"), None);
        assert_eq!(written["config"].get("Env"), None);
    }
}
