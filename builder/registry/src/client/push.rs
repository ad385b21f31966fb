//! Writing: blobs, manifests, tags.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::Client;
use crate::digest::Digest;
use crate::error::Error;
use crate::manifest::{Descriptor, Manifest};
use crate::reference::Reference;

/// Bytes that can be read again from the start, for uploads that have to be repeated.
#[derive(Debug, Clone)]
pub struct BlobSource {
    digest: Digest,
    size: u64,
    content: Content,
    mounts: Vec<Reference>,
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Bytes),
    File(PathBuf),
}

impl BlobSource {
    /// Bytes in memory; their digest is computed here.
    #[must_use]
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: Digest::sha256(&bytes), size: bytes.len() as u64, content: Content::Bytes(bytes), mounts: Vec::new() }
    }

    /// A file that holds exactly the content of `descriptor`.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>, descriptor: &Descriptor) -> Self {
        Self { digest: descriptor.digest.clone(), size: descriptor.size, content: Content::File(path.into()), mounts: Vec::new() }
    }

    /// Says that the repository of `origin` has this blob. Where it lies in the registry that is pushed to, the blob
    /// is mounted from there and not sent.
    #[must_use]
    pub fn mountable_from(mut self, origin: &Reference) -> Self {
        self.mounts.push(origin.clone());
        self
    }

    /// The digest under which the blob is pushed.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Is told how many bytes of a blob have been sent; goes back when an upload starts over.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Fn(u64) + Send + Sync>>);

impl Progress {
    /// Calls `report` with the number of bytes sent so far.
    pub fn new(report: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(report)))
    }

    /// Tells nobody.
    #[must_use]
    pub fn silent() -> Self {
        Self(None)
    }

    fn report(&self, sent: u64) {
        if let Some(report) = &self.0 {
            report(sent);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// How a blob came to be in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// It was there already.
    Present,
    /// It was mounted from this repository of the same registry.
    Mounted(String),
    /// Its bytes were sent.
    Uploaded,
}

/// The answer to a request to mount a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// The blob is in the target repository now.
    Mounted,
    /// The registry would rather have the bytes.
    Refused,
}

impl Client {
    /// Brings a blob into the repository of `target`: it is there, is mounted, or is sent.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn push_blob(&self, target: &Reference, blob: &BlobSource, progress: &Progress) -> Result<Pushed, Error> {
        todo!()
    }

    /// Mounts a blob of `origin`'s repository into `target`'s; both must be in the same registry.
    ///
    /// # Errors
    /// [`Error`]; a registry that does not mount answers [`Mount::Refused`], which is no error.
    pub async fn mount_blob(&self, target: &Reference, origin: &Reference, digest: &Digest) -> Result<Mount, Error> {
        todo!()
    }

    /// Puts `manifest` under the tag of `target`, or under its own digest where `target` has no tag. Every blob and
    /// manifest that it names must be there already.
    ///
    /// # Errors
    /// [`Error`]; [`Error::ImmutableTag`] when the tag exists and may not be changed.
    pub async fn push_manifest(&self, target: &Reference, manifest: &Manifest) -> Result<(), Error> {
        todo!()
    }

    /// Whether these credentials may push to the repository of `target`: starts an upload and cancels it.
    ///
    /// # Errors
    /// [`Error::Unauthorized`], [`Error::Denied`], or others as for a push.
    pub async fn check_push(&self, target: &Reference) -> Result<(), Error> {
        todo!()
    }
}
