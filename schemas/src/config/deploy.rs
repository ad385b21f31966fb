//! `deploy` and `forward`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Texts;
use super::image::{HookCommand, Hooks};

/// Where manifests come from and how they are deployed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeploySection {
    /// Folders or URLs of kustomizations; may be Go templates.
    #[serde(default)]
    pub overlay: Texts,
    /// Flags for `kustomize build`.
    #[serde(default)]
    pub overlay_flags: Vec<String>,
    /// Plain manifests: files, globs or https URLs; may be Go templates.
    #[serde(default)]
    pub manifests: Texts,
    /// Objects that are taken from a cluster.
    #[serde(default)]
    pub remote: Vec<RemoteObject>,
    /// Further files whose change causes a deploy: globs.
    #[serde(default)]
    pub watch: Vec<String>,
    /// Where it runs: a cluster, or this machine. Default: the cluster of the
    /// context; for `kiln dev` without a kubeconfig, this machine.
    pub target: Option<DeployTarget>,
    /// The kube-context. Default: the current one.
    pub context: Option<String>,
    /// Namespace for objects that name none; may be a Go template.
    pub namespace: Option<String>,
    /// Labels put on every object, not on pod templates.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Delete and create objects that cannot be updated. Default: false
    #[serde(default)]
    pub force: bool,
    /// Let the API server refuse unknown fields. Default: true
    pub validate: Option<bool>,
    /// Waiting until everything is ready.
    #[serde(default)]
    pub status: Status,
    /// Logs of what was deployed.
    #[serde(default)]
    pub logs: LogFormat,
    /// Commands on this machine around rendering.
    #[serde(default)]
    pub render_hooks: RenderHooks,
    /// Commands on this machine around deploying.
    #[serde(default)]
    pub hooks: Hooks,
    /// Kinds whose images are rewritten, besides the usual ones.
    #[serde(default)]
    pub kinds: Kinds,
}

/// Where workloads run.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DeployTarget {
    /// In a cluster.
    Cluster,
    /// On this machine, without one.
    Local,
}

/// An object that is taken from a cluster.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoteObject {
    /// Which: `[namespace:]kind/name`
    pub object: String,
    /// The kube-context to read it from. Default: the one deployed to.
    pub context: Option<String>,
}

/// Waiting until everything is ready.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Status {
    /// Whether to wait. Default: true
    pub wait: Option<bool>,
    /// How long. Default: 10m
    pub timeout: Option<String>,
    /// Keep waiting when a pod fails beyond repair. Default: false
    #[serde(default)]
    pub tolerate_failures: bool,
}

/// How log lines look.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogFormat {
    /// What stands in front of a line. Default: container
    #[serde(default)]
    pub prefix: LogLine,
    /// Of lines that are JSON objects, show only these keys.
    #[serde(default)]
    pub fields: Vec<String>,
}

/// What stands in front of a line of a log.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogLine {
    /// The container.
    #[default]
    Container,
    /// Pod and container.
    PodAndContainer,
    /// Pod and container, or only the container where both are named alike.
    Auto,
    /// Nothing.
    None,
}

/// Commands around rendering.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenderHooks {
    /// Before.
    #[serde(default)]
    pub before: Vec<HookCommand>,
    /// After.
    #[serde(default)]
    pub after: Vec<RenderCommand>,
}

/// A command after rendering.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenderCommand {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Only on these systems: linux, darwin, windows. Default: on all.
    #[serde(default)]
    pub os: Vec<String>,
    /// Where it runs. Default: the project's folder.
    pub dir: Option<String>,
    /// It gets the manifests as input and its output replaces them.
    /// Default: false
    #[serde(default)]
    pub rewrite: bool,
}

/// Kinds whose images are rewritten.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kinds {
    /// Rewritten besides the usual ones.
    #[serde(default)]
    pub rewrite: Vec<KindEntry>,
    /// Left alone.
    #[serde(default)]
    pub leave: Vec<KindEntry>,
}

/// A kind and where it carries what; paths look like `.spec.template`, and
/// `.*` means anywhere.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KindEntry {
    /// Kind.group, or a regular expression for it.
    pub kind: String,
    /// Where images are.
    #[serde(default)]
    pub image: Vec<String>,
    /// Where labels are.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Where pod specs are.
    #[serde(default)]
    pub pod_spec: Vec<String>,
}

/// A port of the cluster to have on this machine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForwardEntry {
    /// Whose port, as kind/name: `service/web`, `deployment/api`, …; may be
    /// a Go template.
    pub resource: String,
    /// The resource's port, by number or name.
    pub port: PortSpec,
    /// The port on this machine. Default: the same number, or a free one.
    pub local: Option<u16>,
    /// The address on this machine. Default: 127.0.0.1
    pub address: Option<String>,
    /// The resource's namespace. Default: the one deployed to.
    pub namespace: Option<String>,
}

/// A port by number or by name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PortSpec {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}
