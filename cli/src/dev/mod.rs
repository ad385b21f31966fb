//! The dev loop: watch, debounce, decide, act.
//!
//! [`decide`] says what happens next and why the rest waits; it is pure. The
//! driver performs it, and everything it learns goes back into [`state`].

pub mod decide;
pub mod driver;
pub mod state;
pub mod watch;
