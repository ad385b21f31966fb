//! Reading blobs: streams that verify and resume.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_RANGE, RANGE};
use http::{Method, StatusCode};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Handle;

use super::answer::Answer;
use super::auth::Scopes;
use super::local::Source;
use super::target::Target;
use super::{Client, Request};
use crate::digest::{Digest, Verifier};
use crate::error::Error;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::settings::Retry;

/// A blob as it arrives: verified at its end, resumed where the connection breaks.
#[derive(Debug)]
pub struct BlobReader {
    client: Client,
    digest: Digest,
    /// Where the blob may be, the present place first.
    targets: Vec<Target>,
    source: Source,
    /// `None` once the end was reached and found right.
    verifier: Option<Verifier>,
    /// Bytes of the answer that were received before it was resumed by a server that cannot resume.
    skip: u64,
    /// Failures since the last byte.
    failures: usize,
}

/// A [`BlobReader`] for blocking code such as `tar`; only for threads that are not the runtime's own
/// (`tokio::task::spawn_blocking`).
#[derive(Debug)]
pub struct BlockingBlobReader {
    reader: BlobReader,
    runtime: Handle,
    rest: Bytes,
}

impl BlobReader {
    /// The next bytes. `None` says that the whole blob came and that its size and digest are right.
    ///
    /// # Errors
    /// [`Error::Content`] when the bytes are wrong; others when the registry cannot be read any more.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(verifier) = &mut self.verifier else {
                return Ok(None);
            };
            let broken = match self.source.chunk().await {
                Ok(Some(bytes)) => {
                    let Some(bytes) = skip(bytes, &mut self.skip) else {
                        continue;
                    };
                    self.failures = 0;
                    let wrong = |source| Error::Content {
                        host: self.source.name(),
                        source,
                    };
                    verifier.update(&bytes).map_err(wrong)?;
                    return Ok(Some(bytes));
                }
                // A connection that breaks behind the last byte has done its work.
                Ok(None) | Err(_) if verifier.is_complete() => {
                    let wrong = |source| Error::Content {
                        host: self.source.name(),
                        source,
                    };
                    return match self.verifier.take() {
                        Some(verifier) => verifier.finish().map(|()| None).map_err(wrong),
                        None => Ok(None),
                    };
                }
                // An answer that ends early without an error is a broken connection of HTTP/1.0 or of a proxy.
                Ok(None) => self.source.ended_early(),
                Err(error) => error,
            };
            let position = verifier.position();
            self.resume(position, broken).await?;
        }
    }

    /// Asks again for what is missing, after the pauses of the settings; `broken` is the error when all is in vain.
    async fn resume(&mut self, position: u64, broken: Error) -> Result<(), Error> {
        let pause = {
            self.failures += 1;
            let pauses = &self.client.retry().pauses;
            // One try more than there are pauses, the first at once: a connection often breaks for no lasting reason.
            if self.failures > pauses.len() + 1 {
                return Err(broken);
            }
            self.failures
                .checked_sub(2)
                .and_then(|index| pauses.get(index))
                .copied()
                .unwrap_or(Duration::ZERO)
        };
        tracing::debug!(digest = %self.digest, position, error = %broken, "resuming a blob");
        tokio::time::sleep(pause).await;
        let (index, answer) = self
            .client
            .open_blob(&self.targets, &self.digest, position)
            .await?;
        self.targets.rotate_left(index);
        self.skip = match starting_at(&answer) {
            Some(start) if start == position => 0,
            Some(start) if start < position => position - start,
            Some(_) => {
                return Err(
                    answer.protocol_error("it starts behind the position that was asked for")
                );
            }
            None => position,
        };
        self.source = Source::Network(Box::new(answer));
        Ok(())
    }

    /// For code that reads with `std::io::Read`. Errors are `io::Error`s with an [`Error`] inside.
    ///
    /// # Panics
    /// Outside of a tokio runtime; it must be the one that drives this client.
    #[must_use]
    pub fn into_blocking(self) -> BlockingBlobReader {
        BlockingBlobReader {
            reader: self,
            runtime: Handle::current(),
            rest: Bytes::new(),
        }
    }
}

impl Read for BlockingBlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.rest.is_empty() {
            match self.runtime.block_on(self.reader.chunk()) {
                Ok(Some(bytes)) => self.rest = bytes,
                Ok(None) => return Ok(0),
                Err(error) => return Err(std::io::Error::other(error)),
            }
        }
        let length = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

impl Client {
    /// Opens a blob of the repository of `reference` (layer or configuration).
    ///
    /// # Errors
    /// [`Error`]; [`Error::NotFound`] when it does not exist.
    pub async fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<BlobReader, Error> {
        self.blob_from(
            Target::for_pull(&self.inner.settings, reference),
            descriptor,
        )
        .await
    }

