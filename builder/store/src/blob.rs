//! Blobs: written to a temporary file while they are hashed, renamed when they are right.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::error::at;
use crate::{Digest, Hasher, Scratch, Store, StoreError};

/// A blob on its way into the store; dropped before [`BlobWriter::commit`] it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    scratch: Scratch,
    file: Hasher<File>,
}

impl BlobWriter {
    pub(crate) fn new(store: &Store) -> Result<Self, StoreError> {
        let scratch = store.scratch()?;
        let path = scratch.path().join("blob");
        let file = File::create(&path).map_err(at("create", &path))?;
        Ok(Self {
            store: store.clone(),
            scratch,
            file: Hasher::new(file),
        })
    }

    /// Publishes the blob and returns its digest, its size in bytes and its file.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] when `expected` is given and differs; nothing is kept then.
    pub fn commit(self, expected: Option<&Digest>) -> Result<(Digest, u64, PathBuf), StoreError> {
        let (file, found, size) = self.file.finish();
        if let Some(expected) = expected
            && *expected != found
        {
            return Err(StoreError::Mismatch {
                expected: *expected,
                found,
            });
        }
        let temporary = self.scratch.path().join("blob");
        file.set_permissions(Permissions::from_mode(0o444))
            .map_err(at("chmod", &temporary))?;
        let path = self.store.blob_path(&found);
        // Two writers of one digest rename the same bytes over each other.
        fs::rename(&temporary, &path).map_err(at("rename", &path))?;
        Ok((found, size, path))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
