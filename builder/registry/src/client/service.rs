//! Requests to servers that are no registries, with the client's certificates, proxies and retries: a cloud's token
//! and metadata services, archives, object stores.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use url::Url;

use super::Client;
use super::answer::Answer;
use super::transport::{Body, Outgoing};
use crate::error::{Error, visible};
use crate::settings::{Endpoint, Retry};

/// The most that is read of an answer which is not wanted.
const LONGEST_REFUSAL: u64 = 64 * 1024;

/// One request, with the body in memory.
#[derive(Debug, Clone)]
pub struct ServiceRequest {
    /// GET, PUT, …
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers; `Authorization` does not follow a redirect to another host.
    pub headers: HeaderMap,
    /// What is sent.
    pub body: Bytes,
}

impl ServiceRequest {
    /// A request without headers and body.
    #[must_use]
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// With a header; a value that is none is left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// With the fields of a form as body.
    #[must_use]
    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        self.header("content-type", "application/x-www-form-urlencoded")
            .body(form.finish())
    }
}

/// An answer whose head has arrived.
#[derive(Debug)]
pub struct ServiceAnswer(Answer);

impl ServiceAnswer {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.header(name)
    }

    /// The next bytes of the body.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.0.chunk().await
    }

    /// The whole body, which must not be longer than `limit`.
    ///
    /// # Errors
    /// When the connection breaks or the body is longer.
    pub async fn bytes(self, limit: u64) -> Result<Bytes, Error> {
        self.0.bytes(limit).await
    }

    /// The error that this answer is.
    pub async fn refusal(self) -> Error {
        let (action, status) = (self.0.action.clone(), self.0.status.as_u16());
        // The status says enough where the body cannot be read.
        let body = self.bytes(LONGEST_REFUSAL).await.unwrap_or_default();
        let mut message = String::from_utf8_lossy(&body).trim().to_owned();
        if message.len() > 300 {
            let end = (0..=300).rev().find(|&end| message.is_char_boundary(end));
            message.truncate(end.unwrap_or(0));
        }
        Error::Unexpected {
            action,
            status,
            message: visible(&message),
        }
    }
}

impl Client {
    /// Sends a request and returns the answer, whatever its status.
    ///
    /// # Errors
    /// [`Error::Transport`] when no answer came.
    pub async fn service(&self, request: &ServiceRequest) -> Result<ServiceAnswer, Error> {
        self.service_with(request, self.retry()).await
    }

    /// As [`Client::service`], without a second try.
    ///
    /// # Errors
    /// [`Error::Transport`] when no answer came.
    pub async fn service_once(&self, request: &ServiceRequest) -> Result<ServiceAnswer, Error> {
        self.service_with(request, &Retry::never()).await
    }

    async fn service_with(
        &self,
        request: &ServiceRequest,
        retry: &Retry,
    ) -> Result<ServiceAnswer, Error> {
        let outgoing = Outgoing {
            method: request.method.clone(),
            url: request.url.clone(),
            headers: request.headers.clone(),
            body: if request.body.is_empty() {
                Body::Empty
            } else {
                Body::Bytes(request.body.clone())
            },
        };
        self.exchange(&outgoing, retry).await.map(ServiceAnswer)
    }

    /// The address at which a registry is really called, with the protocol that it speaks.
    pub(crate) async fn registry_url(&self, registry: &str) -> Result<Url, Error> {
        let settings = &self.inner.settings;
        let endpoint: Endpoint = settings.push_endpoint(registry);
        self.base(&endpoint, self.retry()).await
    }
}
