//! Rewriting of image names for a default repository, as skaffold does it
//! (`docker/default_repo.go`), without two of its faults: a name counts as
//! being below the repository only at a `/`, and a name that is too long
//! keeps a digest of what was cut off, so that two names never become one.

use regex::Regex;
use sha2::{Digest as _, Sha256};

/// The longest name that registries take.
const MAX_LENGTH: usize = 255;

/// Hexadecimal digits that stand for what was cut off.
const HASH_LENGTH: usize = 16;

/// Whether a repository may have repositories below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Levels {
    /// Only hosts that are known to (`gcr.io`, `pkg.dev`).
    #[default]
    Known,
    /// Yes (`multi-level-repo: true`).
    Many,
}

impl Levels {
    /// What the setting `multi-level-repo` says; `false` changes nothing for
    /// the hosts that are known, as in skaffold.
    pub fn from_setting(multi_level_repo: Option<bool>) -> Self {
        if multi_level_repo == Some(true) {
            Self::Many
        } else {
            Self::Known
        }
    }
}

/// Not a name that an image can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an image reference")]
pub struct BadReference(pub String);

/// The name under which `image` (with or without tag and digest) is pushed
/// when `default_repo` is set; an empty one changes nothing.
pub fn rewrite(image: &str, default_repo: &str, levels: Levels) -> Result<String, BadReference> {
    if default_repo.is_empty() {
        return Ok(image.to_owned());
    }
    let plain = image.strip_prefix("ko://").unwrap_or(image);
    let suffix = crate::image::tag_or_digest(plain).unwrap_or_default();
    let name = plain[..plain.len() - suffix.len()].to_lowercase();
    if !is_name(&name) || !is_suffix(suffix) {
        return Err(BadReference(image.to_owned()));
    }
    let repo = default_repo.trim_end_matches('/');
    let below = name
        .strip_prefix(repo)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let rewritten = if below {
        name
    } else {
        join(repo, &name, levels)
    };
    Ok(format!("{rewritten}{suffix}"))
}

fn join(repo: &str, name: &str, levels: Levels) -> String {
    let repo_project = project_prefix(repo);
    let google = repo_project.contains("gcr.io") || repo_project.contains("-docker.pkg.dev");
    if !google && levels == Levels::Known {
        let flat: String = name
            .chars()
            .map(|c| if "/._:@".contains(c) { '_' } else { c })
            .collect();
        return shorten(&format!("{repo}/{flat}"));
    }
    let name_project = project_prefix(name);
    if name_project == repo_project {
        return shorten(&format!("{repo}/{}", &name[name_project.len()..]));
    }
    shorten(&format!("{repo}/{name}"))
}

/// `<host>/<project id>/` at the beginning, or nothing.
fn project_prefix(name: &str) -> &str {
    const PATTERN: &str = r"^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?/[a-z][a-z0-9-]{4,28}[a-z0-9]/?";
    let regex = Regex::new(PATTERN).expect("the pattern is a constant that the tests use");
    regex.find(name).map_or("", |found| found.as_str())
}

/// Cuts a name that is too long and puts a digest of the whole behind it.
fn shorten(name: &str) -> String {
    if name.len() <= MAX_LENGTH {
        return name.to_owned();
    }
    let digest: String = Sha256::digest(name.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let kept = name[..MAX_LENGTH - HASH_LENGTH - 1].trim_end_matches(['/', '.', '_', '-']);
    format!("{kept}-{}", &digest[..HASH_LENGTH])
}

/// The distribution reference grammar, without its length limits.
fn is_name(name: &str) -> bool {
    let (host, path) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            (Some(first), rest)
        }
        _ => (None, name),
    };
    let host_ok = host.is_none_or(|host| {
        let (labels, port) = host.split_once(':').unwrap_or((host, "0"));
        let label_ok = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        labels.split('.').all(label_ok)
            && !port.is_empty()
            && port.bytes().all(|b| b.is_ascii_digit())
    });
    host_ok && path.split('/').all(is_component)
}

fn is_component(component: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    edge(component.chars().next())
        && edge(component.chars().last())
        && component.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
        })
}

