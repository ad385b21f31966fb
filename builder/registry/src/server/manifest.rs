//! Manifests by tag and digest (specification, "Pulling manifests", "Pushing manifests", "Deleting manifests").

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use std::collections::BTreeMap;

use super::reply::{Problem, ReplyBody, empty, full, with};
use super::storage::{Link, Storage};
use super::{Inner, blocking, route};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::media_type::MediaType;

/// The specification asks registries to take at least this much.
const LIMIT: usize = 4 << 20;

/// What a registry looks at in a manifest of any of the four types.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Content {
    schema_version: u32,
    media_type: Option<MediaType>,
    artifact_type: Option<String>,
    pub(super) config: Option<Descriptor>,
    #[serde(default)]
    pub(super) layers: Vec<Descriptor>,
    #[serde(default)]
    pub(super) manifests: Vec<Descriptor>,
    pub(super) subject: Option<Descriptor>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Content {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        serde_json::from_slice(bytes)
            .map_err(|error| Problem::Manifest(format!("this is not a manifest: {error}")))
    }

    /// The blobs that the repository must have.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        // Foreign layers stay where their URLs lead.
        self.config
            .iter()
            .chain(&self.layers)
            .filter(|blob| !blob.media_type.is_foreign() && blob.urls.is_empty())
    }

    /// How the list of referrers words this manifest.
    fn as_referrer(&self, media_type: MediaType, digest: &Digest, size: u64) -> Descriptor {
        let config_type = self
            .config
            .as_ref()
            .map(|config| config.media_type.to_string());
        let mut descriptor = Descriptor::new(media_type, digest.clone(), size);
        descriptor.artifact_type = self.artifact_type.clone().or(config_type);
        descriptor.annotations.clone_from(&self.annotations);
        descriptor
    }
}

/// A tag or a digest.
enum Name {
    Tag(String),
    Digest(Digest),
}

fn parse(reference: &str) -> Result<Name, Problem> {
    if reference.contains(':') {
        return Ok(Name::Digest(super::blob::digest(reference)?));
    }
    Ok(Name::Tag(route::tag(reference)?.to_owned()))
}

pub(super) async fn get(
    inner: &Inner,
    name: &str,
    reference: &str,
) -> Result<Response<ReplyBody>, Problem> {
    let wanted = parse(reference)?;
    let (storage, name, reference) = (inner.storage.clone(), name.to_owned(), reference.to_owned());
    blocking(move || {
        let unknown = || Problem::ManifestUnknown(reference.clone());
        let digest = match wanted {
            Name::Digest(digest) => digest,
            Name::Tag(tag) => storage.resolve_tag(&name, &tag)?.ok_or_else(unknown)?,
        };
        let held = storage
            .held(&name, Link::Manifest, &digest)?
            .ok_or_else(unknown)?;
        let bytes = storage.manifest_bytes(&held)?;
        let headers = [
            ("content-type", held.media_type),
            ("content-length", bytes.len().to_string()),
            ("docker-content-digest", digest.to_string()),
            ("etag", format!("\"{digest}\"")),
        ];
        Ok(with(200, &headers, full(bytes)))
    })
    .await
}

