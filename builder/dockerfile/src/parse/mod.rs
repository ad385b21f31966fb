//! From text to a [`Dockerfile`], in the steps that BuildKit takes: physical lines are joined to
//! logical ones (`lines`), a logical line is split into keyword, flags and the rest
//! (`statement`), the rest into words (`words`), and those become typed instructions
//! (`instructions`). Every step keeps the place in the text, so an error names line and column.

mod directive;
mod error;
mod flags;
pub(crate) mod heredoc;
mod instructions;
mod lines;
mod sources;
mod stage;
mod statement;
mod words;

pub use error::{ParseError, Problem};

use crate::instruction::{Dockerfile, Instruction};
use crate::position::{Located, Position};

/// Reads a Dockerfile.
///
/// A byte order mark is skipped; lines end with LF or CRLF. The first error ends the parse.
pub fn parse(text: &str) -> Result<Dockerfile, ParseError> {
    let (directives, _) = directive::read(text)?;
    stage::Assembly::new(directives).read(text)
}

/// Reads an `ONBUILD` trigger of an image config, which is one instruction and may hold
/// here-documents. Positions count within the trigger.
pub fn parse_onbuild(trigger: &str) -> Result<Located<Instruction>, ParseError> {
    let parser = instructions::Parser::default();
    let mut lines = lines::Lines::new(trigger, parser.escape);
    let mut found = None;
    while let Some(line) = lines.next_line() {
        let statement = statement::Statement::split(&line)?;
        let position = line.position(statement.keyword.at);
        if found.is_some() {
            return Err(ParseError::new(position, Problem::SeveralTriggers));
        }
        let heredocs = heredoc::read(&mut lines, &line, &statement)?;
        statement::refuse_trigger(&line, &statement)?;
        let value = parser.instruction(&line, &statement, heredocs)?;
        let source = line.text.trim().to_owned();
        found = Some(Located {
            value,
            position,
            last_line: lines.last_line(),
            source,
        });
    }
    found.ok_or_else(|| ParseError::new(Position::new(1, 1), Problem::NoInstructions))
}
