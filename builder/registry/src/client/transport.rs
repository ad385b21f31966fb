//! Sends one request: the right TLS for each host, http where it is allowed, redirects without credentials.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use reqwest::Response;
use rustls::CertificateError;
use rustls::crypto::CryptoProvider;
use url::Url;

use super::tls;
use crate::error::TransportError;
use crate::settings::{
    Connection, Endpoint, HttpVersion, Protocol, Proxies, Settings, SettingsError,
};

/// Redirects that are followed for one request.
const MAX_REDIRECTS: usize = 10;

/// A body that can be produced again for each try.
#[derive(Clone)]
pub(super) enum Body {
    /// None.
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes from elsewhere; the call opens them anew, and a failure to open is reported by the stream.
    Stream {
        length: u64,
        open: Arc<dyn Fn() -> reqwest::Body + Send + Sync>,
    },
}

/// One request, ready to be sent.
#[derive(Clone)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

/// Connections to all hosts.
#[derive(Debug)]
pub(super) struct Transport {
    provider: Arc<CryptoProvider>,
    roots: Arc<tls::Roots>,
    /// By host; hosts without settings of their own share the entry `None`.
    clients: Mutex<HashMap<Option<String>, reqwest::Client>>,
    /// What a host that may speak http turned out to speak.
    schemes: Mutex<HashMap<String, &'static str>>,
}

