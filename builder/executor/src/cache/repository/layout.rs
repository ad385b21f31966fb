//! An OCI image layout directory as a cache (OCI image specification, image-layout.md). Writers
//! of its index take turns; readers see the old one or the new one.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use kiln_registry::{Descriptor, Digest, Index, Manifest, MediaType};
use rustix::fs::{FlockOperation, flock};

use super::blobs_of;

/// The annotation with the tag of an entry.
const NAME: &str = "org.opencontainers.image.ref.name";

/// Why a layout cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The file system.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The index is not one.
    #[error("{} is no index of an OCI layout", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

fn at<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> LayoutError + 'p {
    move |source| LayoutError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// A layout directory; made when something is put into it.
#[derive(Debug)]
pub(super) struct Layout {
    dir: PathBuf,
}

impl Layout {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn blobs(&self) -> PathBuf {
        blobs_of(&self.dir)
    }

    /// Makes it, so that it can be written to.
    pub(super) fn check(&self) -> Result<(), LayoutError> {
        let blobs = self.blobs();
        fs::create_dir_all(&blobs).map_err(at("create", &blobs))?;
        let marker = self.dir.join("oci-layout");
        if !marker.exists() {
            self.replace(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(())
    }

    fn index(&self) -> Result<Index, LayoutError> {
        let path = self.dir.join("index.json");
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| LayoutError::Index { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index {
                schema_version: 2,
                media_type: Some(MediaType::OciIndex),
                artifact_type: None,
                manifests: Vec::new(),
                subject: None,
                annotations: std::collections::BTreeMap::new(),
            }),
            Err(error) => Err(at("read", &path)(error)),
        }
    }

    pub(super) fn tags(&self) -> Result<BTreeSet<String>, LayoutError> {
        let entries = self.index()?.manifests;
        Ok(entries
            .into_iter()
            .filter_map(|mut entry| entry.annotations.remove(NAME))
            .collect())
    }

    pub(super) fn manifest(&self, tag: &str) -> Result<Option<Manifest>, LayoutError> {
        let entries = self.index()?.manifests;
        let is_it =
            |entry: &&Descriptor| entry.annotations.get(NAME).is_some_and(|name| name == tag);
        let Some(entry) = entries.iter().find(is_it) else {
            return Ok(None);
        };
        let bytes = self.blob(&entry.digest)?;
        Ok(Some(Manifest::new(entry.media_type.clone(), bytes)))
    }

    pub(super) fn blob(&self, digest: &Digest) -> Result<Vec<u8>, LayoutError> {
        let path = self.blobs().join(digest.hex());
        fs::read(&path).map_err(at("read", &path))
    }

    pub(super) fn put_bytes(&self, bytes: &[u8]) -> Result<(), LayoutError> {
        self.check()?;
        let path = self.blobs().join(Digest::sha256(bytes).hex());
        if path.exists() {
            return Ok(());
        }
        self.replace(&path, bytes)
    }

    pub(super) fn put_blob(&self, digest: &Digest, file: &Path) -> Result<(), LayoutError> {
        self.check()?;
        let path = self.blobs().join(digest.hex());
        if path.exists() {
            return Ok(());
        }
        let temporary = self.temporary()?;
        fs::copy(file, &temporary).map_err(at("copy", file))?;
        temporary
            .persist(&path)
            .map_err(|error| at("rename", &path)(error.error))
    }

    pub(super) fn put_manifest(&self, tag: &str, manifest: &Manifest) -> Result<(), LayoutError> {
        self.put_bytes(manifest.bytes())?;
        let path = self.dir.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(at("open", &path))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| at("lock", &path)(error.into()))?;
        let mut index = self.index()?;
        index
            .manifests
            .retain(|entry| entry.annotations.get(NAME).is_none_or(|name| name != tag));
        let mut entry = manifest.descriptor();
        entry.annotations.insert(NAME.to_owned(), tag.to_owned());
        index.manifests.push(entry);
        let path = self.dir.join("index.json");
        let bytes = serde_json::to_vec(&index).map_err(|source| LayoutError::Index {
            path: path.clone(),
            source,
        })?;
        self.replace(&path, &bytes)
    }

    fn temporary(&self) -> Result<tempfile::TempPath, LayoutError> {
        tempfile::Builder::new()
            .prefix(".new")
            .tempfile_in(&self.dir)
            .map(tempfile::NamedTempFile::into_temp_path)
            .map_err(at("create a file in", &self.dir))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
        let temporary = self.temporary()?;
        fs::write(&temporary, bytes).map_err(at("write", &temporary))?;
        temporary
            .persist(path)
            .map_err(|error| at("rename", path)(error.error))
    }
}
