//! Work in progress: directories under `tmp/`, each with a lock that says that its owner lives.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::at;
use crate::{Store, StoreError, lock};

/// A directory of the caller's own on the store's file system; removed on drop.
#[derive(Debug)]
pub struct Scratch {
    /// `tmp/<random>`, with `lock` and `data` in it. `None` once it was disarmed.
    entry: PathBuf,
    data: PathBuf,
    _lock: File,
}

impl Scratch {
    pub(crate) fn new(store: &Store) -> Result<Self, StoreError> {
        let tmp = store.root().join("tmp");
        // A sweep between mkdir and flock would take the entry away: both hold this lock.
        let gate_path = gate(store);
        let gate = lock::file(&gate_path)?;
        flock(&gate, FlockOperation::LockShared).map_err(|e| at("lock", &gate_path)(e.into()))?;
        let entry = tempfile::Builder::new()
            .prefix("w")
            .tempdir_in(&tmp)
            .map_err(at("create a directory in", &tmp))?
            .keep();
        let lock = lock::exclusive(&entry.join("lock"))?;
        let data = entry.join("data");
        open_directory(&data)?;
        Ok(Self {
            entry,
            data,
            _lock: lock,
        })
    }

    /// The empty directory, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.data
    }

    /// Makes a directory in it that may become the root of an image: its mode is not the caller's
    /// mask's.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be made.
    pub fn directory(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.data.join(name);
        open_directory(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the sweep of the next open.
        if let Err(error) = fs::remove_dir_all(&self.entry) {
            tracing::debug!(entry = %self.entry.display(), %error, "scratch directory is left");
        }
    }
}

fn open_directory(path: &Path) -> Result<(), StoreError> {
    fs::create_dir(path).map_err(at("create", path))?;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(path, mode).map_err(at("open", path))
}

fn gate(store: &Store) -> PathBuf {
    store.root().join("locks").join("tmp")
}

/// Whether nobody holds a lock. Where there is none, its owner is taking the entry away, or was
/// killed before it had one.
fn is_dead(lock: &Path) -> io::Result<bool> {
    let file = match File::open(lock) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        file => file?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes entries whose owners are gone.
pub(crate) fn sweep(store: &Store) -> Result<(), StoreError> {
    let Some(_gate) = lock::try_exclusive(&gate(store))? else {
        return Ok(()); // somebody is making an entry just now; the next open sweeps
    };
    let tmp = store.root().join("tmp");
    for entry in fs::read_dir(&tmp).map_err(at("read", &tmp))? {
        let entry = entry.map_err(at("read", &tmp))?.path();
        let lock_path = entry.join("lock");
        if is_dead(&lock_path).map_err(at("open", &lock_path))? {
            // Its owner, or another sweep, may be removing it just now.
            match fs::remove_dir_all(&entry) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Another user's, or one of mode 000 that an overlay left: it costs space, no more.
                Err(error) => {
                    tracing::debug!(entry = %entry.display(), %error, "it is left in the store");
                }
                Ok(()) => {}
            }
        }
    }
    Ok(())
}
