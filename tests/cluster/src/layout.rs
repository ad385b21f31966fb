//! Names, addresses and files: every fixed fact about a running cluster.

use std::path::{Path, PathBuf};

/// The node's only address; a bridge in the cluster's network namespace has it.
pub const NODE_IP: &str = "10.77.0.1";
/// The registry without TLS and without authentication, from the host and from pods.
pub const PLAIN_REGISTRY: &str = "10.77.0.1:5000";
/// The port of [`PLAIN_REGISTRY`], which also listens on the loopback address.
pub const PLAIN_REGISTRY_PORT: u16 = 5000;
/// The registry with TLS (private CA) and token authentication. The name resolves in
/// pods; outside of them use [`TLS_REGISTRY_BY_ADDRESS`] or a host map.
pub const TLS_REGISTRY: &str = "registry.kiln.test:5443";
/// [`TLS_REGISTRY`] by the node's address, which its certificate also names.
pub const TLS_REGISTRY_BY_ADDRESS: &str = "10.77.0.1:5443";
/// The host part of [`TLS_REGISTRY`].
pub(crate) const TLS_REGISTRY_HOST: &str = "registry.kiln.test";
/// A valid GOPROXY for pods once [`crate::Cluster::module_proxy`] has returned.
pub const MODULE_PROXY_URL: &str = "http://athens.athens.svc.cluster.local";

/// The kubeconfig context with all rights (the current one).
pub const ADMIN_CONTEXT: &str = "kiln-test";
/// A second name of [`ADMIN_CONTEXT`], for configs that name a kind cluster.
pub const ADMIN_CONTEXT_ALIAS: &str = "kind-cluster30";
/// The context of the user `viewer`, who may read everything but secrets.
pub const VIEWER_CONTEXT: &str = "kiln-test-viewer";
/// The context of the user `weak`, who may do nothing.
pub const WEAK_CONTEXT: &str = "kiln-test-weak";

pub(crate) const NODE_NAME: &str = "kiln-node";
pub(crate) const NODE_BRIDGE: &str = "kiln-node";
pub(crate) const POD_BRIDGE: &str = "kiln-pods";
pub(crate) const POD_CIDR: &str = "10.78.0.0/16";
pub(crate) const SERVICE_CIDR: &str = "10.96.0.0/16";
pub(crate) const API_SERVICE_IP: &str = "10.96.0.1";
pub(crate) const API_SERVER: &str = "https://10.77.0.1:6443";
pub(crate) const PAUSE_IMAGE: &str = "10.77.0.1:5000/kiln/pause:1";

/// A user of the TLS registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryUser {
    /// The user's name.
    pub name: &'static str,
    /// The user's password.
    pub password: &'static str,
    /// What the user may do with every repository: `pull`, `push`, `delete`.
    pub actions: &'static [&'static str],
}

/// May push to and pull from every repository of the TLS registry.
pub const PUSH_AND_PULL: RegistryUser = RegistryUser {
    name: "builder",
    password: "builder-secret",
    actions: &["pull", "push", "delete"],
};

/// May only pull from the TLS registry.
pub const PULL_ONLY: RegistryUser = RegistryUser {
    name: "puller",
    password: "puller-secret",
    actions: &["pull"],
};

/// Where things are kept: the cache survives, the run folder belongs to one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    cache: PathBuf,
    run: PathBuf,
}

impl Layout {
    /// A layout with the cache in the user's cache folder and one cluster's files in
    /// `run` (default: `/var/lib/kiln-test-cluster`). Paths must be absolute.
    ///
    /// Every user must be able to traverse the way to `run`, or pods with a user
    /// namespace (`hostUsers: false`) cannot reach their root file system; homes are
    /// mostly closed, so the default is not below one.
    #[must_use]
    pub fn new(cache_home: &Path, run: Option<PathBuf>) -> Self {
        let cache = cache_home.join("kiln/cluster");
        let run = run.unwrap_or_else(|| PathBuf::from("/var/lib/kiln-test-cluster"));
        Self { cache, run }
    }

    /// The folder of one cluster: state, logs, sockets, data.
    #[must_use]
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The kubeconfig with all contexts.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.run.join("kubeconfig")
    }

    /// The certificate of the private CA of the TLS registry and the API server.
    #[must_use]
    pub fn ca_certificate(&self) -> PathBuf {
        self.run.join("pki/ca.crt")
    }

    /// One log file per component.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.run.join("logs")
    }

    /// A folder for PATH with the programs that tests use: crane, kustomize, registry,
    /// and azurite-blob where npm could install it.
    #[must_use]
    pub fn clients(&self) -> PathBuf {
        self.run.join("bin")
    }

    pub(crate) fn parts(&self) -> PathBuf {
        self.cache.join("parts")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.cache.join("images")
    }

    pub(crate) fn cache_lock(&self) -> PathBuf {
        self.cache.join("lock")
    }

    pub(crate) fn run_lock(&self) -> PathBuf {
        self.run.with_extension("lock")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.run.join("state.json")
    }

    pub(crate) fn pki(&self, file: &str) -> PathBuf {
        self.run.join("pki").join(file)
    }

    pub(crate) fn config(&self, file: &str) -> PathBuf {
        self.run.join("config").join(file)
    }

    pub(crate) fn data(&self, component: &str) -> PathBuf {
        self.run.join("data").join(component)
    }

    pub(crate) fn containerd_socket(&self) -> PathBuf {
        self.run.join("containerd.sock")
    }

    pub(crate) fn log(&self, component: &str) -> PathBuf {
        self.logs().join(format!("{component}.log"))
    }
}
