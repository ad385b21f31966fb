//! When an object is ready, and why it is not: pure functions from objects to
//! words, one file per kind, and the watch that uses them.

pub mod wait;
