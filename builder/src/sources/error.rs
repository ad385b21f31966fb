//! Why the sources of an artifact cannot be found.

use std::io;
use std::path::{Path, PathBuf};

use kiln_dockerfile::glob::GlobError;
use kiln_dockerfile::graph::GraphError;
use kiln_dockerfile::ignore::{PatternError, Rule};
use kiln_dockerfile::mount::MountError;
use kiln_dockerfile::scope::ScopeError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// The stages of the Dockerfile do not fit together.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A variable of the Dockerfile cannot be expanded.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// A `COPY`, `ADD` or `RUN --mount` names what is not there.
    #[error("line {line} of the Dockerfile: `{path}` is not in the context {}", context.display())]
    NotFound {
        /// The line.
        line: u32,
        /// The path, expanded.
        path: String,
        /// The context.
        context: PathBuf,
    },
    /// A `COPY`, `ADD` or `RUN --mount` names what the ignore file leaves out.
    #[error("line {line} of the Dockerfile: `{path}` is left out by `{}`, line {} of {}", rule.pattern, rule.line, file.display())]
    Ignored {
        /// The line.
        line: u32,
        /// The path, expanded.
        path: String,
        /// The rule.
        rule: Rule,
        /// The ignore file.
        file: PathBuf,
    },
    /// A `RUN --mount` that is refused.
    #[error("line {line} of the Dockerfile")]
    Mount {
        /// The line.
        line: u32,
        /// Why.
        #[source]
        source: MountError,
    },
    /// A source that is no valid pattern.
    #[error("line {line} of the Dockerfile")]
    Glob {
        /// The line.
        line: u32,
        /// Why.
        #[source]
        source: GlobError,
    },
    /// An `--exclude` or `--parents` that is no valid pattern.
    #[error("line {line} of the Dockerfile: a pattern of --exclude or --parents")]
    Pattern {
        /// The line.
        line: u32,
        /// Why.
        #[source]
        source: PatternError,
    },
    /// An ignore file that cannot be understood.
    #[error("{}", file.display())]
    IgnoreFile {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: PatternError,
    },
    /// Links that lead in a circle.
    #[error("{}: too many links lead to each other", .0.display())]
    LinkLoop(PathBuf),
    /// A file system error.
    #[error("cannot read {}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl SourcesError {
    /// What the author can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotFound { .. } => {
                "create it, or correct the path: it is relative to the context"
            }
            Self::Ignored { .. } => "remove the rule, or add an exception with `!` below it",
            Self::LinkLoop(_) => "let one of the links point to a file",
            _ => return None,
        })
    }
}

/// Adds a path to an I/O error.
pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> SourcesError + '_ {
    move |source| SourcesError::Io {
        path: path.to_owned(),
        source,
    }
}
