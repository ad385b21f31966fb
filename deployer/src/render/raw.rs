//! Plain manifests: files, globs and URLs.

use std::path::{Path, PathBuf};

use globset::GlobBuilder;

use super::manifest::{self, ManifestError};
use crate::object::Object;

/// Why plain manifests cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// A file that was named, or that a glob found.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A glob that matches nothing, or a file that does not exist.
    #[error("no manifest matches {pattern}")]
    NothingMatches {
        /// As configured, absolute.
        pattern: String,
    },
    /// Not a glob.
    #[error("`{pattern}` is not a glob")]
    BadGlob {
        /// As configured, absolute.
        pattern: String,
        /// Why.
        source: globset::Error,
    },
    /// A URL that did not answer with a manifest.
    #[error("cannot fetch {url}")]
    Fetch {
        /// Without user, password and query.
        url: String,
        /// Why.
        source: Box<reqwest::Error>,
    },
    /// Only `https://` and `http://` URLs are read.
    #[error(
        "{url} cannot be read: Kiln reads manifests from files and https:// or http:// URLs; download it first"
    )]
    Scheme {
        /// As configured.
        url: String,
    },
    /// Text that is not manifests.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Reads the objects of one item.
pub(super) async fn read(item: &str, http: &reqwest::Client) -> Result<Vec<Object>, RawError> {
    if item.contains("://") {
        let text = fetch(item, http).await?;
        return Ok(manifest::parse(&text, item)?);
    }
    let mut objects = Vec::new();
    for path in files(item)? {
        let text = tokio::fs::read_to_string(&path)
            .await
            .map_err(|source| RawError::Read {
                path: path.clone(),
                source,
            })?;
        objects.extend(manifest::parse(&text, &path.display().to_string())?);
    }
    Ok(objects)
}

/// What to watch for one item: the file, or the folder that a glob starts in
/// with the files that it matches now.
pub(super) fn watched(item: &str) -> Result<Vec<PathBuf>, RawError> {
    if item.contains("://") {
        return Ok(Vec::new());
    }
    let mut paths = match files(item) {
        Ok(paths) => paths,
        Err(RawError::NothingMatches { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    if is_glob(item) {
        paths.push(literal_prefix(item));
    } else if paths.is_empty() {
        paths.push(PathBuf::from(item));
    }
    Ok(paths)
}

async fn fetch(url: &str, http: &reqwest::Client) -> Result<String, RawError> {
    if !["https://", "http://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        return Err(RawError::Scheme {
            url: url.to_owned(),
        });
    }
    let failed = |error: reqwest::Error| RawError::Fetch {
        url: redacted(url),
        source: Box::new(error.without_url()),
    };
    let answer = http
        .get(url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status);
    answer.map_err(failed)?.text().await.map_err(failed)
}

/// A URL without what may be secret.
fn redacted(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let authority = rest.find('/').unwrap_or(rest.len());
    let host = rest[..authority].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[host..])
}

/// The files of an item, sorted. A file that is named is taken whatever its
/// name; a glob takes `.yaml`, `.yml` and `.json` only, as skaffold does.
fn files(item: &str) -> Result<Vec<PathBuf>, RawError> {
    let path = Path::new(item);
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let pattern = if path.is_dir() {
        format!("{}/*", item.trim_end_matches('/'))
    } else {
        item.to_owned()
    };
    let nothing = || RawError::NothingMatches {
        pattern: item.to_owned(),
    };
    if !is_glob(&pattern) {
        return Err(nothing());
    }
    let glob = GlobBuilder::new(&pattern)
        .literal_separator(true)
        .build()
        .map_err(|source| RawError::BadGlob {
            pattern: pattern.clone(),
            source,
        })?
        .compile_matcher();
    let mut found = Vec::new();
    walk(&literal_prefix(&pattern), &mut |path| {
        if is_manifest(path) && glob.is_match(path) {
            found.push(path.to_owned());
        }
    })?;
    found.sort();
    if found.is_empty() {
        Err(nothing())
    } else {
        Ok(found)
    }
}

fn walk(dir: &Path, visit: &mut impl FnMut(&Path)) -> Result<(), RawError> {
    let failed = |source| RawError::Read {
        path: dir.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        // A link to a folder is not entered: it may lead back up.
        if entry.file_type().map_err(failed)?.is_dir() {
            walk(&entry.path(), visit)?;
        } else {
            visit(&entry.path());
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// The folder above the first component with a glob character.
fn literal_prefix(pattern: &str) -> PathBuf {
    let literal = Path::new(pattern)
        .components()
        .take_while(|component| !is_glob(&component.as_os_str().to_string_lossy()));
    literal.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[PathBuf], root: &Path) -> Vec<String> {
        paths
            .iter()
            .map(|p| p.strip_prefix(root).unwrap().display().to_string())
            .collect()
    }

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("k8s/deep")).unwrap();
        for name in [
            "k8s/b.yaml",
            "k8s/a.yml",
            "k8s/c.json",
            "k8s/notes.txt",
            "k8s/deep/d.yaml",
            "odd.manifest",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        dir
    }

    #[test]
    fn a_glob_takes_manifests_of_its_own_level_and_two_stars_all_levels() {
        let dir = project();
        let item = |glob: &str| dir.path().join(glob).display().to_string();
        let of = |glob| names(&files(&item(glob)).unwrap(), dir.path());
        assert_eq!(of("k8s/*"), ["k8s/a.yml", "k8s/b.yaml", "k8s/c.json"]);
        assert_eq!(of("k8s/*.yaml"), ["k8s/b.yaml"]);
        assert_eq!(of("k8s/**/*.yaml"), ["k8s/b.yaml", "k8s/deep/d.yaml"]);
    }

    #[test]
    fn a_file_that_is_named_is_taken_whatever_its_name() {
        let dir = project();
        let item = dir.path().join("odd.manifest").display().to_string();
        assert_eq!(names(&files(&item).unwrap(), dir.path()), ["odd.manifest"]);
    }

    #[test]
    fn nothing_that_matches_is_an_error_but_is_watched_for() {
        let dir = project();
        let item = dir.path().join("k8s/*.yam").display().to_string();
        assert!(matches!(files(&item), Err(RawError::NothingMatches { .. })));
        assert_eq!(names(&watched(&item).unwrap(), dir.path()), ["k8s"]);
        let missing = dir.path().join("later.yaml").display().to_string();
        assert_eq!(
            names(&watched(&missing).unwrap(), dir.path()),
            ["later.yaml"]
        );
    }

    #[test]
    fn an_address_loses_what_may_be_secret() {
        assert_eq!(
            redacted("https://u:p@host/a.yaml?token=x"),
            "https://host/a.yaml"
        );
        assert_eq!(redacted("http://u@host/a.yaml"), "http://host/a.yaml");
        assert_eq!(
            redacted("https://host/u@p/a.yaml"),
            "https://host/u@p/a.yaml"
        );
    }
}
