//! The versions of skaffold's schema that are known by name.

use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::yaml::Node;

/// Every supported version, oldest first. An index into it is a [`Version`].
pub(super) const VERSIONS: [&str; 30] = [
    "v2beta16", "v2beta17", "v2beta18", "v2beta19", "v2beta20", "v2beta21", "v2beta22", "v2beta23",
    "v2beta24", "v2beta25", "v2beta26", "v2beta27", "v2beta28", "v2beta29", "v3alpha1", "v3",
    "v4beta1", "v4beta2", "v4beta3", "v4beta4", "v4beta5", "v4beta6", "v4beta7", "v4beta8",
    "v4beta9", "v4beta10", "v4beta11", "v4beta12", "v4beta13", "v4beta14",
];

/// The group in front of the version.
pub(super) const GROUP: &str = "skaffold/";

/// A supported version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) usize);

impl Version {
    /// The version that the model is read from.
    pub(super) const LATEST: Self = Self(VERSIONS.len() - 1);

    /// A version by its name, without the group.
    pub(super) fn named(name: &str) -> Option<Self> {
        VERSIONS.iter().position(|known| *known == name).map(Self)
    }

    /// Its name, without the group.
    pub(super) fn name(self) -> &'static str {
        VERSIONS[self.0]
    }

    /// The version of a document.
    pub(super) fn of(document: &Node) -> Result<Self, Diagnostic> {
        let Some(node) = document.get("apiVersion") else {
            let message = "`apiVersion` is required";
            let help = format!("add `apiVersion: {GROUP}{}`", Self::LATEST.name());
            return Err(Diagnostic::at(&document.span, message).help(help));
        };
        let text = node.as_text().unwrap_or_default();
        let Some(name) = text.strip_prefix(GROUP) else {
            let message = format!("`{text}` is not a version of skaffold's schema");
            let help = format!(
                "use {GROUP}{} to {GROUP}{}, or kiln.dev/v1 for Kiln's own format",
                VERSIONS[0],
                Self::LATEST.name()
            );
            return Err(Diagnostic::at(&node.span, message).help(help));
        };
        Self::named(name).ok_or_else(|| unsupported(node, name))
    }
}

/// Says why a version is not read: too old, too new, or none.
fn unsupported(node: &Node, name: &str) -> Diagnostic {
    let (oldest, latest) = (VERSIONS[0], Version::LATEST.name());
    let age = order(name);
    let bounds = (order(oldest), order(latest));
    match (age, bounds) {
        (Some(age), (Some(oldest_age), _)) if age < oldest_age => {
            let message = format!("`{GROUP}{name}` is older than the oldest version that is read");
            let help = format!(
                "convert the file with `skaffold fix --version {GROUP}{latest}` \
                 (versions from {oldest} on are read as they are)"
            );
            Diagnostic::at(&node.span, message).help(help)
        }
        (Some(age), (_, Some(latest_age))) if age > latest_age => {
            let message = format!("`{GROUP}{name}` is newer than the newest version that is read");
            let help = format!(
                "write `{GROUP}{latest}`; a field that it does not know is then named, or update Kiln"
            );
            Diagnostic::at(&node.span, message).help(help)
        }
        _ => {
            let message = format!("there is no schema version `{GROUP}{name}`");
            let help = match did_you_mean(name, VERSIONS) {
                Some(known) => format!("did you mean `{GROUP}{known}`?"),
                None => format!("use {GROUP}{oldest} to {GROUP}{latest}"),
            };
            Diagnostic::at(&node.span, message).help(help)
        }
    }
}

/// `v4beta14` as (4, 1, 14): major, stage (alpha, beta, release), number.
fn order(name: &str) -> Option<(u32, u8, u32)> {
    let rest = name.strip_prefix('v')?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let major = rest[..end].parse().ok()?;
    let (stage, number) = match &rest[end..] {
        "" => (2, "0"),
        tail => tail
            .strip_prefix("alpha")
            .map(|n| (0, n))
            .or_else(|| tail.strip_prefix("beta").map(|n| (1, n)))?,
    };
    Some((major, stage, number.parse().ok()?))
}
