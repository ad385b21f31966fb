//! Images and manifests become running, observed workloads: this crate renders
//! manifests, puts images into them, applies and prunes, waits, follows logs,
//! forwards ports and copies files into containers.
//!
//! It builds no image, reads neither the environment nor a kubeconfig, prints
//! nothing and decides nothing about the dev loop: it is handed a client and
//! values, and it says what happens through [`kiln_schemas::event::Events`].
//!
//! Every function here may be cancelled by dropping its future: nothing runs
//! on behind the caller's back, and what was sent to the API server stays.
//!
//! ```text
//! Sources::expand -> render::collect -> render::rewrite -> apply -> wait_ready
//!                                                            `-> delete
//! ```

#![cfg_attr(
    test,
    allow(
        clippy::needless_pass_by_value,
        reason = "tests hand over JSON literals, which read best without borrows"
    )
)]

pub mod apply;
pub mod cluster;
pub mod delete;
pub mod forward;
pub mod logs;
pub mod look;
pub mod object;
pub mod rbac;
pub mod render;
pub mod status;
pub mod sync;

pub use apply::{Applied, ApplyError, ApplySettings, apply};
pub use cluster::{Cluster, RequestError};
pub use delete::{DeleteError, DeleteSettings, delete};
pub use object::Object;
pub use render::{RenderError, Rendered, Rewrite, Sources};
pub use status::wait::{NotReady, Ready, wait_ready};
