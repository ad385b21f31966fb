//! Manifests and indexes of both vendors. The raw bytes are kept, because the digest is over them.
//!
//! Sources: OCI image specification, manifest.md, image-index.md, descriptor.md; distribution, schema 2.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::visible;
use crate::media_type::MediaType;
use crate::platform::Platform;

/// A reference to content: what it is, its digest, and its size in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content in bytes.
    pub size: u64,
    /// Other places to fetch it from (foreign layers).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The platform of a manifest in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What kind of artifact a manifest in an index is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor with the three required fields.
    #[must_use]
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }

    /// The descriptor of `bytes`, by SHA-256.
    #[must_use]
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }
}

/// The manifest of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// Required by Docker, recommended by OCI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What kind of artifact this is, when it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, base first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about (OCI 1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, usually one per platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Required by Docker, recommended by OCI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What kind of artifact this is, when it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The entries.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one is about (OCI 1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A manifest as it travels: its type and exactly its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    media_type: MediaType,
    digest: Digest,
    bytes: Bytes,
}

/// What a [`Manifest`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one at a time, never in a list")]
pub enum ManifestBody {
    /// One image.
    Image(ImageManifest),
    /// Several manifests.
    Index(Index),
}

/// Why some bytes are no manifest that Kiln can use.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Docker schema 1.
    #[error(
        "manifest {digest} has the Docker schema 1 format, which is not supported: push the image again with a current tool"
    )]
    Schema1 {
        /// The manifest.
        digest: Digest,
    },
    /// Some other type.
    #[error(
        "manifest {digest} has the type \"{}\": expected an image manifest or an index, of Docker or OCI",
        visible(media_type.as_str())
    )]
    Type {
        /// The manifest.
        digest: Digest,
        /// Its type.
        media_type: MediaType,
    },
    /// The JSON is not what the type says.
    #[error("manifest {digest} is not valid")]
    Json {
        /// The manifest.
        digest: Digest,
        /// Where and what.
        source: serde_json::Error,
    },
}

impl Manifest {
    /// Wraps `bytes`, computing their SHA-256 digest.
    #[must_use]
    pub fn new(media_type: MediaType, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            media_type,
            digest: Digest::sha256(&bytes),
            bytes,
        }
    }

    /// Wraps `bytes` as received; without a usable `content_type` the type is read from the JSON itself.
    #[must_use]
    pub fn received(content_type: Option<&str>, digest: Digest, bytes: Bytes) -> Self {
        let declared = content_type.map(MediaType::from);
        let media_type = match declared {
            Some(known) if !matches!(known, MediaType::Other(_)) => known,
            other => sniff(&bytes)
                .or(other)
                .unwrap_or_else(|| MediaType::Other(String::new())),
        };
        Self {
            media_type,
            digest,
            bytes,
        }
    }

    /// What kind of manifest this is.
    #[must_use]
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// The digest of [`Self::bytes`].
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The bytes as they were received or will be sent.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The descriptor of this manifest.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(
            self.media_type.clone(),
            self.digest.clone(),
            self.bytes.len() as u64,
        )
    }

    /// Reads the JSON.
    ///
    /// # Errors
    /// [`ManifestError`] when the type is none of the four or the JSON does not fit it.
    pub fn parse(&self) -> Result<ManifestBody, ManifestError> {
        let invalid = |source| ManifestError::Json {
            digest: self.digest.clone(),
            source,
        };
        match &self.media_type {
            kind if kind.is_index() => serde_json::from_slice(&self.bytes)
                .map(ManifestBody::Index)
                .map_err(invalid),
            kind if kind.is_image() => serde_json::from_slice(&self.bytes)
                .map(ManifestBody::Image)
                .map_err(invalid),
            MediaType::DockerSchema1 | MediaType::DockerSchema1Signed => {
                Err(ManifestError::Schema1 {
                    digest: self.digest.clone(),
                })
            }
            other => Err(ManifestError::Type {
                digest: self.digest.clone(),
                media_type: other.clone(),
            }),
        }
    }
}

/// The type of a manifest whose transport did not say it, from the fields it has.
fn sniff(bytes: &[u8]) -> Option<MediaType> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        schema_version: Option<u32>,
        media_type: Option<MediaType>,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape = serde_json::from_slice(bytes).ok()?;
    shape.media_type.or(match shape {
        Shape {
            schema_version: Some(1),
            ..
        } => Some(MediaType::DockerSchema1),
        Shape {
            manifests: Some(_), ..
        } => Some(MediaType::OciIndex),
        Shape {
            layers: Some(_), ..
        } => Some(MediaType::OciManifest),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the OCI image specification 1.1, image-index.md (annotations left out).
    const INDEX: &str = r#"{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.index.v1+json",
  "manifests": [
    {
      "mediaType": "application/vnd.oci.image.manifest.v1+json",
      "size": 7143,
      "digest": "sha256:e692418e4cbaf90ca69d05a66403747baa33ee08806650b51fab815ad7fc331f",
      "platform": {"architecture": "ppc64le", "os": "linux"}
    },
    {
      "mediaType": "application/vnd.oci.image.manifest.v1+json",
      "size": 7682,
      "digest": "sha256:5b0bcabd1ed22e9fb1310cf6c2dec7cdef19f0ad69efa1f392e94a4333501270",
      "platform": {"architecture": "amd64", "os": "linux"}
    }
  ]
}"#;

    #[test]
    fn reads_the_example_of_the_specification() {
        let manifest = Manifest::new(MediaType::OciIndex, INDEX.as_bytes().to_vec());
        let ManifestBody::Index(index) = manifest.parse().unwrap() else {
            panic!("an index")
        };
        assert_eq!(index.manifests.len(), 2);
        assert_eq!(index.manifests[1].size, 7682);
        assert_eq!(
            index.manifests[1].platform.as_ref().unwrap().architecture,
            "amd64"
        );
        assert_eq!(
            manifest.bytes(),
            INDEX.as_bytes(),
            "the bytes are kept as they came"
        );
    }

    #[test]
    fn a_missing_content_type_is_read_from_the_document() {
        let digest = Digest::sha256(INDEX.as_bytes());
        for declared in [None, Some("application/octet-stream"), Some("text/plain")] {
            let manifest =
                Manifest::received(declared, digest.clone(), INDEX.as_bytes().to_vec().into());
            assert_eq!(manifest.media_type(), &MediaType::OciIndex, "{declared:?}");
        }
    }

    #[test]
    fn schema_1_is_refused_by_name() {
        let bytes = br#"{"schemaVersion": 1, "fsLayers": []}"#.to_vec();
        let manifest = Manifest::received(None, Digest::sha256(&bytes), bytes.into());
        assert!(matches!(
            manifest.parse(),
            Err(ManifestError::Schema1 { .. })
        ));
    }

    #[test]
    fn a_wrong_document_says_where_it_is_wrong() {
        let manifest = Manifest::new(MediaType::OciManifest, br#"{"schemaVersion": 2}"#.to_vec());
        let Err(ManifestError::Json { source, .. }) = manifest.parse() else {
            panic!("an error")
        };
        assert!(source.to_string().contains("config"), "{source}");
    }
}
