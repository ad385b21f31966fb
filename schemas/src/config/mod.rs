//! `kiln.yaml`: the format that a person writes by hand.
//!
//! The structs of this module are the reference: their doc comments become
//! the JSON Schema (`docs/kiln.schema.json`) and a page (`docs/kiln-yaml.md`),
//! and that schema is what a file is checked against, so editor, reader and
//! reference cannot disagree.

mod build;
mod check;
mod deploy;
mod image;
mod lower;
mod profile;
mod read;
mod reference;
mod schema;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub use build::{
    BuildSection, Cache, CloudKey, Executor, RegistryCredentials, RegistryHost, Secrets,
};
pub use deploy::{
    DeploySection, ForwardEntry, KindEntry, Kinds, LogFormat, LogLine, PortSpec, RemoteObject,
    RenderCommand, RenderHooks, Status,
};
pub use image::{
    DateTag, GitTag, GitTagVariant, HookCommand, Hooks, ImageSection, LayerCache, SyncEntry,
    SyncSection, TagSection, WatchSection,
};
pub use profile::{ProfileSection, When};
pub use read::read;
pub use reference::reference;
pub use schema::schema;

/// The version that this module reads.
pub const API_VERSION: &str = "kiln.dev/v1";

/// A Kiln project. Relative paths are below the folder of this file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// Always `kiln.dev/v1`.
    #[schemars(extend("const" = API_VERSION))]
    pub api_version: String,
    /// The project's name; what is deployed belongs to it. Default: the name
    /// of this file's folder.
    pub name: Option<String>,
    /// The images to build.
    #[serde(default)]
    pub images: Vec<ImageSection>,
    /// How images are tagged. Default: by content, so that nothing is built
    /// twice by anybody who shares the registry.
    pub tags: Option<TagSection>,
    /// Registries that need more than their name, by host. `docker.io` is
    /// Docker Hub.
    #[serde(default)]
    pub registries: BTreeMap<String, RegistryHost>,
    /// The pods that build.
    #[serde(default)]
    pub build: BuildSection,
    /// Where manifests come from and how they are deployed.
    #[serde(default)]
    pub deploy: DeploySection,
    /// Ports of the cluster to have on this machine during `dev`.
    #[serde(default)]
    pub forward: Vec<ForwardEntry>,
    /// Variants of this document, by name.
    #[serde(default)]
    pub profiles: BTreeMap<String, ProfileSection>,
}

/// One text or a list of them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(from = "OneOrManyText")]
#[schemars(with = "OneOrManyText")]
pub struct Texts(pub Vec<String>);

/// A text, or a list of texts.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrManyText {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl From<OneOrManyText> for Texts {
    fn from(value: OneOrManyText) -> Self {
        match value {
            OneOrManyText::One(text) => Self(vec![text]),
            OneOrManyText::Many(texts) => Self(texts),
        }
    }
}
