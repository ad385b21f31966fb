//! Advisory locks (`flock`), one file per entry.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::at;
use crate::{Digest, Scratch, Sharing, Store, StoreError, session};

/// Opens (or makes) a lock file.
pub(crate) fn file(path: &Path) -> Result<File, StoreError> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(at("open", path))
}

/// Waits for an exclusive lock. The kernel frees it when the file is closed, also by kill -9.
pub(crate) fn exclusive(path: &Path) -> Result<File, StoreError> {
    let file = file(path)?;
    flock(&file, FlockOperation::LockExclusive).map_err(|e| at("lock", path)(e.into()))?;
    Ok(file)
}

/// Takes an exclusive lock when nobody holds it.
pub(crate) fn try_exclusive(path: &Path) -> Result<Option<File>, StoreError> {
    let file = file(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(at("lock", path)(errno.into())),
    }
}

/// A cache mount in use; the lock goes with the value.
#[derive(Debug)]
pub struct CacheGuard {
    path: PathBuf,
    /// A private copy lives in scratch space and goes with its user.
    _scratch: Option<Scratch>,
    _lock: Option<File>,
}

impl CacheGuard {
    /// The directory to mount, writable.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// `None` when somebody else has it locked.
pub(crate) fn try_cache_mount(
    store: &Store,
    id: &str,
    sharing: Sharing,
) -> Result<Option<CacheGuard>, StoreError> {
    // An id is free text (a path, mostly); its digest is a file name.
    let name = Digest::of(id.as_bytes()).hex();
    let lock_path = store.root().join("locks").join(format!("cache-{name}"));
    let lock = match sharing {
        Sharing::Shared => None,
        Sharing::Locked | Sharing::Private => match try_exclusive(&lock_path)? {
            Some(lock) => Some(lock),
            None if sharing == Sharing::Private => return private_copy(store).map(Some),
            None => return Ok(None),
        },
    };
    let path = store.root().join("caches").join(name);
    let _gate = session::shared(store.root())?; // no collection between these two
    fs::create_dir_all(&path).map_err(at("create", &path))?;
    session::touch(&path);
    Ok(Some(CacheGuard {
        path,
        _scratch: None,
        _lock: lock,
    }))
}

/// A cache mount that is given its first content.
#[derive(Debug)]
pub struct CachePreparation(#[expect(dead_code, reason = "holds the lock")] File);

pub(crate) fn cache_preparation(store: &Store, id: &str) -> Result<CachePreparation, StoreError> {
    let name = Digest::of(id.as_bytes()).hex();
    let path = store.root().join("locks").join(format!("prepare-{name}"));
    exclusive(&path).map(CachePreparation)
}

fn private_copy(store: &Store) -> Result<CacheGuard, StoreError> {
    let scratch = store.scratch()?;
    Ok(CacheGuard {
        path: scratch.path().to_owned(),
        _scratch: Some(scratch),
        _lock: None,
    })
}
