//! Images as they pass between the builder, the deployer and the loop.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The digest of a manifest: `sha256:` and 64 hexadecimal digits
/// (OCI image-spec, descriptor.md, "Digests").
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageDigest(String);

/// Why a string is not an image digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an image digest (expected sha256: and 64 hexadecimal digits)")]
pub struct BadDigest(pub String);

impl ImageDigest {
    /// Parses `sha256:<64 hex>`; surrounding white space is not accepted.
    pub fn parse(text: &str) -> Result<Self, BadDigest> {
        let hex = text
            .strip_prefix("sha256:")
            .ok_or_else(|| BadDigest(text.to_owned()))?;
        let valid = hex.len() == 64
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadDigest(text.to_owned()))
        }
    }

    /// The digest with its algorithm, as it stands in a reference after `@`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ImageDigest {
    type Error = BadDigest;

    fn try_from(text: String) -> Result<Self, BadDigest> {
        Self::parse(&text)
    }
}

impl From<ImageDigest> for String {
    fn from(digest: ImageDigest) -> Self {
        digest.0
    }
}

/// One image that a build made or that the registry already had.
///
/// This is all that the deployer learns of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltImage {
    /// The artifact's name as the configuration and the manifests spell it.
    pub name: String,
    /// `repository:tag` that was pushed, after default-repo rewriting.
    pub reference: String,
    /// The manifest's digest; absent only where it is not known, as for
    /// `deploy --images name=tag` with `--digest-source=none`.
    pub digest: Option<ImageDigest>,
    /// Where sources ended up in the image: context-relative source path to
    /// absolute image path; what inferred file sync needs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub placed: BTreeMap<String, PathBuf>,
    /// The image's working directory, for relative sync destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<PathBuf>,
}

impl BuiltImage {
    /// The reference to put into manifests: `repository:tag@digest`, or
    /// `repository:tag` while no digest is known.
    pub fn pinned(&self) -> String {
        match &self.digest {
            Some(digest) if !self.reference.contains('@') => format!("{}@{digest}", self.reference),
            _ => self.reference.clone(),
        }
    }
}

/// The tag or digest of an image name, with its separator.
pub(crate) fn tag_or_digest(image: &str) -> Option<&str> {
    let name_end = image.find('@').unwrap_or(image.len());
    let last = image[..name_end].rfind('/').map_or(0, |slash| slash + 1);
    image[last..]
        .find([':', '@'])
        .map(|start| &image[last + start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sha256_and_64_lower_case_hex_digits() {
        let good = format!("sha256:{}", "a1".repeat(32));
        assert_eq!(ImageDigest::parse(&good).unwrap().as_str(), good);
        for bad in [
            "",
            "sha256:",
            "sha256:abc",
            &good.to_uppercase(),
            &good[7..],
        ] {
            assert!(ImageDigest::parse(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn a_pinned_reference_names_tag_and_digest() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let image = BuiltImage {
            name: "app".into(),
            reference: "registry.example/app:v1".into(),
            digest: Some(ImageDigest::parse(&digest).unwrap()),
            placed: BTreeMap::new(),
            workdir: None,
        };
        assert_eq!(image.pinned(), format!("registry.example/app:v1@{digest}"));
    }
}
