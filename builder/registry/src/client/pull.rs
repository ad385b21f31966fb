//! Reading: manifests, images, tags, referrers.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LINK};
use http::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::answer::Answer;
use super::auth::Scopes;
use super::target::Target;
use super::{Client, Place, Request};
use crate::digest::{Digest, Mismatch};
use crate::error::Error;
use crate::manifest::{Descriptor, ImageManifest, Index, Manifest, ManifestBody};
use crate::media_type::MediaType;
use crate::platform::{self, Platform};
use crate::reference::Reference;
use crate::settings::Retry;

/// The largest manifest that is accepted (the OCI distribution specification asks registries for 4 MiB at least).
const MAX_MANIFEST: u64 = 16 << 20;
/// The largest configuration that is accepted.
const MAX_CONFIG: u64 = 16 << 20;
/// The largest page of tags that is accepted.
const MAX_PAGE: u64 = 16 << 20;

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

#[derive(Deserialize)]
struct TagPage {
    tags: Option<Vec<String>>,
}

impl Client {
    /// Type, digest and size of a manifest, by HEAD (which Docker Hub does not count as a pull).
    ///
    /// `None` when it does not exist.
    ///
    /// # Errors
    /// [`Error`] when the registry cannot be asked.
    pub async fn head_manifest(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        let found = self
            .first_of(reference, async |target, retry| {
                let request = manifest_request(Method::HEAD, reference);
                let scopes = Scopes::pull(&target.repository);
                let answer = self
                    .request(target, &scopes, &request, retry, &[StatusCode::OK])
                    .await?;
                match described(&answer, reference.digest()) {
                    Some(descriptor) => Ok(descriptor),
                    // Registries may leave these headers out of an answer to HEAD.
                    None => Ok(self
                        .fetch_manifest(target, reference, retry)
                        .await?
                        .descriptor()),
                }
            })
            .await;
        match found {
            Ok(descriptor) => Ok(Some(descriptor)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The manifest that `reference` names, verified against its digest.
    ///
    /// # Errors
    /// [`Error`]; [`Error::NotFound`] when it does not exist.
    pub async fn manifest(&self, reference: &Reference) -> Result<Manifest, Error> {
        self.first_of(reference, async |target, retry| {
            self.fetch_manifest(target, reference, retry).await
        })
        .await
    }

    /// The image for `platform` that `reference` names, directly or through an index.
    ///
    /// A name that stands for one image gives that image, whatever its platform is: the configuration tells.
    ///
    /// # Errors
    /// [`Error`]; [`Error::NoPlatform`] when an index has nothing that fits.
    pub async fn image(&self, reference: &Reference, platform: &Platform) -> Result<Image, Error> {
        let mut manifest = self.manifest(reference).await?;
        let root = manifest.descriptor();
        let mut name = reference.with_digest(root.digest.clone());
        // An index may lead to another index; more than a few of them is a mistake or an attack.
        for _ in 0..4 {
            let invalid = |source| Error::Manifest {
                reference: name.to_string(),
                source,
            };
            match manifest.parse().map_err(invalid)? {
                ManifestBody::Image(body) => {
                    let config = self.blob_bytes(&name, &body.config, MAX_CONFIG).await?;
                    return Ok(Image {
                        reference: name,
                        root,
                        manifest,
                        body,
                        config,
                    });
                }
                ManifestBody::Index(index) => {
                    let Some(entry) = platform::choose(&index, platform) else {
                        return Err(no_platform(reference, platform, &index));
                    };
                    name = reference.with_digest(entry.digest.clone());
                    manifest = self.manifest(&name).await?;
                }
            }
        }
        Err(Error::Protocol {
            action: format!("GET {reference}"),
            problem: "indexes lead to indexes without end".to_owned(),
        })
    }

    /// All tags of the repository of `reference`, in the registry's order.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn tags(&self, reference: &Reference) -> Result<Vec<String>, Error> {
        let target = self.push_target(reference);
        let scopes = Scopes::pull(&target.repository);
        let mut tags = Vec::new();
        let mut request = Request::new(Method::GET, "tags/list");
        loop {
            let answer = self
                .request(&target, &scopes, &request, self.retry(), &[StatusCode::OK])
                .await?;
            let next = next_page(&answer)?;
            let page = answer.protocol_error("it is no list of tags");
            let body = answer.bytes(MAX_PAGE).await?;
            let parsed: TagPage = serde_json::from_slice(&body).map_err(|_| page)?;
            tags.extend(parsed.tags.unwrap_or_default());
            match next {
                Some(url) => request.place = Place::Url(url),
                None => return Ok(tags),
            }
        }
    }

    /// The manifests whose `subject` is `digest`, from the referrers API or, where a registry has none, from the
    /// fallback tag (OCI distribution specification, "Listing Referrers").
    ///
    /// # Errors
    /// [`Error`]
    pub async fn referrers(
        &self,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        let target = self.push_target(reference);
        let scopes = Scopes::pull(&target.repository);
        let mut found = Vec::new();
        let mut request = Request::new(Method::GET, format!("referrers/{digest}"))
            .with_header(ACCEPT, MediaType::OciIndex.as_str());
        loop {
            let answer = match self
                .request(&target, &scopes, &request, self.retry(), &[StatusCode::OK])
                .await
            {
                Ok(answer) => answer,
                Err(error) if error.is_not_found() => {
                    return self.referrers_by_tag(reference, digest).await;
                }
                Err(error) => return Err(error),
            };
            let next = next_page(&answer)?;
            let invalid = answer.protocol_error("it is no index of referrers");
            let body = answer.bytes(MAX_MANIFEST).await?;
            let index: Index = serde_json::from_slice(&body).map_err(|_| invalid)?;
            found.extend(index.manifests);
            match next {
                Some(url) => request.place = Place::Url(url),
                None => return Ok(found),
            }
        }
    }

    pub(super) async fn referrers_by_tag(
        &self,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        let tag = referrers_tag(reference, digest);
        let target = self.push_target(&tag);
        let manifest = match self.fetch_manifest(&target, &tag, self.retry()).await {
            Ok(manifest) => manifest,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        match manifest.parse() {
            Ok(ManifestBody::Index(index)) => Ok(index.manifests),
            Ok(ManifestBody::Image(_)) => Ok(Vec::new()),
            Err(source) => Err(Error::Manifest {
                reference: tag.to_string(),
                source,
            }),
        }
    }

    /// Where pushes of `reference` go.
    pub(super) fn push_target(&self, reference: &Reference) -> Target {
        Target::for_push(&self.inner.settings, reference)
    }

    /// Tries the mirrors in order and then the registry itself. Whatever is wrong with a mirror, the next is asked at
    /// once; only the last is tried again. The error is that of the last.
    async fn first_of<T>(
        &self,
        reference: &Reference,
        attempt: impl AsyncFn(&Target, &Retry) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let targets = Target::for_pull(&self.inner.settings, reference);
        // There is always the registry itself, or a mirror where it must not be asked.
        let (last, mirrors) = targets
            .split_last()
            .unwrap_or_else(|| unreachable!("a pull has a target"));
        for mirror in mirrors {
            match attempt(mirror, &Retry::never()).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    tracing::warn!(mirror = mirror.endpoint.host(), %reference, %error, "mirror failed, asking the next");
                }
            }
        }
        attempt(last, self.retry()).await
    }

    async fn fetch_manifest(
        &self,
        target: &Target,
        reference: &Reference,
        retry: &Retry,
    ) -> Result<Manifest, Error> {
        let request = manifest_request(Method::GET, reference);
        let scopes = Scopes::pull(&target.repository);
        let mut failures = 0;
        let (content_type, host, promised, bytes) = loop {
            let answer = self
                .request(target, &scopes, &request, retry, &[StatusCode::OK])
                .await
                .map_err(|error| named(error, reference))?;
            let content_type = answer.header(CONTENT_TYPE).map(str::to_owned);
            let host = answer.host.clone();
            let promised = answer
                .header("docker-content-digest")
                .and_then(|text| text.parse::<Digest>().ok());
            failures += 1;
            match answer.bytes(MAX_MANIFEST).await {
                Ok(bytes) => break (content_type, host, promised, bytes),
                Err(error) => {
                    let pause = match &error {
                        Error::Transport { source, .. } => {
                            super::retry::pause_after(retry, failures, source)
                        }
                        _ => None,
                    };
                    tokio::time::sleep(pause.ok_or(error)?).await;
                }
            }
        };
        // The digest in the name is what counts; without one the registry's own word must at least hold.
        let expected = reference.digest().cloned().or(promised);
        let actual = match &expected {
            Some(expected) => expected.of_same_kind(&bytes),
            None => Digest::sha256(&bytes),
        };
        if let Some(expected) = expected.filter(|expected| *expected != actual) {
            return Err(Error::Content {
                host,
                source: Mismatch::Digest { expected, actual },
            });
        }
        Ok(Manifest::received(content_type.as_deref(), actual, bytes))
    }
}

/// The tag that holds the referrers of `digest` where a registry has no API for them: `sha256-<hex>`.
pub(super) fn referrers_tag(reference: &Reference, digest: &Digest) -> Reference {
    let tag = format!("{}-{}", digest.algorithm().name(), &digest.hex()[..64]);
    // Algorithm, dash and 64 hexadecimal digits are always a tag.
    reference
        .with_tag(&tag)
        .unwrap_or_else(|_| unreachable!("{tag} is a tag"))
}

fn manifest_request(method: Method, reference: &Reference) -> Request {
    let accept = MediaType::MANIFESTS
        .map(|kind| kind.as_str().to_owned())
        .join(", ");
    Request::new(method, format!("manifests/{}", reference.identifier()))
        .with_header(ACCEPT, &accept)
}

/// What the head of an answer says about a manifest, if it says all of it.
fn described(answer: &Answer, pinned: Option<&Digest>) -> Option<Descriptor> {
    let media_type = MediaType::from(answer.header(CONTENT_TYPE)?);
    let size = answer.header(CONTENT_LENGTH)?.parse().ok()?;
    let digest = match pinned {
        Some(digest) => digest.clone(),
        None => answer.header("docker-content-digest")?.parse().ok()?,
    };
    (!matches!(media_type, MediaType::Other(_))).then(|| Descriptor::new(media_type, digest, size))
}

/// `Link: </v2/…>; rel="next"` (RFC 8288).
fn next_page(answer: &Answer) -> Result<Option<Url>, Error> {
    let Some(link) = answer.header(LINK) else {
        return Ok(None);
    };
    let Some((address, parameters)) = link
        .trim_start()
        .strip_prefix('<')
        .and_then(|rest| rest.split_once('>'))
    else {
        return Ok(None);
    };
    if !parameters.contains("next") {
        return Ok(None);
    }
    answer
        .url
        .join(address)
        .map(Some)
        .map_err(|_| answer.protocol_error("its next page is no URL"))
}

fn no_platform(reference: &Reference, platform: &Platform, index: &Index) -> Error {
    Error::NoPlatform {
        reference: reference.to_string(),
        platform: platform.to_string(),
        offered: platform::offered(index),
    }
}

/// Puts the image's name into a "not found".
fn named(error: Error, reference: &Reference) -> Error {
    match error {
        Error::NotFound { host, .. } => Error::NotFound {
            host,
            what: reference.to_string(),
        },
        other => other,
    }
}
