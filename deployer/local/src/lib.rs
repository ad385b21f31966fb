//! Runs Kubernetes workloads on this machine, without a cluster and without privilege.
//!
//! The boundary: manifests and unpacked images go in, running processes with addresses, names,
//! logs and states come out. The crate knows no registry and builds nothing; it applies nothing to
//! a cluster, and it chooses no folder of its own.
//!
//! | question | module |
//! |---|---|
//! | what manifests ask for, and what of it cannot be had here | [`manifest`] (pure) |
//! | what is to run | [`desired`] |
//! | which pods a workload starts and stops now | [`controller`] (pure) |
//! | what a pod does next: init containers, probes, restarts, stopping | [`pod`] (pure) |
//! | what a container is started with: environment, command, mounts | [`launch`] |
//! | links, addresses, names, services | [`network`] |
//! | the process that holds it all | [`node`] |
//! | how a command talks to that process | [`client`], [`protocol`] |
//!
//! The holder is this same program, started again in namespaces of its own: a binary that uses
//! [`client`] calls `kiln_sandbox::init()` and [`node::init`] first in `main`.
//!
//! Linux only: on other systems the crate is empty, so that a workspace still compiles there.
#![cfg(target_os = "linux")]

pub mod client;
pub mod controller;
pub mod desired;
pub mod launch;
pub mod manifest;
pub mod network;
pub mod node;
pub mod pod;
pub mod protocol;
