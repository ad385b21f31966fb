//! Builds in a cluster: one pod per image that honours the contract between
//! skaffold and kaniko (kaniko.md 1.3), with Kiln's own executor by default.
//!
//! What a pod looks like ([`pod`], [`args`], [`overlay`]) and why one failed
//! ([`diagnose`]) are pure; [`run`](ClusterBackend::build) performs.

pub mod args;
mod cleanup;
pub mod context;
mod delivery;
pub mod diagnose;
mod elf;
mod error;
mod exec;
pub mod hosting;
pub mod lease;
mod listener;
mod logs;
mod lookup;
pub mod overlay;
pub mod pod;
mod progress;
pub mod publish;
mod rbac;
mod run;
pub mod secret;
mod state;
mod supply;
pub mod sweep;
mod tree;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use kiln_schemas::event::Events;
use kiln_schemas::model::ClusterBuild;

pub use error::BuildError;
pub use lookup::Answer;
pub use run::Built;
pub use state::Patience;
pub use tree::{BuildTree, CONTEXT_MOUNT, TreeFile};

/// Where pods are created.
#[derive(Clone)]
pub struct Place {
    /// The API server.
    pub client: kube::Client,
    /// The namespace, already decided from configuration and kube-context.
    pub namespace: String,
}

/// Who builds: the labels of everything that Kiln creates, and what the sweep
/// may remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The project's name.
    pub project: String,
    /// The developer, for example `alice@laptop`.
    pub user: String,
    /// One run of Kiln; unique.
    pub id: String,
    /// Kiln's version.
    pub version: String,
}

/// Which image runs a build whose configuration names the archived kaniko.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExecutorPolicy {
    /// Kiln's own, which honours the same contract.
    #[default]
    Kiln,
    /// The one that is written (`--executor=as-written`).
    AsWritten,
}

/// A program that can be the executor in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorBinary {
    /// The file: static, or dynamic with its shared objects on this host.
    pub path: PathBuf,
    /// Its architecture, Go's name for it (`amd64`, `arm64`).
    pub arch: String,
}

/// Where Kiln's own executor comes from and how registries are reached.
#[derive(Clone)]
pub struct Supply {
    /// Kiln's executor or the one that is written.
    pub policy: ExecutorPolicy,
    /// One per architecture; the first is used where no platform is asked for.
    pub binaries: Vec<ExecutorBinary>,
    /// Speaks to registries from this host.
    pub registry: kiln_registry::Client,
    /// User-level settings that have to hold inside the pod as well.
    pub reach: RegistryReach,
}

/// User-level registry settings, as the executor in the pod needs them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryReach {
    /// Hosts spoken to without TLS.
    pub insecure: Vec<String>,
    /// Connections to the first host go to the second, in both directions;
    /// names in manifests stay.
    pub hosts: BTreeMap<String, String>,
    /// PEM certificates by host. They are put into a secret of the build.
    pub certificates: BTreeMap<String, Vec<u8>>,
    /// Docker's config.json for the kubelet, from this host, for pulling the
    /// executor's image where the registry asks for it and the configuration
    /// names no pull secret.
    pub pull_config: Option<Vec<u8>>,
}

/// Builds images in pods of one namespace.
#[derive(Clone)]
pub struct ClusterBackend {
    place: Place,
    session: Session,
    supply: Arc<Supply>,
    build: Arc<ClusterBuild>,
    events: Events,
    /// Executor images that were found or pushed by this process.
    published: Arc<tokio::sync::Mutex<BTreeMap<String, publish::Availability>>>,
    /// Executor programs that were read and hashed by this process.
    files: Arc<tokio::sync::Mutex<BTreeMap<PathBuf, Arc<publish::ExecutorFiles>>>>,
    /// Notes that were given.
    said: Arc<std::sync::Mutex<BTreeSet<String>>>,
    patience: Patience,
}

impl ClusterBackend {
    /// A backend; nothing is asked of the cluster yet.
    pub fn new(
        place: Place,
        session: Session,
        supply: Supply,
        build: Arc<ClusterBuild>,
        events: Events,
    ) -> Self {
        Self {
            place,
            session,
            supply: Arc::new(supply),
            build,
            events,
            published: Arc::default(),
            files: Arc::default(),
            said: Arc::default(),
            patience: Patience::default(),
        }
    }

    /// The same with other limits on waiting for a pod to start.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }
}

impl std::fmt::Debug for ClusterBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterBackend")
            .field("namespace", &self.place.namespace)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
