//! The image as a file: a `docker save` archive, or an OCI layout directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kiln_registry::Descriptor;
use kiln_store::Store;
use serde_json::json;
use tar::{EntryType, Header};

use super::whole::Whole;
use super::{ExportError, Finished};
use crate::layer::blob::store_digest;
use crate::remote::{KnownLayer, Origin, Remote};
use crate::request::Output;

/// The name of an image that has no destination (kaniko's).
const UNNAMED: &str = "docker.io/unset-repo/unset-image-name";

/// The file of a layer's blob; it is fetched when it is not on this machine.
pub(super) fn blob(
    layer: &KnownLayer,
    descriptor: &Descriptor,
    (store, remote): (&Store, &Remote),
) -> Result<PathBuf, ExportError> {
    let Some(digest) = store_digest(&descriptor.digest) else {
        return Err(ExportError::Format {
            vendor: "oci",
            why: "a layer has a digest other than sha256",
        });
    };
    if let Some(path) = layer.file(store) {
        return Ok(path);
    }
    let Origin::Repository(origin) = &layer.origin else {
        let path = PathBuf::from(digest.to_string());
        return Err(ExportError::File {
            path,
            source: io::ErrorKind::NotFound.into(),
        });
    };
    let scratch = store.scratch()?;
    let path = scratch.path().join("blob");
    remote
        .wait(
            remote
                .client()
                .blob_to_file(origin, &layer.descriptor, &path),
        )
        .map_err(|source| ExportError::Fetch {
            layer: descriptor.digest.to_string(),
            source: Box::new(source),
        })?;
    let failed = |source| ExportError::File {
        path: path.clone(),
        source,
    };
    let mut writer = store.write_blob()?;
    io::copy(&mut File::open(&path).map_err(failed)?, &mut writer).map_err(failed)?;
    Ok(writer.commit(Some(&digest))?.2)
}

/// Writes what `docker load` reads.
pub(super) fn docker_archive(
    finished: &Finished,
    output: &Output,
    sources: (&Store, &Remote),
    path: &Path,
) -> Result<(), ExportError> {
    let failed = |source| ExportError::File {
        path: path.to_owned(),
        source,
    };
    let mut archive = Archive::create(path).map_err(failed)?;
    let config_name = finished.config_descriptor.digest.to_string();
    archive
        .bytes(&config_name, &finished.config)
        .map_err(failed)?;
    let mut names = Vec::new();
    for (descriptor, source) in &finished.layers {
        let name = format!("{}.tar.gz", descriptor.digest.hex());
        if !names.contains(&name) {
            let blob = blob(source, descriptor, sources)?;
            archive
                .file(&name, &blob, descriptor.size)
                .map_err(failed)?;
        }
        names.push(name);
    }
    let tags: Vec<String> = if output.destinations.is_empty() {
        vec![format!("{UNNAMED}:latest")]
    } else {
        let tag =
            |name: &kiln_registry::Reference| format!("{}:{}", name.name(), name.tag_or_latest());
        output.destinations.iter().map(tag).collect()
    };
    let manifest = json!([{ "Config": config_name, "RepoTags": tags, "Layers": names }]);
    archive
        .bytes("manifest.json", manifest.to_string().as_bytes())
        .map_err(failed)?;
    archive.finish().map_err(failed)
}

/// Writes an OCI image layout directory (OCI image specification, image-layout.md).
pub(super) fn oci_layout(
    finished: &Finished,
    output: &Output,
    sources: (&Store, &Remote),
    path: &Path,
) -> Result<(), ExportError> {
    let failed = |source| ExportError::File {
        path: path.to_owned(),
        source,
    };
    let blobs = path.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(failed)?;
    for (descriptor, source) in &finished.layers {
        let blob = blob(source, descriptor, sources)?;
        let mut blob = File::open(blob).map_err(failed)?;
        put(&blobs.join(descriptor.digest.hex()), &mut blob).map_err(failed)?;
    }
    let manifest = finished.manifest.descriptor();
    for (digest, bytes) in [
        (
            &finished.config_descriptor.digest,
            finished.config.as_slice(),
        ),
        (&manifest.digest, finished.manifest.bytes().as_ref()),
    ] {
        put(&blobs.join(digest.hex()), &mut &*bytes).map_err(failed)?;
    }
    let mut version = br#"{"imageLayoutVersion":"1.0.0"}"#.as_slice();
    put(&path.join("oci-layout"), &mut version).map_err(failed)?;
    let mut entries = Vec::new();
    for destination in &output.destinations {
        let mut entry = manifest.clone();
        let (key, tag) = (
            "org.opencontainers.image.ref.name",
            destination.tag_or_latest(),
        );
        entry.annotations.insert(key.to_owned(), tag.to_owned());
        entries.push(entry);
    }
    if entries.is_empty() {
        entries.push(manifest);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    });
    let index = index.to_string();
    put(&path.join("index.json"), &mut index.as_bytes()).map_err(failed)
}

fn put(path: &Path, bytes: &mut dyn io::Read) -> io::Result<()> {
    let mut file = Whole::create(path)?;
    io::copy(bytes, &mut file)?;
    file.finish()
}

/// A tar of regular files without times and owners.
struct Archive(io::BufWriter<Whole>);

impl Archive {
    fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(io::BufWriter::new(Whole::create(path)?)))
    }

    fn header(&mut self, name: &str, size: u64) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_path(name)?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.0.write_all(header.as_bytes())
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.header(name, bytes.len() as u64)?;
        self.0.write_all(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn file(&mut self, name: &str, path: &Path, size: u64) -> io::Result<()> {
        self.header(name, size)?;
        io::copy(&mut File::open(path)?, &mut self.0)?;
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = (512 - size % 512) % 512;
        self.0.write_all(&[0; 512][..padding as usize])
    }

    fn finish(mut self) -> io::Result<()> {
        self.0.write_all(&[0; 1024])?;
        let file = self
            .0
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.finish()
    }
}
