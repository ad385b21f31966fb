//! Whether an image is in its registry already, so that nothing has to be built.
//!
//! The registry is asked each time: a tag that somebody deleted is built
//! again. What a key became under tags that do not say it (git, dates) is
//! remembered in a file ([`Records`]).

mod ask;
mod records;

use std::future::Future;

use kiln_registry::{Client, Reference};
use kiln_schemas::image::ImageDigest;

pub(crate) use ask::head;
pub(crate) use records::write as write_json;
pub use records::{Records, RecordsError};

/// The registry gave no usable answer about a reference.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The text is not a reference.
    #[error("`{reference}` is not an image reference")]
    Reference {
        /// The text.
        reference: String,
        /// Why.
        #[source]
        source: kiln_registry::reference::ReferenceError,
    },
    /// It cannot be asked, or refused to answer.
    #[error("cannot ask the registry for {reference}")]
    Registry {
        /// What was asked for.
        reference: String,
        /// Why.
        #[source]
        source: Box<kiln_registry::Error>,
    },
    /// Its digest is not one that Kiln can put into manifests.
    #[error("the registry names {reference} by a digest that is not sha256")]
    Digest {
        /// What was asked for.
        reference: String,
        /// What it said.
        #[source]
        source: kiln_schemas::image::BadDigest,
    },
}

/// Asks a registry, from wherever it is reachable.
pub trait Registry {
    /// The manifest's digest, or `None` when there is no such image.
    fn digest(
        &self,
        reference: &str,
    ) -> impl Future<Output = Result<Option<ImageDigest>, CacheError>> + Send;

    /// Makes the reference's tag lead to a digest of the same repository.
    /// `false` when that digest is not there any more.
    fn retag(
        &self,
        digest: &ImageDigest,
        reference: &str,
    ) -> impl Future<Output = Result<bool, CacheError>> + Send;
}

impl Registry for Client {
    async fn digest(&self, reference: &str) -> Result<Option<ImageDigest>, CacheError> {
        let parsed = parse(reference)?;
        let failed = failed(reference);
        match ask::head(self, &parsed).await.map_err(failed)? {
            Some(descriptor) => image_digest(reference, &descriptor.digest).map(Some),
            None => Ok(None),
        }
    }

    async fn retag(&self, digest: &ImageDigest, reference: &str) -> Result<bool, CacheError> {
        if self.digest(reference).await?.as_ref() == Some(digest) {
            return Ok(true);
        }
        let target = parse(reference)?;
        let failed = failed(reference);
        let origin = parse(&format!("{}@{digest}", target.name()))?;
        // HEAD first: absence is the ordinary case after a clean-up, not an error.
        if ask::head(self, &origin).await.map_err(failed)?.is_none() {
            return Ok(false);
        }
        let manifest = ask::manifest(self, &origin).await.map_err(failed)?;
        self.push_manifest(&target, &manifest)
            .await
            .map_err(failed)?;
        Ok(true)
    }
}

/// Says which reference could not be asked for.
fn failed(reference: &str) -> impl Fn(kiln_registry::Error) -> CacheError + Copy {
    |source| CacheError::Registry {
        reference: reference.to_owned(),
        source: Box::new(source),
    }
}

pub(crate) fn parse(reference: &str) -> Result<Reference, CacheError> {
    Reference::parse(reference).map_err(|source| CacheError::Reference {
        reference: reference.to_owned(),
        source,
    })
}

pub(crate) fn image_digest(
    reference: &str,
    digest: &kiln_registry::Digest,
) -> Result<ImageDigest, CacheError> {
    ImageDigest::parse(&digest.to_string()).map_err(|source| CacheError::Digest {
        reference: reference.to_owned(),
        source,
    })
}
