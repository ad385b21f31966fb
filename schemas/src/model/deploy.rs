//! Where manifests come from and how they become running workloads.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{HookPair, RenderHook, Template};

/// Everything under `manifests`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifests {
    /// Files, globs and `https://` URLs of plain manifests. Relative ones
    /// are resolved against the module's folder after rendering.
    pub raw: Vec<Template>,
    /// Kustomizations to render.
    pub kustomize: Vec<Kustomization>,
    /// Objects taken from a cluster.
    pub remote: Vec<RemoteManifest>,
    /// Commands on this host around rendering.
    pub before: Vec<super::HostHook>,
    /// Commands after rendering; they may rewrite the manifests.
    pub after: Vec<RenderHook>,
    /// Further paths whose change causes a deploy (globs, absolute).
    pub watch_extra: Vec<PathBuf>,
}

/// One overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kustomization {
    /// Folder or URL; a relative folder is resolved against the module's.
    pub path: Template,
    /// Flags for `kustomize build`.
    pub build_args: Vec<String>,
}

/// An object that is read from a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteManifest {
    /// `[namespace:]kind/name`.
    pub manifest: String,
    /// The context to read from.
    pub kube_context: Option<String>,
}

/// Everything under `deploy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deploy {
    /// Where it runs, where the configuration says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The kube-context; absent means the current one.
    pub kube_context: Option<String>,
    /// Namespace for objects that name none.
    pub default_namespace: Option<Template>,
    /// Waiting for readiness.
    pub status: StatusCheck,
    /// Logs of what was deployed.
    pub logs: Logs,
    /// Commands on this host around deploying.
    pub hooks: HookPair,
    /// Delete and create objects that cannot be updated (kubectl's `--force`).
    pub force: bool,
    /// Do not let the API server reject unknown fields
    /// (`flags.disableValidation`).
    pub skip_validation: bool,
    /// Labels put on every object, never on pod templates.
    pub labels: BTreeMap<String, String>,
}

/// Where workloads run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// In a cluster.
    Cluster,
    /// On this machine.
    Local,
}

/// Waiting for readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusCheck {
    /// Whether to wait at all.
    pub enabled: bool,
    /// How long. A Deployment's own `progressDeadlineSeconds` wins when it is
    /// not Kubernetes' default of 600.
    pub deadline: Duration,
    /// Keep waiting when a pod fails beyond repair.
    pub tolerate_failures: bool,
}

/// Logs of what was deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    /// What stands in front of each line.
    pub prefix: LogPrefix,
    /// For lines that are JSON objects: print only these keys.
    pub json_fields: Vec<String>,
}

/// What stands in front of each line of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogPrefix {
    /// `[container]`
    Container,
    /// `[pod container]`
    PodAndContainer,
    /// `[pod container]`, or `[container]` where both are named alike.
    Auto,
    /// Nothing.
    None,
}

/// A port that the user wants on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forward {
    /// Kind, lower case: `service`, `deployment`, `pod`, ….
    pub resource_type: String,
    /// Name.
    pub resource_name: Template,
    /// Namespace; absent means the one that is deployed to.
    pub namespace: Option<Template>,
    /// Port of the resource.
    pub port: ForwardPort,
    /// Address to listen on.
    pub address: String,
    /// Port to listen on. One that the user wrote must be free; absent means
    /// the resource's own port, or the next free one.
    pub local_port: Option<u16>,
}

/// A port by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ForwardPort {
    /// By number.
    Number(u16),
    /// By the name it has in the service or container.
    Name(String),
}

/// Which kinds are rewritten besides the built-in ones, and which are not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceSelector {
    /// Rewritten.
    pub allow: Vec<KindRule>,
    /// Left alone.
    pub deny: Vec<KindRule>,
}

/// Where a kind carries images, labels and pod specs. Paths are JSON paths of
/// the form `.spec.template`; `.*` means anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KindRule {
    /// `Kind.group` or a regular expression over it.
    pub group_kind: String,
    /// Paths of images.
    pub image: Vec<String>,
    /// Paths of labels.
    pub labels: Vec<String>,
    /// Paths of pod specs.
    pub pod_spec: Vec<String>,
}
