//! What is wrong with a text and where, in the shape that every renderer
//! shows. Readers collect as many as they can before they give up.

use std::fmt;

use crate::yaml::Span;

/// One finding in a configuration or manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file as the user named it.
    pub file: String,
    /// 1-based line; 0 when the finding belongs to the file as a whole.
    pub line: usize,
    /// 1-based column, in characters; 0 when there is no line.
    pub column: usize,
    /// How many characters to underline, at least 1.
    pub length: usize,
    /// What is wrong, one line, without a full stop.
    pub message: String,
    /// What to do about it, one sentence without a full stop.
    pub help: Option<String>,
    /// The source line that it points into.
    pub snippet: Option<String>,
}

impl Diagnostic {
    /// A finding at a place.
    pub fn at(span: &Span, message: impl Into<String>) -> Self {
        Self {
            file: span.file().to_owned(),
            line: span.line,
            column: span.column,
            length: span.length.max(1),
            message: message.into(),
            help: None,
            snippet: span.line_text().map(str::to_owned),
        }
    }

    /// A finding about a whole file, or about what came from the command line.
    pub fn in_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            length: 1,
            message: message.into(),
            help: None,
            snippet: None,
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.file, self.message)
        } else {
            write!(
                f,
                "{}:{}:{}: {}",
                self.file, self.line, self.column, self.message
            )
        }
    }
}

impl std::error::Error for Diagnostic {}

/// The known name that an unknown one was probably meant to be.
///
/// Case and the separators `-` and `_` do not count as a difference; beyond
/// that a third of the letters may differ.
pub fn did_you_mean<'a>(
    unknown: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace(['-', '_'], "");
    let wanted = plain(unknown);
    let limit = (wanted.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wanted, &plain(name)), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_name() {
        let known = ["dockerfile", "buildArgs", "singleSnapshot", "cache"];
        assert_eq!(did_you_mean("dockerFile", known), Some("dockerfile"));
        assert_eq!(did_you_mean("build-args", known), Some("buildArgs"));
        assert_eq!(did_you_mean("buidlArgs", known), Some("buildArgs"));
        assert_eq!(did_you_mean("replicas", known), None);
    }
}
