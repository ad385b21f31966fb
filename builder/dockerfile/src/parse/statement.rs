//! A logical line as keyword, flags and the rest.

use super::lines::LogicalLine;
use super::{ParseError, Problem};
use crate::suggest;

/// A part of a logical line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'l> {
    /// The text.
    pub text: &'l str,
    /// Its byte offset in the line.
    pub at: usize,
}

impl<'l> Piece<'l> {
    /// Without blanks at both ends.
    pub fn trim(self) -> Self {
        let start = self.text.len() - self.text.trim_start().len();
        Self {
            text: self.text.trim(),
            at: self.at + start,
        }
    }

    /// Everything from `offset` on.
    pub fn from(self, offset: usize) -> Self {
        Self {
            text: &self.text[offset..],
            at: self.at + offset,
        }
    }
}

/// A `--name` or `--name=value`, unquoted.
#[derive(Debug, Clone)]
pub(super) struct RawFlag {
    /// Without dashes.
    pub name: String,
    /// After `=`.
    pub value: Option<String>,
    /// Byte offset in the line.
    pub at: usize,
}

/// A split line.
pub(super) struct Statement<'l> {
    /// The keyword as written.
    pub keyword: Piece<'l>,
    /// Its upper-case form when it is an instruction.
    pub name: &'static str,
    /// The flags in order.
    pub flags: Vec<RawFlag>,
    /// What follows, without blanks at both ends.
    pub rest: Piece<'l>,
}

/// Every instruction.
const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

impl<'l> Statement<'l> {
    pub fn split(line: &'l LogicalLine) -> Result<Self, ParseError> {
        Self::split_piece(
            line,
            Piece {
                text: &line.text,
                at: 0,
            },
        )
    }

    /// Splits a part of `line`, for the instruction inside an `ONBUILD`.
    pub fn split_piece(line: &'l LogicalLine, piece: Piece<'l>) -> Result<Self, ParseError> {
        let piece = piece.trim();
        let blank = |ch: char| matches!(ch, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r');
        let end = piece.text.find(blank).unwrap_or(piece.text.len());
        let keyword = Piece {
            text: &piece.text[..end],
            at: piece.at,
        };
        let name = KEYWORDS
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(keyword.text))
            .ok_or_else(|| {
                let nearest = suggest::nearest(keyword.text, KEYWORDS);
                let problem = Problem::UnknownInstruction {
                    word: keyword.text.to_owned(),
                    nearest,
                };
                ParseError::new(line.position(keyword.at), problem)
            })?;
        let (flags, rest) = split_flags(piece.from(end));
        Ok(Self {
            keyword,
            name,
            flags,
            rest: rest.trim(),
        })
    }
}

/// `ONBUILD`, `FROM` and `MAINTAINER` are no triggers.
pub(super) fn refuse_trigger(
    line: &LogicalLine,
    statement: &Statement<'_>,
) -> Result<(), ParseError> {
    if matches!(statement.name, "ONBUILD" | "FROM" | "MAINTAINER") {
        let problem = Problem::NotATrigger(statement.name.to_owned());
        return Err(ParseError::new(
            line.position(statement.keyword.at),
            problem,
        ));
    }
    Ok(())
}

/// Takes the words that start with `--` from the front. Quotes and backslashes work inside them
/// (always the backslash, whatever `# escape=` says); `--` alone ends them.
fn split_flags(piece: Piece<'_>) -> (Vec<RawFlag>, Piece<'_>) {
    let mut flags = Vec::new();
    let mut rest = piece;
    loop {
        let start = rest.text.len() - rest.text.trim_start().len();
        rest = rest.from(start);
        if !rest.text.starts_with("--") {
            return (flags, rest);
        }
        let (word, length) = unquoted_word(rest.text);
        let at = rest.at;
        rest = rest.from(length);
        if word == "--" {
            return (flags, rest);
        }
        let (name, value) = match word[2..].split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word[2..].to_owned(), None),
        };
        flags.push(RawFlag { name, value, at });
    }
}

/// The first word without its quotes and escapes, and how many bytes it takes.
fn unquoted_word(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, ch)) = chars.next() {
        match (ch, quote) {
            (ch, None) if ch.is_whitespace() => return (word, at),
            ('\'' | '"', None) => quote = Some(ch),
            (ch, Some(open)) if ch == open => quote = None,
            ('\\', _) => word.extend(chars.next().map(|(_, escaped)| escaped)),
            (ch, _) => word.push(ch),
        }
    }
    (word, text.len())
}
