//! What a build reports while it runs. Rendering is the caller's (`cli::log` has two ways).

use std::fmt;
use std::time::Duration;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// A fact worth a line.
    Note(String),
    /// Something that the author should look at.
    Warning(String),
    /// A step begins.
    StepStarted {
        /// Which one.
        step: StepId,
        /// The instruction as written.
        text: String,
    },
    /// A step's command wrote a line.
    Output {
        /// Which step.
        step: StepId,
        /// The line without its end.
        line: String,
    },
    /// A step ended.
    StepEnded {
        /// Which one.
        step: StepId,
        /// How.
        end: StepEnd,
        /// How long it took.
        took: Duration,
    },
    /// A part of the whole took this long. Parts with the same name add up.
    Phase {
        /// Which part.
        phase: Phase,
        /// How long.
        took: Duration,
    },
    /// An image is in a registry.
    Pushed {
        /// Its name with the tag.
        image: String,
        /// Digest of its manifest.
        digest: String,
    },
}

/// An error with its causes on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let message = cause.to_string();
        // Some errors are shown with their cause.
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        source = cause.source();
    }
    text
}

/// What a registry said, where this cause is that. Large errors are boxed where they are a cause,
/// and are found as their box.
#[must_use]
pub fn registry_error<'e>(
    cause: &'e (dyn std::error::Error + 'static),
) -> Option<&'e kiln_registry::Error> {
    let boxed = cause.downcast_ref::<Box<kiln_registry::Error>>();
    boxed.map(Box::as_ref).or_else(|| cause.downcast_ref())
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepEnd {
    /// It did its work.
    Done,
    /// It did its work, and nothing changed.
    Unchanged,
    /// An earlier build did the same.
    Cached,
    /// It failed.
    Failed,
    /// It was stopped: another stage failed, or nobody wants the image any more.
    Stopped,
}

/// A step as the log names it: `build 3/5`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepId {
    /// The stage's name or number.
    pub stage: String,
    /// 1-based; `FROM` is the first.
    pub number: usize,
    /// How many the stage has.
    pub of: usize,
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.stage, self.number, self.of)
    }
}

/// Parts of a build whose times are worth comparing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Waiting for the context to arrive.
    Context,
    /// Asking registries for base images.
    Resolve,
    /// Fetching and unpacking layers of base images.
    Base,
    /// Commands of `RUN`.
    Run,
    /// `COPY`, `ADD` and `WORKDIR`.
    Copy,
    /// Waiting for layers to be written and compressed.
    Layers,
    /// Sending to registries.
    Push,
    /// From start to end.
    Total,
}

impl Phase {
    /// The word for it in a log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::Resolve => "resolve",
            Self::Base => "base",
            Self::Run => "run",
            Self::Copy => "copy",
            Self::Layers => "layers",
            Self::Push => "push",
            Self::Total => "total",
        }
    }
}
