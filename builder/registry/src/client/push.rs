//! Writing: blobs, manifests, tags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};

use super::answer::{Answer, is_immutable_tag, misses_a_blob};
use super::auth::Scopes;
use super::pull::referrers_tag;
use super::retry::pause;
use super::target::Target;
use super::transport::Body;
use super::upload::MountAnswer;
use super::{Client, Request};
use crate::digest::{Digest, Mismatch};
use crate::error::Error;
use crate::manifest::{Descriptor, Index, Manifest, ManifestBody};
use crate::media_type::MediaType;
use crate::reference::Reference;

/// Bytes that can be read again from the start, for uploads that have to be repeated.
#[derive(Debug, Clone)]
pub struct BlobSource {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) content: Content,
    mounts: Vec<Reference>,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Bytes(Bytes),
    File(PathBuf),
}

impl BlobSource {
    /// Bytes in memory; their digest is computed here.
    #[must_use]
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            digest: Digest::sha256(&bytes),
            size: bytes.len() as u64,
            content: Content::Bytes(bytes),
            mounts: Vec::new(),
        }
    }

    /// A file that holds exactly the content of `descriptor`.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>, descriptor: &Descriptor) -> Self {
        Self {
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            content: Content::File(path.into()),
            mounts: Vec::new(),
        }
    }

    /// Says that the repository of `origin` has this blob. Where it lies in the registry that is pushed to, the blob
    /// is mounted from there and not sent.
    #[must_use]
    pub fn mountable_from(mut self, origin: &Reference) -> Self {
        self.mounts.push(origin.clone());
        self
    }

    /// The digest under which the blob is pushed.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Is told how many bytes of a blob have been sent; goes back when an upload starts over.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Fn(u64) + Send + Sync>>);

impl Progress {
    /// Calls `report` with the number of bytes sent so far.
    pub fn new(report: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(report)))
    }

    /// Tells nobody.
    #[must_use]
    pub fn silent() -> Self {
        Self(None)
    }

    pub(super) fn report(&self, sent: u64) {
        if let Some(report) = &self.0 {
            report(sent);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// How a blob came to be in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// It was there already.
    Present,
    /// It was mounted from this repository of the same registry.
    Mounted(String),
    /// Its bytes were sent.
    Uploaded,
}

/// The answer to a request to mount a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// The blob is in the target repository now.
    Mounted,
    /// The registry would rather have the bytes.
    Refused,
}

