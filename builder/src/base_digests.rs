//! Which digest the name of a base image leads to now, looked up from this
//! host and remembered for a while in a file.
//!
//! A registry that cannot be asked is not an error: the base's digest is
//! [`BaseDigest::Unknown`], and the reason is handed back so that it can be
//! said once.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use kiln_schemas::image::ImageDigest;
use serde::{Deserialize, Serialize};

use crate::cache::{CacheError, Registry};
use crate::tag::content::BaseDigest;

/// Digests of base images that were looked up, with when.
#[derive(Debug, Clone)]
pub struct BaseDigests {
    path: Option<PathBuf>,
    ttl: Duration,
    seen: BTreeMap<String, Seen>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    digest: ImageDigest,
    at: Timestamp,
}

/// What a look-up found.
#[derive(Debug, Default)]
pub struct Found {
    /// One entry per name that was asked for.
    pub digests: BTreeMap<String, BaseDigest>,
    /// Why some are unknown.
    pub unknown: BTreeMap<String, CacheError>,
}

impl BaseDigests {
    /// Starts with what a file holds (missing or damaged: nothing). Entries
    /// older than `ttl` are looked up again.
    pub fn load(path: &Path, ttl: Duration) -> io::Result<Self> {
        let seen = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            path: Some(path.to_owned()),
            ttl,
            seen,
        })
    }

    /// Remembers for the life of the process only.
    pub fn in_memory(ttl: Duration) -> Self {
        Self {
            path: None,
            ttl,
            seen: BTreeMap::new(),
        }
    }

    /// The digests of `names`, all asked for at once; `scratch` has none and
    /// is left out, and a name with a digest is its own answer.
    pub async fn look_up(
        &mut self,
        names: &[String],
        registry: &impl Registry,
        now: Timestamp,
    ) -> Found {
        let mut found = Found::default();
        let mut ask = Vec::new();
        for name in names.iter().filter(|name| name.as_str() != "scratch") {
            let pinned = name
                .rsplit_once('@')
                .and_then(|(_, d)| ImageDigest::parse(d).ok());
            match pinned.or_else(|| self.fresh(name, now)) {
                Some(digest) => {
                    found
                        .digests
                        .insert(name.clone(), BaseDigest::Known(digest));
                }
                None => ask.push(name),
            }
        }
        let answers = join_all(ask.iter().map(|name| registry.digest(name))).await;
        for (name, answer) in ask.into_iter().zip(answers) {
            let digest = match answer {
                Ok(Some(digest)) => {
                    self.know(name, &digest, now);
                    BaseDigest::Known(digest)
                }
                // The build will say that there is no such image.
                Ok(None) => BaseDigest::Unknown,
                Err(error) => {
                    found.unknown.insert(name.clone(), error);
                    BaseDigest::Unknown
                }
            };
            found.digests.insert(name.clone(), digest);
        }
        found
    }

    /// Remembers what somebody else found out.
    pub fn know(&mut self, name: &str, digest: &ImageDigest, now: Timestamp) {
        let seen = Seen {
            digest: digest.clone(),
            at: now,
        };
        self.seen.insert(name.to_owned(), seen);
    }

    fn fresh(&self, name: &str, now: Timestamp) -> Option<ImageDigest> {
        let seen = self.seen.get(name)?;
        let age = now.duration_since(seen.at);
        let ttl = SignedDuration::try_from(self.ttl).unwrap_or(SignedDuration::MAX);
        // A clock that went back must not keep an entry for ever.
        (age >= SignedDuration::ZERO && age < ttl).then(|| seen.digest.clone())
    }

    /// Writes the file.
    pub fn save(&self) -> io::Result<()> {
        match &self.path {
            Some(path) => crate::cache::write_json(path, &self.seen),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Fake {
        images: BTreeMap<String, ImageDigest>,
        asked: Mutex<Vec<String>>,
    }

    impl Registry for Fake {
        async fn digest(&self, reference: &str) -> Result<Option<ImageDigest>, CacheError> {
            self.asked.lock().unwrap().push(reference.to_owned());
            crate::cache::parse(reference)?;
            Ok(self.images.get(reference).cloned())
        }

        async fn retag(&self, _: &ImageDigest, _: &str) -> Result<bool, CacheError> {
            unreachable!("nothing is tagged here")
        }
    }

    fn digest(digit: char) -> ImageDigest {
        ImageDigest::parse(&format!("sha256:{}", digit.to_string().repeat(64))).unwrap()
    }

    fn fake() -> Fake {
        Fake {
            images: BTreeMap::from([("golang:alpine".to_owned(), digest('1'))]),
            asked: Mutex::default(),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_digest_is_asked_for_once_within_its_time() {
        let registry = fake();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bases.json");
        let names = vec!["golang:alpine".to_owned(), "scratch".to_owned()];
        for (time, asked) in [
            ("2026-01-01T10:00:00Z", 1),
            ("2026-01-01T10:59:59Z", 1),
            ("2026-01-01T11:00:00Z", 2),
        ] {
            let mut bases = BaseDigests::load(&path, Duration::from_hours(1)).unwrap();
            let found = bases.look_up(&names, &registry, at(time)).await;
            assert_eq!(
                found.digests,
                BTreeMap::from([("golang:alpine".to_owned(), BaseDigest::Known(digest('1')))])
            );
            assert_eq!(registry.asked.lock().unwrap().len(), asked, "at {time}");
            bases.save().unwrap();
        }
    }

    #[tokio::test]
    async fn a_pinned_name_asks_nobody() {
        let registry = fake();
        let pinned = format!("alpine@{}", digest('2'));
        let mut bases = BaseDigests::in_memory(Duration::from_secs(60));
        let found = bases
            .look_up(
                std::slice::from_ref(&pinned),
                &registry,
                at("2026-01-01T10:00:00Z"),
            )
            .await;
        assert_eq!(found.digests[&pinned], BaseDigest::Known(digest('2')));
        assert!(registry.asked.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_asked_is_unknown_and_says_why() {
        let mut bases = BaseDigests::in_memory(Duration::from_secs(60));
        let names = vec!["Not A Name".to_owned()];
        let found = bases
            .look_up(&names, &fake(), at("2026-01-01T10:00:00Z"))
            .await;
        assert_eq!(found.digests["Not A Name"], BaseDigest::Unknown);
        assert_eq!(
            found.unknown["Not A Name"].to_string(),
            "`Not A Name` is not an image reference"
        );
    }
}
