//! Results: what a command was asked to print on standard output or to write
//! to a file, as opposed to events.

use std::io::Write;
use std::path::Path;

use crate::error::{CommandError, Kind};

/// Prints a result. A closed pipe is not an error: nobody reads any more.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    drop(write!(out, "{text}{end}").and_then(|()| out.flush()));
}

/// Prints a result byte for byte, for whoever compares. A closed pipe is not
/// an error.
pub fn print_exactly(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CommandError::from_error(Kind::General, &error))
        }
        _ => Ok(()),
    }
}

/// Writes a result to a file.
pub fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    std::fs::write(path, text).map_err(|error| {
        let mut failure =
            CommandError::new(Kind::General, format!("cannot write {}", path.display()));
        failure.failures[0].causes.push(error.to_string());
        failure
    })
}