    async fn blob_from(
        &self,
        mut targets: Vec<Target>,
        descriptor: &Descriptor,
    ) -> Result<BlobReader, Error> {
        let local = match self.inner.settings.local_blobs.get(&descriptor.digest) {
            Some(blob) => Source::local(blob, descriptor.size).await,
            None => None,
        };
        let source = match local {
            Some(source) => source,
            None => {
                let (index, answer) = self.open_blob(&targets, &descriptor.digest, 0).await?;
                targets.rotate_left(index);
                Source::Network(Box::new(answer))
            }
        };
        Ok(BlobReader {
            client: self.clone(),
            digest: descriptor.digest.clone(),
            targets,
            source,
            verifier: Some(Verifier::new(descriptor.digest.clone(), descriptor.size)),
            skip: 0,
            failures: 0,
        })
    }

    /// A whole blob of at most `limit` bytes in memory, verified.
    ///
    /// # Errors
    /// [`Error`]; [`Error::TooLarge`] when the descriptor promises more than `limit`.
    pub async fn blob_bytes(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Bytes, Error> {
        if descriptor.size > limit {
            return Err(Error::TooLarge {
                what: descriptor.digest.to_string(),
                size: descriptor.size,
                limit,
            });
        }
        let mut reader = self.blob(reference, descriptor).await?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = reader.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Writes a blob to the file at `path`, replacing what is there, verified. A mirror with wrong content is passed
    /// over. On an error the file may be there in part.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn blob_to_file(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        path: &Path,
    ) -> Result<(), Error> {
        let mut targets = Target::for_pull(&self.inner.settings, reference);
        loop {
            let mut reader = self.blob_from(targets, descriptor).await?;
            match copy_to(&mut reader, path).await {
                Err(error @ Error::Content { .. }) if reader.targets.len() > 1 => {
                    tracing::warn!(%error, "asking the next mirror");
                    targets = reader.targets.split_off(1);
                }
                done => return done,
            }
        }
    }

    /// Whether the repository of `reference` has the blob, at the place where a push would go (mirrors are not asked).
    ///
    /// # Errors
    /// [`Error`] when the registry cannot be asked.
    pub async fn blob_exists(&self, reference: &Reference, digest: &Digest) -> Result<bool, Error> {
        let target = self.push_target(reference);
        self.has_blob(&target, &Scopes::pull(&target.repository), digest)
            .await
    }

    pub(super) async fn has_blob(
        &self,
        target: &Target,
        scopes: &Scopes,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let request = Request::new(Method::HEAD, format!("blobs/{digest}"));
        let expected = [StatusCode::OK, StatusCode::NOT_FOUND];
        let answer = self
            .request(target, scopes, &request, self.retry(), &expected)
            .await?;
        Ok(answer.status == StatusCode::OK)
    }

    /// Opens a blob from `position` on at the first of `targets` that gives it; tells which.
    async fn open_blob(
        &self,
        targets: &[Target],
        digest: &Digest,
        position: u64,
    ) -> Result<(usize, Answer), Error> {
        let mut request = Request::new(Method::GET, format!("blobs/{digest}"));
        if position > 0 {
            request = request.with_header(RANGE, &format!("bytes={position}-"));
        }
        let mut failure = None;
        for (index, target) in targets.iter().enumerate() {
            let never = Retry::never();
            let retry = if index + 1 == targets.len() {
                self.retry()
            } else {
                &never
            };
            let scopes = Scopes::pull(&target.repository);
            let expected = [StatusCode::OK, StatusCode::PARTIAL_CONTENT];
            match self
                .request(target, &scopes, &request, retry, &expected)
                .await
            {
                Ok(answer) => return Ok((index, answer)),
                Err(error) => {
                    if index + 1 < targets.len() {
                        tracing::warn!(mirror = target.endpoint.host(), %digest, %error, "mirror failed, asking the next");
                    }
                    failure = Some(error);
                }
            }
        }
        Err(match failure {
            Some(Error::NotFound { host, .. }) => Error::NotFound {
                host,
                what: digest.to_string(),
            },
            Some(error) => error,
            None => Error::NotFound {
                host: String::new(),
                what: digest.to_string(),
            },
        })
    }
}

async fn copy_to(reader: &mut BlobReader, path: &Path) -> Result<(), Error> {
    let write = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    let mut file = tokio::fs::File::create(path).await.map_err(write)?;
    while let Some(chunk) = reader.chunk().await? {
        file.write_all(&chunk).await.map_err(write)?;
    }
    file.flush().await.map_err(write)
}

/// The first byte's position in a partial answer; `None` for a whole one.
fn starting_at(answer: &Answer) -> Option<u64> {
    if answer.status != StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let range = answer.header(CONTENT_RANGE)?;
    range
        .trim_start()
        .strip_prefix("bytes")?
        .trim_start()
        .split('-')
        .next()?
        .trim()
        .parse()
        .ok()
}

/// `bytes` without the first of those still to be skipped; `None` when nothing is left.
fn skip(mut bytes: Bytes, remaining: &mut u64) -> Option<Bytes> {
    let dropped = (bytes.len() as u64).min(*remaining);
    *remaining -= dropped;
    // At most the length of `bytes`.
    bytes.advance(dropped as usize);
    (!bytes.is_empty()).then_some(bytes)
}
