//! A layer whose digests are known, wherever its bytes are.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_registry::digest::Verifier;
use kiln_registry::{Descriptor, Reference};
use kiln_sandbox::users::Owners;
use kiln_store::{Digest, LayerSlot, Store, StoreError};

use super::{Remote, Want};
use crate::layer::blob::store_digest;
use crate::layer::delta::Delta;
use crate::layer::dir::Form;
use crate::layer::index::TarError;
use crate::layer::view::Tree;
use crate::layer::{owners, parents, unpack};

/// Why a layer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Its blob cannot be had.
    #[error("cannot fetch layer {layer}")]
    Fetch {
        /// Digest of the blob.
        layer: String,
        /// Why.
        #[source]
        source: Box<kiln_registry::Error>,
    },
    /// Nobody wants it any more.
    #[error("the build was stopped")]
    Cancelled,
    /// Its blob breaks off, or is another than its digest says.
    #[error("cannot read layer {layer}")]
    Read {
        /// Digest of the blob.
        layer: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its blob is no layer.
    #[error("cannot unpack layer {layer}")]
    Unpack {
        /// Digest of the blob.
        layer: String,
        /// Why.
        #[source]
        source: TarError,
    },
    /// It is another layer than was promised.
    #[error("layer {layer} unpacks to {found}, but {promised} was promised")]
    DiffId {
        /// Digest of the blob.
        layer: String,
        /// Digest of its tar.
        found: Digest,
        /// What the digest should be.
        promised: Digest,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where the bytes of a layer are, when they are not in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// They are in the store.
    Store,
    /// In a repository of a registry.
    Repository(Reference),
    /// In a directory of blobs, each named by its hex digits (`blobs/sha256` of an OCI layout).
    Blobs(PathBuf),
}

/// A layer whose digests are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLayer {
    /// Type, digest and size of the blob.
    pub descriptor: Descriptor,
    /// Digest of its tar, as it was promised.
    pub diff_id: Digest,
    /// Where the blob is.
    pub origin: Origin,
}

/// A layer at hand, and its [unnamed directories](parents::Parents::unnamed).
pub(super) type Fetched = (Tree, BTreeSet<PathBuf>);

impl KnownLayer {
    /// The layer's files or headers, from the store or else from where the blob is.
    ///
    /// # Errors
    /// [`LayerError`]
    pub fn tree(&self, store: &Store, remote: &Remote, want: Want) -> Result<Tree, LayerError> {
        self.fetch(store, remote, want).map(|(tree, _)| tree)
    }

    pub(super) fn fetch(
        &self,
        store: &Store,
        remote: &Remote,
        want: Want,
    ) -> Result<Fetched, LayerError> {
        if want == Want::Files {
            let path = self.unpacked(store, remote)?;
            return Ok((Tree::Layer(path), self.read_unnamed(store)?));
        }
        if want == Want::Copies {
            return self.copies(store, remote);
        }
        // Where one user owns everything on disk, only the headers tell.
        if Owners::present().are_many()
            && let Some(path) = store.layer(&self.diff_id)
        {
            return Ok((Tree::Layer(path), self.read_unnamed(store)?));
        }
        let delta = self.headers(store, remote)?;
        let unnamed = parents::unnamed(&delta);
        Ok((Tree::Delta(Arc::new(delta)), unnamed))
    }

    fn copies(&self, store: &Store, remote: &Remote) -> Result<Fetched, LayerError> {
        let path = self.unpacked(store, remote)?;
        let unnamed = self.read_unnamed(store)?;
        if Owners::present().are_many() {
            return Ok((Tree::Layer(path), unnamed));
        }
        let headers = self.headers(store, remote)?;
        let delta = owners::with_bytes(headers, &path)
            .map_err(|error| self.broken(TarError::Read(error)))?;
        Ok((Tree::Delta(Arc::new(delta)), unnamed))
    }

