//! The `kiln` command: terminal, commands and the dev loop. It holds what
//! belongs to a person at a screen; how images are built and manifests become
//! workloads is the business of the crates below it.

pub mod args;
pub mod arguments;
pub mod dev;
pub mod env;
pub mod error;
pub mod kubernetes;
pub mod project;
pub mod ui;
