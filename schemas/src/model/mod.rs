//! The one immutable model that every front end becomes and every command
//! works from. Defaults are filled in, profiles are merged, relative paths are
//! absolute; what depends on one iteration (a tag, a digest) is still a
//! [`Template`] and is computed from the model, never written into it.
//!
//! Fragments that belong to Kubernetes (volumes, resources, tolerations) stay
//! JSON values in the API's own shape, because this crate knows no client.

mod build;
mod deploy;
mod hooks;
mod sync;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use build::{
    Artifact, ArtifactCache, Build, BuildArg, ClusterBuild, DockerConfig, EnvVar, ExecutorChoice,
    ExecutorFlags, GitVariant, PullSecret, Requirement, TagComponent, TagPolicy, UploadLimits,
};
pub use deploy::{
    Deploy, Forward, ForwardPort, KindRule, Kustomization, LogPrefix, Logs, Manifests,
    RemoteManifest, ResourceSelector, StatusCheck, Target,
};
pub use hooks::{HookPair, HostHook, RenderHook};
pub use sync::{ManualSync, Sync, SyncRules};

/// Which front end a project was written in. Decides the few defaults that
/// differ: tags, clean-up at the end of `dev`, the local target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Dialect {
    /// `skaffold.yaml`.
    Skaffold,
    /// `kiln.yaml`.
    Kiln,
}

/// A text with Go template actions (`{{.IMAGE_TAG}}`), not yet rendered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(pub String);

/// A whole project: the documents of one configuration file, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Project {
    /// The name of the first document, or of the project's folder. Together
    /// with a module's name it identifies what was deployed (the ApplySet).
    pub name: String,
    /// The front end it was written in.
    pub dialect: Dialect,
    /// The documents.
    pub modules: Vec<Module>,
    /// Every file that was read to get here; `dev` watches them.
    pub files: Vec<PathBuf>,
    /// Profiles that were activated, in the order in which they were applied.
    pub profiles: Vec<String>,
}

impl Project {
    /// Every artifact of every module, in file order.
    pub fn artifacts(&self) -> impl Iterator<Item = (&Module, &Artifact)> {
        self.modules
            .iter()
            .flat_map(|module| module.build.artifacts.iter().map(move |a| (module, a)))
    }

    /// The artifact of that name. Names are unique in a project.
    pub fn artifact(&self, image: &str) -> Option<(&Module, &Artifact)> {
        self.artifacts()
            .find(|(_, artifact)| artifact.image == image)
    }
}

/// One document: what it builds, renders, deploys and forwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Module {
    /// `metadata.name`, or the project's folder for the first nameless one.
    pub name: String,
    /// The folder that relative paths were resolved against, absolute.
    pub dir: PathBuf,
    /// The build.
    pub build: Build,
    /// Where manifests come from.
    pub manifests: Manifests,
    /// How they are deployed.
    pub deploy: Deploy,
    /// Ports that the user named.
    pub forward: Vec<Forward>,
    /// Kinds whose images are rewritten, on top of the built-in ones.
    pub resource_selector: ResourceSelector,
}

/// `os/arch[/variant]`, for example `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system, Go's name for it.
    pub os: String,
    /// Architecture, Go's name for it.
    pub arch: String,
    /// Variant, for example `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Parses `os/arch[/variant]`; nothing else is accepted.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (os, arch, variant) = (parts.next()?, parts.next()?, parts.next());
        let named = |part: &str| !part.is_empty();
        if parts.next().is_some()
            || !named(os)
            || !named(arch)
            || variant.is_some_and(str::is_empty)
        {
            return None;
        }
        Some(Self {
            os: os.into(),
            arch: arch.into(),
            variant: variant.map(Into::into),
        })
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}
