//! What the command line says when something is wrong, and how it ends.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use kiln_dockerfile::ParseError;
use kiln_store::StoreError;

use super::args::ArgError;
use crate::build::BuildError;

/// Why the executor ends with a code other than 0.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line.
    #[error(transparent)]
    Args(#[from] ArgError),
    /// A value of a flag.
    #[error("--{flag}={value}: {expected}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What is expected, and what to do.
        expected: String,
    },
    /// No destination.
    #[error("no destination: give --destination <image>, or --no-push to build without pushing")]
    NoDestination,
    /// A sub-command of kaniko that is not here.
    #[error(
        "the sub-command {0} is not in this version: put credentials into config.json, and push with --destination"
    )]
    NoSubcommand(String),
    /// A file that cannot be read.
    #[error("cannot read {what} {}", path.display())]
    Read {
        /// What it is.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The Dockerfile is not one.
    #[error("{dockerfile}, {error}")]
    Parse {
        /// Which file.
        dockerfile: String,
        /// Where and why.
        error: Box<ParseError>,
    },
    /// A pattern of a `.dockerignore`.
    #[error("{file}")]
    Ignore {
        /// Which file.
        file: String,
        /// Which pattern, and why.
        #[source]
        source: kiln_dockerfile::ignore::PatternError,
    },
    /// The context did not come.
    #[error("the context did not arrive: {} was not there after {seconds} s", marker.display())]
    NoContext {
        /// The file that says that it is complete.
        marker: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The context could not be received.
    #[error("cannot receive the context into {}", dir.display())]
    Receive {
        /// Where to.
        dir: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Credentials or certificates.
    #[error("cannot use {what}")]
    Registry {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The check before the build.
    #[error(
        "these credentials may not push to {destination} (--skip-push-permission-check builds anyway)"
    )]
    MayNotPush {
        /// Where to.
        destination: String,
        /// Why.
        #[source]
        source: Box<kiln_registry::Error>,
    },
    /// The store.
    #[error("cannot use the store")]
    Store(#[from] StoreError),
    /// The runtime.
    #[error("cannot start threads")]
    Runtime(#[source] io::Error),
    /// Standard output.
    #[error("cannot write the answer")]
    Output(#[source] io::Error),
    /// The build.
    #[error("{dockerfile}: {error}")]
    Build {
        /// Which file.
        dockerfile: String,
        /// What went wrong.
        error: Box<BuildError>,
    },
}

impl CliError {
    /// What the process exits with: the code of a RUN that failed, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Build { error, .. } => error.exit_code(),
            _ => 1,
        }
    }
}

/// The error and its causes, one a line, with the hint of a registry at the end.
pub(super) fn chain(error: &CliError) -> String {
    let mut text = format!("error: {error}");
    let mut hint = None;
    let mut cause: Option<&dyn Error> = match error {
        CliError::Build { error, .. } => error.source(),
        other => other.source(),
    };
    while let Some(error) = cause {
        let _ = write!(text, "\n  because: {error}");
        if let Some(registry) = error.downcast_ref::<kiln_registry::Error>() {
            hint = registry.hint();
        }
        cause = error.source();
    }
    if let CliError::Parse { error, .. } = error {
        hint = error.hint();
    }
    if let Some(hint) = hint {
        let _ = write!(text, "\n  hint: {hint}");
    }
    text
}
