//! Answers: JSON, files, and errors in the form of the specification ("Error Codes").

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use kiln_store::StoreError;
use serde_json::json;

use crate::digest::Digest;

/// The body of an answer.
pub(super) type ReplyBody = BoxBody<Bytes, io::Error>;

/// Clients of old ask for it.
pub(super) const API_VERSION: HeaderValue = HeaderValue::from_static("registry/2.0");

/// Nothing.
pub(super) fn empty() -> ReplyBody {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// These bytes.
pub(super) fn full(bytes: impl Into<Bytes>) -> ReplyBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// An answer with these headers; what is no header value is left out, and never is one here.
pub(super) fn with(
    status: u16,
    headers: &[(&'static str, String)],
    body: ReplyBody,
) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}

/// JSON text.
pub(super) fn json(status: u16, text: impl Into<String>) -> Response<ReplyBody> {
    let text = text.into();
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("content-length", text.len().to_string()),
    ];
    with(status, &headers, full(text))
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("there is nothing at this path")]
    Path,
    #[error("this method is not known here")]
    Method,
    #[error("`{0}` is not the name of a repository")]
    Name(String),
    #[error("repository {0} is not known")]
    NameUnknown(String),
    #[error("`{0}` is not a tag")]
    Tag(String),
    #[error("{0}")]
    Digest(String),
    #[error("blob {0} is not known in this repository")]
    BlobUnknown(Digest),
    #[error("this upload is not known: it ended, or it was never started")]
    UploadUnknown,
    #[error("{0}")]
    UploadInvalid(String),
    #[error("the upload has {have} bytes: the next chunk begins there")]
    OutOfOrder { have: u64, location: String },
    #[error("{0}")]
    Size(String),
    #[error("manifest {0} is not known in this repository")]
    ManifestUnknown(String),
    #[error("{0}")]
    Manifest(String),
    #[error("the manifest names what this repository does not have: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    ManifestBlobs(Vec<Digest>),
    #[error("a manifest has at most {0} bytes")]
    TooLarge(usize),
    #[error("the range lies outside of the {0} bytes of the blob")]
    Range(u64),
    #[error("log in first")]
    Unauthorized { challenge: String },
    #[error("{0} is not allowed to do this")]
    Denied(String),
    #[error("the body ended early")]
    Body(#[source] hyper::Error),
    #[error("the registry cannot use its directory")]
    Storage(#[source] io::Error),
    #[error("the registry cannot use its store")]
    Store(#[from] StoreError),
    #[error("the registry is being stopped")]
    Stopped,
}

/// An I/O error of the registry's own files; who asked is told nothing of their paths.
pub(super) fn storage(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Problem {
    let path = path.into();
    move |source| {
        tracing::error!(path = %path.display(), error = %source, "cannot use a file of the registry");
        Problem::Storage(source)
    }
}

impl Problem {
    fn code(&self) -> (u16, &'static str) {
        match self {
            Self::Path => (404, "NAME_UNKNOWN"),
            Self::Method => (405, "UNSUPPORTED"),
            Self::Name(_) => (400, "NAME_INVALID"),
            Self::NameUnknown(_) => (404, "NAME_UNKNOWN"),
            Self::Tag(_) => (400, "TAG_INVALID"),
            Self::Digest(_) => (400, "DIGEST_INVALID"),
            Self::BlobUnknown(_) => (404, "BLOB_UNKNOWN"),
            Self::UploadUnknown => (404, "BLOB_UPLOAD_UNKNOWN"),
            Self::UploadInvalid(_) | Self::Body(_) => (400, "BLOB_UPLOAD_INVALID"),
            Self::OutOfOrder { .. } => (416, "BLOB_UPLOAD_INVALID"),
            Self::Size(_) => (400, "SIZE_INVALID"),
            Self::ManifestUnknown(_) => (404, "MANIFEST_UNKNOWN"),
            Self::Manifest(_) => (400, "MANIFEST_INVALID"),
            Self::ManifestBlobs(_) => (400, "MANIFEST_BLOB_UNKNOWN"),
            Self::TooLarge(_) => (413, "SIZE_INVALID"),
            Self::Range(_) => (416, "RANGE_INVALID"),
            Self::Unauthorized { .. } => (401, "UNAUTHORIZED"),
            Self::Denied(_) => (403, "DENIED"),
            Self::Storage(_) | Self::Store(_) => (500, "UNKNOWN"),
            Self::Stopped => (503, "UNKNOWN"),
        }
    }

    /// The answer.
    pub(super) fn response(&self) -> Response<ReplyBody> {
        let (status, code) = self.code();
        let detail = match self {
            Self::ManifestBlobs(digests) => json!(digests),
            _ => json!(null),
        };
        let text =
            json!({"errors": [{"code": code, "message": self.to_string(), "detail": detail}]});
        let mut response = json(status, text.to_string());
        let headers = response.headers_mut();
        let mut set = |name: &'static str, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        match self {
            Self::Unauthorized { challenge } => set("www-authenticate", challenge),
            Self::Range(size) => set("content-range", &format!("bytes */{size}")),
            Self::OutOfOrder { have, location } => {
                set("range", &format!("0-{}", have.saturating_sub(1)));
                set("location", location);
            }
            _ => {}
        }
        response
    }
}
