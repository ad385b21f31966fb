//! Reading blobs: streams that verify and resume.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;

use super::Client;
use crate::digest::Digest;
use crate::error::Error;
use crate::manifest::Descriptor;
use crate::reference::Reference;

/// A blob as it arrives: verified at its end, resumed where the connection breaks.
#[derive(Debug)]
pub struct BlobReader {
}

/// A [`BlobReader`] for blocking code such as `tar`; only for threads that are not the runtime's own
/// (`tokio::task::spawn_blocking`).
#[derive(Debug)]
pub struct BlockingBlobReader {
}

impl BlobReader {
    /// The next bytes. `None` says that the whole blob came and that its size and digest are right.
    ///
    /// # Errors
    /// [`Error::Content`] when the bytes are wrong; others when the registry cannot be read any more.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        todo!()
    }

    /// For code that reads with `std::io::Read`. Errors are `io::Error`s with an [`Error`] inside.
    ///
    /// Must be called within the tokio runtime that drives this client.
    #[must_use]
    pub fn into_blocking(self) -> BlockingBlobReader {
        todo!()
    }
}

impl Read for BlockingBlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        todo!()
    }
}

impl Client {
    /// Opens a blob of the repository of `reference` (layer or configuration).
    ///
    /// # Errors
    /// [`Error`]; [`Error::NotFound`] when it does not exist.
    pub async fn blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<BlobReader, Error> {
        todo!()
    }

    /// A whole blob of at most `limit` bytes in memory, verified.
    ///
    /// # Errors
    /// [`Error`]; [`Error::TooLarge`] when the descriptor promises more than `limit`.
    pub async fn blob_bytes(&self, reference: &Reference, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        todo!()
    }

    /// Writes a blob to a new file at `path`, verified. On an error the file may be there in part.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn blob_to_file(&self, reference: &Reference, descriptor: &Descriptor, path: &Path) -> Result<(), Error> {
        todo!()
    }

    /// Whether the repository of `reference` has the blob, at the place where a push would go (mirrors are not asked).
    ///
    /// # Errors
    /// [`Error`] when the registry cannot be asked.
    pub async fn blob_exists(&self, reference: &Reference, digest: &Digest) -> Result<bool, Error> {
        todo!()
    }
}
