//! A real single-node Kubernetes for tests: builds the parts, starts and stops the
//! cluster in a network namespace of its own, and gives each test a namespace.
//!
//! It does not know Kiln: it neither runs nor links any other crate of the
//! workspace, so nothing that it proves can be proved by the code under test.
//!
//! | question | place |
//! |---|---|
//! | which programs, which versions, how they are built | `parts.rs` and the folder `parts/` |
//! | addresses, names, files | `layout.rs` |
//! | flags and configuration of a component | `control_plane.rs`, `node.rs`, `registries.rs` |
//! | what is in the base images | `images/recipes.rs` |
//! | the order of starting and stopping | `start.rs`, `stop.rs` |
//! | what a test may ask for | `cluster.rs` |
//!
//! The crate is Linux only and needs root and a Go toolchain; without them
//! [`Cluster::shared`] says why it cannot run.

mod api;
mod cluster;
mod control_plane;
mod credentials;
mod environment;
mod error;
mod gateway;
mod images;
mod layout;
mod machine;
mod module_proxy;
mod network;
mod node;
mod parts;
mod process;
mod registries;
mod start;
mod state;
mod stop;

pub use cluster::{Cluster, Component, Namespace, Unavailable};
pub use environment::Environment;
pub use error::Error;
pub use layout::{
    ADMIN_CONTEXT, ADMIN_CONTEXT_ALIAS, Layout, MODULE_PROXY_URL, NODE_IP, PLAIN_REGISTRY,
    PLAIN_REGISTRY_PORT, PULL_ONLY, PUSH_AND_PULL, RegistryUser, TLS_REGISTRY,
    TLS_REGISTRY_BY_ADDRESS, VIEWER_CONTEXT, WEAK_CONTEXT,
};
pub use machine::download_modules;
pub use network::Network;
pub use parts::program;
