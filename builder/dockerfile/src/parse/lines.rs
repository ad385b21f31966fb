//! Physical lines become logical ones: continuations are joined, comments and blank lines are
//! dropped, and every part remembers where it was.

use crate::instruction::Escape;
use crate::position::Position;

/// An instruction as one line of text.
pub(super) struct LogicalLine {
    /// The text with continuations joined. Leading blanks of the first line are gone.
    pub text: String,
    /// The blank lines between continued ones.
    pub empty_continuations: Vec<Position>,
    /// Where each part of `text` starts: byte offset and place in the file.
    segments: Vec<(usize, Position)>,
}

impl LogicalLine {
    /// Where the byte `offset` of `text` stands in the file.
    pub fn position(&self, offset: usize) -> Position {
        let index = self
            .segments
            .partition_point(|(start, _)| *start <= offset)
            .max(1)
            - 1;
        let (start, position) = self.segments[index];
        let end = offset.min(self.text.len());
        let chars = self
            .text
            .get(start..end)
            .map_or(0, |part| part.chars().count());
        let columns = u32::try_from(chars).unwrap_or(u32::MAX);
        Position::new(position.line, position.column.saturating_add(columns))
    }
}

/// Reads a text line by line.
pub(super) struct Lines<'a> {
    rest: std::str::SplitInclusive<'a, char>,
    number: u32,
    escape: Escape,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a str, escape: Escape) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self {
            rest: text.split_inclusive('\n'),
            number: 0,
            escape,
        }
    }

    /// The next physical line with its end, for here-documents.
    pub fn next_physical(&mut self) -> Option<&'a str> {
        let line = self.rest.next()?;
        self.number += 1;
        Some(line)
    }

    /// The number of the physical line that was read last.
    pub fn last_line(&self) -> u32 {
        self.number
    }

    /// The next logical line that is not empty.
    pub fn next_line(&mut self) -> Option<LogicalLine> {
        loop {
            let physical = without_end(self.next_physical()?);
            let trimmed = physical.trim_start();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let indent = physical.len() - trimmed.len();
            let mut line = LogicalLine {
                text: String::new(),
                empty_continuations: Vec::new(),
                segments: Vec::new(),
            };
            let column = physical[..indent].chars().count() + 1;
            if self.append(&mut line, trimmed, column) {
                self.continued(&mut line);
            }
            if !line.text.trim().is_empty() {
                return Some(line);
            }
        }
    }

    fn continued(&mut self, line: &mut LogicalLine) {
        while let Some(physical) = self.next_physical() {
            let physical = without_end(physical);
            let trimmed = physical.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                line.empty_continuations.push(Position::new(self.number, 1));
                continue;
            }
            if !self.append(line, physical, 1) {
                return;
            }
        }
    }

    /// Adds a physical line; `true` when it goes on in the next.
    fn append(&self, line: &mut LogicalLine, physical: &str, column: usize) -> bool {
        let column = u32::try_from(column).unwrap_or(u32::MAX);
        line.segments
            .push((line.text.len(), Position::new(self.number, column)));
        let continued = self.without_continuation(physical);
        line.text.push_str(continued.unwrap_or(physical));
        continued.is_some()
    }

    /// The line without the escape at its end (blanks may follow it); `None` when there is none.
    /// A doubled escape is no continuation.
    fn without_continuation<'l>(&self, line: &'l str) -> Option<&'l str> {
        let escape = self.escape.char();
        let before = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
        (!before.ends_with(escape)).then_some(before)
    }
}

/// The line without LF or CRLF.
pub(super) fn without_end(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}
