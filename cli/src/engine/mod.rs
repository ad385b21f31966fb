//! What a command works with: one project, the way to its registries and its
//! cluster, and the four things that can be done: read the inputs, build an
//! image, sync files, deploy. The loop in [`crate::dev`] decides which.

mod bases;
mod build;
mod connect;
mod deploy;
mod follow;
mod hooks;
mod inputs;
#[cfg(target_os = "linux")]
mod local;
#[cfg(not(target_os = "linux"))]
#[path = "elsewhere.rs"]
mod local;
mod look;
mod manifests;
mod onbuild;
mod registries;
mod setup;
mod sync;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use kiln_builder::{ClusterBackend, Graph};
use kiln_deployer::Cluster;
use kiln_schemas::event::{BuildReason, Event, Events, Failure};
use kiln_schemas::model::{Dialect, Project};
use tokio::sync::OnceCell;

pub use self::inputs::{ImageInputs, Inputs};
pub use self::local::Presence;
pub use self::look::Wish;
pub use self::registries::settings_file;
pub use self::setup::{Choices, Setup};
use crate::env::Environment;
use crate::kubernetes::{Connected, Kubeconfigs};

/// Why a task did not do what it was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// A newer change or the user made it pointless.
    Cancelled,
    /// It failed; an event has said so.
    Failed(Failure),
}

/// What a build is started with, besides its inputs.
#[derive(Debug, Clone)]
pub struct Start {
    /// Why.
    pub reason: BuildReason,
    /// The newest change that caused it.
    pub changed_at: Option<SystemTime>,
    /// Pinned references of required images by name.
    pub required: BTreeMap<String, String>,
}

/// One project and everything that its commands need. Immutable but for what
/// it remembers of the world, so that tasks share it.
pub struct Engine {
    env: Environment,
    project: Project,
    choices: Choices,
    graph: Graph,
    events: Events,
    settings: kiln_schemas::settings::Settings,
    default_repo: Option<String>,
    registry: kiln_registry::Client,
    docker_config: Option<Vec<u8>>,
    kubeconfigs: Option<Kubeconfigs>,
    connected: OnceCell<Connected>,
    cluster: OnceCell<Cluster>,
    /// The registry that the cluster says it has.
    hosting: OnceCell<Option<String>>,
    backends: tokio::sync::Mutex<BTreeMap<String, ClusterBackend>>,
    memory: tokio::sync::Mutex<inputs::Memory>,
    follow: tokio::sync::Mutex<follow::Following>,
    /// Digest of the configuration files' bytes when they were read.
    configuration: BTreeMap<PathBuf, Option<Vec<u8>>>,
    watching_said: Mutex<bool>,
    /// Warnings that are said once, not in every iteration.
    said: Mutex<BTreeSet<String>>,
    /// This machine, when that is where things run.
    local: Option<local::Local>,
    /// Unique for this run of Kiln.
    id: String,
}

impl Engine {
    /// Where everything is said.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The project.
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// The images that this command is about, with what they require.
    pub fn images(&self) -> impl Iterator<Item = (String, Vec<String>)> {
        self.graph
            .order()
            .iter()
            .map(|name| (name.clone(), self.requires(name)))
    }

    /// What an image requires directly.
    pub fn requires(&self, image: &str) -> Vec<String> {
        self.graph.requires(image).to_vec()
    }

    /// Whether things run on this machine.
    pub fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// Whether the end of the loop deletes what was deployed. On this machine people expect that
    /// the app ends with it; in a cluster, what skaffold does with its own files.
    pub fn cleans_up(&self) -> bool {
        let default = self.is_local() || self.project.dialect == Dialect::Skaffold;
        self.choices.cleanup.unwrap_or(default)
    }

    /// Whether this command deploys.
    pub fn deploys(&self) -> bool {
        self.choices.deploy
    }

    /// How many builds may run at once; 0 means no limit.
    pub fn concurrency(&self) -> usize {
        let configured = self
            .project
            .modules
            .iter()
            .map(|m| m.build.cluster.concurrency);
        let smallest = configured.filter(|n| *n != 0).min().unwrap_or(0);
        self.choices.concurrency.unwrap_or(smallest)
    }

    /// A path as messages show it: relative to the working directory where it
    /// is below it.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.env.cwd)
            .unwrap_or(path)
            .display()
            .to_string()
    }

    /// Whether one of the paths is a configuration file.
    pub fn is_configuration(&self, paths: &BTreeSet<PathBuf>) -> bool {
        paths
            .iter()
            .any(|path| self.configuration.contains_key(path))
    }

    /// Whether the configuration's bytes differ from those that were read. A
    /// file that is being replaced and is not there now is waited for.
    pub fn configuration_changed(&self) -> bool {
        self.configuration.iter().any(|(path, before)| {
            let now = std::fs::read(path).ok();
            now.is_some() && now != *before
        })
    }

    /// Folders of the configuration files, to be watched.
    pub fn configuration_folders(&self) -> BTreeSet<PathBuf> {
        self.configuration
            .keys()
            .filter_map(|path| path.parent())
            .map(Path::to_owned)
            .collect()
    }

    /// Says once per pause that the loop waits for changes.
    pub fn say_watching(&self, inputs: &Inputs) {
        // Poisoned only after a panic, which ends the loop anyway.
        let mut said = self
            .watching_said
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if !std::mem::replace(&mut *said, true) {
            let (deploys, cleans_up) = (self.deploys(), self.cleans_up());
            let stays = deploys && !cleans_up;
            self.events.emit(Event::Watching {
                files: inputs.files,
                removed_by: stays.then(|| self.choices.delete.clone()),
                cleans_up: deploys && cleans_up,
            });
        }
    }

    /// Emits a warning unless the same one was given before.
    fn say_once(&self, event: Event) {
        let mut said = self
            .said
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if said.insert(format!("{event:?}")) {
            self.events.emit(event);
        }
    }

    fn forget_watching(&self) {
        *self
            .watching_said
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = false;
    }

    /// Emits a failure and hands it back.
    fn failed(&self, event: impl FnOnce(Failure) -> Event, failure: Failure) -> Stopped {
        self.events.emit(event(failure.clone()));
        Stopped::Failed(failure)
    }
}

/// Shared by every task of a command.
pub type Shared = Arc<Engine>;
