//! What base images do when they are built upon: their ONBUILD triggers,
//! remembered by digest. A trigger may COPY from the context, so it decides
//! which files are sources.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use kiln_registry::{Client, Platform, Reference};
use kiln_schemas::image::ImageDigest;
use serde_json::Value;

/// Triggers by the digest of their image. A digest never changes what it
/// names, so nothing here gets old.
#[derive(Debug, Default)]
pub struct Onbuild {
    path: Option<PathBuf>,
    known: BTreeMap<ImageDigest, Vec<String>>,
}

impl Onbuild {
    /// Starts with what a file holds; a missing or damaged one holds nothing.
    pub fn load(path: &Path) -> Self {
        let known = std::fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            path: Some(path.to_owned()),
            known: known.unwrap_or_default(),
        }
    }

    /// The triggers of an image, if they were seen before.
    pub fn get(&self, digest: &ImageDigest) -> Option<&[String]> {
        self.known.get(digest).map(Vec::as_slice)
    }

    /// Asks the registry for the triggers of an image that is not known yet.
    /// Where it cannot be asked they stay unknown, and the whole context
    /// counts as sources. Returns whether something new was learned.
    pub async fn learn(&mut self, client: &Client, reference: &str, digest: &ImageDigest) -> bool {
        if self.known.contains_key(digest) {
            return false;
        }
        let triggers = fetch(client, reference, digest).await;
        triggers
            .map(|triggers| self.known.insert(digest.clone(), triggers))
            .is_some()
    }

    /// Remembers the triggers of an image. Returns whether that is new.
    pub fn know(&mut self, digest: &ImageDigest, triggers: Vec<String>) -> bool {
        self.known.insert(digest.clone(), triggers).is_none()
    }

    /// Writes the file; what cannot be written is asked for again next time.
    pub fn save(&self) {
        let Some(path) = &self.path else { return };
        let write = || -> std::io::Result<()> {
            let folder = path.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&serde_json::to_vec(&self.known)?)?;
            file.persist(path)?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::debug!(path = %path.display(), %error, "cannot remember ONBUILD triggers");
        }
    }
}

async fn fetch(client: &Client, reference: &str, digest: &ImageDigest) -> Option<Vec<String>> {
    let reference = Reference::parse(reference).ok()?;
    let pinned = reference.at_digest(digest.as_str().parse().ok()?);
    // Triggers do not differ between the platforms of one index in practice;
    // the executor reads its own platform's in any case.
    let image = client.image(&pinned, &Platform::host()).await.ok()?;
    let config: Value = serde_json::from_slice(&image.config).ok()?;
    let triggers = config["config"]["OnBuild"].as_array();
    Some(
        triggers
            .into_iter()
            .flatten()
            .filter_map(|t| t.as_str().map(str::to_owned))
            .collect(),
    )
}
