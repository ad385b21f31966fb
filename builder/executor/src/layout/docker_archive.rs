//! Archives of `docker save`, unpacked: `manifest.json` names a configuration and tars of layers.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use kiln_registry::{Descriptor, ImageManifest, Manifest, MediaType};
use kiln_store::Store;
use serde::Deserialize;

use super::{LayoutError, Stored, file};
use crate::layer::blob::registry_digest;
use crate::layer::gzip::GzipWriter;

/// As `docker push` has it: fast, and a third larger than the best.
const LEVEL: u32 = 6;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    #[serde(default)]
    layers: Vec<String>,
}

pub(super) fn read(dir: &Path, store: &Store) -> Result<Stored, LayoutError> {
    let path = dir.join("manifest.json");
    if !path.is_file() {
        return Err(LayoutError::Unknown);
    }
    let bytes = fs::read(&path).map_err(file(&path))?;
    let images: Vec<Image> =
        serde_json::from_slice(&bytes).map_err(|source| LayoutError::Document {
            name: "manifest.json",
            source,
        })?;
    let [image] = images.as_slice() else {
        return Err(LayoutError::Several(images.len()));
    };
    let config_path = within(dir, &image.config)?;
    let config = fs::read(&config_path).map_err(file(&config_path))?;
    let config = Descriptor::of(MediaType::DockerConfig, &config);
    let mut blobs = vec![(config.clone(), config_path)];
    for name in &image.layers {
        blobs.push(layer(&within(dir, name)?, store)?);
    }
    let layers = blobs[1..]
        .iter()
        .map(|(descriptor, _)| descriptor.clone())
        .collect();
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(MediaType::DockerManifest),
        artifact_type: None,
        config,
        layers,
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|source| LayoutError::Document {
        name: "manifest",
        source,
    })?;
    Ok(Stored {
        manifest: Manifest::new(MediaType::DockerManifest, bytes),
        blobs,
        children: Vec::new(),
        _unpacked: None,
    })
}

/// A file of the archive; older versions of docker link equal layers to each other.
fn within(dir: &Path, name: &str) -> Result<PathBuf, LayoutError> {
    let missing = || LayoutError::Missing(name.to_owned());
    let real = dir.join(name).canonicalize().map_err(|_| missing())?;
    let root = dir.canonicalize().map_err(file(dir))?;
    if real.starts_with(root) && real.is_file() {
        Ok(real)
    } else {
        Err(missing())
    }
}

/// A layer as it is pushed: what is not compressed gets compressed.
fn layer(path: &Path, store: &Store) -> Result<(Descriptor, PathBuf), LayoutError> {
    let mut input = fs::File::open(path).map_err(file(path))?;
    let mut magic = Vec::new();
    (&mut input)
        .take(2)
        .read_to_end(&mut magic)
        .map_err(file(path))?;
    io::Seek::rewind(&mut input).map_err(file(path))?;
    let mut writer = store.write_blob()?;
    if magic == [0x1f, 0x8b] {
        io::copy(&mut input, &mut writer).map_err(file(path))?;
    } else {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut gzip = GzipWriter::new(writer, LEVEL, threads).map_err(file(path))?;
        io::copy(&mut input, &mut gzip).map_err(file(path))?;
        writer = gzip.finish().map_err(file(path))?;
    }
    let (digest, size, path) = writer.commit(None)?;
    let descriptor = Descriptor::new(MediaType::DockerLayerGzip, registry_digest(&digest), size);
    Ok((descriptor, path))
}
