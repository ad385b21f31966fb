//! Platforms, and the choice of one manifest out of an index.
//!
//! Sources: OCI image specification, image-index.md "platform"; containerd's `platforms` package for the order of
//! arm variants.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::manifest::{Descriptor, Index};

/// An operating system and a processor, in Go's vocabulary (`linux/arm64/v8`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `GOARCH`, for example `amd64`.
    pub architecture: String,
    /// `GOOS`, for example `linux`.
    pub os: String,
    /// The build of the operating system; Windows only.
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Required features of the operating system.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// The variant of the processor, for example `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text is not `os/arch` or `os/arch/variant`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a platform: expected os/arch or os/arch/variant, for example linux/arm64 or linux/arm/v7"
)]
pub struct PlatformError(
    /// What was given.
    pub String,
);

impl Platform {
    /// `os/architecture` without a variant.
    #[must_use]
    pub fn new(os: &str, architecture: &str) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            os_version: None,
            os_features: Vec::new(),
            variant: None,
        }
    }

    /// The platform of the machine that this program was compiled for, with `linux` as the operating system
    /// (containers on other systems run Linux too).
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new("linux", architecture)
    }

    /// Common aliases become Go's names and the variant that a processor has by default is left out:
    /// `x86_64` is `amd64`, `aarch64` is `arm64`, `arm64/v8` is `arm64`, `arm` is `arm/v7`.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let mut platform = self.clone();
        platform.os = platform.os.to_lowercase();
        let architecture = platform.architecture.to_lowercase();
        let (architecture, implied) = match architecture.as_str() {
            "x86_64" | "x86-64" => ("amd64", None),
            "i386" | "i686" => ("386", None),
            "aarch64" => ("arm64", None),
            "armhf" => ("arm", Some("v7")),
            "armel" => ("arm", Some("v6")),
            other => (other, None),
        };
        let variant = platform
            .variant
            .take()
            .map(|v| v.to_lowercase())
            .filter(|v| !v.is_empty());
        platform.variant = match (architecture, variant.as_deref().or(implied)) {
            ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) => None,
            ("arm", None) => Some("v7".to_owned()),
            ("arm", Some(number @ ("5" | "6" | "7" | "8"))) => Some(format!("v{number}")),
            (_, variant) => variant.map(str::to_owned),
        };
        platform.architecture = architecture.to_owned();
        platform
    }

    /// How well an image for `other` runs here: 0 is an exact match, larger is worse, `None` does not run.
    fn distance(&self, other: &Self) -> Option<usize> {
        let (want, have) = (self.normalized(), other.normalized());
        if want.os != have.os || want.architecture != have.architecture {
            return None;
        }
        if !windows_builds_agree(&want, &have) {
            return None;
        }
        if want.variant == have.variant {
            return Some(0);
        }
        runs_on(&want.architecture, want.variant.as_deref())
            .iter()
            .position(|variant| *variant == have.variant.as_deref())
            .map(|position| position + 1)
    }
}

/// The variants that also run on a processor of `variant`, best first.
fn runs_on(architecture: &str, variant: Option<&str>) -> &'static [Option<&'static str>] {
    match (architecture, variant) {
        ("arm", Some("v8")) => &[Some("v7"), Some("v6"), Some("v5")],
        ("arm", Some("v7")) => &[Some("v6"), Some("v5")],
        ("arm", Some("v6")) => &[Some("v5")],
        ("arm64", Some(_)) => &[None],
        ("amd64", Some("v4")) => &[Some("v3"), Some("v2"), None],
        ("amd64", Some("v3")) => &[Some("v2"), None],
        ("amd64", Some("v2")) => &[None],
        _ => &[],
    }
}

/// Windows images run on the build they were made for: the first three numbers of `os.version` must agree where
/// both sides name one.
fn windows_builds_agree(want: &Platform, have: &Platform) -> bool {
    let (Some(want), Some(have)) = (&want.os_version, &have.os_version) else {
        return true;
    };
    let build = |version: &str| {
        version
            .split('.')
            .take(3)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    build(want) == build(have)
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let well_formed = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(|part| well_formed(part)) {
            return Err(PlatformError(text.to_owned()));
        }
        let mut platform = Self::new(parts[0], parts[1]);
        platform.variant = parts.get(2).map(|&variant| variant.to_owned());
        Ok(platform)
    }
}

/// The entry of `index` that runs best on `platform`: an exact match, else the nearest older variant; the first of
/// equals. Entries without a platform count only when the index has nothing else to choose from.
///
/// Attestations (`unknown/unknown`, annotation `vnd.docker.reference.type`) are never chosen.
#[must_use]
pub fn choose<'a>(index: &'a Index, platform: &Platform) -> Option<&'a Descriptor> {
    let images = || {
        index
            .manifests
            .iter()
            .filter(|entry| !is_attestation(entry))
    };
    let best = images()
        .filter_map(|entry| Some((platform.distance(entry.platform.as_ref()?)?, entry)))
        .min_by_key(|(distance, _)| *distance);
    if let Some((_, entry)) = best {
        return Some(entry);
    }
    let mut all = images();
    match (all.next(), all.next()) {
        (Some(only), None) if only.platform.is_none() => Some(only),
        _ => None,
    }
}

