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
//! | directories of this machine that steps read, and what is left out of them | `folder` |
//! | contexts from elsewhere | [`fetch`] |
//! | repositories of git, as context and for ADD | [`git`] |
//! | images in files, and base images on a volume | [`layout`], [`base_cache`] |
//! | an image that stays in the store, unpacked | [`unpacked`] |
//! | what a build reports | [`progress`] |
//! | flags, log, sub-commands | [`cli`] |
#![cfg(target_os = "linux")]

pub mod base_cache;
mod build;
pub mod cache;
pub mod cli;
pub mod export;
pub mod fetch;
mod folder;
pub mod git;
pub mod ignore_path;
pub mod image;
pub mod layer;
pub mod layout;
pub mod plan;
pub mod progress;
pub mod remote;
pub mod request;
pub mod runner;
pub mod unpacked;

/// The part of a store's directory in which files have the owners that this process gives them.
#[must_use]
pub fn store_of_this_user(whole: std::path::PathBuf) -> std::path::PathBuf {
    match kiln_sandbox::users::Owners::present().part() {
        Some(part) => whole.join(part),
        None => whole,
    }
}

pub use build::{BuildError, build, plan_only};
pub use progress::Progress;
pub use request::Request;
