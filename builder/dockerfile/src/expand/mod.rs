//! Expansion of words: quotes, escapes, `$name` and `${name…}` as BuildKit's Dockerfile shell
//! lexer does them (`frontend/dockerfile/shell` of BuildKit 0.33).
//!
//! | form | value |
//! |---|---|
//! | `$v`, `${v}` | the value, empty when unset |
//! | `${v-x}`, `${v:-x}` | `x` when unset (`:` also when empty) |
//! | `${v+x}`, `${v:+x}` | `x` when set (`:` and not empty), else nothing |
//! | `${v?x}`, `${v:?x}` | an error with message `x` when unset (`:` or empty) |
//! | `${v#p}`, `${v##p}` | without the shortest, longest prefix that matches `p` |
//! | `${v%p}`, `${v%%p}` | without the shortest, longest suffix that matches `p` |
//! | `${v/p/r}`, `${v//p/r}` | with the first, every match of `p` replaced by `r` |

mod lexer;
mod pattern;

use std::collections::{BTreeMap, BTreeSet};

use crate::instruction::Escape;
pub(crate) use lexer::{Lexer, Mode};

/// Where an expansion looks names up.
pub trait Variables {
    /// The value of `name`, or `None` when it is unset.
    fn value(&self, name: &str) -> Option<&str>;
}

impl Variables for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// No variables at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn value(&self, _: &str) -> Option<&str> {
        None
    }
}

/// What an expansion gave and what it read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expansion {
    /// The text.
    pub text: String,
    /// The text split at blanks that were neither quoted nor escaped.
    pub words: Vec<String>,
    /// The names that were read and set.
    pub used: BTreeSet<String>,
    /// The names that were read, are unset, and had no default (`-`, `+`, `?`) for that case.
    pub unset: BTreeSet<String>,
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A quote is opened and not closed.
    #[error("the {0} quote is not closed")]
    UnclosedQuote(char),
    /// `${` without `}`.
    #[error("`${{` without a closing `}}`")]
    MissingBrace,
    /// `${name/pattern` without the second `/`.
    #[error("`${{name/pattern/replacement}}` without its second `/`")]
    MissingSlash,
    /// `${}`, `${:…}` or `${{…}`.
    #[error("`${{}}` without a variable name")]
    BadSubstitution,
    /// `${name` followed by something that is no modifier.
    #[error("unknown modifier `{0}` in `${{…}}`")]
    UnknownModifier(String),
    /// `${name:?message}` of a variable that is unset (or empty, with `:`).
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The message after `?`, or a standard one.
        message: String,
    },
    /// A pattern with an escape before a character that needs none.
    #[error(
        "`\\{escaped}` in the pattern `{pattern}`: only `*`, `?`, `\\`, `/` and `}}` are escaped"
    )]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// The escaped character.
        escaped: char,
    },
    /// `${…}` inside `${…}`, more than [`MAX_NESTING`] deep.
    #[error("`${{…}}` is nested more than {MAX_NESTING} deep")]
    TooDeep,
    /// Variables that add more than [`MAX_GROWTH`].
    #[error("its variables add more than {MAX_GROWTH} bytes")]
    TooLong,
}

impl ExpandError {
    /// What the author can do about it, where the message does not say so already.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::UnclosedQuote(_) => Some("close the quote, or escape it to mean the character"),
            Self::MissingBrace | Self::MissingSlash => Some("close the substitution"),
            Self::BadSubstitution => Some("name a variable, or write `\\$` to mean a dollar sign"),
            Self::UnknownModifier(_) => Some("the modifiers are :- - :+ + :? ? # ## % %% / and //"),
            Self::Required { .. } => {
                Some("give the variable a value, for example with --build-arg")
            }
            Self::BadPattern { .. } => Some("remove the backslash"),
            Self::TooDeep => Some("split the value over several ARG or ENV"),
            Self::TooLong => Some("keep long texts in files: a variable has at most 128 KiB"),
        }
    }
}

/// The deepest nesting of `${…}` that is expanded.
pub const MAX_NESTING: usize = 64;

/// The most bytes by which a word grows when it is expanded. Values that are made of each other
/// double with every line, and Linux takes 128 KiB for one variable (`MAX_ARG_STRLEN`, execve(2)).
pub const MAX_GROWTH: usize = 1 << 20;

/// Expands `word` and says what it read. Quotes are removed.
pub fn expansion(
    word: &str,
    variables: &dyn Variables,
    escape: Escape,
) -> Result<Expansion, ExpandError> {
    Lexer::new(word, variables, escape.char(), Mode::default()).run()
}

/// Expands `word` to one text. Quotes are removed, blanks stay.
pub fn expand(
    word: &str,
    variables: &dyn Variables,
    escape: Escape,
) -> Result<String, ExpandError> {
    Ok(expansion(word, variables, escape)?.text)
}

/// Expands `word`, then splits it at unquoted blanks (as `EXPOSE` does).
pub fn expand_words(
    word: &str,
    variables: &dyn Variables,
    escape: Escape,
) -> Result<Vec<String>, ExpandError> {
    Ok(expansion(word, variables, escape)?.words)
}

/// Expands the body of a `COPY` or `ADD` here-document: quotes are ordinary characters there, and
/// the escape is `\` whatever `# escape=` says.
pub fn expand_heredoc(body: &str, variables: &dyn Variables) -> Result<String, ExpandError> {
    let mode = Mode {
        literal_quotes: true,
        ..Mode::default()
    };
    Ok(Lexer::new(body, variables, '\\', mode).run()?.text)
}

#[cfg(test)]
mod tests;
