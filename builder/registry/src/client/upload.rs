//! Sends the bytes of a blob: in one piece, or in chunks where that is asked for or needed.
//!
//! Source: OCI distribution specification, "Pushing blobs".

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use url::Url;

use super::answer::Answer;
use super::auth::Scopes;
use super::push::{BlobSource, Content, Progress};
use super::target::Target;
use super::transport::Body;
use super::{Client, Place, Request, retry};
use crate::digest::Digest;
use crate::error::Error;
use crate::settings::{Retry, Upload};

/// The type of a blob's bytes on their way.
const OCTETS: &str = "application/octet-stream";
/// The first size of chunks where a server refused the whole.
const CHUNK: u64 = 8 << 20;
/// Chunks are not made smaller than this.
const SMALLEST_CHUNK: u64 = 512 << 10;
/// The size of the pieces in which a file is read.
const READ_SIZE: usize = 64 << 10;

/// An upload that a registry has begun.
#[derive(Debug, Clone)]
pub(super) struct Session {
    url: Url,
    /// The smallest chunk that the registry accepts, except for the last (`OCI-Chunk-Min-Length`).
    smallest_chunk: u64,
}

/// What a request to mount led to.
#[derive(Debug)]
pub(super) enum MountAnswer {
    Mounted,
    UploadInstead(Session),
    Refused,
}

