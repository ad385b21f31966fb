//! A registry that answers as a test tells it to, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures_util::stream::{self, StreamExt as _};
use kiln_registry::{Client, Keychain, Settings};

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub line: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub struct Scripted {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Scripted {
    /// Answers every request with what `script` makes of it; the number counts the equal request lines before it.
    pub async fn start(script: impl Fn(&Seen, usize) -> Response + Send + Sync + 'static) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), script).await
    }

    /// The same, at an address.
    pub async fn start_at(
        address: SocketAddr,
        script: impl Fn(&Seen, usize) -> Response + Send + Sync + 'static,
    ) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (log, script) = (seen.clone(), Arc::new(script));
        let handler = move |request: Request| {
            let (log, script) = (log.clone(), script.clone());
            async move {
                let (parts, body) = request.into_parts();
                let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
                    return reply(StatusCode::BAD_REQUEST);
                };
                let seen = Seen {
                    line: format!("{} {}", parts.method, parts.uri),
                    headers: parts.headers,
                    body,
                };
                let before = {
                    let mut log = log.lock().unwrap();
                    let before = log.iter().filter(|other| other.line == seen.line).count();
                    log.push(seen.clone());
                    before
                };
                script(&seen, before)
            }
        };
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(handler);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            seen,
            server,
        }
    }

    /// Every request so far, without the probe for TLS.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }

    pub fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|seen| *seen == line).count()
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub fn reply(status: StatusCode) -> Response {
    Response::builder()
        .status(status)
        .body(Body::empty())
        .unwrap()
}

pub fn with(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body.into()).unwrap()
}

/// Promises `length` bytes, sends `start`, and breaks the connection.
pub fn broken(status: u16, headers: &[(&str, &str)], start: &[u8], length: usize) -> Response {
    let start = Bytes::copy_from_slice(start);
    // A pending body makes the server send what it has before the connection breaks.
    let pieces = stream::once(async { Ok(start) }).chain(stream::once(async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        Err(std::io::Error::other("cut"))
    }));
    let mut response = with(status, headers, Body::from_stream(pieces));
    response
        .headers_mut()
        .insert("content-length", length.to_string().parse().unwrap());
    response
}

/// Pauses that a test can wait for.
pub fn quick() -> Settings {
    let mut settings = Settings::default();
    settings.retry.pauses = vec![std::time::Duration::from_millis(1); 2];
    settings
}

pub fn client(settings: Settings, keychain: Keychain) -> Client {
    Client::new(settings, keychain).unwrap()
}
