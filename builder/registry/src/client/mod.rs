//! The client: one value for all registries, cheap to clone, with tokens and connections shared.

mod answer;
mod auth;
pub mod blob;
pub mod challenge;
pub mod local;
pub mod pull;
pub mod push;
mod retry;
pub mod service;
mod target;
mod tls;
mod transport;
mod upload;
pub mod web;

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::Semaphore;
use url::Url;

use self::answer::Answer;
use self::auth::{Logins, Scopes};
use self::target::Target;
use self::transport::{Body, Outgoing, Transport, host_of, same_host};
use crate::credential::Keychain;
use crate::error::Error;
use crate::settings::{Endpoint, Retry, Settings, SettingsError};

/// Speaks to registries.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    keychain: Keychain,
    transport: Transport,
    logins: Logins,
    uploads: Semaphore,
}

/// One request to a repository, before anything is known about protocol and login.
#[derive(Clone)]
struct Request {
    method: Method,
    place: Place,
    headers: HeaderMap,
    body: Body,
}

/// Where a request goes.
#[derive(Clone)]
enum Place {
    /// Below `/v2/<repository>/`.
    Repository(String),
    /// A URL that the registry gave.
    Url(Url),
}

impl Request {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            place: Place::Repository(path.into()),
            headers: HeaderMap::new(),
            body: Body::Empty,
        }
    }

    fn to(method: Method, url: Url) -> Self {
        Self {
            method,
            place: Place::Url(url),
            headers: HeaderMap::new(),
            body: Body::Empty,
        }
    }

    fn with_header(mut self, name: http::HeaderName, value: &str) -> Self {
        // Values are digests, numbers and media types; one that is no header value cannot be asked for.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    fn with_body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }
}

impl Client {
    /// A client with these settings and credentials. Does no I/O.
    ///
    /// # Errors
    /// [`SettingsError`] when a certificate or a proxy address of `settings` cannot be used.
    pub fn new(settings: Settings, keychain: Keychain) -> Result<Self, SettingsError> {
        let transport = Transport::new(&settings)?;
        let uploads = Semaphore::new(settings.parallel_uploads.max(1));
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                keychain,
                transport,
                logins: Logins::default(),
                uploads,
            }),
        })
    }

    /// What this client was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The URL of a host, with the protocol that it speaks.
    async fn base(&self, endpoint: &Endpoint, retry: &Retry) -> Result<Url, Error> {
        let mut failures = 0;
        loop {
            let transport = &self.inner.transport;
            let base = transport.base(&self.inner.settings, endpoint).await;
            failures += 1;
            let source = match base {
                Ok(base) => return Ok(base),
                Err(source) => source,
            };
            let Some(pause) = retry::pause_after(retry, failures, &source) else {
                return Err(Error::Transport {
                    action: format!("a connection to {}", endpoint.host()),
                    source: source.into(),
                });
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends `request` with what login it needs, and again where that helps. An answer with one of the statuses
    /// `expected` is returned, any other is an error.
    #[allow(
        clippy::too_many_arguments,
        reason = "five and self; they share nothing"
    )]
    async fn request(
        &self,
        target: &Target,
        scopes: &Scopes,
        request: &Request,
        retry: &Retry,
        expected: &[StatusCode],
    ) -> Result<Answer, Error> {
        let base = self.base(&target.endpoint, retry).await?;
        let url = resolve(&base, target, &request.place)?;
        let ours = same_host(&base, &url);
        let outgoing = |authorization: Option<&HeaderValue>| {
            let mut headers = request.headers.clone();
            headers.extend(authorization.map(|value| (AUTHORIZATION, value.clone())));
            Outgoing {
                method: request.method.clone(),
                url: url.clone(),
                headers,
                body: request.body.clone(),
            }
        };
        let mut authorization = if ours {
            self.authorization(target, scopes).await?
        } else {
            None
        };
        let mut answer = self
            .exchange(&outgoing(authorization.as_ref()), retry)
            .await?;
        // Twice: once to log in, once more where the token has just expired or lacked a scope.
        for _ in 0..2 {
            if answer.status != StatusCode::UNAUTHORIZED || !ours {
                break;
            }
            let better = self
                .authorization_after_refusal(
                    target,
                    scopes,
                    &answer.headers,
                    authorization.as_ref(),
                )
                .await?;
            if better.is_none() {
                break;
            }
            authorization = better;
            answer = self
                .exchange(&outgoing(authorization.as_ref()), retry)
                .await?;
        }
        if expected.contains(&answer.status) {
            return Ok(answer);
        }
        Err(self.refused(target, answer).await)
    }

    /// Sends `outgoing`, again after a pause where the failure may pass.
    async fn exchange(&self, outgoing: &Outgoing, retry: &Retry) -> Result<Answer, Error> {
        let action = format!("{} {}", outgoing.method, redacted(&outgoing.url));
        let mut failures = 0;
        loop {
            let result = self
                .inner
                .transport
                .send(&self.inner.settings, outgoing)
                .await;
            failures += 1;
            let pause = match &result {
                Ok(response) if retry::is_passing_status(response.status()) => {
                    let asked = retry::retry_after(response.headers(), SystemTime::now());
                    retry::pause(retry, failures, asked)
                }
                Err(error) => retry::pause_after(retry, failures, error),
                Ok(_) => None,
            };
            let Some(pause) = pause else {
                return match result {
                    Ok(response) => {
                        let host = host_of(&outgoing.url);
                        Ok(Answer::new(
                            response,
                            action,
                            host,
                            self.inner.settings.idle_timeout,
                        ))
                    }
                    Err(source) => Err(Error::Transport {
                        action,
                        source: source.into(),
                    }),
                };
            };
            tracing::debug!(%action, failures, pause_ms = pause.as_millis(), "trying again");
            tokio::time::sleep(pause).await;
        }
    }

    fn retry(&self) -> &Retry {
        &self.inner.settings.retry
    }
}

/// The URL of `place`. A URL of the same host on http is taken to https where the registry speaks https: registries
/// behind a proxy that ends TLS do not know about it.
fn resolve(base: &Url, target: &Target, place: &Place) -> Result<Url, Error> {
    match place {
        Place::Url(url) => {
            let mut url = url.clone();
            if base.scheme() == "https"
                && url.scheme() == "http"
                && url.host_str() == base.host_str()
            {
                // Both are of the kind that has a host, so the change of scheme is always possible.
                let _ = url.set_scheme("https");
            }
            Ok(url)
        }
        Place::Repository(path) => base
            .join(&format!("/v2/{}/{path}", target.repository))
            .map_err(|_| Error::Protocol {
                action: format!("GET {base}"),
                problem: format!("\"{path}\" is no path"),
            }),
    }
}

/// A URL without user, password and query, which hold signatures of storage providers.
fn redacted(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Only URLs without a host refuse this, and those are not called.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}
