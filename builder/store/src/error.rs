//! What can go wrong in a store.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Digest, DigestError};

/// An operation on the store that failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory holds a store of another layout.
    #[error("{} is a store of version {found:?}, this program knows version {known}: use an empty directory or the program that made it", dir.display())]
    Version {
        /// The store's directory.
        dir: PathBuf,
        /// What its `version` file says.
        found: String,
        /// What this program writes.
        known: &'static str,
    },
    /// What was written is not what was promised.
    #[error("content is {found}, expected {expected}")]
    Mismatch {
        /// The promised digest.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// A digest that does not parse.
    #[error("bad digest")]
    Digest(#[from] DigestError),
    /// The file system said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Adds the action and the path to an I/O error, for `map_err`.
pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}
