//! Here-documents of `RUN`, `COPY`, `ADD` and of an `ONBUILD` with one of them.

use super::lines::{Lines, LogicalLine, without_end};
use super::statement::Statement;
use super::words::{Json, json};
use super::{ParseError, Problem};
use crate::expand::{Expansion, Lexer, Mode, NoVariables};
use crate::instruction::Heredoc;

/// A word that opens a here-document: `<<EOF`, `<<-EOF`, `3<<'EOF'`.
pub(crate) struct Opening {
    pub name: String,
    expand: bool,
    strip_tabs: bool,
    file_descriptor: u32,
}

impl Opening {
    /// Reads a word. Quotes or escapes around the delimiter switch expansion off.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        let (number, rest) = word.split_once("<<")?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let file_descriptor = if number.is_empty() {
            0
        } else {
            number.parse().ok()?
        };
        let (strip_tabs, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if rest.is_empty() || rest.contains('<') {
            return None;
        }
        let plain = lex(
            rest,
            Mode {
                keep_unset: true,
                ..Mode::default()
            },
        )?;
        let [name] = &plain.words[..] else {
            return None;
        };
        let raw = lex(rest, RAW)?;
        Some(Self {
            name: name.clone(),
            expand: raw.words == plain.words,
            strip_tabs,
            file_descriptor,
        })
    }
}

const RAW: Mode = Mode {
    raw_quotes: true,
    raw_escapes: true,
    literal_quotes: false,
    keep_unset: true,
};

fn lex(text: &str, mode: Mode) -> Option<Expansion> {
    Lexer::new(text, &NoVariables, '\\', mode).run().ok()
}

/// Whether a whole command line is one word that opens a here-document.
pub(crate) fn is_heredoc_word(command: &str) -> bool {
    Opening::parse(command).is_some()
}

/// Reads the bodies of the here-documents that `line` opens.
pub(super) fn read(
    lines: &mut Lines<'_>,
    line: &LogicalLine,
    statement: &Statement<'_>,
) -> Result<Vec<Heredoc>, ParseError> {
    if !line.text.contains("<<") || !may_open(line, statement)? {
        return Ok(Vec::new());
    }
    let openings: Vec<Opening> = lex(&line.text, RAW)
        .map(|expansion| {
            expansion
                .words
                .iter()
                .filter_map(|word| Opening::parse(word))
                .collect()
        })
        .unwrap_or_default();
    openings
        .into_iter()
        .map(|opening| body(lines, line, opening))
        .collect()
}

/// `RUN`, `COPY` and `ADD` that are no JSON array, and `ONBUILD` of them.
fn may_open(line: &LogicalLine, statement: &Statement<'_>) -> Result<bool, ParseError> {
    match statement.name {
        "RUN" | "COPY" | "ADD" => Ok(matches!(json(statement.rest.text), Json::No)),
        "ONBUILD" if !statement.rest.text.is_empty() => {
            let inner = Statement::split_piece(line, statement.rest)?;
            Ok(matches!(inner.name, "RUN" | "COPY" | "ADD")
                && matches!(json(inner.rest.text), Json::No))
        }
        _ => Ok(false),
    }
}

fn body(
    lines: &mut Lines<'_>,
    line: &LogicalLine,
    opening: Opening,
) -> Result<Heredoc, ParseError> {
    let mut content = String::new();
    while let Some(physical) = lines.next_physical() {
        let mut candidate = without_end(physical);
        if opening.strip_tabs {
            candidate = candidate.trim_start_matches('\t');
        }
        if candidate == opening.name {
            return Ok(Heredoc {
                name: opening.name,
                content,
                expand: opening.expand,
                strip_tabs: opening.strip_tabs,
                file_descriptor: opening.file_descriptor,
            });
        }
        content.push_str(physical);
    }
    let at = line.text.find("<<").unwrap_or_default();
    Err(ParseError::new(
        line.position(at),
        Problem::OpenHeredoc(opening.name),
    ))
}
