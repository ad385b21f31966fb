//! How a pod or secret says that its maker is alive, and whom it belongs to.
//!
//! Each object carries the time until which it is leased. While a build runs,
//! its lease is renewed again and again for a short time; an object whose
//! lease is over has lost its maker (see [`super::sweep`]).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Session;

/// `app.kubernetes.io/managed-by`
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value for what Kiln makes.
pub const KILN: &str = "kiln";
/// The project's label.
pub const PROJECT: &str = "kiln.dev/project";
/// The developer's label.
pub const USER: &str = "kiln.dev/user";
/// The label of one run of Kiln.
pub const SESSION: &str = "kiln.dev/session";
/// What the object is for.
pub const ROLE: &str = "kiln.dev/role";
/// The value of [`ROLE`] for pods and secrets of a build.
pub const BUILD: &str = "build";
/// The artifact, as an annotation since names have slashes.
pub const IMAGE: &str = "kiln.dev/image";
/// Until when the object is leased, RFC 3339.
pub const LEASED_UNTIL: &str = "kiln.dev/leased-until";

/// How often a running build renews its lease.
pub const RENEW_EVERY: Duration = Duration::from_secs(15);
/// For how long it does so: several renewals may be lost.
pub const RENEW_FOR: Duration = Duration::from_secs(90);

/// The labels of everything that a session makes for builds.
pub fn labels(session: &Session) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY.into(), KILN.into()),
        (ROLE.into(), BUILD.into()),
        (PROJECT.into(), label_value(&session.project)),
        (USER.into(), label_value(&session.user)),
        (SESSION.into(), label_value(&session.id)),
    ])
}

/// Selects what the same developer made for the same project, in any session.
pub fn selector(session: &Session) -> String {
    format!(
        "{MANAGED_BY}={KILN},{ROLE}={BUILD},{PROJECT}={},{USER}={}",
        label_value(&session.project),
        label_value(&session.user)
    )
}

/// Text as a label's value (Kubernetes, "Labels and Selectors": at most 63
/// letters, digits, `-`, `_` and `.`, alphanumeric at both ends). Text that
/// does not fit ends in a hash, so that two different ones stay different.
pub fn label_value(text: &str) -> String {
    const MAX: usize = 63;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |text: &str| {
        let alphanumeric = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
        alphanumeric(text.chars().next()) && alphanumeric(text.chars().next_back())
    };
    if text.len() <= MAX && text.chars().all(fits) && ends(text) {
        return text.to_owned();
    }
    let hash = &blake3::hash(text.as_bytes()).to_hex()[..8];
    let kept: String = text
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .take(MAX - hash.len() - 1)
        .collect();
    let kept = kept.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if kept.is_empty() {
        hash.to_owned()
    } else {
        format!("{kept}-{hash}")
    }
}

/// The annotation's value for a lease that ends so much later.
pub fn until(now: Timestamp, length: Duration) -> String {
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    let end = now.checked_add(length).unwrap_or(Timestamp::MAX);
    end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether a lease is over. An object without a readable lease is not ours to
/// judge.
pub fn is_over(annotations: Option<&BTreeMap<String, String>>, now: Timestamp) -> bool {
    annotations
        .and_then(|annotations| annotations.get(LEASED_UNTIL))
        .and_then(|until| until.parse::<Timestamp>().ok())
        .is_some_and(|until| until < now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_valid_and_stay_apart() {
        assert_eq!(label_value("feed-agg"), "feed-agg");
        assert_eq!(label_value(""), "");
        let long = "x".repeat(80);
        for text in ["alice@laptop", "größe", "-dash-", long.as_str(), "@@@"] {
            let value = label_value(text);
            assert!(value.len() <= 63, "{value}");
            assert!(
                value
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
                "{value}"
            );
            assert!(value.as_bytes()[0].is_ascii_alphanumeric(), "{value}");
            assert!(
                value.as_bytes()[value.len() - 1].is_ascii_alphanumeric(),
                "{value}"
            );
        }
        assert_ne!(label_value("a b"), label_value("a-b"));
        assert_ne!(label_value("a b"), label_value("a/b"));
    }

    #[test]
    fn a_lease_is_over_after_its_time_and_not_before() {
        let now: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        let later: Timestamp = "2026-01-01T10:02:00Z".parse().unwrap();
        let lease = until(now, Duration::from_secs(90));
        assert_eq!(lease, "2026-01-01T10:01:30Z");
        let annotations = BTreeMap::from([(LEASED_UNTIL.to_owned(), lease)]);
        assert!(!is_over(Some(&annotations), now));
        assert!(is_over(Some(&annotations), later));
    }

    #[test]
    fn what_carries_no_lease_is_never_over() {
        let now: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        assert!(!is_over(None, now));
        let unreadable = BTreeMap::from([(LEASED_UNTIL.to_owned(), "soon".to_owned())]);
        assert!(!is_over(Some(&unreadable), now));
    }
}
