//! Paths that never get into an image (`--ignore-path`), as kaniko has them: each part of a path is compared with a
//! pattern of Go's `filepath.Match`, and what lies below a path that matches counts too.

use std::ops::Deref;
use std::path::{Component, Path, PathBuf};

use kiln_dockerfile::glob::{Glob, GlobError};

/// Paths and patterns of paths.
#[derive(Debug, Clone, Default)]
pub struct IgnoredPaths {
    written: Vec<PathBuf>,
    patterns: Vec<Vec<Glob>>,
}

/// A path that cannot be ignored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoredPathError {
    /// It could be anywhere.
    #[error("expected an absolute path, or a pattern of one")]
    Relative,
    /// It is `/`.
    #[error("nothing would be left of the image")]
    Everything,
    /// It is no pattern.
    #[error(transparent)]
    Pattern(#[from] GlobError),
}

impl IgnoredPaths {
    /// Adds one.
    ///
    /// # Errors
    /// [`IgnoredPathError`]
    pub fn add(&mut self, text: &str) -> Result<(), IgnoredPathError> {
        if !text.starts_with('/') {
            return Err(IgnoredPathError::Relative);
        }
        let mut parts = Vec::new();
        for part in Path::new(text).components() {
            match part {
                Component::Normal(part) => parts.push(Glob::parse(&part.to_string_lossy())?),
                Component::ParentDir => {
                    parts.pop();
                }
                _ => {}
            }
        }
        if parts.is_empty() {
            return Err(IgnoredPathError::Everything);
        }
        self.written.push(PathBuf::from(text));
        self.patterns.push(parts);
        Ok(())
    }

    /// Whether this absolute path of an image is ignored, or one that it lies below.
    #[must_use]
    pub fn hold(&self, path: &Path) -> bool {
        let parts: Vec<_> = path
            .components()
            .filter_map(|part| match part {
                Component::Normal(part) => Some(part.to_string_lossy()),
                _ => None,
            })
            .collect();
        self.patterns.iter().any(|pattern| {
            let mut pairs = pattern.iter().zip(&parts);
            pattern.len() <= parts.len() && pairs.all(|(glob, part)| glob.matches(part))
        })
    }
}

/// As they were written.
impl Deref for IgnoredPaths {
    type Target = [PathBuf];

    fn deref(&self) -> &[PathBuf] {
        &self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(pattern: &str) -> Result<IgnoredPaths, IgnoredPathError> {
        let mut paths = IgnoredPaths::default();
        paths.add(pattern).map(|()| paths)
    }

    /// After kaniko's `TestHasFilepathPrefix`, and Go's documentation of `filepath.Match`.
    #[test]
    fn parts_are_compared_and_what_lies_below_counts() {
        for (pattern, path, expected) in [
            ("/foo", "/foo", true),
            ("/foo", "/foo/bar", true),
            ("/foo/bar", "/foo", false),
            ("/foo", "/foobar", false),
            ("/foo*", "/foobar/x", true),
            ("/foo/", "/foo/bar", true),
            ("//foo/./x/../b", "/foo/b", true),
            ("/tmp/*.log", "/tmp/a.log", true),
            ("/tmp/*.log", "/tmp/a.log/below", true),
            ("/tmp/*.log", "/tmp/a.txt", false),
            ("/tmp/*.log", "/tmp/deep/a.log", false),
            ("/*/cache", "/var/cache", true),
            ("/*/cache", "/cache", false),
            ("/v?r/[a-c]*", "/var/cache", true),
            ("/v?r/[^a-c]*", "/var/cache", false),
            ("/a\\*", "/a*", true),
            ("/a\\*", "/ab", false),
        ] {
            let found = ignored(pattern).unwrap().hold(Path::new(path));
            assert_eq!(found, expected, "{pattern} {path}");
        }
    }

    #[test]
    fn what_is_no_absolute_pattern_is_refused() {
        assert_eq!(ignored("tmp").unwrap_err(), IgnoredPathError::Relative);
        assert_eq!(ignored("").unwrap_err(), IgnoredPathError::Relative);
        assert_eq!(ignored("/..").unwrap_err(), IgnoredPathError::Everything);
        assert!(matches!(
            ignored("/a[").unwrap_err(),
            IgnoredPathError::Pattern(_)
        ));
    }
}
