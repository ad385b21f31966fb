//! Addresses of repositories:
//! `https://host/owner/name//path?ref=v1&submodules=false&timeout=60`.

use std::path::Path;
use std::time::Duration;

/// A repository, a commit and a folder in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    raw: String,
    url: String,
    path: String,
    reference: Option<String>,
    submodules: bool,
    timeout: Duration,
}

const SCHEMES: [&str; 4] = ["ssh://", "https://", "http://", "file://"];

impl Repository {
    /// Reads an address. [`None`] means that it is a path on this machine.
    #[must_use]
    pub fn read(address: &str) -> Option<Self> {
        if Path::new(address).is_absolute() {
            return None;
        }
        let (place, query) = address.split_once('?').unwrap_or((address, ""));
        let (host, rest, whole) = host(place)?;
        let (repository, path) = split(&rest, whole)?;
        if repository.is_empty() || leaves(path) {
            return None;
        }
        let query = Query::read(query);
        Some(Self {
            raw: address.to_owned(),
            url: format!("{host}{repository}"),
            path: path.strip_prefix('/').unwrap_or(path).to_owned(),
            reference: query.reference,
            submodules: query.submodules,
            timeout: query.timeout,
        })
    }

    /// The address as it was written.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// What `git` clones.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder in the repository; empty for its top.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A branch, tag or commit.
    #[must_use]
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    /// Whether submodules are fetched too.
    #[must_use]
    pub fn submodules(&self) -> bool {
        self.submodules
    }

    /// How long one command of `git` may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

fn strip_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix)
        .then(|| &text[prefix.len()..])
}

/// The part that names the host, the rest, and whether all of the rest is the
/// repository.
fn host(place: &str) -> Option<(String, String, bool)> {
    let place = strip_ignoring_case(place, "git::").unwrap_or(place);
    let found = SCHEMES
        .iter()
        .find_map(|scheme| Some((*scheme, strip_ignoring_case(place, scheme)?)));
    let (scheme, rest) = found.unwrap_or(("", place));
    let (user, rest) = user(rest);
    let lower = rest.to_ascii_lowercase();
    let github = lower.starts_with("github.com/") || lower.starts_with("github.com:");
    let scp = scheme.is_empty() && (!user.is_empty() || github);
    if scheme.is_empty() && !scp {
        return None;
    }
    if scheme == "file://" {
        return Some((scheme.to_owned(), format!("{user}{rest}"), true));
    }
    let slash = rest.find('/');
    let colon = rest
        .find(':')
        .filter(|colon| scp && slash.is_none_or(|slash| *colon > 0 && *colon < slash));
    let (host, rest) = match colon.or(slash) {
        Some(at) => rest.split_at(at + 1),
        None => (rest, ""),
    };
    if host.is_empty() {
        return None;
    }
    let prefix = match (github, scheme == "ssh://" || !user.is_empty()) {
        (true, true) => format!("{user}github.com:"),
        (true, false) => "https://github.com/".to_owned(),
        (false, _) => format!("{scheme}{user}{host}"),
    };
    Some((prefix, rest.to_owned(), false))
}

/// `name@` in front of a host.
fn user(rest: &str) -> (&str, &str) {
    let is_user = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    match rest.find('@') {
        Some(at) if is_user(&rest[..at]) => rest.split_at(at + 1),
        _ => ("", rest),
    }
}

/// Repository and folder: by `_git/`, `//` or `.git`, else after two parts.
fn split(rest: &str, whole: bool) -> Option<(&str, &str)> {
    if let Some(at) = rest.find("_git/") {
        let start = at + "_git/".len();
        let end = rest[start..]
            .find('/')
            .map_or(rest.len(), |end| start + end);
        return Some((&rest[..end], rest[end..].strip_prefix('/').unwrap_or("")));
    }
    if let Some(at) = rest.find("//") {
        return Some((&rest[..at], &rest[at + 2..]));
    }
    if let Some(at) = rest.find(".git") {
        return Some(rest.split_at(at + ".git".len()));
    }
    if whole {
        return Some((rest, ""));
    }
    let first = rest.find('/')?;
    match rest[first + 1..].find('/') {
        Some(second) => {
            let end = first + 1 + second;
            Some((&rest[..end], &rest[end + 1..]))
        }
        None => Some((rest, "")),
    }
}

fn leaves(path: &str) -> bool {
    let path = path.strip_prefix('/').unwrap_or(path);
    super::normal(Path::new(path)).starts_with("..")
}

struct Query {
    reference: Option<String>,
    submodules: bool,
    timeout: Duration,
}

impl Query {
    fn read(query: &str) -> Self {
        let value = |name: &str| {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find(|(key, value)| *key == name && !value.is_empty())
                .map(|(_, value)| decoded(value))
        };
        Self {
            reference: value("ref").or_else(|| value("version")),
            submodules: !matches!(
                value("submodules").as_deref(),
                Some("0" | "f" | "F" | "false" | "False" | "FALSE")
            ),
            timeout: value("timeout")
                .and_then(|text| seconds(&text))
                .unwrap_or(Duration::from_secs(27)),
        }
    }
}

fn seconds(text: &str) -> Option<Duration> {
    let (digits, unit) = match text.strip_suffix('m') {
        Some(digits) => (digits, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let count: u64 = digits.parse().ok().filter(|count| *count > 0)?;
    Some(Duration::from_secs(count.saturating_mul(unit)))
}

/// Percent signs and plus signs of a query.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split() {
        for (address, url, path, reference) in [
            (
                "https://github.com/owner/name/deep/base?ref=v1",
                "https://github.com/owner/name",
                "deep/base",
                Some("v1"),
            ),
            (
                "github.com/owner/name//base?version=v2",
                "https://github.com/owner/name",
                "base",
                Some("v2"),
            ),
            (
                "git@github.com:owner/name.git/x",
                "git@github.com:owner/name.git",
                "x",
                None,
            ),
            ("git@host.tld:a/b//c", "git@host.tld:a/b", "c", None),
            (
                "file:///srv/repo.git/base",
                "file:///srv/repo.git",
                "base",
                None,
            ),
            ("file:///srv/repo", "file:///srv/repo", "", None),
            (
                "https://dev.azure.com/o/p/_git/r/k?ref=a%2Fb",
                "https://dev.azure.com/o/p/_git/r",
                "k",
                Some("a/b"),
            ),
        ] {
            let found = Repository::read(address).unwrap();
            assert_eq!(
                (found.url(), found.path(), found.reference()),
                (url, path, reference),
                "{address}"
            );
        }
        for path in [
            "../base",
            "base",
            "/srv/x",
            "a.git/b",
            "https://github.com/o/n//../x",
        ] {
            assert_eq!(Repository::read(path), None, "{path}");
        }
    }
}
