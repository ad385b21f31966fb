//! A directory of content-addressed blobs, unpacked layers, cache mounts and scratch space that
//! several builds share safely.
//!
//! The store knows files, directories and locks; it knows nothing of registries, tar formats or
//! Dockerfiles, and callers decide what is kept: they put, get and name the limits of a collection.
//!
//! # Layout (version 1)
//! ```text
//! version                     "1\n"
//! blobs/sha256/<hex>          a blob, complete and verified, read-only
//! layers/<hex>/               an unpacked layer, complete, named by its diff id
//! indexes/<hex>               a small derived file about a layer, named by its diff id
//! records/<hex>               what a step of a build made, named by the step's key
//! caches/<hex of the id>/     a cache mount (RUN --mount=type=cache)
//! locks/<kind>-<hex>          flock targets; they are never deleted
//! sessions/<random>           a living handle, which holds a lock on it
//! tmp/<random>/{lock,data}    work in progress; its owner holds `lock`
//! ```
//!
//! Its directories are for their owner alone.
//!
//! # Crash safety
//! An entry appears under its final name by one rename of something complete, so a reader never
//! sees half of it. What a killed process leaves lies under `tmp/` with a lock that nobody holds;
//! the next [`Store::open`] removes it.

mod blob;
mod collect;
mod digest;
mod error;
mod held;
mod inventory;
mod layer;
mod lock;
mod scratch;
mod session;

pub use blob::BlobWriter;
pub use collect::{Collected, Limits};
pub use digest::{Digest, DigestError, Hasher};
pub use error::StoreError;
pub use held::Held;
pub use layer::{LayerFill, LayerSlot};
pub use lock::{CacheGuard, CachePreparation};
pub use scratch::Scratch;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use error::at;

/// The layout that this version reads and writes.
const VERSION: &str = "1\n";

/// A handle on a store directory; cheap to clone, safe to share between threads and processes.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    _session: Arc<session::Session>,
}

/// Nobody else may look into a directory: what images hold may be set-user-id programs, which
/// would work for every user of the machine (CVE-2021-41091 was that in Docker).
fn close(dir: &Path) -> std::io::Result<()> {
    let mode = fs::metadata(dir)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    match fs::set_permissions(dir, fs::Permissions::from_mode(mode & 0o700)) {
        // It belongs to another user, who shares it.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

impl Store {
    /// Opens the store in `dir`, creating it when it is missing, and removes what killed
    /// processes left in `tmp/`.
    ///
    /// # Errors
    /// [`StoreError::Version`] when another layout lives there, [`StoreError::Io`] otherwise.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        for sub in [
            "blobs/sha256",
            "layers",
            "indexes",
            "records",
            "caches",
            "locks",
            "sessions",
            "tmp",
        ] {
            let path = dir.join(sub);
            fs::create_dir_all(&path).map_err(at("create", &path))?;
            close(&path).map_err(at("close", &path))?;
        }
        let root = dir.canonicalize().map_err(at("resolve", dir))?;
        let session = Arc::new(session::Session::begin(&root)?);
        let store = Self {
            root,
            _session: session,
        };
        store.check_version()?;
        scratch::sweep(&store)?;
        Ok(store)
    }

    /// The directory of the store, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file of a blob, when the store has it. It stays while this handle lives.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> Option<PathBuf> {
        self.used(self.blob_path(digest))
    }

    /// A path that is there, marked as used.
    fn used(&self, path: PathBuf) -> Option<PathBuf> {
        let _gate = session::shared(&self.root).ok()?;
        session::touch(&path).then_some(path)
    }

    /// Starts a blob; it exists for others only after [`BlobWriter::commit`].
    ///
    /// # Errors
    /// [`StoreError::Io`] when the temporary file cannot be made.
    pub fn write_blob(&self) -> Result<BlobWriter, StoreError> {
        BlobWriter::new(self)
    }

    /// The directory of an unpacked layer, when the store has it. It stays while this handle
    /// lives.
    #[must_use]
    pub fn layer(&self, diff_id: &Digest) -> Option<PathBuf> {
        self.used(self.layer_path(diff_id))
    }

    /// Takes the lock of a layer: either somebody has unpacked it, or the caller does now.
    ///
    /// Blocks while another process or thread unpacks the same layer.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the lock or the temporary directory cannot be made.
    pub fn layer_slot(&self, diff_id: &Digest) -> Result<LayerSlot, StoreError> {
        LayerSlot::acquire(self, diff_id)
    }

    /// What [`Store::put_index`] kept for a layer.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file exists and cannot be read.
    pub fn index(&self, diff_id: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.small("indexes", diff_id)
    }

    /// Keeps a small derived file about a layer; the last writer wins.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be written.
    pub fn put_index(&self, diff_id: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_small("indexes", diff_id, bytes)
    }

    /// What [`Store::put_record`] kept for a step.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file exists and cannot be read.
    pub fn record(&self, key: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.small("records", key)
    }

    /// Keeps what a step made, under the step's key; the last writer wins.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be written.
    pub fn put_record(&self, key: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_small("records", key, bytes)
    }

    fn small(&self, kind: &str, name: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.root.join(kind).join(name.hex());
        match fs::read(&path) {
            Ok(bytes) => {
                session::touch(&path);
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("read", &path)(error)),
        }
    }

    fn put_small(&self, kind: &str, name: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let scratch = self.scratch()?;
        let data = scratch.path().join("small");
        fs::write(&data, bytes).map_err(at("write", &data))?;
        let path = self.root.join(kind).join(name.hex());
        fs::rename(&data, &path).map_err(at("rename", &path))
    }

    /// A new, empty directory on the store's file system; removed when the value is dropped.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be made.
    pub fn scratch(&self) -> Result<Scratch, StoreError> {
        Scratch::new(self)
    }

    /// Opens the cache mount `id`, creating an empty one, and holds it as `sharing` says. `None`
    /// when somebody else has it locked.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the directory or its lock cannot be made.
    pub fn try_cache_mount(
        &self,
        id: &str,
        sharing: Sharing,
    ) -> Result<Option<CacheGuard>, StoreError> {
        lock::try_cache_mount(self, id, sharing)
    }

    /// Waits until nobody else puts into the cache of this id what it starts with. The lock goes with
    /// the value.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn cache_preparation(&self, id: &str) -> Result<CachePreparation, StoreError> {
        lock::cache_preparation(self, id)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.hex())
    }

    fn check_version(&self) -> Result<(), StoreError> {
        let path = self.root.join("version");
        match fs::read_to_string(&path) {
            Ok(found) if found == VERSION => Ok(()),
            Ok(found) => Err(StoreError::Version {
                dir: self.root.clone(),
                found: found.trim().to_owned(),
                known: VERSION.trim(),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let scratch = self.scratch()?;
                let data = scratch.path().join("version");
                fs::write(&data, VERSION).map_err(at("write", &data))?;
                fs::rename(&data, &path).map_err(at("rename", &path))
            }
            Err(error) => Err(at("read", &path)(error)),
        }
    }
}

/// How several users of one cache mount get along (BuildKit's `sharing=` option).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody at once.
    Shared,
    /// A second user gets a directory of its own.
    Private,
    /// A second user waits.
    Locked,
}
