//! What the command line says when something is wrong, and how it ends.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use kiln_dockerfile::{ParseError, Position};
use kiln_registry::error::visible;
use kiln_store::StoreError;

use super::args::ArgError;
use crate::build::BuildError;
use crate::export::ExportError;

/// Why the executor ends with a code other than 0.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line.
    #[error(transparent)]
    Args(#[from] ArgError),
    /// An argument that is not UTF-8.
    #[error("the argument {0} is not UTF-8")]
    NotText(String),
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
    /// A value of a variable.
    #[error("the variable {name}={value}: {expected}")]
    Variable {
        /// Its name.
        name: String,
        /// What was given.
        value: String,
        /// What is expected.
        expected: &'static str,
    },
    /// No destination.
    #[error("no destination: give --destination <image>, or --no-push to build without pushing")]
    NoDestination,
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
    /// A link of a context that was fetched.
    #[error(
        "{what} {} is a link to nothing in the context: one that was fetched may not lead out of itself",
        path.display()
    )]
    LeadsOut {
        /// What it is.
        what: &'static str,
        /// Where it is in the context.
        path: PathBuf,
    },
    /// Something elsewhere that cannot be fetched.
    #[error("cannot fetch {what} from {place}")]
    Fetch {
        /// What it is.
        what: &'static str,
        /// Where it is.
        place: String,
        /// Why.
        #[source]
        source: Box<crate::fetch::FetchError>,
    },
    /// A server that did not take the digest.
    #[error("cannot send the digest to {place}")]
    SendDigest {
        /// Where to.
        place: String,
        /// Why.
        #[source]
        source: Box<kiln_registry::Error>,
    },
    /// A file of this machine.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What `push` was given.
    #[error("cannot read the image in {}", path.display())]
    Layout {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: crate::layout::LayoutError,
    },
    /// A sub-command that is used in another way.
    #[error("usage: {0}")]
    Usage(&'static str),
    /// An image that the warmer could not get.
    #[error("cannot fetch {image}")]
    Warm {
        /// Which one.
        image: String,
        /// Why.
        #[source]
        source: Box<kiln_registry::Error>,
    },
    /// All images that the warmer could not get.
    #[error("none of the {0} images could be fetched")]
    NothingWarmed(usize),
    /// The Dockerfile is not one.
    #[error("{}", located(dockerfile, Some(error.position), &error.message()))]
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
    /// The same check, where the registry gave no answer about rights.
    #[error(
        "cannot push to {destination} (--skip-push-permission-check builds without asking first)"
    )]
    CannotPush {
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
    /// A digest file of an image that was there already.
    #[error(transparent)]
    Export(ExportError),
    /// The build.
    #[error("{}", located(dockerfile, error.position(), &error.to_string()))]
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

/// `Dockerfile:8: …`, as compilers and editors write it; the column where it is not the
/// instruction itself.
fn located(file: &str, position: Option<Position>, text: &str) -> String {
    let Some(position) = position else {
        return format!("{file}: {text}");
    };
    let in_words = format!("{position}: ");
    let text = text.strip_prefix(&in_words).unwrap_or(text);
    let Position { line, column } = position;
    if column == 1 {
        format!("{file}:{line}: {text}")
    } else {
        format!("{file}:{line}:{column}: {text}")
    }
}

/// The error and its causes, one a line, with the hint of a registry at the end.
pub(super) fn chain(error: &CliError) -> String {
    let mut text = visible(&format!("error: {error}"));
    let mut hint = None;
    let mut cause: Option<&dyn Error> = match error {
        CliError::Build { error, .. } => error.source(),
        other => other.source(),
    };
    while let Some(error) = cause {
        let message = visible(&error.to_string());
        // Some errors are shown with their cause, in front of it their place.
        if !text.ends_with(&message) {
            let _ = write!(text, "\n  because: {message}");
        }
        if let Some(registry) = crate::progress::registry_error(error) {
            hint = kiln_registry::Error::hint(registry);
        }
        cause = error.source();
    }
    match error {
        CliError::Parse { error, .. } => hint = error.hint(),
        CliError::Build { error, .. } => {
            if let BuildError::Plan(plan) = &**error {
                hint = plan.hint();
            }
        }
        _ => {}
    }
    if let Some(hint) = hint {
        let _ = write!(text, "\n  hint: {hint}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_error_has_its_column_and_names_the_file_once() {
        let error = kiln_dockerfile::parse("FROM a\nCOPY --chown a b\n").unwrap_err();
        let position = (error.line(), error.column());
        let text = CliError::Parse {
            dockerfile: "Dockerfile".to_owned(),
            error: Box::new(error),
        }
        .to_string();
        assert_eq!(position, (2, 6));
        assert!(text.starts_with("Dockerfile:2:6: "), "{text}");
        assert!(!text.contains("line 2"), "{text}");
    }
}