    fn headers(&self, store: &Store, remote: &Remote) -> Result<Delta, LayerError> {
        let known = store.index(&self.diff_id)?;
        if let Some(delta) = known.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return Ok(delta);
        }
        let (delta, diff_id) = self.read(store, remote, |blob| unpack::headers(blob))?;
        self.check(&diff_id)?;
        if let Ok(bytes) = serde_json::to_vec(&delta) {
            store.put_index(&self.diff_id, &bytes)?;
        }
        Ok(delta)
    }

    fn unpacked(&self, store: &Store, remote: &Remote) -> Result<PathBuf, LayerError> {
        let fill = match store.layer_slot(&self.diff_id)? {
            LayerSlot::Ready(path) => return Ok(path),
            LayerSlot::Fill(fill) => fill,
        };
        let dir = fill.path();
        let unpacked = if Owners::present().are_many() {
            self.read(store, remote, |blob| {
                unpack::unpack_layer(blob, dir, Form::Overlay)
            })?
        } else {
            let (unpacked, headers) = self.read(store, remote, |blob| {
                unpack::unpack_with_headers(blob, dir, Form::Overlay)
            })?;
            // Who copies from the layer needs its owners; this saves reading it once more.
            if unpacked.diff_id == self.diff_id
                && let Ok(bytes) = serde_json::to_vec(&headers)
            {
                store.put_index(&self.diff_id, &bytes)?;
            }
            unpacked
        };
        self.check(&unpacked.diff_id)?;
        self.write_unnamed(store, &unpacked.unnamed)?;
        Ok(fill.commit()?)
    }

    /// The file that holds the blob, when it is on this machine.
    #[must_use]
    pub fn file(&self, store: &Store) -> Option<PathBuf> {
        if let Some(path) = store_digest(&self.descriptor.digest).and_then(|id| store.blob(&id)) {
            return Some(path);
        }
        match &self.origin {
            Origin::Blobs(dir) => {
                let path = dir.join(self.descriptor.digest.hex());
                path.is_file().then_some(path)
            }
            Origin::Store | Origin::Repository(_) => None,
        }
    }

    /// Reads the blob. What is wrong with its bytes comes before what they would mean: a layer that
    /// was changed on its way is rarely a tar.
    fn read<T>(
        &self,
        store: &Store,
        remote: &Remote,
        consume: impl FnOnce(&mut Noted<'_>) -> Result<T, TarError>,
    ) -> Result<T, LayerError> {
        let mut blob = Noted {
            inner: self.open(store, remote)?,
            failure: None,
            remote,
        };
        let result = consume(&mut blob);
        if result.is_err() && blob.failure.is_none() && !is_of_the_disk(&result) {
            // Whether the bytes are the right ones is known at their end.
            let _ = io::copy(&mut blob, &mut io::sink()); // noted
        }
        match (result, blob.failure) {
            (Ok(value), _) => Ok(value),
            (Err(_), Some(_)) if remote.is_cancelled() => Err(LayerError::Cancelled),
            (Err(_), Some(source)) => Err(LayerError::Read {
                layer: self.descriptor.digest.to_string(),
                source,
            }),
            (Err(source), None) => Err(self.broken(source)),
        }
    }

    /// The blob, verified as it is read.
    fn open(&self, store: &Store, remote: &Remote) -> Result<Box<dyn io::Read + Send>, LayerError> {
        let Origin::Repository(origin) = &self.origin else {
            return self.open_file(store);
        };
        if self.file(store).is_some() {
            return self.open_file(store);
        }
        let reader = remote
            .wait_while_wanted(remote.client().blob(origin, &self.descriptor))
            .ok_or(LayerError::Cancelled)?
            .map_err(|source| LayerError::Fetch {
                layer: self.descriptor.digest.to_string(),
                source: Box::new(source),
            })?;
        Ok(Box::new(remote.blocking(reader)))
    }

    fn open_file(&self, store: &Store) -> Result<Box<dyn io::Read + Send>, LayerError> {
        let open = || -> io::Result<File> {
            let path = self.file(store).ok_or(io::ErrorKind::NotFound)?;
            File::open(path)
        };
        let inner = open().map_err(|error| self.broken(TarError::Read(error)))?;
        Ok(self.verified(inner))
    }

    fn verified(&self, inner: impl io::Read + Send + 'static) -> Box<dyn io::Read + Send> {
        let verifier = Verifier::new(self.descriptor.digest.clone(), self.descriptor.size);
        Box::new(Verified {
            inner,
            verifier: Some(verifier),
        })
    }

    fn check(&self, found: &Digest) -> Result<(), LayerError> {
        if *found == self.diff_id {
            return Ok(());
        }
        Err(LayerError::DiffId {
            layer: self.descriptor.digest.to_string(),
            found: *found,
            promised: self.diff_id,
        })
    }

    fn broken(&self, source: TarError) -> LayerError {
        let layer = self.descriptor.digest.to_string();
        LayerError::Unpack { layer, source }
    }

    /// Where the store keeps the unnamed directories of an unpacked layer.
    fn unnamed_key(&self) -> Digest {
        Digest::of(format!("unnamed directories of {}", self.diff_id).as_bytes())
    }

    /// Written before the layer itself appears, so that whoever sees the layer sees this too.
    fn write_unnamed(&self, store: &Store, unnamed: &BTreeSet<PathBuf>) -> Result<(), StoreError> {
        if unnamed.is_empty() {
            return Ok(());
        }
        let paths: Vec<&[u8]> = unnamed
            .iter()
            .map(|path| path.as_os_str().as_bytes())
            .collect();
        store.put_index(&self.unnamed_key(), &paths.join(&0))
    }

    fn read_unnamed(&self, store: &Store) -> Result<BTreeSet<PathBuf>, StoreError> {
        let bytes = store.index(&self.unnamed_key())?.unwrap_or_default();
        let paths = bytes
            .split(|byte| *byte == 0)
            .filter(|path| !path.is_empty());
        Ok(paths
            .map(|path| Path::new(OsStr::from_bytes(path)).to_owned())
            .collect())
    }
}

fn is_of_the_disk<T>(result: &Result<T, TarError>) -> bool {
    matches!(result, Err(TarError::Write { .. }))
}

/// Keeps the error with which a blob ends.
struct Noted<'r> {
    inner: Box<dyn io::Read + Send>,
    failure: Option<io::Error>,
    /// Says whether the blob is still wanted.
    remote: &'r Remote,
}

impl io::Read for Noted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self.remote.is_cancelled() {
            true => Err(io::Error::other(LayerError::Cancelled)),
            false => self.inner.read(buffer),
        };
        read.map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failure = Some(error);
            }
            kind.into()
        })
    }
}

/// Checks a file once more while it is read: disks lie too.
struct Verified<R> {
    inner: R,
    verifier: Option<Verifier>,
}

impl<R: io::Read> io::Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if buffer.is_empty() {
            return Ok(count);
        }
        if count > 0 {
            if let Some(verifier) = &mut self.verifier {
                verifier
                    .update(&buffer[..count])
                    .map_err(io::Error::other)?;
            }
        } else if let Some(verifier) = self.verifier.take() {
            verifier.finish().map_err(io::Error::other)?;
        }
        Ok(count)
    }
}
