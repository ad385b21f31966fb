//! Why a Dockerfile is refused.

use crate::mount::MountError;
use crate::position::Position;

/// A problem and its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{position}: {problem}")]
pub struct ParseError {
    /// Where the problem starts.
    pub position: Position,
    /// What it is.
    pub problem: Problem,
}

impl ParseError {
    pub(crate) fn new(position: Position, problem: Problem) -> Self {
        Self { position, problem }
    }

    /// The 1-based line.
    pub fn line(&self) -> u32 {
        self.position.line
    }

    /// The 1-based column, in characters.
    pub fn column(&self) -> u32 {
        self.position.column
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> String {
        self.problem.to_string()
    }

    /// What the author can do about it.
    pub fn hint(&self) -> Option<String> {
        self.problem.hint()
    }
}

/// What can be wrong with the text of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing but comments and blank lines.
    #[error("there are no instructions")]
    NoInstructions,
    /// A keyword that is none.
    #[error("unknown instruction `{word}`")]
    UnknownInstruction {
        /// The word.
        word: String,
        /// An instruction that is close.
        nearest: Option<String>,
    },
    /// Something other than `ARG` before the first `FROM`.
    #[error("{keyword} stands before the first FROM")]
    BeforeFrom {
        /// The instruction.
        keyword: String,
    },
    /// A flag that the instruction does not have.
    #[error("{keyword} has no flag --{flag}")]
    UnknownFlag {
        /// The instruction.
        keyword: String,
        /// The flag without dashes.
        flag: String,
        /// A flag that is close.
        nearest: Option<String>,
    },
    /// A flag that can be given once is there twice.
    #[error("the flag --{0} is given twice")]
    DuplicateFlag(String),
    /// A flag without its value.
    #[error("the flag --{0} has no value")]
    FlagWithoutValue(String),
    /// A flag with a value that it does not take.
    #[error("`{value}` is no value for the flag --{flag}")]
    BadFlagValue {
        /// The flag without dashes.
        flag: String,
        /// The value.
        value: String,
        /// What the flag takes.
        expected: &'static str,
    },
    /// An instruction without arguments.
    #[error("{0} has no arguments")]
    NoArguments(String),
    /// `COPY` or `ADD` with fewer than two arguments.
    #[error("{0} names no destination")]
    NoDestination(String),
    /// `FROM` with a number of words that makes no sense.
    #[error("FROM takes an image, or an image, AS and a name")]
    FromArguments,
    /// A stage name with characters that names do not have.
    #[error("`{0}` cannot be the name of a stage")]
    StageName(String),
    /// `ENV NAME`.
    #[error("{keyword} gives `{name}` no value")]
    NoValue {
        /// `ENV` or `LABEL`.
        keyword: String,
        /// The name.
        name: String,
    },
    /// A word without `=` after words with one.
    #[error("`{word}` has no `=`")]
    NoEquals {
        /// The word.
        word: String,
    },
    /// `=value`.
    #[error("{0} has a value without a name")]
    BlankName(String),
    /// A JSON array with something else than strings in it.
    #[error("the JSON array of {0} holds something that is no string")]
    NotStrings(String),
    /// `SHELL` without a JSON array.
    #[error("SHELL takes a JSON array")]
    ShellNotJson,
    /// `VOLUME [""]`.
    #[error("a volume has an empty path")]
    EmptyVolume,
    /// `HEALTHCHECK NONE` with arguments.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    /// `HEALTHCHECK` with a type that is neither `CMD` nor `NONE`.
    #[error("`{0}` is no type of HEALTHCHECK")]
    HealthcheckType(String),
    /// `HEALTHCHECK CMD` alone.
    #[error("HEALTHCHECK CMD has no command")]
    HealthcheckCommand,
    /// `ONBUILD ONBUILD`, `ONBUILD FROM`, `ONBUILD MAINTAINER`.
    #[error("{0} cannot be a trigger of ONBUILD")]
    NotATrigger(String),
    /// A trigger of an image config with more than one instruction.
    #[error("the ONBUILD trigger holds more than one instruction")]
    SeveralTriggers,
    /// A here-document without its last line.
    #[error("the here-document `{0}` does not end")]
    OpenHeredoc(String),
    /// `COPY a <<EOF`.
    #[error("a here-document cannot be the destination of {0}")]
    HeredocDestination(String),
    /// `COPY --from=$stage`.
    #[error("`--from={0}`: the stage of a COPY cannot be a variable")]
    VariableFrom(String),
    /// A `--mount` that is refused.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A parser directive that is there twice.
    #[error("the parser directive `{0}` is given twice")]
    DuplicateDirective(String),
    /// `# escape=` with something else than a backslash or a backtick.
    #[error("`{0}` cannot be the escape character")]
    Escape(String),
    /// `# syntax=` of a frontend that is not the official one.
    #[error("the frontend `{0}` is not supported")]
    Frontend(String),
}

