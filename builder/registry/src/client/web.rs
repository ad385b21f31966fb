//! Reading any address of the web, with the connections, certificates and proxies of registries
//! but none of their credentials: what `ADD` of a URL needs.

use std::time::UNIX_EPOCH;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue, LAST_MODIFIED};
use http::{HeaderMap, Method};
use url::Url;

use super::answer::Answer;
use super::transport::{Body, Outgoing, host_of};
use super::{Client, redacted};
use crate::error::Error;

/// The content of an address, as it arrives.
#[derive(Debug)]
pub struct Download {
    answer: Answer,
}

impl Client {
    /// Asks for `url`, following redirects. `authorization` is the value of that header, for the
    /// first host alone.
    ///
    /// # Errors
    /// [`Error::Unexpected`] for a status that is no success; others when there is no answer.
    pub async fn download(
        &self,
        url: &Url,
        authorization: Option<&str>,
    ) -> Result<Download, Error> {
        let mut headers = HeaderMap::new();
        let unusable = || Error::Protocol {
            action: format!("GET {}", redacted(url)),
            problem: "the credentials for it hold characters that no header has".to_owned(),
        };
        if let Some(value) = authorization {
            let mut value = HeaderValue::from_str(value.trim()).map_err(|_| unusable())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let outgoing = Outgoing {
            method: Method::GET,
            url: url.clone(),
            headers,
            body: Body::Empty,
        };
        let answer = self.exchange(&outgoing, self.retry()).await?;
        if answer.status.is_success() {
            return Ok(Download { answer });
        }
        let (action, status) = (answer.action.clone(), answer.status.as_u16());
        if status == 404 {
            let (host, what) = (host_of(url), redacted(url));
            return Err(Error::NotFound { host, what });
        }
        let message = String::new();
        Err(Error::Unexpected {
            action,
            status,
            message,
        })
    }
}

impl Download {
    /// When it was last changed, in seconds since 1970, if the server says so.
    #[must_use]
    pub fn last_modified(&self) -> Option<i64> {
        let time = httpdate::parse_http_date(self.answer.header(LAST_MODIFIED)?).ok()?;
        let since = time.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok()
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the server stops in the middle.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.answer.chunk().await
    }
}
