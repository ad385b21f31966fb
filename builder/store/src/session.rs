//! Who uses the store at the moment, and when each entry was used last.
//!
//! The access time of an entry says when it was used; it is set by hand, so mount options do not
//! matter, and the modification time of a layer's root stays the image's. A handle holds a lock on
//! a file of its own in `sessions/`, whose modification time says since when it lives: whatever a
//! living handle may rely on was used after that.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, flock,
};

use crate::error::at;
use crate::{Store, StoreError, lock};

/// A living handle.
#[derive(Debug)]
pub(crate) struct Session {
    path: PathBuf,
    _lock: File,
}

impl Session {
    pub(crate) fn begin(root: &Path) -> Result<Self, StoreError> {
        let _gate = shared(root)?; // a collection in between would take the new file for a dead one
        let dir = root.join("sessions");
        let path = tempfile::Builder::new()
            .prefix("s")
            .tempfile_in(&dir)
            .map_err(at("create a file in", &dir))?
            .into_temp_path()
            .keep()
            .map_err(|error| at("keep a file in", &dir)(error.error))?;
        let lock = lock::exclusive(&path)?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "session file is left");
        }
    }
}

fn gate(root: &Path) -> PathBuf {
    root.join("locks").join("gc")
}

/// Held while an entry is looked up and marked as used.
pub(crate) fn shared(root: &Path) -> Result<File, StoreError> {
    let path = gate(root);
    let file = lock::file(&path)?;
    flock(&file, FlockOperation::LockShared).map_err(|error| at("lock", &path)(error.into()))?;
    Ok(file)
}

/// Held while entries are taken away.
pub(crate) fn exclusive(root: &Path) -> Result<File, StoreError> {
    lock::exclusive(&gate(root))
}

/// Marks an entry as used now. False when it is not there.
pub(crate) fn touch(path: &Path) -> bool {
    let omit = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    };
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: omit,
    };
    match rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) => true,
        Err(rustix::io::Errno::NOENT) => false,
        // A store that is only read: nobody collects in it either.
        Err(_) => path.exists(),
    }
}

/// Since when the oldest living handle lives; files of dead ones are removed. The caller holds
/// the exclusive lock.
pub(crate) fn oldest(store: &Store) -> Result<SystemTime, StoreError> {
    let dir = store.root().join("sessions");
    let mut oldest = SystemTime::now();
    for entry in fs::read_dir(&dir).map_err(at("read", &dir))? {
        let path = entry.map_err(at("read", &dir))?.path();
        let Ok(since) = fs::metadata(&path).and_then(|stat| stat.modified()) else {
            continue; // it ended just now
        };
        if lock::try_exclusive(&path)?.is_some() {
            fs::remove_file(&path).map_err(at("remove", &path))?;
        } else {
            oldest = oldest.min(since);
        }
    }
    Ok(oldest)
}
