//! Where something stands in a Dockerfile.

use std::fmt;

/// A place in the text as an editor shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// 1-based line.
    pub line: u32,
    /// 1-based column, counted in characters (not bytes).
    pub column: u32,
}

impl Position {
    /// The position `line`:`column`, both 1-based.
    pub const fn new(line: u32, column: u32) -> Self {
        Self { line, column }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// An instruction (or another value) together with where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// What was written there.
    pub value: T,
    /// Where its first character stands.
    pub position: Position,
    /// The last line that belongs to it, here-documents included. 1-based.
    pub last_line: u32,
    /// The instruction as one line: continuations joined, comments inside it removed,
    /// here-document bodies left out. What a progress line or a history entry shows.
    pub source: String,
}
