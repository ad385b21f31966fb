//! What keeps a case from being measured. Slowness is never among it.

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Output};

use rustix::process::{Pid, Signal, kill_process};

/// Why a case has no figures.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program that is not there.
    #[error("cannot start {program}")]
    Start {
        /// Its name.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program that failed.
    #[error("{program} ended with {status}; its last lines:\n{said}")]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// A text that an edit should replace is not in the file.
    #[error("{} does not contain `{text}`", path.display())]
    NothingToEdit {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        text: String,
    },
    /// A line of `kiln --output=json` that is no event.
    #[error("not an event ({why}): {line}")]
    NotAnEvent {
        /// The line.
        line: String,
        /// What is wrong with it.
        why: String,
    },
    /// The loop said that something failed.
    #[error("the loop failed: {0}")]
    Loop(String),
    /// The loop ended, or said nothing more.
    #[error("no {wanted} from {program}; it said last:\n{said}")]
    Silent {
        /// What was waited for.
        wanted: &'static str,
        /// From whom.
        program: &'static str,
        /// The end of what it said.
        said: String,
    },
    /// The API said ready later than Kiln did.
    #[error("Kiln said ready, but the API server does not say so of {object}: {status}")]
    NotReady {
        /// The workload.
        object: String,
        /// Its status.
        status: String,
    },
    /// The test cluster.
    #[error("the test cluster")]
    Cluster(#[from] kiln_test_cluster::Error),
    /// A request to the API server.
    #[error("cannot {action}")]
    Api {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Names the file that an I/O error is about.
pub trait AtPath<T> {
    /// `action` completes the sentence "cannot … PATH".
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|source| Error::File {
            action,
            path: path.into(),
            source,
        })
    }
}

/// An error with all that is behind it, on one line each.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}\n  because: {cause}");
        next = cause.source();
    }
    text
}

/// Runs a command to its end and returns what it said.
pub fn run(command: &mut Command) -> Result<Output, Error> {
    let program = format!("{command:?}");
    let output = command.output().map_err(|source| Error::Start {
        program: program.clone(),
        source,
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    Err(Error::Failed {
        program,
        status: output.status.to_string(),
        said: last_lines(&String::from_utf8_lossy(&said)),
    })
}

/// Presses Ctrl-C for a process.
pub fn interrupt(child: &Child) -> Result<(), Error> {
    kill_process(Pid::from_child(child), Signal::INT).map_err(|errno| Error::Start {
        program: "Ctrl-C".to_owned(),
        source: errno.into(),
    })
}

/// The last lines of a text, as much as an error should repeat.
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