impl Client {
    /// Asks to mount. A registry or token server that does not let us read `from` refuses, which is no error.
    pub(super) async fn try_mount(
        &self,
        target: &Target,
        from: &str,
        digest: &Digest,
    ) -> Result<MountAnswer, Error> {
        let mut request = Request::new(Method::POST, "blobs/uploads/");
        let base = self.base(&target.endpoint, self.retry()).await?;
        let mut url = super::resolve(&base, target, &request.place)?;
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from);
        request.place = Place::Url(url);
        let scopes = Scopes::push(&target.repository).and_pull(from);
        let expected = [StatusCode::CREATED, StatusCode::ACCEPTED];
        match self
            .request(target, &scopes, &request, self.retry(), &expected)
            .await
        {
            Ok(answer) if answer.status == StatusCode::CREATED => Ok(MountAnswer::Mounted),
            Ok(answer) => session(&answer).map(MountAnswer::UploadInstead),
            Err(
                error @ (Error::Transport { .. }
                | Error::Server { .. }
                | Error::TooManyRequests { .. }),
            ) => Err(error),
            Err(error) => {
                tracing::debug!(from, %digest, %error, "not mounted");
                Ok(MountAnswer::Refused)
            }
        }
    }

    pub(super) async fn begin_upload(&self, target: &Target) -> Result<Session, Error> {
        let request = Request::new(Method::POST, "blobs/uploads/");
        let scopes = Scopes::push(&target.repository);
        let answer = self
            .request(
                target,
                &scopes,
                &request,
                self.retry(),
                &[StatusCode::ACCEPTED],
            )
            .await?;
        session(&answer)
    }

    /// Gives an upload up. A registry that cannot do that forgets it by itself, so a failure does not matter.
    pub(super) async fn cancel(&self, target: &Target, session: Session) {
        let request = Request::to(Method::DELETE, session.url);
        let scopes = Scopes::push(&target.repository);
        let expected = [StatusCode::NO_CONTENT, StatusCode::ACCEPTED, StatusCode::OK];
        if let Err(error) = self
            .request(target, &scopes, &request, &Retry::never(), &expected)
            .await
        {
            tracing::debug!(%error, "an upload was left to expire");
        }
    }

    /// Sends `blob`, from the start again where the connection broke.
    pub(super) async fn upload(
        &self,
        target: &Target,
        blob: &BlobSource,
        mut begun: Option<Session>,
        progress: &Progress,
    ) -> Result<(), Error> {
        let mut mode = self.inner.settings.upload;
        let mut failures = 0;
        loop {
            let session = match begun.take() {
                Some(session) => session,
                None => self.begin_upload(target).await?,
            };
            let sent = match mode {
                Upload::Whole => self.put_whole(target, blob, &session, progress).await,
                Upload::Chunks(size) => {
                    self.put_chunks(target, blob, session, size, progress).await
                }
            };
            let error = match sent {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if mode == Upload::Whole && wants_chunks(&error) {
                tracing::debug!(digest = %blob.digest, %error, "sending in chunks instead");
                mode = Upload::Chunks(CHUNK);
                continue;
            }
            failures += 1;
            let Some(pause) = passing(&error, self.retry(), failures) else {
                return Err(error);
            };
            tracing::debug!(digest = %blob.digest, %error, "sending again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn put_whole(
        &self,
        target: &Target,
        blob: &BlobSource,
        session: &Session,
        progress: &Progress,
    ) -> Result<(), Error> {
        let body = body(blob, 0, blob.size, progress);
        self.finish(target, &session.url, blob, body).await
    }

    /// The PUT that ends an upload, with the bytes that are still missing.
    async fn finish(
        &self,
        target: &Target,
        url: &Url,
        blob: &BlobSource,
        body: Body,
    ) -> Result<(), Error> {
        let mut url = url.clone();
        url.query_pairs_mut()
            .append_pair("digest", &blob.digest.to_string());
        let request = Request::to(Method::PUT, url)
            .with_header(CONTENT_TYPE, OCTETS)
            .with_body(body);
        let scopes = Scopes::push(&target.repository);
        let expected = [StatusCode::CREATED, StatusCode::OK, StatusCode::NO_CONTENT];
        match self
            .request(target, &scopes, &request, &Retry::never(), &expected)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) => Err(source_error(blob).await.unwrap_or(error)),
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "five and self; they share nothing"
    )]
    async fn put_chunks(
        &self,
        target: &Target,
        blob: &BlobSource,
        mut session: Session,
        size: u64,
        progress: &Progress,
    ) -> Result<(), Error> {
        let mut size = size.max(session.smallest_chunk).max(1);
        let mut offset = 0;
        let mut failures = 0;
        while offset < blob.size {
            let length = size.min(blob.size - offset);
            let error = match self
                .patch(target, blob, &session, offset..offset + length, progress)
                .await
            {
                Ok(answer) => {
                    failures = 0;
                    session.url = location(&answer)?;
                    // The first byte alone is reported like none at all.
                    let sent = offset + length;
                    offset = received(&answer).filter(|_| sent > 1).unwrap_or(sent);
                    continue;
                }
                Err(error) => error,
            };
            if matches!(error, Error::Unexpected { status: 413, .. })
                && size / 2 >= SMALLEST_CHUNK.max(session.smallest_chunk)
            {
                size /= 2;
                continue;
            }
            failures += 1;
            let wrong_place = matches!(error, Error::Unexpected { status: 416, .. });
            let Some(pause) = passing(&error, self.retry(), failures)
                .or_else(|| (wrong_place && failures == 1).then_some(std::time::Duration::ZERO))
            else {
                return Err(source_error(blob).await.unwrap_or(error));
            };
            tokio::time::sleep(pause).await;
            (session.url, offset) = self.upload_status(target, &session.url).await?;
        }
        progress.report(blob.size);
        self.finish(target, &session.url, blob, Body::Empty).await
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "five and self; they share nothing"
    )]
    async fn patch(
        &self,
        target: &Target,
        blob: &BlobSource,
        session: &Session,
        range: std::ops::Range<u64>,
        progress: &Progress,
    ) -> Result<Answer, Error> {
        let request = Request::to(Method::PATCH, session.url.clone())
            .with_header(CONTENT_TYPE, OCTETS)
            .with_header(CONTENT_RANGE, &format!("{}-{}", range.start, range.end - 1))
            .with_body(body(blob, range.start, range.end - range.start, progress));
        let scopes = Scopes::push(&target.repository);
        let expected = [
            StatusCode::ACCEPTED,
            StatusCode::CREATED,
            StatusCode::NO_CONTENT,
        ];
        self.request(target, &scopes, &request, &Retry::never(), &expected)
            .await
    }

    /// How far an upload has come, and where it goes on.
    async fn upload_status(&self, target: &Target, url: &Url) -> Result<(Url, u64), Error> {
        let request = Request::to(Method::GET, url.clone());
        let scopes = Scopes::push(&target.repository);
        let expected = [StatusCode::NO_CONTENT, StatusCode::OK, StatusCode::ACCEPTED];
        let answer = self
            .request(target, &scopes, &request, self.retry(), &expected)
            .await?;
        let next = location(&answer).unwrap_or_else(|_| url.clone());
        Ok((next, received(&answer).unwrap_or(0)))
    }
}

