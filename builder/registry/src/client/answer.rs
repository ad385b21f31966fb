//! Answers of a registry, and what a refusal means.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use reqwest::Response;
use serde::Deserialize;
use url::Url;

use super::target::Target;
use super::transport::{classify, within};
use super::{Client, retry};
use crate::credential::Lookup;
use crate::error::{Error, TransportError, visible};

/// The longest text of a server that is shown.
const LONGEST_MESSAGE: usize = 300;
/// The most that is read of an answer that reports an error.
const LONGEST_ERROR_BODY: u64 = 64 * 1024;

/// A response whose head has arrived.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The request, for error messages: `GET https://host/path`.
    pub(super) action: String,
    /// The host that was asked first (redirects may have led elsewhere).
    pub(super) host: String,
    /// The URL that answered in the end.
    pub(super) url: Url,
    response: Response,
    idle_timeout: Duration,
}

/// The body of an error, as the distribution specification has it.
#[derive(Deserialize, Default)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Answer {
    pub(super) fn new(
        response: Response,
        action: String,
        host: String,
        idle_timeout: Duration,
    ) -> Self {
        Self {
            status: response.status(),
            headers: response.headers().clone(),
            url: response.url().clone(),
            action,
            host,
            response,
            idle_timeout,
        }
    }

    /// A header as text.
    pub(super) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// An answer that has the right status but breaks the protocol.
    pub(super) fn protocol_error(&self, problem: impl Into<String>) -> Error {
        Error::Protocol {
            action: self.action.clone(),
            problem: problem.into(),
        }
    }

    /// The next bytes of the body, not later than the server may stay silent.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let read = within(self.idle_timeout, &self.host, self.response.chunk()).await;
        let transport = |source: TransportError| Error::Transport {
            action: self.action.clone(),
            source: source.into(),
        };
        read.map_err(transport)?
            .map_err(|error| transport(classify(&self.host, error.without_url())))
    }

    /// The whole body, which must not be longer than `limit`.
    pub(super) async fn bytes(mut self, limit: u64) -> Result<Bytes, Error> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
            let size = body.len() as u64;
            if size > limit {
                return Err(Error::TooLarge {
                    what: format!("the answer to {}", self.action),
                    size,
                    limit,
                });
            }
        }
        Ok(body.freeze())
    }

    /// The error that a refusal means, when the credentials came from `lookup`.
    pub(super) async fn into_refusal(self, target: &Target, lookup: Lookup) -> Error {
        let status = self.status;
        let (host, action) = (self.host.clone(), self.action.clone());
        let retry_after = retry::retry_after(&self.headers, SystemTime::now());
        // The status says enough where the body cannot be read.
        let body = self.bytes(LONGEST_ERROR_BODY).await.unwrap_or_default();
        let message = said(&body);
        match status {
            StatusCode::UNAUTHORIZED => unauthorized(target, host, message, lookup),
            StatusCode::FORBIDDEN => {
                let came = |source| format!("the credentials came from {source}");
                let hint = lookup.hint.or_else(|| lookup.source.map(came));
                Error::Denied {
                    host,
                    action,
                    message,
                    hint,
                }
            }
            // Of a manifest: it came to the repository, and a blob of it is not there.
            StatusCode::NOT_FOUND if !misses_a_blob(&message) => Error::NotFound {
                host,
                what: target.repository.clone(),
            },
            StatusCode::TOO_MANY_REQUESTS => Error::TooManyRequests {
                host,
                retry_after,
                message,
            },
            status if status.is_server_error() => Error::Server {
                action,
                status: status.as_u16(),
                message,
            },
            status => Error::Unexpected {
                action,
                status: status.as_u16(),
                message,
            },
        }
    }
}

impl Client {
    /// The error that a refusal means.
    pub(super) async fn refused(&self, target: &Target, answer: Answer) -> Error {
        // What is said about an error must not hide it: credentials that cannot be read count as none.
        let lookup = match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.credentials(target).await.unwrap_or_default()
            }
            _ => Lookup::default(),
        };
        answer.into_refusal(target, lookup).await
    }
}

fn unauthorized(target: &Target, host: String, message: String, lookup: Lookup) -> Error {
    let hint = lookup.hint.or_else(|| match &lookup.source {
        None => Some(format!(
            "no credentials were found for {}: log in, or check that {} exists and is public",
            target.credential_hosts.join(" or "),
            target.repository
        )),
        Some(_) => None,
    });
    Error::Unauthorized {
        host,
        credential: lookup.source,
        message,
        hint,
    }
}

/// What the server said, in one line: its error codes and messages, or the start of a plain text.
fn said(body: &[u8]) -> String {
    let parsed: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
    let text = if parsed.errors.is_empty() {
        let text = String::from_utf8_lossy(body);
        if text.trim_start().starts_with(['<', '{']) {
            String::new()
        } else {
            text.into_owned()
        }
    } else {
        let entries =
            parsed.errors.iter().map(
                |entry| match (entry.code.as_str(), entry.message.as_str()) {
                    ("", text) | (text, "") => text.to_owned(),
                    (code, message) => format!("{code}: {message}"),
                },
            );
        entries.collect::<Vec<_>>().join("; ")
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", visible(&line[..end])),
        None => visible(&line),
    }
}

/// Whether a refused manifest means that its tag may not be changed.
///
/// Registries have no common code for it: the texts are those of ECR, Docker Hub, Artifact Registry, Harbor and Quay.
pub(super) fn is_immutable_tag(message: &str) -> bool {
    const TEXTS: [&str; 6] = [
        "tag immutability",
        "tag is immutable",
        "imagetagalreadyexists",
        "tag_immutable",
        "immutable tag",
        "immutable tags",
    ];
    let message = message.to_lowercase();
    TEXTS.iter().any(|text| message.contains(text))
}

/// Whether a refused manifest means that the registry does not know a blob of it: the code of the distribution
/// specification ("Error Codes"), in the words of [`said`].
pub(super) fn misses_a_blob(message: &str) -> bool {
    message.contains("MANIFEST_BLOB_UNKNOWN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_codes_and_messages_in_one_line() {
        // The example of the OCI distribution specification, "Error Codes".
        let body = br#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry","detail":{}},{"code":"DENIED","message":""}]}"#;
        assert_eq!(
            said(body),
            "NAME_UNKNOWN: repository name not known to registry; DENIED"
        );
        assert_eq!(said(b"no such\n host\n"), "no such host");
        assert_eq!(
            said(b"{\"errors\":[{\"code\":\"\\u001b[2J\",\"message\":\"a\\u0007\\u202eb\"}]}"),
            "\\u{1b}[2J: a\\u{7}\\u{202e}b"
        );
        assert_eq!(said(b"\x1b[31mred\x1b[0m"), "\\u{1b}[31mred\\u{1b}[0m");
        assert_eq!(said(b"<html>bad gateway</html>"), "");
        assert_eq!(said(&[b'x'; 1000]).chars().count(), LONGEST_MESSAGE + 1);
    }

    #[test]
    fn knows_the_texts_for_immutable_tags() {
        // kaniko's two and ECR's code.
        for text in [
            "The repository has enabled tag immutability",
            "cannot be overwritten because the tag is immutable.",
            "ImageTagAlreadyExists: x",
        ] {
            assert!(is_immutable_tag(text), "{text}");
        }
        assert!(!is_immutable_tag(
            "DENIED: requested access to the resource is denied"
        ));
    }
}
