//! A configuration, in whichever of the two front ends it was written.

use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::environment::{Environment, ProfileChoice, Reading};
use crate::{config, skaffold, yaml};

/// Names under which a configuration is looked for, best first.
pub const FILE_NAMES: [&str; 4] = ["kiln.yaml", "kiln.yml", "skaffold.yaml", "skaffold.yml"];

/// Reads a configuration; `apiVersion` of its first document says which
/// front end it is for. `file` is its path as the user gave it.
///
/// # Errors
/// Everything that is wrong with the file, in file order.
pub fn read(
    text: &str,
    file: &Path,
    environment: &Environment,
    choice: &ProfileChoice,
) -> Result<Reading, Vec<Diagnostic>> {
    let documents = yaml::parse(text, &file.to_string_lossy()).map_err(|error| vec![error])?;
    let version = documents
        .first()
        .and_then(|document| document.get("apiVersion"));
    let written = version.and_then(yaml::Node::as_text).unwrap_or_default();
    let named_kiln = file.file_stem().is_some_and(|stem| stem == "kiln");
    if written.starts_with("kiln.dev/") || (version.is_none() && named_kiln) {
        config::read(text, file, environment, choice)
    } else {
        skaffold::read(text, file, environment, choice)
    }
}