/// The platforms that `index` offers, for an error message.
#[must_use]
pub fn offered(index: &Index) -> Vec<String> {
    index
        .manifests
        .iter()
        .filter(|entry| !is_attestation(entry))
        .map(|entry| {
            entry
                .platform
                .as_ref()
                .map_or_else(|| "no platform".to_owned(), ToString::to_string)
        })
        .collect()
}

fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotations.contains_key("vnd.docker.reference.type")
        || entry
            .platform
            .as_ref()
            .is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::media_type::MediaType;

    fn index(platforms: &[&str]) -> Index {
        let manifests = platforms
            .iter()
            .map(|text| {
                let mut entry =
                    Descriptor::new(MediaType::OciManifest, Digest::sha256(text.as_bytes()), 1);
                entry.platform = (!text.is_empty()).then(|| text.parse().unwrap());
                entry
            })
            .collect();
        Index {
            schema_version: 2,
            media_type: None,
            artifact_type: None,
            manifests,
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        }
    }

    fn chosen(offers: &[&str], wanted: &str) -> Option<String> {
        let index = index(offers);
        choose(&index, &wanted.parse().unwrap()).map(|entry| {
            entry
                .platform
                .as_ref()
                .map_or_else(String::new, ToString::to_string)
        })
    }

    #[test]
    fn an_exact_match_wins_wherever_it_stands() {
        let offers = [
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/arm64/v8",
            "linux/amd64",
        ];
        assert_eq!(
            chosen(&offers, "linux/amd64").as_deref(),
            Some("linux/amd64")
        );
        assert_eq!(
            chosen(&offers, "linux/arm/v7").as_deref(),
            Some("linux/arm/v7")
        );
    }

    #[test]
    fn arm64_and_arm64_v8_are_the_same() {
        assert_eq!(
            chosen(&["linux/arm64"], "linux/arm64/v8").as_deref(),
            Some("linux/arm64")
        );
        assert_eq!(
            chosen(&["linux/arm64/v8"], "linux/arm64").as_deref(),
            Some("linux/arm64/v8")
        );
        assert_eq!(
            chosen(&["linux/arm64/v8"], "linux/aarch64").as_deref(),
            Some("linux/arm64/v8")
        );
    }

    #[test]
    fn older_arm_variants_serve_newer_processors_best_first() {
        let offers = ["linux/arm/v5", "linux/arm/v6"];
        assert_eq!(
            chosen(&offers, "linux/arm/v7").as_deref(),
            Some("linux/arm/v6")
        );
        assert_eq!(
            chosen(&offers, "linux/arm/v6").as_deref(),
            Some("linux/arm/v6")
        );
        assert_eq!(
            chosen(&offers, "linux/arm/v5").as_deref(),
            Some("linux/arm/v5")
        );
        assert_eq!(
            chosen(&["linux/arm/v7"], "linux/arm/v6"),
            None,
            "newer code does not run on older processors"
        );
    }

    #[test]
    fn attestations_are_never_chosen() {
        assert_eq!(
            chosen(&["unknown/unknown", "linux/amd64"], "linux/amd64").as_deref(),
            Some("linux/amd64")
        );
        assert_eq!(chosen(&["unknown/unknown"], "unknown/unknown"), None);
        let mut annotated = index(&["linux/amd64", "linux/amd64"]);
        annotated.manifests[0].annotations.insert(
            "vnd.docker.reference.type".into(),
            "attestation-manifest".into(),
        );
        let choice = choose(&annotated, &"linux/amd64".parse().unwrap()).unwrap();
        assert!(choice.annotations.is_empty());
        assert_eq!(offered(&annotated), ["linux/amd64"]);
    }

    #[test]
    fn a_single_entry_without_platform_is_taken() {
        assert_eq!(chosen(&[""], "linux/amd64").as_deref(), Some(""));
        assert_eq!(chosen(&["", ""], "linux/amd64"), None);
        assert_eq!(
            chosen(&["", "linux/amd64"], "linux/amd64").as_deref(),
            Some("linux/amd64")
        );
    }

    #[test]
    fn windows_images_match_by_build() {
        let mut offers = index(&["windows/amd64", "windows/amd64"]);
        for (entry, version) in offers
            .manifests
            .iter_mut()
            .zip(["10.0.17763.1", "10.0.20348.2"])
        {
            entry.platform.as_mut().unwrap().os_version = Some(version.into());
        }
        let mut wanted: Platform = "windows/amd64".parse().unwrap();
        wanted.os_version = Some("10.0.20348.999".into());
        let choice = choose(&offers, &wanted).unwrap();
        assert_eq!(
            choice.platform.as_ref().unwrap().os_version.as_deref(),
            Some("10.0.20348.2")
        );
    }

    #[test]
    fn a_platform_text_needs_two_or_three_parts() {
        for wrong in ["", "linux", "linux/", "a/b/c/d", "linux/am d64"] {
            assert_eq!(wrong.parse::<Platform>(), Err(PlatformError(wrong.into())));
        }
    }
}
