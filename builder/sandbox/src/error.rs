//! What can go wrong in a step, apart from the command's own exit.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ladder::Rung;

/// Why a step did not run to its own end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command could not be started inside the root.
    #[error("cannot run {program:?}: {problem}")]
    Exec {
        /// The first word of the command.
        program: String,
        /// What is wrong with it.
        problem: ExecProblem,
    },
    /// The working directory does not exist, is no directory, or may not be entered.
    #[error("cannot enter the working directory {}", .path.display())]
    WorkingDirectory {
        /// The directory inside the root.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// One call of the preparation was refused.
    #[error("sandbox: {0}")]
    Setup(Failure),
    /// The rung cannot do what the step asks for.
    #[error("{what} is not possible with the isolation {rung}; {hint}")]
    Unsupported {
        /// The wish.
        what: String,
        /// The rung in use.
        rung: Rung,
        /// What would allow it.
        hint: &'static str,
    },
    /// The step contradicts itself.
    #[error("invalid step: {0}")]
    Invalid(String),
    /// The helper process could not be started from the program's own file.
    #[error("cannot start the sandbox helper from /proc/self/exe")]
    Spawn(#[source] io::Error),
    /// The helper process ended without saying how the command did.
    #[error(
        "the sandbox helper ended early ({status}); does the program call kiln_sandbox::init() first in main?"
    )]
    HelperLost {
        /// Its exit status, in words.
        status: String,
    },
    /// Talking to the helper process failed.
    #[error("cannot talk to the sandbox helper")]
    Channel(#[source] io::Error),
    /// [`crate::Cancel::cancel`] was called.
    #[error("cancelled")]
    Cancelled,
}

/// A refused system call of the sandbox's preparation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was tried, with its operands, for example `mount an overlay on /store/m`.
    pub operation: String,
    /// The kernel's error number.
    pub errno: i32,
}

impl Failure {
    /// A failure of `operation`; an error without a number counts as `EIO`.
    pub(crate) fn new(operation: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self {
            operation: operation.into(),
            errno: error.into().raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = io::Error::from_raw_os_error(self.errno);
        write!(f, "{}: {error}", self.operation)
    }
}

impl std::error::Error for Failure {}

/// Why a program could not be executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecProblem {
    /// No such file, neither at its path nor in any directory of `PATH`.
    NotFound,
    /// The file is there, but the interpreter that it names is not: the program after `#!`,
    /// or the dynamic loader of a binary built for another libc.
    InterpreterNotFound,
    /// Not executable for this user, or not a regular file.
    PermissionDenied,
    /// A binary for another processor, and no emulator is registered with binfmt_misc.
    WrongArchitecture {
        /// The processor as named by the ELF header.
        machine: String,
    },
    /// Neither a binary nor a script with a `#!` line.
    NotExecutable,
    /// Anything else.
    Other {
        /// The kernel's error number.
        errno: i32,
    },
}

impl fmt::Display for ExecProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such file in the image"),
            Self::InterpreterNotFound => f.write_str(
                "the file exists, but the interpreter it names (#! line or dynamic loader) is not in the image",
            ),
            Self::PermissionDenied => {
                f.write_str("permission denied (not executable for this user?)")
            }
            Self::WrongArchitecture { machine } => write!(
                f,
                "it is built for {machine}, not for {}; register an emulator (binfmt_misc) on the node or build on a matching one",
                std::env::consts::ARCH
            ),
            Self::NotExecutable => f.write_str("neither a binary nor a script with a #! line"),
            Self::Other { errno } => {
                write!(f, "{}", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}
