//! Unpacked layers: filled in a temporary directory under the layer's lock, renamed when complete.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::error::at;
use crate::{Digest, Scratch, Store, StoreError, lock, session};

/// Who unpacks a layer.
#[derive(Debug)]
pub enum LayerSlot {
    /// It is there already.
    Ready(PathBuf),
    /// The caller does; others wait for the lock meanwhile.
    Fill(LayerFill),
}

/// A layer directory being filled; dropped before [`LayerFill::commit`] it leaves nothing.
#[derive(Debug)]
pub struct LayerFill {
    target: PathBuf,
    scratch: Scratch,
    work: PathBuf,
    _lock: File,
}

impl LayerSlot {
    pub(crate) fn acquire(store: &Store, diff_id: &Digest) -> Result<Self, StoreError> {
        if let Some(path) = store.layer(diff_id) {
            return Ok(Self::Ready(path));
        }
        let lock_path = store
            .root()
            .join("locks")
            .join(format!("layer-{}", diff_id.hex()));
        let lock = lock::exclusive(&lock_path)?;
        if let Some(path) = store.layer(diff_id) {
            return Ok(Self::Ready(path)); // it appeared while we waited
        }
        let scratch = store.scratch()?;
        let work = scratch.directory("layer")?;
        Ok(Self::Fill(LayerFill {
            target: store.layer_path(diff_id),
            scratch,
            work,
            _lock: lock,
        }))
    }
}

impl LayerFill {
    /// The empty directory to fill, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.work
    }

    /// Puts a directory that was filled elsewhere on the same store (a step's upper directory)
    /// in the place of the empty one.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be renamed.
    pub fn adopt(&self, dir: &Path) -> Result<(), StoreError> {
        fs::remove_dir(&self.work).map_err(at("remove", &self.work))?;
        fs::rename(dir, &self.work).map_err(at("rename", dir))
    }

    /// Publishes the directory under the layer's diff id.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the rename fails.
    pub fn commit(self) -> Result<PathBuf, StoreError> {
        fs::rename(&self.work, &self.target).map_err(at("rename", &self.target))?;
        session::touch(&self.target);
        drop(self.scratch);
        Ok(self.target)
    }
}
