//! Reading: manifests, images, tags, referrers.

use bytes::Bytes;

use super::Client;
use crate::digest::Digest;
use crate::error::Error;
use crate::manifest::{Descriptor, ImageManifest, Manifest};
use crate::platform::Platform;
use crate::reference::Reference;

/// An image for one platform.
#[derive(Debug, Clone)]
pub struct Image {
    /// The image's name at the digest of its own manifest (not of the index that led to it).
    pub reference: Reference,
    /// What the name given stood for: the index, or the manifest itself.
    pub root: Descriptor,
    /// The manifest as received.
    pub manifest: Manifest,
    /// What the manifest says.
    pub body: ImageManifest,
    /// The configuration, verified.
    pub config: Bytes,
}

impl Client {
    /// Type, digest and size of a manifest, by HEAD (which Docker Hub does not count as a pull).
    ///
    /// `None` when it does not exist.
    ///
    /// # Errors
    /// [`Error`] when the registry cannot be asked.
    pub async fn head_manifest(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        todo!()
    }

    /// The manifest that `reference` names, verified against its digest.
    ///
    /// # Errors
    /// [`Error`]; [`Error::NotFound`] when it does not exist.
    pub async fn manifest(&self, reference: &Reference) -> Result<Manifest, Error> {
        todo!()
    }

    /// The image for `platform` that `reference` names, directly or through an index.
    ///
    /// # Errors
    /// [`Error`]; [`Error::NoPlatform`] when an index has nothing that fits.
    pub async fn image(&self, reference: &Reference, platform: &Platform) -> Result<Image, Error> {
        todo!()
    }

    /// All tags of the repository of `reference`, in the registry's order.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn tags(&self, reference: &Reference) -> Result<Vec<String>, Error> {
        todo!()
    }

    /// The manifests whose `subject` is `digest`, from the referrers API or the fallback tag.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn referrers(&self, reference: &Reference, digest: &Digest) -> Result<Vec<Descriptor>, Error> {
        todo!()
    }
}