impl Problem {
    /// What the author can do about it.
    pub fn hint(&self) -> Option<String> {
        let fixed = match self {
            Self::UnknownInstruction {
                nearest: Some(nearest),
                ..
            } => {
                return Some(format!("did you mean {nearest}?"));
            }
            Self::UnknownFlag {
                nearest: Some(nearest),
                ..
            } => {
                return Some(format!("did you mean --{nearest}?"));
            }
            Self::UnknownInstruction { .. } => {
                "a line that belongs to the one above needs the escape character at its end"
            }
            Self::UnknownFlag { .. } => "remove the flag",
            Self::Mount(error) => return error.hint(),
            Self::BadFlagValue { expected, .. } => return Some(format!("write {expected}")),
            Self::FlagWithoutValue(flag) => return Some(format!("write --{flag}=<value>")),
            Self::NoValue { keyword, name } => {
                return Some(format!("write {keyword} {name}=<value>"));
            }
            Self::NoEquals { word } => {
                return Some(format!(
                    "write {word}=<value>, or quote the value that the word belongs to"
                ));
            }
            Self::OpenHeredoc(name) => {
                return Some(format!("end it with a line that is exactly `{name}`"));
            }
            Self::VariableFrom(from) => {
                return Some(format!(
                    "add a stage `FROM {from} AS <name>` (an ARG before the first FROM can be \
                     used there) and write --from=<name>"
                ));
            }
            Self::NoInstructions => "start with FROM <image>",
            Self::BeforeFrom { .. } => "only ARG can stand there; move it below FROM",
            Self::DuplicateFlag(_) | Self::DuplicateDirective(_) => "remove one of them",
            Self::NoArguments(_) => "give it one, or remove the line",
            Self::NoDestination(_) => "write the sources and then where they go",
            Self::FromArguments => "write FROM <image> or FROM <image> AS <name>",
            Self::StageName(_) => {
                "start with a letter, end with a letter or digit, and put one `.`, one or two `_` or any `-` between them"
            }
            Self::BlankName(_) => "write name=value without a blank before `=`",
            Self::NotStrings(_) => "put every element in double quotes",
            Self::ShellNotJson => r#"write for example SHELL ["/bin/bash", "-c"]"#,
            Self::EmptyVolume => "name a directory",
            Self::HealthcheckNone => "write HEALTHCHECK NONE alone",
            Self::HealthcheckType(_) => "write HEALTHCHECK CMD <command> or HEALTHCHECK NONE",
            Self::HealthcheckCommand => "write the command after CMD",
            Self::NotATrigger(_) => "put it into the Dockerfile that uses the image",
            Self::SeveralTriggers => "split it into one trigger for each instruction",
            Self::HeredocDestination(_) => "write the here-document first and a path last",
            Self::Escape(_) => r"write `# escape=\` or the backtick",
            Self::Frontend(_) => {
                "Kiln has docker/dockerfile built in and runs no other frontend; remove the line \
                 or name docker/dockerfile:1"
            }
        };
        Some(fixed.to_owned())
    }
}
