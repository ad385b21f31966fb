//! How a registry lies on the disk.
//!
//! ```text
//! store/                                                   bytes of blobs and manifests (kiln-store)
//! repositories/<name>/_blobs/<algorithm>/<hex>             the repository has this blob; says which sha256 holds it
//! repositories/<name>/_manifests/<algorithm>/<hex>         the repository has this manifest; the same, then its type
//! repositories/<name>/_tags/<tag>                          the digest of the tag's manifest
//! repositories/<name>/_referrers/<algorithm>/<hex>/<a-hex> descriptor of a manifest whose subject is <hex>
//! uploads/<id>/                                            see `session.rs`
//! tmp/                                                     files on their way to one of the above
//! ```
//! No part of a repository's name begins with `_`, so the two never meet. Every file appears complete, by a rename.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use bytes::Bytes;
use kiln_store::{Digest as StoreDigest, Store};

use super::ServeError;
use super::reply::{Problem, storage as failed};
use crate::digest::{Algorithm, Digest};
use crate::manifest::Descriptor;

/// Kinds of links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Blob,
    Manifest,
}

impl Link {
    fn folder(self) -> &'static str {
        match self {
            Self::Blob => "_blobs",
            Self::Manifest => "_manifests",
        }
    }
}

/// Where something's bytes are.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) file: PathBuf,
    pub(super) size: u64,
    /// The media type of a manifest; empty for a blob.
    pub(super) media_type: String,
    pub(super) stored: StoreDigest,
}

/// The directory of a registry.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    root: PathBuf,
    store: Store,
    /// Written by the collector alone: what it looks at does not change meanwhile.
    gate: Arc<RwLock<()>>,
}

