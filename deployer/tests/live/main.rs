//! What this crate does to a real cluster. Each test has a namespace of its
//! own; where no cluster can run, a test says why and is skipped.

mod applying;
mod harness;
mod observing;
mod waiting;
