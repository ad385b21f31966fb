//! Everything that can go wrong between "up" and "down".

use std::path::PathBuf;

/// Why the cluster could not be built, started, used or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{action} {}", path.display())]
    File {
        /// What was attempted, as a verb phrase ("write").
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program could not be started at all.
    #[error("start {program}")]
    Spawn {
        /// The program.
        program: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program ran and failed.
    #[error("{command}: {status}\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// The last lines of what it wrote.
        output: String,
    },
    /// The machine lacks something that the harness may not install.
    #[error("{what} is missing: {remedy}")]
    Missing {
        /// The program or permission.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// A component ended, or did not become ready.
    #[error("{name} {problem}; the end of its log {}:\n{log}", path.display())]
    Component {
        /// The component.
        name: String,
        /// What happened.
        problem: String,
        /// Its log file.
        path: PathBuf,
        /// The log's last lines.
        log: String,
    },
    /// Keys or certificates could not be made.
    #[error("make certificates")]
    Certificate(#[from] rcgen::Error),
    /// The API server refused or could not be reached.
    #[error("{action}")]
    Api {
        /// What was attempted.
        action: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// The written kubeconfig cannot be used.
    #[error("use the kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The client's error.
        source: kube::config::KubeconfigError,
    },
    /// Something was waited for in vain.
    #[error("waited {seconds} s for {what}, last seen: {last}")]
    Timeout {
        /// What should have come.
        what: String,
        /// How long, in seconds.
        seconds: u64,
        /// The last state that was seen.
        last: String,
    },
    /// A file of the harness's own does not parse.
    #[error("read {}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A connection into the cluster's network.
    #[error("cannot {action}")]
    Gateway {
        /// What was attempted.
        action: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A system call on a namespace, process or mount failed.
    #[error("{action}")]
    System {
        /// What was attempted.
        action: String,
        /// The system's answer.
        source: rustix::io::Errno,
    },
}

/// Adds the path to errors of file operations.
pub(crate) trait AtPath<T> {
    /// Names the operation and its path.
    fn at(self, action: &'static str, path: &std::path::Path) -> Result<T, Error>;
}

impl<T> AtPath<T> for std::io::Result<T> {
    fn at(self, action: &'static str, path: &std::path::Path) -> Result<T, Error> {
        self.map_err(|source| Error::File {
            action,
            path: path.to_owned(),
            source,
        })
    }
}