fn is_suffix(suffix: &str) -> bool {
    let (tag, digest) = match suffix.split_once('@') {
        Some((tag, digest)) => (tag, Some(digest)),
        None => (suffix, None),
    };
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let tag_ok = tag.is_empty()
        || tag.strip_prefix(':').is_some_and(|tag| {
            tag.len() <= 128
                && tag.bytes().next().is_some_and(word)
                && tag.bytes().all(|c| word(c) || matches!(c, b'.' | b'-'))
        });
    let digest_ok = digest.is_none_or(|digest| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
        })
    });
    tag_ok && digest_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECR: &str = "aws_account_id.dkr.ecr.region.amazonaws.com";

    /// Rows of skaffold's `default_repo_test.go` and of its documentation.
    #[test]
    fn names_are_rewritten_as_in_skaffold() {
        use Levels::{Known, Many};
        let pkg = "europe-docker.pkg.dev/my-project/repo";
        let rows = [
            (
                "gcr.io/some/registry",
                "",
                Known,
                "gcr.io/some/registry".to_owned(),
            ),
            (
                "gcr.io/some/registry",
                "gcr.io/default",
                Known,
                "gcr.io/default/gcr.io/some/registry".to_owned(),
            ),
            (
                "gcr.io/default/example/registry",
                "gcr.io/default/repository",
                Known,
                "gcr.io/default/repository/example/registry".to_owned(),
            ),
            (
                "gcr.io/some/registry",
                ECR,
                Known,
                format!("{ECR}/gcr_io_some_registry"),
            ),
            (
                "gcr.io/some/registry",
                ECR,
                Many,
                format!("{ECR}/gcr.io/some/registry"),
            ),
            (
                "img:tag",
                "gcr.io/default",
                Known,
                "gcr.io/default/img:tag".to_owned(),
            ),
            (
                "skaffold-example",
                "myrepo",
                Known,
                "myrepo/skaffold-example".to_owned(),
            ),
            (
                "ko://github.com/Me/App",
                "localhost:5000",
                Known,
                "localhost:5000/github_com_me_app".to_owned(),
            ),
            ("app", pkg, Known, format!("{pkg}/app")),
            (
                "gcr.io/my-project/app:V1",
                "gcr.io/my-project",
                Known,
                "gcr.io/my-project/app:V1".to_owned(),
            ),
            // "a D with no project-shaped segment never counts as GCR"
            ("a/b", "gcr.io/ab", Known, "gcr.io/ab/a_b".to_owned()),
        ];
        for (image, repo, levels, expected) in rows {
            assert_eq!(
                rewrite(image, repo, levels).as_ref(),
                Ok(&expected),
                "{image} in {repo}"
            );
        }
    }

    #[test]
    fn a_repository_is_a_prefix_only_at_a_slash() {
        assert_eq!(
            rewrite("myrepo2/x", "myrepo", Levels::Known).unwrap(),
            "myrepo/myrepo2_x"
        );
        assert_eq!(
            rewrite("myrepo/x:1", "myrepo", Levels::Known).unwrap(),
            "myrepo/x:1"
        );
    }

    #[test]
    fn long_names_stay_apart_when_they_are_cut() {
        let long = "a".repeat(260);
        let one = rewrite(&format!("{long}one:tag"), "repo", Levels::Known).unwrap();
        let two = rewrite(&format!("{long}two:tag"), "repo", Levels::Known).unwrap();
        assert_ne!(one, two);
        assert_eq!(one.len(), MAX_LENGTH + ":tag".len());
    }

    #[test]
    fn digests_and_tags_are_untouched() {
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(
            rewrite(&format!("a/b:V1@{digest}"), "r", Levels::Known).unwrap(),
            format!("r/a_b:V1@{digest}")
        );
    }

    #[test]
    fn what_is_no_reference_is_an_error() {
        for bad in ["", "a b", "a//b", "-a", "a:", "a@sha256:12"] {
            assert_eq!(
                rewrite(bad, "r", Levels::Known),
                Err(BadReference(bad.to_owned()))
            );
        }
    }
}
