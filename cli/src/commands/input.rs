//! Files that a command line names; `-` is standard input.

use std::io::Read;
use std::path::Path;

use crate::error::{CommandError, Kind};

/// The whole text of a file or of standard input.
pub(super) fn read(path: &Path) -> Result<String, CommandError> {
    let mut text = String::new();
    let result = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    result.map_err(|error| {
        let mut failure = CommandError::new(Kind::Usage, format!("cannot read {}", path.display()));
        failure.failures[0].causes.push(error.to_string());
        failure
    })
}
