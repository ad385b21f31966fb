//! Base images on a volume (`--cache-dir`): what a warmer put there is not downloaded again.
//!
//! ```text
//! <dir>/sha256:<manifest digest>/        an OCI layout (ours, and the maintained fork's)
//! <dir>/sha256:<manifest digest>         an archive of `docker save` (kaniko up to 1.24)
//! <dir>/sha256:<manifest digest>.json    that image's manifest
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kiln_registry::{Digest, LocalBlob};

/// A directory that a warmer filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseCache {
    dir: PathBuf,
    ttl: Duration,
}

impl BaseCache {
    /// The directory, and how old an entry may be.
    #[must_use]
    pub fn new(dir: PathBuf, ttl: Duration) -> Self {
        Self { dir, ttl }
    }

    /// The entry of a manifest, whether it exists or not.
    #[must_use]
    pub fn entry(&self, manifest: &Digest) -> PathBuf {
        self.dir.join(manifest.to_string())
    }

    /// Whether the entry exists and is not too old.
    #[must_use]
    pub fn is_fresh(&self, manifest: &Digest) -> bool {
        self.is_young(&self.entry(manifest))
    }

    fn is_young(&self, entry: &Path) -> bool {
        let modified = fs::metadata(entry).and_then(|entry| entry.modified());
        modified.is_ok_and(|modified| {
            SystemTime::now()
                .duration_since(modified)
                .map_or(true, |age| age <= self.ttl)
        })
    }

    /// All blobs of entries that are not too old, by the digests that their names promise: who reads one has to verify
    /// it. What cannot be read is left out.
    #[must_use]
    pub fn blobs(&self) -> BTreeMap<Digest, LocalBlob> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_entry = entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.parse::<Digest>().is_ok());
            if !is_entry || !self.is_young(&path) {
                continue;
            }
            if path.is_dir() {
                found.extend(of_layout(&path.join("blobs/sha256")));
            } else if let Ok(blobs) = of_archive(&path) {
                found.extend(blobs);
            }
        }
        found
    }
}

fn of_layout(dir: &Path) -> Vec<(Digest, LocalBlob)> {
    let blob = |entry: fs::DirEntry| {
        let digest = format!("sha256:{}", entry.file_name().to_str()?)
            .parse()
            .ok()?;
        let size = entry.metadata().ok()?.len();
        let path = entry.path();
        Some((
            digest,
            LocalBlob {
                path,
                offset: 0,
                size,
            },
        ))
    };
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(blob)
        .collect()
}

/// Layers in an archive, which kaniko named `<hex>.tar.gz` after their digests. Only the headers are read.
fn of_archive(path: &Path) -> io::Result<Vec<(Digest, LocalBlob)>> {
    let mut archive = tar::Archive::new(File::open(path)?);
    let mut found = Vec::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let hex = name.strip_suffix(".tar.gz").unwrap_or_default();
        let Ok(digest) = format!("sha256:{hex}").parse() else {
            continue;
        };
        let blob = LocalBlob {
            path: path.to_owned(),
            offset: entry.raw_file_position(),
            size: entry.header().size()?,
        };
        found.push((digest, blob));
    }
    Ok(found)
}

/// Where an entry is written before it gets its name.
#[must_use]
pub fn unfinished(dir: &Path, manifest: &Digest) -> PathBuf {
    dir.join(format!(".{}.{}", manifest.hex(), std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_known_while_it_is_young() {
        let dir = tempfile::tempdir().unwrap();
        let cache = BaseCache::new(dir.path().to_owned(), Duration::from_secs(3600));
        let manifest = Digest::sha256(b"manifest");
        let blobs = cache.entry(&manifest).join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let layer = Digest::sha256(b"layer");
        fs::write(blobs.join(layer.hex()), "layer").unwrap();
        // Nothing else in the folder counts.
        fs::write(dir.path().join("README"), "x").unwrap();
        let expected = LocalBlob {
            path: blobs.join(layer.hex()),
            offset: 0,
            size: 5,
        };
        assert_eq!(cache.blobs(), BTreeMap::from([(layer, expected)]));
        let past = SystemTime::now() - Duration::from_secs(60);
        File::open(cache.entry(&manifest))
            .unwrap()
            .set_modified(past)
            .unwrap();
        let strict = BaseCache::new(dir.path().to_owned(), Duration::ZERO);
        assert_eq!(strict.blobs(), BTreeMap::new());
    }

    #[test]
    fn layers_are_found_within_an_archive_of_the_old_warmer() {
        let dir = tempfile::tempdir().unwrap();
        let cache = BaseCache::new(dir.path().to_owned(), Duration::from_secs(3600));
        let entry = cache.entry(&Digest::sha256(b"manifest"));
        let layer = Digest::sha256(b"layer");
        let mut archive = tar::Builder::new(File::create(&entry).unwrap());
        let name = format!("{}.tar.gz", layer.hex());
        for (name, bytes) in [
            ("sha256:c", &b"{}"[..]),
            (&name, b"layer"),
            ("manifest.json", b"[]"),
        ] {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, bytes).unwrap();
        }
        archive.finish().unwrap();
        let found = cache.blobs();
        let blob = &found[&layer];
        let bytes = fs::read(&blob.path).unwrap();
        let start = usize::try_from(blob.offset).unwrap();
        assert_eq!(&bytes[start..start + 5], b"layer");
        assert_eq!((found.len(), blob.size), (1, 5));
    }
}