impl Transport {
    /// Checks the certificates and proxies of all hosts.
    pub(super) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let transport = Self {
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            roots: tls::Roots::new(&settings.authorities),
            clients: Mutex::default(),
            schemes: Mutex::default(),
        };
        transport.client(settings, None)?;
        for host in settings.hosts.keys() {
            transport.client(settings, Some(Endpoint::of_registry(host).host()))?;
        }
        Ok(transport)
    }

    /// The URL of `endpoint` up to its host, with the protocol that it speaks.
    pub(super) async fn base(
        &self,
        settings: &Settings,
        endpoint: &Endpoint,
    ) -> Result<Url, TransportError> {
        let host = endpoint.host();
        let scheme = match settings.connection(endpoint).protocol {
            Protocol::Https => "https",
            Protocol::Plain => "http",
            Protocol::PlainAllowed => self.probed_scheme(settings, host).await?,
        };
        address(scheme, host)
    }

    /// https unless the host does not speak TLS at all. Remembered once it is known.
    async fn probed_scheme(
        &self,
        settings: &Settings,
        host: &str,
    ) -> Result<&'static str, TransportError> {
        let known = lock(&self.schemes).get(host).copied();
        if let Some(scheme) = known {
            return Ok(scheme);
        }
        let scheme = if has_port(host) {
            self.scheme_of_port(settings, host).await?
        } else {
            match self.probe(settings, "https", host).await {
                Ok(_) => Some("https"),
                Err(
                    TransportError::NotTls { .. }
                    | TransportError::Unconnected { .. }
                    | TransportError::Refused { .. }
                    | TransportError::Timeout { .. },
                ) => Some("http"),
                Err(error @ TransportError::UnknownHost { .. }) => return Err(error),
                Err(_) => None,
            }
        };
        // It does speak TLS; what is wrong with it is for the real request to report.
        let Some(scheme) = scheme else {
            return Ok("https");
        };
        lock(&self.schemes).insert(host.to_owned(), scheme);
        Ok(scheme)
    }

    /// What a named port speaks: one port speaks either, so both are asked at once. Many a server
    /// takes tens of milliseconds to refuse a TLS greeting that it does not understand; a registry
    /// that answers plain http at once need not be waited for.
    async fn scheme_of_port(
        &self,
        settings: &Settings,
        host: &str,
    ) -> Result<Option<&'static str>, TransportError> {
        let tls = self.probe(settings, "https", host);
        let plain = async {
            match self.probe(settings, "http", host).await {
                // A TLS port answers plain http with 400, if at all.
                Ok(StatusCode::OK | StatusCode::UNAUTHORIZED) => {}
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = tls => match answer {
                Ok(_) => Ok(Some("https")),
                Err(TransportError::NotTls { .. } | TransportError::Unconnected { .. }) => {
                    Ok(Some("http"))
                }
                Err(
                    error @ (TransportError::Refused { .. } | TransportError::UnknownHost { .. }),
                ) => Err(error),
                Err(_) => Ok(None),
            },
            () = plain => Ok(Some("http")),
        }
    }

    /// Asks for the root of the protocol, without credentials.
    async fn probe(
        &self,
        settings: &Settings,
        scheme: &str,
        host: &str,
    ) -> Result<StatusCode, TransportError> {
        let mut url = address(scheme, host)?;
        url.set_path("/v2/");
        let probe = Outgoing {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: Body::Empty,
        };
        let response = self.send_once(settings, &probe).await?;
        Ok(response.status())
    }

    /// Sends `request` and follows redirects. `Authorization` goes to the first host only.
    pub(super) async fn send(
        &self,
        settings: &Settings,
        request: &Outgoing,
    ) -> Result<Response, TransportError> {
        let mut request = request.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_once(settings, &request).await?;
            let Some(next) = redirect(&request, &response) else {
                return Ok(response);
            };
            let host = host_of(&request.url);
            let next = next.ok_or(TransportError::Redirect {
                host: host.clone(),
                problem: "to something that is no address",
            })?;
            if next.scheme() == "http"
                && request.url.scheme() == "https"
                && !plain_allowed(settings, &next)
            {
                return Err(TransportError::Redirect {
                    host,
                    problem: "from https to http",
                });
            }
            if !same_host(&request.url, &next) {
                request.headers.remove(AUTHORIZATION);
            }
            request.url = next;
        }
        Err(TransportError::Redirect {
            host: host_of(&request.url),
            problem: "too often",
        })
    }

    async fn send_once(
        &self,
        settings: &Settings,
        request: &Outgoing,
    ) -> Result<Response, TransportError> {
        let host = host_of(&request.url);
        let broken = |source: Box<dyn StdError + Send + Sync>| TransportError::Broken {
            host: host.clone(),
            source,
        };
        let client = self
            .client(settings, Some(&host))
            .map_err(|error| broken(error.into()))?;
        let mut builder = client
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone());
        builder = match &request.body {
            Body::Empty if matches!(request.method, Method::POST | Method::PUT | Method::PATCH) => {
                builder.header(http::header::CONTENT_LENGTH, 0)
            }
            Body::Empty => builder,
            Body::Bytes(bytes) => builder.body(bytes.clone()),
            Body::Stream { length, open } => builder
                .header(http::header::CONTENT_LENGTH, *length)
                .body(open()),
        };
        let sending = builder.send();
        let result = match request.body {
            // The server answers only after the whole body, however long that takes.
            Body::Stream { .. } => sending.await,
            _ => within(settings.idle_timeout, &host, sending).await?,
        };
        result.map_err(|error| classify(&host, error.without_url()))
    }

    fn client(
        &self,
        settings: &Settings,
        host: Option<&str>,
    ) -> Result<reqwest::Client, SettingsError> {
        let key = host
            .filter(|host| settings.host(host).is_some())
            .map(str::to_owned);
        if let Some(client) = lock(&self.clients).get(&key) {
            return Ok(client.clone());
        }
        let connection = match &key {
            Some(host) => settings.connection(&Endpoint::of_registry(host)),
            None => settings.everywhere.clone(),
        };
        let client = self.build(settings, &connection)?;
        lock(&self.clients).insert(key, client.clone());
        Ok(client)
    }

    fn build(
        &self,
        settings: &Settings,
        connection: &Connection,
    ) -> Result<reqwest::Client, SettingsError> {
        let tls = tls::configuration(&self.provider, &self.roots, connection)?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(&settings.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(settings.connect_timeout)
            .retry(reqwest::retry::never())
            .no_proxy();
        if connection.http == HttpVersion::Http1 {
            builder = builder.http1_only();
        }
        for proxy in proxies(&settings.proxies)? {
            builder = builder.proxy(proxy);
        }
        builder.build().map_err(SettingsError::Http)
    }
}

/// Waits for `future`, but not longer than `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    host: &str,
    future: impl Future<Output = T>,
) -> Result<T, TransportError> {
    tokio::time::timeout(limit, future)
        .await
        .map_err(|_| TransportError::Timeout {
            host: host.to_owned(),
        })
}

