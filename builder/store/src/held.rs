//! Layers that something mounts for longer than any build lasts.
//!
//! A living [`Store`](crate::Store) protects all that was used since it was opened; a process that
//! runs for months would keep everything that builds made meanwhile. It holds what it mounts
//! instead, and nothing else.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::at;
use crate::{StoreError, lock, session};

/// An unpacked layer that no collection takes away while this value, or its process, lives.
#[derive(Debug)]
pub struct Held {
    _lock: File,
}

impl Held {
    /// Holds the layer in this directory of the store; `None` when it is not there any more.
    ///
    /// # Errors
    /// [`StoreError::Io`] when its lock cannot be taken.
    pub fn layer(store: &Path, layer: &Path) -> Result<Option<Self>, StoreError> {
        // No collection between the lock and the look.
        let _gate = session::shared(store)?;
        let path = lock_of(store, layer);
        let lock = lock::file(&path)?;
        flock(&lock, FlockOperation::LockShared)
            .map_err(|error| at("lock", &path)(error.into()))?;
        Ok(session::touch(layer).then_some(Self { _lock: lock }))
    }
}

/// Takes a layer for its removal, unless somebody holds it. The caller has the gate.
pub(crate) fn take(store: &Path, layer: &Path) -> Result<Option<File>, StoreError> {
    lock::try_exclusive(&lock_of(store, layer))
}

fn lock_of(store: &Path, layer: &Path) -> PathBuf {
    let name = layer.file_name().unwrap_or_default().to_string_lossy();
    store.join("locks").join(format!("held-{name}"))
}
