//! The serving half of the distribution protocol: what `kiln registry serve` runs, and what tests start in process.
//!
//! It keeps blobs, manifests and tags in a directory and serves them. It does not build, sign, scan or replicate.
//! Blobs stream through it: no request holds more than a megabyte of one in memory.
//!
//! | question | place |
//! |---|---|
//! | which request a path is | `route.rs` (pure) |
//! | who may do what, tokens | `access.rs`, `token.rs` |
//! | uploads: whole, chunked, resumed, mounted | `upload.rs`, `session.rs` |
//! | ranges of blobs | `range.rs` (pure), `blob.rs` |
//! | manifests, tags, referrers, catalog | `manifest.rs`, `listing.rs` |
//! | how all of it lies on the disk | `storage.rs` |
//! | what is removed, and when | `collect.rs` |
//!
//! Source of the protocol: OCI distribution specification 1.1, the section names are given at the handlers; for
//! login, distribution's "Token Authentication".

mod access;
mod blob;
mod collect;
mod connection;
mod listing;
mod manifest;
mod range;
mod reply;
mod route;
mod session;
mod storage;
mod token;
mod upload;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use kiln_store::StoreError;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use access::{Access, Anonymous, Password, Protection, Rights, Scheme, User, UsersError};
pub use collect::{Collected, Policy, Untagged};
pub use connection::{Identity, TlsError};

use access::{Action, Guard};
use reply::{Problem, ReplyBody};
use route::Route;
use session::Uploads;
use storage::Storage;

/// Why a registry cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The directory.
    #[error("cannot use {} for a registry", dir.display())]
    Directory {
        /// Which one.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No random numbers for the key of tokens.
    #[error("the system gives no random numbers")]
    Random,
}

/// A registry in a directory.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    storage: Storage,
    uploads: Uploads,
    guard: Guard,
}

impl Registry {
    /// Opens the registry in `dir`, which is made when it is missing.
    ///
    /// # Errors
    /// [`ServeError`]
    pub fn open(dir: &Path, access: Access) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Directory {
            dir: dir.to_owned(),
            source,
        };
        let storage = Storage::open(dir)?;
        let uploads = Uploads::open(dir).map_err(failed)?;
        let guard = Guard::new(access).ok_or(ServeError::Random)?;
        Ok(Self {
            inner: Arc::new(Inner {
                storage,
                uploads,
                guard,
            }),
        })
    }

    /// Removes what `policy` calls garbage; requests go on meanwhile, uploads wait for a moment. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn collect(&self, policy: &Policy) -> Result<Collected, ServeError> {
        let failed = |source| ServeError::Directory {
            dir: self.inner.storage.root().to_owned(),
            source,
        };
        let mut collected = collect::collect(&self.inner.storage, policy)?;
        collected.uploads = self
            .inner
            .uploads
            .remove_older(policy.grace)
            .map_err(failed)?;
        Ok(collected)
    }

    /// Answers one request.
    async fn answer(&self, request: Request<Incoming>, origin: &str) -> Response<ReplyBody> {
        let method = request.method().clone();
        let result = self.route(request, origin).await;
        let mut response = result.unwrap_or_else(|problem| problem.response());
        if method == Method::HEAD {
            *response.body_mut() = reply::empty();
        }
        response
            .headers_mut()
            .insert("docker-distribution-api-version", reply::API_VERSION);
        response
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        origin: &str,
    ) -> Result<Response<ReplyBody>, Problem> {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let query = route::Query::parse(request.uri().query());
        let route = Route::parse(&path)?;
        if let Route::Token = route {
            return token::answer(&self.inner.guard, request).await;
        }
        let needs = needs(&route, &method, &query);
        self.inner
            .guard
            .check(request.headers(), &needs, origin)
            .await?;
        let inner = &self.inner;
        match route {
            Route::Base if is_read(&method) => Ok(reply::json(200, "{}")),
            Route::Catalog if is_read(&method) => listing::catalog(inner, &query).await,
            Route::Tags(name) if is_read(&method) => listing::tags(inner, name, &query).await,
            Route::Referrers(name, digest) if is_read(&method) => {
                listing::referrers(inner, name, digest, &query).await
            }
            Route::Manifest(name, reference) => match method {
                Method::GET | Method::HEAD => manifest::get(inner, name, reference).await,
                Method::PUT => manifest::put(inner, name, reference, request).await,
                Method::DELETE => manifest::delete(inner, name, reference).await,
                _ => Err(Problem::Method),
            },
            Route::Blob(name, digest) => match method {
                Method::GET | Method::HEAD => {
                    blob::get(inner, name, digest, request.headers()).await
                }
                Method::DELETE => blob::delete(inner, name, digest).await,
                _ => Err(Problem::Method),
            },
            Route::Uploads(name) if method == Method::POST => {
                upload::start(inner, name, &query, request).await
            }
            Route::Upload(name, id) => match method {
                Method::GET | Method::HEAD => upload::status(inner, name, id).await,
                Method::PATCH => upload::append(inner, name, id, request).await,
                Method::PUT => upload::finish(inner, name, id, (&query, request)).await,
                Method::DELETE => upload::cancel(inner, name, id).await,
                _ => Err(Problem::Method),
            },
            _ => Err(Problem::Method),
        }
    }
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// What a request needs: repository and action each.
fn needs(route: &Route<'_>, method: &Method, query: &route::Query) -> Vec<(String, Action)> {
    let action = if is_read(method) {
        Action::Pull
    } else {
        Action::Push
    };
    match route {
        Route::Base | Route::Token => Vec::new(),
        Route::Catalog => vec![("*".to_owned(), Action::Catalog)],
        // To ask how far an upload has come is part of writing.
        Route::Upload(name, _) => vec![((*name).to_owned(), Action::Push)],
        Route::Uploads(name) => {
            let mut needs = vec![((*name).to_owned(), Action::Push)];
            let from = query.get("from").filter(|_| query.get("mount").is_some());
            needs.extend(from.map(|from| (from.to_owned(), Action::Pull)));
            needs
        }
        Route::Tags(name)
        | Route::Referrers(name, _)
        | Route::Manifest(name, _)
        | Route::Blob(name, _) => vec![((*name).to_owned(), action)],
    }
}

/// A registry that listens; it stops when this is dropped.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Serving {
    /// Serves `registry` at `address` (port 0 chooses one), with TLS when there is an `identity`. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`ServeError::Listen`], [`ServeError::Tls`]
    pub async fn start(
        registry: Registry,
        address: SocketAddr,
        identity: Option<&Identity>,
    ) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen { address, source };
        let tls = identity.map(Identity::acceptor).transpose()?;
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(connection::accept(registry, listener, tls, stopped));
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and waits until the open requests are answered.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

/// Runs file operations beside the runtime's own threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Problem::Stopped))
}
