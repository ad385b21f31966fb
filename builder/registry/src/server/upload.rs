//! Uploads: in one request, in two, in chunks, resumed, mounted, cancelled (specification, "Pushing blobs").

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use kiln_store::Digest as StoreDigest;

use super::blob::digest;
use super::reply::{Problem, ReplyBody, empty, with};
use super::route::Query;
use super::session::Session;
use super::storage::{Link, Storage};
use super::{Inner, blocking};
use crate::digest::Digest;

/// POST: `?mount=&from=` takes a blob over from another repository, `?digest=` sends it at once, without either an
/// upload begins.
pub(super) async fn start(
    inner: &Inner,
    name: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Problem> {
    if let (Some(mount), Some(from)) = (query.get("mount"), query.get("from")) {
        let digest = digest(mount)?;
        if mounted(inner, name, (from, &digest)).await? {
            return Ok(created(name, &digest));
        }
    }
    let id = inner.uploads.start(name)?;
    if let Some(text) = query.get("digest") {
        let digest = digest(text)?;
        let session = inner.uploads.find(name, &id)?;
        let mut session = session.lock().await;
        let result = async {
            session.append(request.into_body()).await?;
            commit(inner, &mut session, &digest).await
        };
        let result = result.await;
        inner.uploads.end(&id);
        result?;
        return Ok(created(name, &digest));
    }
    Ok(progress(202, name, &id, 0))
}

async fn mounted(
    inner: &Inner,
    name: &str,
    (from, digest): (&str, &Digest),
) -> Result<bool, Problem> {
    if !crate::reference::is_repository(from) {
        return Err(Problem::Name(from.to_owned()));
    }
    let storage = inner.storage.clone();
    let (name, from, digest) = (name.to_owned(), from.to_owned(), digest.clone());
    blocking(move || {
        let _adding = storage.adding();
        let Some(held) = storage.held(&from, Link::Blob, &digest)? else {
            return Ok(false);
        };
        storage.link_blob(&name, &digest, &held.stored)?;
        Ok(true)
    })
    .await
}

/// GET: how far it has come.
pub(super) async fn status(
    inner: &Inner,
    name: &str,
    id: &str,
) -> Result<Response<ReplyBody>, Problem> {
    let session = inner.uploads.find(name, id)?;
    let size = session.lock().await.size().await?;
    Ok(progress(204, name, id, size))
}

/// PATCH: the next chunk, or all that there is.
pub(super) async fn append(
    inner: &Inner,
    name: &str,
    id: &str,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Problem> {
    let session = inner.uploads.find(name, id)?;
    let mut session = session.lock().await;
    in_order(&mut session, (name, id), request.headers()).await?;
    let size = session.append(request.into_body()).await?;
    Ok(progress(202, name, id, size))
}

/// PUT: the last chunk (perhaps nothing), and the digest of the whole.
pub(super) async fn finish(
    inner: &Inner,
    name: &str,
    id: &str,
    (query, request): (&Query, Request<Incoming>),
) -> Result<Response<ReplyBody>, Problem> {
    let session = inner.uploads.find(name, id)?;
    let missing = || Problem::Digest("the parameter `digest` is missing".to_owned());
    let digest = digest(query.get("digest").ok_or_else(missing)?)?;
    let mut session = session.lock().await;
    in_order(&mut session, (name, id), request.headers()).await?;
    session.append(request.into_body()).await?;
    let result = commit(inner, &mut session, &digest).await;
    inner.uploads.end(id);
    result?;
    Ok(created(name, &digest))
}

/// DELETE: it is given up.
pub(super) async fn cancel(
    inner: &Inner,
    name: &str,
    id: &str,
) -> Result<Response<ReplyBody>, Problem> {
    let session = inner.uploads.find(name, id)?;
    let _session = session.lock().await;
    inner.uploads.end(id);
    Ok(with(204, &[], empty()))
}

/// A chunk with a `Content-Range` must begin where the upload ends and be as long as it says.
async fn in_order(
    session: &mut Session,
    (name, id): (&str, &str),
    headers: &HeaderMap,
) -> Result<(), Problem> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = header("content-range") else {
        return Ok(());
    };
    let range = range.trim_start_matches("bytes").trim();
    let range = range.split_once('/').map_or(range, |(range, _)| range);
    let numbers = range
        .split_once('-')
        .and_then(|(first, last)| Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?)));
    let Some((first, last)) = numbers.filter(|(first, last)| first <= last) else {
        return Err(Problem::UploadInvalid(format!(
            "the header Content-Range is `{range}`: expected <first>-<last>"
        )));
    };
    let have = session.size().await?;
    if first != have {
        return Err(Problem::OutOfOrder {
            have,
            location: location(name, id),
        });
    }
    let length = header("content-length").and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length != last - first + 1) {
        return Err(Problem::Size(format!(
            "Content-Range `{range}` and Content-Length differ"
        )));
    }
    Ok(())
}

async fn commit(inner: &Inner, session: &mut Session, expected: &Digest) -> Result<(), Problem> {
    let (sha256, found) = session.digests(expected.algorithm()).await?;
    if found != *expected {
        return Err(Problem::Digest(format!(
            "the content has the digest {found}, not {expected}"
        )));
    }
    let (storage, data) = (inner.storage.clone(), session.data());
    let (repository, digest) = (session.repository.clone(), expected.clone());
    blocking(move || take_over(&storage, (&repository, &digest), &sha256, &data)).await
}

fn take_over(
    storage: &Storage,
    (repository, digest): (&str, &Digest),
    sha256: &Digest,
    data: &std::path::Path,
) -> Result<(), Problem> {
    let stored: StoreDigest = sha256
        .to_string()
        .parse()
        .map_err(|error: kiln_store::DigestError| Problem::Digest(error.to_string()))?;
    let _adding = storage.adding();
    storage.store().adopt_blob(data, &stored)?;
    storage.link_blob(repository, digest, &stored)
}

fn location(name: &str, id: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

fn created(name: &str, digest: &Digest) -> Response<ReplyBody> {
    let headers = [
        ("location", format!("/v2/{name}/blobs/{digest}")),
        ("docker-content-digest", digest.to_string()),
        ("content-length", "0".to_owned()),
    ];
    with(201, &headers, empty())
}

fn progress(status: u16, name: &str, id: &str, size: u64) -> Response<ReplyBody> {
    let mut headers = vec![
        ("location", location(name, id)),
        ("range", format!("0-{}", size.saturating_sub(1))),
        ("docker-upload-uuid", id.to_owned()),
    ];
    if status != 204 {
        headers.push(("content-length", "0".to_owned()));
    }
    with(status, &headers, empty())
}
