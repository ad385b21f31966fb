//! Runs one process inside a root filesystem, without privilege, and tells what it changed.
//!
//! The boundary: directories and a command go in, the command's output, its exit and a list of
//! changed paths come out. The crate knows nothing of images, layers' archives, registries or
//! Dockerfiles, it does not choose where a store lies, and it does not decide what a change means.
//!
//! - [`ladder`] finds out, once, which isolation the machine or pod allows, and says why not more;
//! - [`step`] describes what to run; [`run`](run()) runs it;
//! - [`container`] starts a command that goes on, and enters it; [`namespace`] makes what holds it; [`users`] makes an
//!   ordinary user root of one;
//! - [`mounts`] finds the volumes that the pod mounted;
//! - [`upper`] reads an overlay's upper directory as a list of changes;
//! - [`snapshot`] finds changes where no overlay is possible;
//! - [`rootfs`] is a root filesystem as a value: paths that cannot leave it.
//!
//! Namespaces are never entered in the calling process, which may have threads: the binary runs
//! itself again, single-threaded. Every binary that uses [`run`](run()) or [`ladder::probe`]
//! therefore calls [`init`] first in `main`.
//!
//! Linux only: on other systems the crate is empty, so that a workspace still compiles there.
#![cfg(target_os = "linux")]

mod child;
pub mod container;
mod error;
mod idmap;
pub mod ladder;
pub mod mounts;
pub mod namespace;
mod observe;
pub mod rootfs;
mod run;
pub mod snapshot;
pub mod step;
mod sys;
pub mod upper;
pub mod users;
mod wire;

pub use child::{end_when_asked, init};
pub use container::{Confinement, Container};
pub use error::{Error, ExecProblem, Failure};
pub use idmap::IdMap;
pub use ladder::{Ladder, Rung};
pub use rootfs::Rootfs;
pub use run::{Cancel, Exit, Stream, run};
pub use step::{Access, Bind, Network, Process, Root, Step, Tmpfs, User};