/// `host:port`, without the port where it is the scheme's own.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether credentials for one URL may go to the other: same host, same port, and not from https to http.
pub(super) fn same_host(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

/// Whether plain http may be spoken with the host of `url`.
pub(super) fn plain_allowed(settings: &Settings, url: &Url) -> bool {
    settings
        .connection(&Endpoint::of_registry(&host_of(url)))
        .protocol
        != Protocol::Https
}

fn address(scheme: &str, host: &str) -> Result<Url, TransportError> {
    Url::parse(&format!("{scheme}://{host}/")).map_err(|_| TransportError::UnknownHost {
        host: host.to_owned(),
    })
}

fn proxies(settings: &Proxies) -> Result<Vec<reqwest::Proxy>, SettingsError> {
    let except = settings
        .except
        .as_deref()
        .and_then(reqwest::NoProxy::from_string);
    let mut proxies = Vec::new();
    for (address, https) in [(&settings.http, false), (&settings.https, true)] {
        let Some(address) = address.as_deref().filter(|address| !address.is_empty()) else {
            continue;
        };
        let proxy = if https {
            reqwest::Proxy::https(address)
        } else {
            reqwest::Proxy::http(address)
        };
        let proxy = proxy.map_err(|source| SettingsError::Proxy {
            address: address.rsplit('@').next().unwrap_or_default().to_owned(),
            source: source.without_url(),
        })?;
        proxies.push(proxy.no_proxy(except.clone()));
    }
    Ok(proxies)
}

/// Where to go next: `None` when the response is final, `Some(None)` when the address is not usable.
fn redirect(request: &Outgoing, response: &Response) -> Option<Option<Url>> {
    let reading = matches!(request.method, Method::GET | Method::HEAD);
    let follow = match response.status() {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => reading,
        _ => false,
    };
    let location = response.headers().get(LOCATION).filter(|_| follow)?;
    let next = location
        .to_str()
        .ok()
        .and_then(|text| request.url.join(text).ok());
    Some(next.filter(|url| matches!(url.scheme(), "http" | "https")))
}

/// Tells the failures apart that a user can do something about.
pub(super) fn classify(host: &str, error: reqwest::Error) -> TransportError {
    let host = host.to_owned();
    if error.is_timeout() {
        return TransportError::Timeout { host };
    }
    if let Some(tls) = find::<rustls::Error>(&error) {
        return classify_tls(host, tls.clone());
    }
    if is_unresolved(&error) {
        return TransportError::UnknownHost { host };
    }
    match find::<std::io::Error>(&error).map(std::io::Error::kind) {
        Some(ErrorKind::ConnectionRefused) => TransportError::Refused { host },
        Some(ErrorKind::TimedOut) => TransportError::Timeout { host },
        _ if error.is_connect() => TransportError::Unconnected {
            host,
            source: error.into(),
        },
        _ => TransportError::Broken {
            host,
            source: error.into(),
        },
    }
}

fn classify_tls(host: String, error: rustls::Error) -> TransportError {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            TransportError::UnknownAuthority { host }
        }
        rustls::Error::InvalidCertificate(_) => TransportError::Certificate {
            host,
            source: error,
        },
        rustls::Error::InvalidMessage(_) => TransportError::NotTls { host },
        rustls::Error::AlertReceived(_) => TransportError::TlsRefused {
            host,
            source: error,
        },
        other => TransportError::Broken {
            host,
            source: other.into(),
        },
    }
}

/// The resolver's error has no type of its own; hyper wraps it in one that only says so in words.
fn is_unresolved(error: &(dyn StdError + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(link) = current {
        if link.to_string().starts_with("dns error") {
            return true;
        }
        current = link.source();
    }
    false
}

/// The first error of type `T` in the chain, also inside `io::Error`s, whose `source` skips what they wrap.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut current = Some(error);
    while let Some(link) = current {
        if let Some(found) = link.downcast_ref::<T>() {
            return Some(found);
        }
        if let Some(inner) = link
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            let inner: &(dyn StdError + 'static) = inner;
            if let Some(found) = find::<T>(inner) {
                return Some(found);
            }
        }
        current = link.source();
    }
    None
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
