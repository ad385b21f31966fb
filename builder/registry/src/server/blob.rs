//! Blobs: fetched whole or in ranges, asked for, deleted (specification, "Pulling blobs", "Deleting blobs").

use std::io;

use http::{HeaderMap, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::range::{Part, part};
use super::reply::{Problem, ReplyBody, empty, storage, with};
use super::storage::{Held, Link};
use super::{Inner, blocking};
use crate::digest::Digest;

/// What is read from a file at once.
const PIECE: usize = 256 * 1024;

pub(super) fn digest(text: &str) -> Result<Digest, Problem> {
    text.parse()
        .map_err(|error: crate::digest::DigestError| Problem::Digest(error.to_string()))
}

pub(super) async fn get(
    inner: &Inner,
    name: &str,
    text: &str,
    headers: &HeaderMap,
) -> Result<Response<ReplyBody>, Problem> {
    let digest = digest(text)?;
    let (storage, name, wanted) = (inner.storage.clone(), name.to_owned(), digest.clone());
    let held = blocking(move || {
        // Who asks for a blob may be about to name it in a manifest.
        storage.touch(&name, &wanted);
        storage.held(&name, Link::Blob, &wanted)
    })
    .await?
    .ok_or_else(|| Problem::BlobUnknown(digest.clone()))?;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let tag = format!("\"{digest}\"");
    let is_known = header("if-none-match").is_some_and(|known| {
        known
            .split(',')
            .any(|known| matches!(known.trim(), "*") || known.trim() == tag)
    });
    let mut answer = vec![
        ("docker-content-digest", digest.to_string()),
        ("etag", tag.clone()),
        ("accept-ranges", "bytes".to_owned()),
        ("cache-control", "max-age=31536000".to_owned()),
        ("content-type", "application/octet-stream".to_owned()),
    ];
    if is_known {
        return Ok(with(304, &answer, empty()));
    }
    // A range of something else than what is here would be of no use (RFC 9110, "If-Range").
    let range = header("range").filter(|_| header("if-range").is_none_or(|known| known == tag));
    let (status, first, count) = match part(range, held.size) {
        Part::Whole => (200, 0, held.size),
        Part::Nothing => return Err(Problem::Range(held.size)),
        Part::Some { first, last } => {
            answer.push((
                "content-range",
                format!("bytes {first}-{last}/{}", held.size),
            ));
            (206, first, last - first + 1)
        }
    };
    answer.push(("content-length", count.to_string()));
    Ok(with(status, &answer, file(&held, first, count).await?))
}

/// `count` bytes of a file, read as they are sent.
async fn file(held: &Held, first: u64, count: u64) -> Result<ReplyBody, Problem> {
    let open = async {
        let mut file = tokio::fs::File::open(&held.file).await?;
        file.set_max_buf_size(PIECE);
        file.seek(io::SeekFrom::Start(first)).await?;
        Ok(file)
    };
    let file = open.await.map_err(storage(&held.file))?;
    let pieces = ReaderStream::with_capacity(file.take(count), PIECE);
    let frames = futures_util::StreamExt::map(pieces, |piece| piece.map(Frame::data));
    Ok(BodyExt::boxed(StreamBody::new(frames)))
}

pub(super) async fn delete(
    inner: &Inner,
    name: &str,
    text: &str,
) -> Result<Response<ReplyBody>, Problem> {
    let digest = digest(text)?;
    let (storage, name) = (inner.storage.clone(), name.to_owned());
    blocking(move || {
        let _adding = storage.adding();
        if storage.unlink(&name, Link::Blob, &digest)? {
            Ok(with(202, &[("content-length", "0".to_owned())], empty()))
        } else {
            Err(Problem::BlobUnknown(digest))
        }
    })
    .await
}
