//! Asks a registry from a thread of its own.
//!
//! The client's reading futures hold async closures over borrowed arguments,
//! which the compiler cannot prove to be `Send` for every lifetime
//! (rust-lang/rust#110338); builds are spawned as tasks, which have to be.

use std::future::Future;

use kiln_registry::manifest::{Descriptor, Manifest};
use kiln_registry::{Client, Error, Reference};
use tokio::runtime::Handle;

/// [`Client::head_manifest`].
pub(crate) async fn head(
    client: &Client,
    reference: &Reference,
) -> Result<Option<Descriptor>, Error> {
    let (client, reference) = (client.clone(), reference.clone());
    aside(move || async move { client.head_manifest(&reference).await }).await
}

/// [`Client::manifest`].
pub(super) async fn manifest(client: &Client, reference: &Reference) -> Result<Manifest, Error> {
    let (client, reference) = (client.clone(), reference.clone());
    aside(move || async move { client.manifest(&reference).await }).await
}

async fn aside<T, F, Run>(make: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> Run + Send + 'static,
    Run: Future<Output = T>,
{
    let runtime = Handle::current();
    match tokio::task::spawn_blocking(move || runtime.block_on(make())).await {
        Ok(answer) => answer,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking tasks are never cancelled once they run; this is the
            // runtime going away under everything.
            Err(_) => std::future::pending().await,
        },
    }
}
