//! What a test may ask for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::core::v1 as core;
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use crate::api::{failed, with_client};
use crate::environment::Environment;
use crate::error::Error;
use crate::layout::{
    Layout, NODE_IP, PLAIN_REGISTRY, PULL_ONLY, PUSH_AND_PULL, TLS_REGISTRY,
    TLS_REGISTRY_BY_ADDRESS,
};
use crate::module_proxy;
use crate::network::Network;
use crate::process::Process;
use crate::state::State;
use crate::{gateway, machine, start, stop};

/// A running cluster. Dropping it stops nothing: it is shared by all tests of a run.
#[derive(Debug, Clone)]
pub struct Cluster {
    layout: Layout,
    network: Network,
}

/// One process of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// What it is, and the name of its log file.
    pub name: String,
    /// Its process id.
    pub pid: i32,
    /// Whether it still runs.
    pub running: bool,
}

/// Why a test gets no cluster.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// This machine cannot run one, for the given reason; the test is to be skipped.
    #[error("skipped: {0}")]
    Skip(String),
    /// It should have run. With `KILN_REQUIRE_ALL=1`, a reason to skip is one to fail.
    #[error("the test cluster is required and cannot run: {0}")]
    Required(String),
    /// Building or starting it failed.
    #[error("the test cluster did not start")]
    Failed(#[from] Error),
}

impl Unavailable {
    fn because(reason: String, environment: &Environment) -> Self {
        if environment.require_all {
            Self::Required(reason)
        } else {
            Self::Skip(reason)
        }
    }
}

impl Cluster {
    /// The cluster that all tests of a run share; the first one to ask starts it.
    /// `report` hears of each long step. `kiln-test-cluster down` ends it.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn shared(
        environment: &Environment,
        report: &mut dyn FnMut(&str),
    ) -> Result<Self, Unavailable> {
        if let Some(reason) = machine::obstacle() {
            return Err(Unavailable::because(reason, environment));
        }
        let layout = Layout::new(&environment.cache_home, environment.run_dir.clone());
        let network = Network::Namespace("kiln-test".to_owned());
        Ok(Self::up(layout, &network, report)?)
    }

    /// [`Cluster::shared`] for the head of a test: none means that the reason has been
    /// printed and the test should return.
    ///
    /// # Panics
    /// When the cluster fails to start, or cannot run although it is required.
    #[must_use]
    #[expect(
        clippy::print_stderr,
        reason = "a skipped test must say so in the test's output"
    )]
    pub fn for_test() -> Option<Self> {
        match Self::shared(&Environment::of_process(), &mut |step| eprintln!("{step}")) {
            Ok(cluster) => Some(cluster),
            Err(skip @ Unavailable::Skip(_)) => {
                eprintln!("{skip}");
                None
            }
            Err(Unavailable::Failed(error)) => {
                panic!("the test cluster did not start: {}", chain(&error))
            }
            Err(required) => panic!("{required}"),
        }
    }

    /// Starts a cluster with its files in `layout`, or finds it running there.
    ///
    /// # Errors
    /// What could not be built or started; nothing is left running then.
    pub fn up(
        layout: Layout,
        network: &Network,
        report: &mut dyn FnMut(&str),
    ) -> Result<Self, Error> {
        let state = start::start(&layout, network, report)?;
        Ok(Self {
            layout,
            network: state.network,
        })
    }

    /// The cluster of `layout` if it runs.
    ///
    /// # Errors
    /// When its state file cannot be read.
    pub fn find(layout: Layout) -> Result<Option<Self>, Error> {
        let state = State::load(&layout)?.filter(State::is_running);
        Ok(state.map(|state| Self {
            layout,
            network: state.network,
        }))
    }

    /// The components of `layout` in the order in which they were started.
    ///
    /// # Errors
    /// When its state file cannot be read.
    pub fn components(layout: &Layout) -> Result<Vec<Component>, Error> {
        let processes = State::load(layout)?.map(|state| state.processes);
        let component = |process: Process| Component {
            running: process.is_alive(),
            pid: process.pid,
            name: process.name,
        };
        Ok(processes
            .unwrap_or_default()
            .into_iter()
            .map(component)
            .collect())
    }

    /// Stops the cluster of `layout`: afterwards no process, mount, control group or
    /// network of it is left. Does nothing when there is none.
    ///
    /// # Errors
    /// What could not be removed; the call can be repeated.
    pub fn down(layout: &Layout) -> Result<(), Error> {
        stop::stop(layout)
    }

    /// The files of this cluster.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The network that this cluster is in.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Makes a port of the cluster's network reachable at 127.0.0.1 of this
    /// machine; goes on until the process ends.
    ///
    /// # Errors
    /// When the port is taken here.
    pub fn open(&self, port: u16) -> Result<(), Error> {
        gateway::open(&self.network, port)
    }

    /// The variables that tell other programs about this cluster, as `env` prints them.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let layout = &self.layout;
        let text = |path: PathBuf| path.display().to_string();
        vec![
            ("KUBECONFIG", text(layout.kubeconfig())),
            (
                "KILN_TEST_NETNS",
                self.network.file().map(text).unwrap_or_default(),
            ),
            ("KILN_TEST_NODE_IP", NODE_IP.to_owned()),
            ("KILN_TEST_REGISTRY", TLS_REGISTRY.to_owned()),
            (
                "KILN_TEST_REGISTRY_BY_ADDRESS",
                TLS_REGISTRY_BY_ADDRESS.to_owned(),
            ),
            ("KILN_TEST_REGISTRY_CA", text(layout.ca_certificate())),
            (
                "KILN_TEST_REGISTRY_PUSH",
                format!("{}:{}", PUSH_AND_PULL.name, PUSH_AND_PULL.password),
            ),
            (
                "KILN_TEST_REGISTRY_PULL",
                format!("{}:{}", PULL_ONLY.name, PULL_ONLY.password),
            ),
            ("KILN_TEST_REGISTRY_PLAIN", PLAIN_REGISTRY.to_owned()),
            ("KILN_TEST_BIN", text(layout.clients())),
            ("KILN_TEST_LOGS", text(layout.logs())),
        ]
    }

    /// A command in the cluster's network with KUBECONFIG set and the client programs
    /// (crane, kustomize) first in PATH.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.network.command(program);
        let path = format!(
            "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            self.layout.clients().display()
        );
        command
            .env("KUBECONFIG", self.layout.kubeconfig())
            .env("PATH", path);
        command
    }

    /// Runs `work` with an administrator's client of the API server.
    ///
    /// # Errors
    /// Those of `work`, and a network or kubeconfig that cannot be used.
    pub fn with_client<T, Work, Answer>(&self, work: Work) -> Result<T, Error>
    where
        T: Send,
        Work: FnOnce(Client) -> Answer + Send,
        Answer: Future<Output = Result<T, Error>>,
    {
        with_client(&self.network, &self.layout.kubeconfig(), work)
    }

    /// A namespace for one test, ready to take pods; its name starts with `name`. It
    /// is deleted, without waiting, when the value is dropped.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn namespace(&self, name: &str) -> Result<Namespace, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{number}", std::process::id());
        self.with_client(async |client: Client| {
            let object: core::Namespace = named(&name);
            let namespaces: Api<core::Namespace> = Api::all(client.clone());
            let created = namespaces.create(&PostParams::default(), &object).await;
            created.map_err(failed("create a namespace"))?;
            module_proxy::wait_for_default_account(&client, &name).await
        })?;
        Ok(Namespace {
            cluster: self.clone(),
            name,
        })
    }

    /// Starts the Go module proxy in the cluster and waits for it; pods reach it at
    /// [`crate::MODULE_PROXY_URL`]. It serves what this machine has downloaded
    /// ([`crate::download_modules`]).
    ///
    /// # Errors
    /// When the API server refuses, or the pod does not become ready.
    pub fn module_proxy(&self) -> Result<(), Error> {
        let downloads = machine::go_env("GOMODCACHE")?.join("cache/download");
        self.with_client(|client| start_proxy(client, downloads))
    }
}

