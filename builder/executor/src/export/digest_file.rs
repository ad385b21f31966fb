//! Files that tell others the digest. They are written after the push, so that a file that is
//! there means an image that is there.

use std::fs;
use std::path::Path;

use kiln_registry::Digest;

use super::ExportError;
use crate::request::{DigestFile, Output};

/// Writes every digest file that was asked for.
///
/// # Errors
/// [`ExportError::File`]
pub fn write(output: &Output, digest: &Digest) -> Result<(), ExportError> {
    for (kind, path) in &output.digest_files {
        let text = text(*kind, output, digest);
        let failed = |source| ExportError::File {
            path: path.clone(),
            source,
        };
        if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(path, text).map_err(failed)?;
    }
    Ok(())
}

/// kaniko's formats: the digest has no newline at its end, the names have one each.
fn text(kind: DigestFile, output: &Output, digest: &Digest) -> String {
    let lines = output.destinations.iter();
    match kind {
        DigestFile::Digest => digest.to_string(),
        DigestFile::NameDigest => lines
            .map(|name| format!("{}@{digest}\n", name.name()))
            .collect(),
        DigestFile::NameTagDigest => lines
            .map(|name| format!("{}:{}@{digest}\n", name.name(), name.tag_or_latest()))
            .collect(),
    }
}
