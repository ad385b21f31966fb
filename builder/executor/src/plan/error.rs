//! Why a Dockerfile cannot be planned.

use kiln_dockerfile::mount::MountError;
use kiln_dockerfile::scope::ScopeError;
use kiln_dockerfile::{ExpandError, ParseError, Position};

/// A Dockerfile that cannot be built as it is.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// `--target` names no stage.
    #[error("--target {target}: there is no such stage{}", known_stages(known))]
    UnknownTarget {
        /// What was asked for.
        target: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// An `ARG` before the first `FROM` cannot be evaluated.
    #[error("in an ARG before the first FROM")]
    Scope(#[source] Box<ScopeError>),
    /// A word of an instruction cannot be expanded.
    #[error("{position}: {keyword}")]
    Expand {
        /// Where the instruction stands.
        position: Position,
        /// Which instruction it is.
        keyword: &'static str,
        /// Why.
        #[source]
        source: ExpandError,
    },
    /// `FROM` with nothing behind it after expansion.
    #[error(
        "{position}: FROM {word} names no image: the argument has no value, give it a default or a --build-arg"
    )]
    EmptyBase {
        /// Where `FROM` stands.
        position: Position,
        /// The word as written.
        word: String,
    },
    /// `RUN --mount` with options that do not fit.
    #[error("{position}: RUN --mount={text}")]
    Mount {
        /// Where the flag stands.
        position: Position,
        /// The flag as written.
        text: String,
        /// Why.
        #[source]
        source: MountError,
    },
    /// A platform that is none.
    #[error("{position}: --platform={platform} is not of the form os/architecture[/variant]")]
    Platform {
        /// Where it stands.
        position: Position,
        /// The expanded word.
        platform: String,
    },
    /// A trigger of a base image that is no instruction.
    #[error(
        "{position}: the base image {image} has an ONBUILD trigger that cannot be used: {trigger}"
    )]
    Onbuild {
        /// Where `FROM` stands.
        position: Position,
        /// The base.
        image: String,
        /// The trigger.
        trigger: String,
        /// Why.
        #[source]
        source: Box<ParseError>,
    },
    /// Stages that need each other.
    #[error("{position}: stage {name} needs itself through `--from`")]
    Cycle {
        /// Where `FROM` of the stage stands.
        position: Position,
        /// The stage.
        name: String,
    },
    /// A copy from a stage that comes later.
    #[error(
        "{position}: --from={name}: the stage comes later in the file, move it before the one that copies from it"
    )]
    LaterStage {
        /// Where the instruction stands.
        position: Position,
        /// As written.
        name: String,
    },
    /// More stages than a build goes through one after another.
    #[error("{position}: more than {most} stages need one another in a row: join some of them")]
    TooDeep {
        /// Where `FROM` of the one too many stands.
        position: Position,
        /// How many there may be.
        most: usize,
    },
    /// A stage number that does not exist.
    #[error("{position}: there is no stage {from}; the file has {stages}, counted from 0")]
    NoSuchStage {
        /// Where the instruction stands.
        position: Position,
        /// What was asked for.
        from: String,
        /// How many there are.
        stages: usize,
    },
    /// Something that this version does not do.
    #[error("{position}: {what} is not supported: {instead}")]
    Unsupported {
        /// Where the instruction stands.
        position: Position,
        /// The feature.
        what: String,
        /// What to do.
        instead: &'static str,
    },
    /// A value that has no meaning.
    #[error("{position}: {what}")]
    Invalid {
        /// Where the instruction stands.
        position: Position,
        /// What is wrong, with the value.
        what: String,
    },
}

impl PlanError {
    /// What the author can do about it, where the words do not say it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Mount { source, .. } => source.hint(),
            _ => None,
        }
    }

    /// The instruction that it is about, when it is about one.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::UnknownTarget { .. } | Self::Scope(_) => None,
            Self::Expand { position, .. }
            | Self::EmptyBase { position, .. }
            | Self::Mount { position, .. }
            | Self::Platform { position, .. }
            | Self::Onbuild { position, .. }
            | Self::Cycle { position, .. }
            | Self::LaterStage { position, .. }
            | Self::TooDeep { position, .. }
            | Self::NoSuchStage { position, .. }
            | Self::Unsupported { position, .. }
            | Self::Invalid { position, .. } => Some(*position),
        }
    }
}

fn known_stages(known: &[String]) -> String {
    if known.is_empty() {
        ", and no stage has a name".to_owned()
    } else {
        format!(", there are {}", known.join(", "))
    }
}
