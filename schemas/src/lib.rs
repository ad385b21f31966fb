//! What Kiln's files and wires look like: the configuration in its two
//! spellings, the one immutable model both become, and the events that every
//! renderer shows. Data only: nothing here opens a socket, runs a process or
//! reads the environment; values that come from outside are passed in.

mod activation;
pub mod build_artifacts;
pub mod config;
pub mod default_repo;
pub mod diagnostic;
mod duration;
pub mod environment;
pub mod event;
mod fields;
mod graph;
pub mod image;
pub mod model;
pub mod reader;
mod report;
pub mod settings;
pub mod skaffold;
pub mod template;
pub mod yaml;

pub use diagnostic::Diagnostic;
pub use environment::{Environment, ProfileChoice, Reading};
