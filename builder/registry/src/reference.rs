//! Image names: `registry/repository:tag@digest`, with Docker Hub's defaults.
//!
//! The grammar and its error cases are those of github.com/distribution/reference (`regexp.go`, `normalize.go`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, DigestError};

/// The name by which Docker Hub is known in image names.
pub const DOCKER_HUB: &str = "docker.io";
/// The host that serves Docker Hub's registry protocol.
pub const DOCKER_HUB_ENDPOINT: &str = "registry-1.docker.io";
/// Longest repository name, registry included, in bytes (`NameTotalLengthMax`).
const MAX_NAME: usize = 255;
/// Longest tag in bytes.
const MAX_TAG: usize = 128;

/// A parsed image name.
///
/// `golang:alpine` is registry `docker.io`, repository `library/golang`, tag `alpine`. A name without tag and
/// digest has neither here; [`Self::tag_or_latest`] gives the `latest` that a registry is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing there.
    #[error("an image name is empty")]
    Empty,
    /// 64 hexadecimal digits, which are read as an image ID elsewhere.
    #[error(
        "\"{0}\" is an image ID, not an image name: add a repository, for example name@sha256:{0}"
    )]
    ImageId(String),
    /// Upper case in the repository.
    #[error("image name \"{0}\" has upper-case letters in its repository: use \"{lower}\"", lower = .0.to_lowercase())]
    Uppercase(String),
    /// A character or separator in the wrong place.
    #[error("image name \"{name}\" is not valid: {problem}")]
    Malformed {
        /// The whole text.
        name: String,
        /// Which part, and what it may be.
        problem: &'static str,
    },
    /// Longer than registries accept.
    #[error("image name \"{0}\" is longer than 255 characters")]
    TooLong(String),
    /// What follows the `@`.
    #[error("image name \"{name}\" has no valid digest")]
    Digest {
        /// The whole text.
        name: String,
        /// What is wrong with it.
        source: DigestError,
    },
}

impl Reference {
    /// Reads an image name and fills in Docker Hub's defaults.
    ///
    /// # Errors
    /// [`ReferenceError`] as in distribution/reference's `ParseNormalizedNamed`.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::ImageId(text.to_owned()));
        }
        let malformed = |problem| ReferenceError::Malformed {
            name: text.to_owned(),
            problem,
        };
        let (named, digest) = split_digest(text)?;
        let (domain, remainder) = split_domain(named);
        let (repository, tag) = split_tag(remainder);
        if repository.is_empty() {
            return Err(malformed("the repository is missing"));
        }
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase(text.to_owned()));
        }
        if !is_repository(repository) {
            return Err(malformed(
                "a repository consists of parts separated by `/`, each of a-z and 0-9 with `.`, `_`, `__` or dashes between",
            ));
        }
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(malformed(
                "a tag has 1 to 128 of A-Z, a-z, 0-9, `_`, `.` and `-` and starts with none of `.` and `-`",
            ));
        }
        let registry = canonical_registry(domain.unwrap_or(DOCKER_HUB));
        if !is_domain(&registry) {
            return Err(malformed(
                "the registry is not a host name with an optional port",
            ));
        }
        let repository = if registry == DOCKER_HUB && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(ReferenceError::TooLong(text.to_owned()));
        }
        Ok(Self {
            registry,
            repository,
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The registry's host with an optional port, as the name has it; `docker.io` for Docker Hub.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path below the registry, `library/` included.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if the name has one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the name has one.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The tag, or `latest`.
    #[must_use]
    pub fn tag_or_latest(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// What stands after `manifests/` in a request: the digest, else the tag, else `latest`.
    #[must_use]
    pub fn identifier(&self) -> String {
        self.digest
            .as_ref()
            .map_or_else(|| self.tag_or_latest().to_owned(), ToString::to_string)
    }

    /// `registry/repository` without tag and digest.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The name as people write it: without `docker.io/library/`.
    #[must_use]
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        short
            .strip_prefix("library/")
            .filter(|_| self.registry == DOCKER_HUB)
            .unwrap_or(short)
            .to_owned()
    }

    /// The same repository with this digest; the tag stays.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The same repository at this digest alone.
    #[must_use]
    pub fn at_digest(&self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            tag: None,
            ..self.clone()
        }
    }

    /// The same repository with this tag and no digest.
    ///
    /// # Errors
    /// [`ReferenceError::Malformed`] when `tag` is no tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Malformed {
                name: format!("{}:{tag}", self.name()),
                problem: "the tag is not valid",
            });
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// One spelling per registry: Docker Hub's other names become `docker.io`.
#[must_use]
pub fn canonical_registry(host: &str) -> String {
    match host {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => {
            DOCKER_HUB.to_owned()
        }
        other => other.to_owned(),
    }
}

fn split_digest(text: &str) -> Result<(&str, Option<Digest>), ReferenceError> {
    let Some((named, digest)) = text.split_once('@') else {
        return Ok((text, None));
    };
    match digest.parse() {
        Ok(digest) => Ok((named, Some(digest))),
        Err(source) => Err(ReferenceError::Digest {
            name: text.to_owned(),
            source,
        }),
    }
}

/// The first part is a registry when it has a dot, a colon or an upper-case letter, or is `localhost`.
fn split_domain(named: &str) -> (Option<&str>, &str) {
    match named.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, named),
    }
}

fn split_tag(remainder: &str) -> (&str, Option<&str>) {
    let last = remainder.rfind('/').map_or(0, |slash| slash + 1);
    match remainder[last..].split_once(':') {
        Some((name, tag)) => (&remainder[..last + name.len()], Some(tag)),
        None => (remainder, None),
    }
}

pub(crate) fn is_repository(repository: &str) -> bool {
    repository.split('/').all(is_path_component)
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of dashes.
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    alphanumeric(first)
        && alphanumeric(last)
        && bytes
            .iter()
            .all(|&b| alphanumeric(b) || matches!(b, b'.' | b'_' | b'-'))
        && component
            .split(|c: char| c.is_ascii_alphanumeric())
            .all(|separator| {
                matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
            })
}

/// `\w[\w.-]{0,127}`
pub(crate) fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = if let Some(bracketed) = domain.strip_prefix('[') {
        let Some((address, rest)) = bracketed.split_once(']') else {
            return false;
        };
        if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
            return false;
        }
        match rest {
            "" => return true,
            rest => ("v6", rest.strip_prefix(':')),
        }
    } else {
        domain
            .split_once(':')
            .map_or((domain, Some("0")), |(host, port)| (host, Some(port)))
    };
    let port_ok =
        port.is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    port_ok && host.split('.').all(is_domain_component)
}

fn is_domain_component(component: &str) -> bool {
    !component.is_empty()
        && !component.starts_with('-')
        && !component.ends_with('-')
        && component
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests;