/// The upload that an answer has begun.
fn session(answer: &Answer) -> Result<Session, Error> {
    let smallest_chunk = answer
        .header("oci-chunk-min-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    Ok(Session {
        url: location(answer)?,
        smallest_chunk,
    })
}

/// `Location`, relative or absolute, with its own query.
fn location(answer: &Answer) -> Result<Url, Error> {
    let text = answer
        .header(LOCATION)
        .ok_or_else(|| answer.protocol_error("it has no Location"))?;
    answer
        .url
        .join(text)
        .map_err(|_| answer.protocol_error("its Location is no URL"))
}

/// How many bytes a registry has, from `Range: 0-<last>`.
///
/// `0-0` stands for none in distribution's answers, although it would mean one byte.
fn received(answer: &Answer) -> Option<u64> {
    let range = answer.header(RANGE)?;
    let last: u64 = range
        .strip_prefix("bytes=")
        .unwrap_or(range)
        .strip_prefix("0-")?
        .trim()
        .parse()
        .ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}

/// Whether a server that refused a whole blob may take it in chunks.
fn wants_chunks(error: &Error) -> bool {
    matches!(
        error,
        Error::Unexpected {
            status: 411 | 413 | 416,
            ..
        }
    )
}

/// The pause before the upload is tried again, where that may help.
fn passing(error: &Error, settings: &Retry, failures: usize) -> Option<std::time::Duration> {
    match error {
        Error::Server { status, .. }
            if StatusCode::from_u16(*status).is_ok_and(retry::is_passing_status) =>
        {
            retry::pause(settings, failures, None)
        }
        Error::Unexpected {
            status: 408 | 499, ..
        } => retry::pause(settings, failures, None),
        Error::TooManyRequests { retry_after, .. } => {
            retry::pause(settings, failures, *retry_after)
        }
        Error::Transport { source, .. } => retry::pause_after(settings, failures, source),
        _ => None,
    }
}

/// Part of a blob as the body of a request.
fn body(blob: &BlobSource, start: u64, length: u64, progress: &Progress) -> Body {
    if length == 0 {
        return Body::Empty;
    }
    let (content, progress) = (blob.content.clone(), progress.clone());
    let open = move || {
        let progress = progress.clone();
        let mut sent = start;
        let pieces = read(content.clone(), start, length).inspect(move |piece| {
            if let Ok(piece) = piece {
                sent += piece.len() as u64;
                progress.report(sent);
            }
        });
        reqwest::Body::wrap_stream(pieces)
    };
    Body::Stream {
        length,
        open: Arc::new(open),
    }
}

fn read(
    content: Content,
    start: u64,
    length: u64,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    enum State {
        Closed(Content),
        Open(tokio::fs::File),
        Memory(Bytes),
    }
    stream::try_unfold(
        (State::Closed(content), start, length),
        |(state, position, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let want = (READ_SIZE as u64).min(left);
            let mut state = match state {
                State::Closed(Content::Bytes(bytes)) => State::Memory(bytes),
                State::Closed(Content::File(path)) => {
                    let mut file = tokio::fs::File::open(path).await?;
                    file.seek(io::SeekFrom::Start(position)).await?;
                    State::Open(file)
                }
                open => open,
            };
            let piece = match &mut state {
                State::Memory(bytes) => {
                    // Positions in memory fit into a usize.
                    let (from, to) = (position as usize, (position + want) as usize);
                    if to > bytes.len() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    bytes.slice(from..to)
                }
                State::Open(file) => {
                    let mut buffer = bytes::BytesMut::with_capacity(READ_SIZE);
                    let count = file.take(want).read_buf(&mut buffer).await?;
                    if count == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    buffer.freeze()
                }
                State::Closed(_) => return Err(io::ErrorKind::Other.into()),
            };
            let count = piece.len() as u64;
            Ok(Some((piece, (state, position + count, left - count))))
        },
    )
}

/// What is wrong with the file that was to be sent, if that is why a request failed.
async fn source_error(blob: &BlobSource) -> Option<Error> {
    let Content::File(path) = &blob.content else {
        return None;
    };
    let source = match tokio::fs::metadata(path).await {
        Ok(metadata) if metadata.len() == blob.size => return None,
        Ok(metadata) => io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} has {} bytes and not {}",
                path.display(),
                metadata.len(),
                blob.size
            ),
        ),
        Err(error) => error,
    };
    Some(Error::Source {
        digest: blob.digest.clone(),
        source,
    })
}
