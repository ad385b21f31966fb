//! Turns a Dockerfile and a context into an image in a registry, without a daemon and without
//! privilege.
//!
//! It plans, runs, snapshots and pushes. It knows nothing of Kubernetes, of `kiln.yaml`, or of
//! who started it; it reads neither the environment nor `$HOME` (its binaries hand those over),
//! and it prints only through the writer that it is given.
//!
//! | question | module |
//! |---|---|
//! | what is asked for | [`request`] |
//! | which stages and steps run, with which configuration | [`plan`] (pure) |
//! | where base images come from | [`remote`] |
//! | what earlier builds made, and why a step is done again | [`cache`] |
//! | how steps are performed | [`runner`] |
//! | how a layer is written, read and merged with others | [`layer`] |
//! | configuration, manifest, push, files | [`export`], [`image`] |
//! | repositories of git, as context and for ADD | [`git`] |
//! | an image that stays in the store, unpacked | [`unpacked`] |
//! | what a build reports | [`progress`] |
//! | flags, log, sub-commands | [`cli`] |
#![cfg(target_os = "linux")]

mod build;
pub mod cache;
pub mod cli;
pub mod export;
pub mod git;
pub mod image;
pub mod layer;
pub mod plan;
pub mod progress;
pub mod remote;
pub mod request;
pub mod runner;
pub mod unpacked;

pub use build::{BuildError, build, plan_only};
pub use progress::Progress;
pub use request::Request;