impl Client {
    /// Brings a blob into the repository of `target`: it is there, is mounted, or is sent.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn push_blob(
        &self,
        target: &Reference,
        blob: &BlobSource,
        progress: &Progress,
    ) -> Result<Pushed, Error> {
        let place = self.push_target(target);
        let scopes = Scopes::push(&place.repository);
        if self.has_blob(&place, &scopes, &blob.digest).await? {
            progress.report(blob.size);
            return Ok(Pushed::Present);
        }
        let mut session = None;
        for origin in &blob.mounts {
            if origin.registry() != target.registry() || origin.repository() == target.repository()
            {
                continue;
            }
            match self
                .try_mount(&place, &self.push_target(origin).repository, &blob.digest)
                .await?
            {
                MountAnswer::Mounted => {
                    progress.report(blob.size);
                    return Ok(Pushed::Mounted(origin.name()));
                }
                MountAnswer::UploadInstead(begun) => session = Some(begun),
                MountAnswer::Refused => {}
            }
        }
        // Held while bytes are sent only: looking and mounting cost nothing.
        let _permit = self.inner.uploads.acquire().await;
        self.upload(&place, blob, session, progress).await?;
        Ok(Pushed::Uploaded)
    }

    /// Mounts a blob of `origin`'s repository into `target`'s; both must be in the same registry.
    ///
    /// # Errors
    /// [`Error`]; a registry that does not mount answers [`Mount::Refused`], which is no error.
    pub async fn mount_blob(
        &self,
        target: &Reference,
        origin: &Reference,
        digest: &Digest,
    ) -> Result<Mount, Error> {
        if origin.registry() != target.registry() {
            return Ok(Mount::Refused);
        }
        let place = self.push_target(target);
        match self
            .try_mount(&place, &self.push_target(origin).repository, digest)
            .await?
        {
            MountAnswer::Mounted => Ok(Mount::Mounted),
            MountAnswer::Refused => Ok(Mount::Refused),
            MountAnswer::UploadInstead(session) => {
                self.cancel(&place, session).await;
                Ok(Mount::Refused)
            }
        }
    }

    /// Puts `manifest` under the tag of `target`, or under its own digest where `target` has no tag. Every blob and
    /// manifest that it names must be there already.
    ///
    /// # Errors
    /// [`Error`]; [`Error::ImmutableTag`] when the tag exists and may not be changed.
    pub async fn push_manifest(
        &self,
        target: &Reference,
        manifest: &Manifest,
    ) -> Result<(), Error> {
        let place = self.push_target(target);
        let identifier = target
            .tag()
            .map_or_else(|| manifest.digest().to_string(), str::to_owned);
        let request = Request::new(Method::PUT, format!("manifests/{identifier}"))
            .with_header(CONTENT_TYPE, manifest.media_type().as_str())
            .with_body(Body::Bytes(manifest.bytes().clone()));
        let expected = [
            StatusCode::CREATED,
            StatusCode::OK,
            StatusCode::ACCEPTED,
            StatusCode::NO_CONTENT,
        ];
        let answer = self
            .put_manifest(&place, &request, &expected)
            .await
            .map_err(|error| immutable(error, target))?;
        let received = answer
            .header("docker-content-digest")
            .and_then(|text| text.parse().ok());
        if let Some(actual) = received
            && Digest::algorithm(&actual) == manifest.digest().algorithm()
            && actual != *manifest.digest()
        {
            let source = Mismatch::Digest {
                expected: manifest.digest().clone(),
                actual,
            };
            return Err(Error::Content {
                host: answer.host,
                source,
            });
        }
        match subject(manifest) {
            Some(subject) if answer.header("oci-subject").is_none() => {
                self.record_referrer(target, &subject, manifest).await
            }
            _ => Ok(()),
        }
    }

    /// Sends a manifest; again a little later where the registry misses a blob of it. The blobs were all found or sent
    /// before, so it will know them soon: distribution (3.0.0, on a file system) empties the link of a blob for the
    /// moment in which somebody else pushes the same blob, and stores behind other registries show late what is new.
    async fn put_manifest(
        &self,
        place: &Target,
        request: &Request,
        expected: &[StatusCode],
    ) -> Result<Answer, Error> {
        let scopes = Scopes::push(&place.repository);
        let mut failures = 0;
        loop {
            let error = match self
                .request(place, &scopes, request, self.retry(), expected)
                .await
            {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Error::Unexpected { message, .. } = &error else {
                return Err(error);
            };
            failures += 1;
            match pause(self.retry(), failures, None) {
                Some(pause) if misses_a_blob(message) => tokio::time::sleep(pause).await,
                _ => return Err(error),
            }
        }
    }

    /// Whether these credentials may push to the repository of `target`: starts an upload and cancels it.
    ///
    /// # Errors
    /// [`Error::Unauthorized`], [`Error::Denied`], or others as for a push.
    pub async fn check_push(&self, target: &Reference) -> Result<(), Error> {
        let place = self.push_target(target);
        let session = self.begin_upload(&place).await?;
        self.cancel(&place, session).await;
        Ok(())
    }

    /// Keeps the fallback tag for registries without a referrers API (OCI distribution specification, "Pushing
    /// Manifests with Subject").
    async fn record_referrer(
        &self,
        target: &Reference,
        subject: &Descriptor,
        manifest: &Manifest,
    ) -> Result<(), Error> {
        let mut manifests = self.referrers_by_tag(target, &subject.digest).await?;
        if manifests
            .iter()
            .any(|known| known.digest == *manifest.digest())
        {
            return Ok(());
        }
        let mut entry = manifest.descriptor();
        if let Ok(ManifestBody::Image(image)) = manifest.parse() {
            entry.artifact_type = image
                .artifact_type
                .or_else(|| Some(image.config.media_type.as_str().to_owned()));
            entry.annotations = image.annotations;
        }
        manifests.push(entry);
        let index = Index {
            schema_version: 2,
            media_type: Some(MediaType::OciIndex),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        };
        let tag = referrers_tag(target, &subject.digest);
        let bytes = serde_json::to_vec(&index).map_err(|source| Error::Source {
            digest: subject.digest.clone(),
            source: source.into(),
        })?;
        // The index itself has no subject, so this goes no deeper.
        Box::pin(self.push_manifest(&tag, &Manifest::new(MediaType::OciIndex, bytes))).await
    }
}

/// What a manifest is about, if it is about another one.
fn subject(manifest: &Manifest) -> Option<Descriptor> {
    match manifest.parse().ok()? {
        ManifestBody::Image(image) => image.subject,
        ManifestBody::Index(index) => index.subject,
    }
}

fn immutable(error: Error, target: &Reference) -> Error {
    match error {
        Error::Unexpected { message, .. } | Error::Denied { message, .. }
            if is_immutable_tag(&message) =>
        {
            Error::ImmutableTag {
                reference: target.to_string(),
                message,
            }
        }
        other => other,
    }
}