pub(super) async fn put(
    inner: &Inner,
    name: &str,
    reference: &str,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Problem> {
    let target = parse(reference)?;
    let declared = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(MediaType::from);
    let bytes = receive(request.into_body()).await?;
    let (storage, name) = (inner.storage.clone(), name.to_owned());
    blocking(move || accept(&storage, &name, (target, declared), &bytes)).await
}

fn accept(
    storage: &Storage,
    name: &str,
    (target, declared): (Name, Option<MediaType>),
    bytes: &Bytes,
) -> Result<Response<ReplyBody>, Problem> {
    let content = Content::parse(bytes)?;
    let media_type = media_type(&content, declared)?;
    let (digest, tag) = match target {
        Name::Tag(tag) => (Digest::sha256(bytes), Some(tag)),
        Name::Digest(expected) => {
            let found = expected.of_same_kind(bytes);
            if found != expected {
                return Err(Problem::Digest(format!(
                    "the manifest has the digest {found}, not {expected}"
                )));
            }
            (expected, None)
        }
    };
    // From here on nothing of what is looked for can be collected.
    let _adding = storage.adding();
    let mut missing = Vec::new();
    for blob in content.blobs() {
        if storage.held(name, Link::Blob, &blob.digest)?.is_none() {
            missing.push(blob.digest.clone());
        }
    }
    for manifest in &content.manifests {
        if storage
            .held(name, Link::Manifest, &manifest.digest)?
            .is_none()
        {
            missing.push(manifest.digest.clone());
        }
    }
    if !missing.is_empty() {
        return Err(Problem::ManifestBlobs(missing));
    }
    storage.put_manifest(name, (&digest, tag.as_deref()), media_type.as_str(), bytes)?;
    let mut headers = vec![
        ("location", format!("/v2/{name}/manifests/{digest}")),
        ("docker-content-digest", digest.to_string()),
        ("content-length", "0".to_owned()),
    ];
    if let Some(subject) = &content.subject {
        let descriptor = content.as_referrer(media_type, &digest, bytes.len() as u64);
        storage.add_referrer(name, &subject.digest, &descriptor)?;
        headers.push(("oci-subject", subject.digest.to_string()));
    }
    Ok(with(201, &headers, empty()))
}

/// The type by header and by the manifest itself, which must not contradict each other.
fn media_type(content: &Content, declared: Option<MediaType>) -> Result<MediaType, Problem> {
    let refuse = |why: String| Err(Problem::Manifest(why));
    if content.schema_version != 2 {
        return refuse(format!(
            "schemaVersion is {}, not 2",
            content.schema_version
        ));
    }
    let media_type = match (declared, content.media_type.clone()) {
        (Some(header), Some(own)) if header != own => {
            return refuse(format!("Content-Type says {header} and mediaType {own}"));
        }
        (Some(known), _) | (None, Some(known)) => known,
        (None, None) => return refuse("the header Content-Type is missing".to_owned()),
    };
    if media_type.is_index() {
        if content.config.is_some() || !content.layers.is_empty() {
            return refuse("an index has no config and no layers".to_owned());
        }
    } else if media_type.is_image() {
        if content.config.is_none() || !content.manifests.is_empty() {
            return refuse("an image manifest has a config and no manifests".to_owned());
        }
    } else {
        return refuse(format!("manifests of type {media_type} are not kept"));
    }
    Ok(media_type)
}

async fn receive(mut body: Incoming) -> Result<Bytes, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Problem::Body)?;
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
        if bytes.len() > LIMIT {
            return Err(Problem::TooLarge(LIMIT));
        }
    }
    Ok(bytes.freeze())
}

pub(super) async fn delete(
    inner: &Inner,
    name: &str,
    reference: &str,
) -> Result<Response<ReplyBody>, Problem> {
    let wanted = parse(reference)?;
    let (storage, name, reference) = (inner.storage.clone(), name.to_owned(), reference.to_owned());
    blocking(move || {
        let _adding = storage.adding();
        let was_there = match wanted {
            Name::Tag(tag) => storage.delete_tag(&name, &tag)?,
            Name::Digest(digest) => remove(&storage, &name, &digest)?,
        };
        if was_there {
            Ok(with(202, &[("content-length", "0".to_owned())], empty()))
        } else {
            Err(Problem::ManifestUnknown(reference))
        }
    })
    .await
}

/// Takes a manifest out of a repository, with the tags that lead to it and its entry as a referrer.
pub(super) fn remove(storage: &Storage, name: &str, digest: &Digest) -> Result<bool, Problem> {
    let Some(held) = storage.held(name, Link::Manifest, digest)? else {
        return Ok(false);
    };
    for tag in storage.tags(name)?.unwrap_or_default() {
        if storage.resolve_tag(name, &tag)?.as_ref() == Some(digest) {
            storage.delete_tag(name, &tag)?;
        }
    }
    let content = Content::parse(&storage.manifest_bytes(&held)?)?;
    if let Some(subject) = content.subject {
        storage.remove_referrer(name, &subject.digest, digest)?;
    }
    storage.unlink(name, Link::Manifest, digest)
}