async fn start_proxy(client: Client, downloads: PathBuf) -> Result<(), Error> {
    module_proxy::start(client, Path::new(&downloads)).await
}

fn named(name: &str) -> core::Namespace {
    let mut namespace = core::Namespace::default();
    namespace.metadata.name = Some(name.to_owned());
    namespace.metadata.labels = serde_json::from_value(json!({"kiln-test": "true"})).ok();
    namespace
}

/// An error with all that is behind it, on one line each.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// A namespace of the cluster that goes away with this value.
#[derive(Debug)]
#[must_use = "the namespace is deleted when this is dropped"]
pub struct Namespace {
    cluster: Cluster,
    name: String,
}

impl Namespace {
    /// The namespace's full name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is in.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What cannot be deleted goes with the cluster.
        let _ = self.cluster.with_client(async |client: Client| {
            let namespaces: Api<core::Namespace> = Api::all(client);
            let deleted = namespaces
                .delete(&self.name, &DeleteParams::background())
                .await;
            deleted.map(drop).map_err(failed("delete a namespace"))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_what_is_needed_skips_unless_all_is_required() {
        let mut environment = Environment {
            cache_home: PathBuf::from("/cache"),
            run_dir: None,
            require_all: false,
        };
        let why = || "a cluster of real nodes needs root".to_owned();
        let skipped = Unavailable::because(why(), &environment).to_string();
        assert_eq!(skipped, "skipped: a cluster of real nodes needs root");
        environment.require_all = true;
        let required = Unavailable::because(why(), &environment);
        assert!(matches!(required, Unavailable::Required(_)), "{required}");
    }
}
