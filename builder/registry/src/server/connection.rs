//! Takes connections, with TLS or without, and hands their requests on.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::Registry;

/// How long open requests may take once the registry is stopped.
const FAREWELL: Duration = Duration::from_secs(30);
/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// A server's certificate with its key, both PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, then its intermediates.
    pub certificates: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate or key in the text.
    #[error("there is no {0} in PEM format")]
    Missing(&'static str),
    /// The TLS library refuses it.
    #[error("the certificate and its key cannot be used")]
    Refused(#[from] rustls::Error),
}

impl Identity {
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&self.certificates)
                .collect::<Result<_, _>>()
                .map_err(|_| TlsError::Missing("certificate"))?;
        if certificates.is_empty() {
            return Err(TlsError::Missing("certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| TlsError::Missing("private key"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Serves until `stopped` becomes true, then waits for open requests.
pub(super) async fn accept(
    registry: Registry,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    mut stopped: watch::Receiver<bool>,
) {
    let graceful = Arc::new(GracefulShutdown::new());
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (registry, tls) = (registry.clone(), tls.clone());
                    let watcher = graceful.watcher();
                    connections.spawn(serve(registry, stream, tls, watcher));
                }
                Err(error) => {
                    // No file handles, mostly: some will be closed soon.
                    tracing::warn!(%error, "a connection was not taken");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            _ = connections.join_next(), if !connections.is_empty() => {}
            () = told(&mut stopped) => break,
        }
    }
    drop(listener);
    let end = async {
        if let Some(graceful) = Arc::into_inner(graceful) {
            graceful.shutdown().await;
        }
        while connections.join_next().await.is_some() {}
    };
    // What is still open then is cut off.
    let _ = tokio::time::timeout(FAREWELL, end).await;
}

/// Comes back when the registry is to stop.
async fn told(stopped: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could say so.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn serve(
    registry: Registry,
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let local = stream.local_addr().ok();
    let _ = stream.set_nodelay(true);
    match tls {
        None => requests(registry, stream, ("http", local), watcher).await,
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => requests(registry, stream, ("https", local), watcher).await,
            Ok(Err(error)) => tracing::debug!(%error, "no TLS"),
            Err(_) => tracing::debug!("no TLS within the time"),
        },
    }
}

async fn requests(
    registry: Registry,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    (scheme, local): (&'static str, Option<SocketAddr>),
    watcher: hyper_util::server::graceful::Watcher,
) {
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let registry = registry.clone();
        async move {
            // As the client calls us: a proxy in between may have another address.
            let host = request
                .headers()
                .get(HOST)
                .and_then(|host| host.to_str().ok())
                .or_else(|| request.uri().authority().map(http::uri::Authority::as_str))
                .map(str::to_owned)
                .or_else(|| local.map(|local| local.to_string()))
                .unwrap_or_default();
            let origin = format!("{scheme}://{host}");
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let response = registry.answer(request, &origin).await;
            tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
            Ok::<_, Infallible>(response)
        }
    });
    let builder = Builder::new(TokioExecutor::new());
    let connection = builder
        .serve_connection(TokioIo::new(stream), service)
        .into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection broke");
    }
}
