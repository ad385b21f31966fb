//! Files go into running containers without a build: [`plan`] decides, purely;
//! [`mod@copy`] does it.

pub mod copy;
pub mod rule;

pub use copy::{Place, SyncError, copy};
pub use rule::{Changes, Decision, Plan, plan};
