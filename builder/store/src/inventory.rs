//! What a registry needs besides single blobs: taking a finished file over, the list of blobs, and their removal.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::at;
use crate::{Digest, Store, StoreError};

impl Store {
    /// Publishes a complete file whose digest the caller has computed. The file must be on the store's file system;
    /// it is renamed, not copied.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be renamed.
    pub fn adopt_blob(&self, file: &Path, digest: &Digest) -> Result<PathBuf, StoreError> {
        fs::set_permissions(file, Permissions::from_mode(0o444)).map_err(at("chmod", file))?;
        let path = self.blob_path(digest);
        fs::rename(file, &path).map_err(at("rename", &path))?;
        Ok(path)
    }

    /// All blobs, in no order.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the directory cannot be read.
    pub fn blobs(&self) -> Result<Vec<Digest>, StoreError> {
        let dir = self.root().join("blobs/sha256");
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(at("read", &dir))? {
            let name = entry.map_err(at("read", &dir))?.file_name();
            let name = format!("sha256:{}", name.to_string_lossy());
            // What has another name was not put there by a store.
            found.extend(name.parse::<Digest>());
        }
        Ok(found)
    }

    /// Removes a blob; readers that have it open go on reading. One that is not there is no error.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it is there and cannot be removed.
    pub fn remove_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob_path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(at("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}
