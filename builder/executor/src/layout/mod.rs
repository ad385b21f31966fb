//! Images in files: OCI layouts (directories or archives of them) and archives of `docker save`.
//!
//! Source: OCI image specification, image-layout.md; for `docker save`, its `manifest.json`.

mod docker_archive;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kiln_registry::manifest::ManifestError;
use kiln_registry::{Descriptor, Digest, Index, Manifest, ManifestBody, MediaType};
use kiln_store::{Scratch, Store, StoreError};
use serde_json::json;

use crate::layer::dir::Form;
use crate::layer::index::TarError;
use crate::layer::unpack;

/// The content of the file `oci-layout`.
const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file.
    #[error("cannot use {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is neither an OCI layout nor an archive of `docker save`.
    #[error("it is neither an OCI layout nor an archive of `docker save`")]
    Unknown,
    /// A document in it.
    #[error("its {name} is not valid")]
    Document {
        /// Which one.
        name: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest in it.
    #[error("one of its manifests cannot be used")]
    Manifest(#[from] ManifestError),
    /// Something that a manifest names.
    #[error("{0} is missing in it, or is not what its name says")]
    Missing(String),
    /// It holds several images.
    #[error("it holds {0} images, and nothing says which one is meant")]
    Several(usize),
    /// An archive that cannot be read.
    #[error("its archive cannot be read")]
    Archive(#[source] TarError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An image or an index, with files for all that it needs.
#[derive(Debug)]
pub struct Stored {
    /// The manifest.
    pub manifest: Manifest,
    /// Configuration and layers.
    pub blobs: Vec<(Descriptor, PathBuf)>,
    /// The images of an index.
    pub children: Vec<Stored>,
    /// Holds what was unpacked.
    _unpacked: Option<Scratch>,
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> LayoutError {
    let path = path.to_owned();
    move |source| LayoutError::File { path, source }
}

/// Reads the one image of a directory or archive.
///
/// # Errors
/// [`LayoutError`]
pub fn read(path: &Path, store: &Store) -> Result<Stored, LayoutError> {
    if path.is_dir() {
        return of_directory(path);
    }
    let scratch = store.scratch()?;
    let archive = fs::File::open(path).map_err(file(path))?;
    unpack::unpack(archive, scratch.path(), Form::Applied).map_err(LayoutError::Archive)?;
    // Newer versions of docker write both forms into one archive.
    let mut stored = if scratch.path().join("index.json").is_file() {
        of_directory(scratch.path())?
    } else {
        docker_archive::read(scratch.path(), store)?
    };
    stored._unpacked = Some(scratch);
    Ok(stored)
}

fn of_directory(dir: &Path) -> Result<Stored, LayoutError> {
    let path = dir.join("index.json");
    if !path.is_file() {
        return Err(LayoutError::Unknown);
    }
    let bytes = fs::read(&path).map_err(file(&path))?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|source| LayoutError::Document {
        name: "index.json",
        source,
    })?;
    // One image may stand there under several names.
    let images: BTreeSet<&Digest> = index.manifests.iter().map(|entry| &entry.digest).collect();
    match (images.len(), index.manifests.first()) {
        (1, Some(entry)) => manifest(dir, entry),
        (count, _) => Err(LayoutError::Several(count)),
    }
}

/// The file of a blob in a layout.
#[must_use]
pub fn blob_path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs")
        .join(digest.algorithm().name())
        .join(digest.hex())
}

fn manifest(dir: &Path, descriptor: &Descriptor) -> Result<Stored, LayoutError> {
    let path = blob_path(dir, &descriptor.digest);
    let bytes = fs::read(&path).map_err(|_| LayoutError::Missing(descriptor.digest.to_string()))?;
    let manifest = Manifest::received(
        Some(descriptor.media_type.as_str()),
        descriptor.digest.clone(),
        bytes.into(),
    );
    if descriptor.digest.of_same_kind(manifest.bytes()) != descriptor.digest {
        return Err(LayoutError::Missing(descriptor.digest.to_string()));
    }
    let (mut blobs, mut children) = (Vec::new(), Vec::new());
    match manifest.parse()? {
        ManifestBody::Image(image) => {
            for blob in std::iter::once(image.config).chain(image.layers) {
                if blob.media_type.is_foreign() {
                    continue; // it stays where its URLs lead
                }
                let path = blob_path(dir, &blob.digest);
                let size = path.metadata().map(|metadata| metadata.len());
                if size.ok() != Some(blob.size) {
                    return Err(LayoutError::Missing(blob.digest.to_string()));
                }
                blobs.push((blob, path));
            }
        }
        ManifestBody::Index(index) => {
            for entry in &index.manifests {
                children.push(self::manifest(dir, entry)?);
            }
        }
    }
    Ok(Stored {
        manifest,
        blobs,
        children,
        _unpacked: None,
    })
}

/// Writes what makes a directory with blobs an OCI layout of this one manifest; the blobs are there already.
///
/// # Errors
/// [`LayoutError::File`]
pub fn write_index(dir: &Path, manifest: &Descriptor) -> Result<(), LayoutError> {
    let index = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OciIndex,
        "manifests": [manifest],
    });
    for (name, text) in [
        ("oci-layout", VERSION.to_owned()),
        ("index.json", index.to_string()),
    ] {
        let path = dir.join(name);
        fs::write(&path, text).map_err(file(&path))?;
    }
    Ok(())
}