impl Storage {
    pub(super) fn open(root: &Path) -> Result<Self, ServeError> {
        for sub in ["repositories", "uploads", "tmp"] {
            let dir = root.join(sub);
            fs::create_dir_all(&dir).map_err(|source| ServeError::Directory { dir, source })?;
        }
        Ok(Self {
            root: root.to_owned(),
            store: Store::open(&root.join("store"))?,
            gate: Arc::default(),
        })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Held while something is added, from the check for what it needs to its link.
    pub(super) fn adding(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while garbage is collected.
    pub(super) fn collecting(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn repository(&self, name: &str) -> PathBuf {
        self.root.join("repositories").join(name)
    }

    fn link_path(&self, name: &str, link: Link, digest: &Digest) -> PathBuf {
        self.repository(name)
            .join(link.folder())
            .join(digest.algorithm().name())
            .join(digest.hex())
    }

    /// What the repository has under this digest.
    pub(super) fn held(
        &self,
        name: &str,
        link: Link,
        digest: &Digest,
    ) -> Result<Option<Held>, Problem> {
        let path = self.link_path(name, link, digest);
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let mut lines = text.lines();
        let stored = lines
            .next()
            .and_then(|line| line.parse::<StoreDigest>().ok());
        let media_type = lines.next().unwrap_or_default().to_owned();
        let Some(stored) = stored else {
            return Ok(None);
        };
        let Some(file) = self.store.blob(&stored) else {
            return Ok(None);
        };
        let size = fs::metadata(&file).map_err(failed(&file))?.len();
        Ok(Some(Held {
            file,
            size,
            media_type,
            stored,
        }))
    }

    /// Says that somebody counts on a blob: the collector's grace begins anew.
    pub(super) fn touch(&self, name: &str, digest: &Digest) {
        let path = self.link_path(name, Link::Blob, digest);
        let touched = fs::File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            tracing::debug!(path = %path.display(), %error, "a blob's age is not renewed");
        }
    }

    /// Makes the repository have a blob that the store has.
    pub(super) fn link_blob(
        &self,
        name: &str,
        digest: &Digest,
        stored: &StoreDigest,
    ) -> Result<(), Problem> {
        let path = self.link_path(name, Link::Blob, digest);
        self.publish(&path, format!("{stored}\n").as_bytes())
    }

    /// Makes the repository have a manifest, under its digest and perhaps a tag.
    pub(super) fn put_manifest(
        &self,
        name: &str,
        (digest, tag): (&Digest, Option<&str>),
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), Problem> {
        let mut writer = self.store.write_blob()?;
        writer.write_all(bytes).map_err(failed(&self.root))?;
        let (stored, _, _) = writer.commit(None)?;
        let path = self.link_path(name, Link::Manifest, digest);
        self.publish(&path, format!("{stored}\n{media_type}\n").as_bytes())?;
        if let Some(tag) = tag {
            let path = self.repository(name).join("_tags").join(tag);
            self.publish(&path, digest.to_string().as_bytes())?;
        }
        Ok(())
    }

    pub(super) fn manifest_bytes(&self, held: &Held) -> Result<Bytes, Problem> {
        Ok(fs::read(&held.file).map_err(failed(&held.file))?.into())
    }

    /// Removes a link; `false` when there was none. The bytes stay until the next collection.
    pub(super) fn unlink(&self, name: &str, link: Link, digest: &Digest) -> Result<bool, Problem> {
        remove(&self.link_path(name, link, digest))
    }

    pub(super) fn resolve_tag(&self, name: &str, tag: &str) -> Result<Option<Digest>, Problem> {
        let text = read(&self.repository(name).join("_tags").join(tag))?;
        Ok(text.and_then(|text| text.trim().parse().ok()))
    }

    pub(super) fn delete_tag(&self, name: &str, tag: &str) -> Result<bool, Problem> {
        remove(&self.repository(name).join("_tags").join(tag))
    }

    /// The tags, in the order of their bytes; `None` when there is no such repository.
    pub(super) fn tags(&self, name: &str) -> Result<Option<Vec<String>>, Problem> {
        let repository = self.repository(name);
        if !is_repository(&repository) {
            return Ok(None);
        }
        Ok(Some(names(&repository.join("_tags"))?))
    }

    /// Remembers that `descriptor` is about `subject`.
    pub(super) fn add_referrer(
        &self,
        name: &str,
        subject: &Digest,
        descriptor: &Descriptor,
    ) -> Result<(), Problem> {
        let text = serde_json::to_vec(descriptor)
            .map_err(|error| Problem::Storage(io::Error::other(error)))?;
        self.publish(
            &self.referrer_path(name, subject, &descriptor.digest),
            &text,
        )
    }

    pub(super) fn remove_referrer(
        &self,
        name: &str,
        subject: &Digest,
        digest: &Digest,
    ) -> Result<bool, Problem> {
        remove(&self.referrer_path(name, subject, digest))
    }

    /// What is about `subject`, in the order of digests.
    pub(super) fn referrers(
        &self,
        name: &str,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, Problem> {
        let folder = self.referrers_folder(name, subject);
        let mut found = Vec::new();
        for file in names(&folder)? {
            let path = folder.join(file);
            let Some(text) = read(&path)? else { continue };
            let descriptor = serde_json::from_str(&text)
                .map_err(|error| failed(&path)(io::Error::other(error)))?;
            found.push(descriptor);
        }
        Ok(found)
    }

    fn referrers_folder(&self, name: &str, subject: &Digest) -> PathBuf {
        self.repository(name)
            .join("_referrers")
            .join(subject.algorithm().name())
            .join(subject.hex())
    }

    fn referrer_path(&self, name: &str, subject: &Digest, digest: &Digest) -> PathBuf {
        let file = format!("{}-{}", digest.algorithm().name(), digest.hex());
        self.referrers_folder(name, subject).join(file)
    }

    /// All repositories, in the order of their bytes.
    pub(super) fn repositories(&self) -> Result<Vec<String>, Problem> {
        let top = self.root.join("repositories");
        let mut found = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for part in names(&top.join(&folder))? {
                if part.starts_with('_') {
                    continue;
                }
                let name = if folder.is_empty() {
                    part
                } else {
                    format!("{folder}/{part}")
                };
                if is_repository(&top.join(&name)) {
                    found.push(name.clone());
                }
                folders.push(name);
            }
        }
        found.sort();
        Ok(found)
    }

    /// The digests that the repository has links for, with the age of each.
    pub(super) fn links(
        &self,
        name: &str,
        link: Link,
    ) -> Result<Vec<(Digest, SystemTime)>, Problem> {
        let mut found = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = self
                .repository(name)
                .join(link.folder())
                .join(algorithm.name());
            for hex in names(&folder)? {
                let path = folder.join(&hex);
                let Ok(digest) = format!("{}:{hex}", algorithm.name()).parse::<Digest>() else {
                    continue;
                };
                let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
                found.push((digest, modified.map_err(failed(&path))?));
            }
        }
        Ok(found)
    }

    fn publish(&self, path: &Path, bytes: &[u8]) -> Result<(), Problem> {
        let parent = path.parent().unwrap_or(&self.root);
        let write = || -> io::Result<()> {
            fs::create_dir_all(parent)?;
            let mut file = tempfile::NamedTempFile::new_in(self.root.join("tmp"))?;
            file.write_all(bytes)?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(failed(path))
    }
}

fn is_repository(path: &Path) -> bool {
    [Link::Manifest.folder(), Link::Blob.folder()]
        .iter()
        .any(|folder| path.join(folder).is_dir())
}

fn read(path: &Path) -> Result<Option<String>, Problem> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(failed(path)(error)),
    }
}

fn remove(path: &Path) -> Result<bool, Problem> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(failed(path)(error)),
    }
}

/// The names in a folder, sorted; none when there is no such folder.
fn names(folder: &Path) -> Result<Vec<String>, Problem> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed(folder))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
