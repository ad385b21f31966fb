//! A finished stage becomes an image: configuration, manifest, registries, files.

mod digest_file;
mod file;
mod push;
mod whole;

pub use digest_file::write as write_digest_files;

use std::io;
use std::path::PathBuf;
use std::time::Instant;

pub(crate) use digest_file::text as digest_text;

use kiln_registry::{Compression, Descriptor, ImageManifest, Manifest, MediaType, Vendor};
use kiln_store::{Store, StoreError};

use crate::image::{History, ImageConfig};
use crate::layer::blob::BlobError;
use crate::layer::tar::Times;
use crate::progress::{Phase, Progress};
use crate::remote::{KnownLayer, Origin, Remote};
use crate::request::{Output, PushMode};
use crate::runner::{Blob, Built, Report};

/// Why an image could not be delivered.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A layer could not be written.
    #[error(transparent)]
    Layer(#[from] BlobError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The format cannot say what the image needs.
    #[error("the image cannot be written in the {vendor} format: {why}")]
    Format {
        /// `docker` or `oci`.
        vendor: &'static str,
        /// What does not go.
        why: &'static str,
    },
    /// A layer of the base or of the layer cache, needed because the destination does not have it.
    #[error("cannot fetch layer {layer}, which the destination does not have")]
    Fetch {
        /// Its digest.
        layer: String,
        /// Why.
        #[source]
        source: Box<kiln_registry::Error>,
    },
    /// A destination.
    #[error("cannot push {destination}")]
    Push {
        /// Where to.
        destination: String,
        /// Why.
        #[source]
        source: Box<kiln_registry::Error>,
    },
    /// A file or directory.
    #[error("cannot write {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The configuration cannot be written as JSON.
    #[error("cannot encode the image's configuration")]
    Encode(#[from] serde_json::Error),
}

/// An image, ready to be delivered.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The manifest.
    pub manifest: Manifest,
    /// The bytes of the configuration.
    pub config: Vec<u8>,
    /// The configuration's descriptor.
    pub config_descriptor: Descriptor,
    /// The layers as the manifest words them, and where their bytes are.
    pub layers: Vec<(Descriptor, KnownLayer)>,
}

/// Assembles the image and delivers it everywhere. Returns the digest of the manifest.
///
/// # Errors
/// [`ExportError`]
pub fn export(
    built: &Built,
    output: &Output,
    store: &Store,
    remote: &Remote,
    report: Report<'_>,
) -> Result<kiln_registry::Digest, ExportError> {
    let start = Instant::now();
    let finished = assemble(built, output)?;
    report(Progress::Phase {
        phase: Phase::Layers,
        took: start.elapsed(),
    });
    if let Some(path) = &output.tar {
        file::docker_archive(&finished, output, (store, remote), path)?;
        report(Progress::Note(format!("wrote {}", path.display())));
    }
    if let Some(path) = &output.oci_layout {
        file::oci_layout(&finished, output, (store, remote), path)?;
        report(Progress::Note(format!("wrote {}", path.display())));
    }
    if output.push == PushMode::Push {
        let start = Instant::now();
        push::push(&finished, output, (store, remote), report)?;
        report(Progress::Phase {
            phase: Phase::Push,
            took: start.elapsed(),
        });
    }
    let digest = finished.manifest.digest().clone();
    write_digest_files(output, &digest)?;
    Ok(digest)
}

/// Waits for the layers and writes configuration and manifest.
///
/// # Errors
/// When a layer could not be written, or the format does not fit.
pub fn assemble(built: &Built, output: &Output) -> Result<Finished, ExportError> {
    let vendor = vendor(built.vendor(), output)?;
    let mut config = built.config.clone();
    config.config.labels.extend(output.labels.clone());
    config.rootfs.diff_ids.clear();
    let mut layers = Vec::new();
    for layer in stack(built)? {
        config.rootfs.diff_ids.push(layer.diff_id.to_string());
        layers.push((worded(layer.descriptor.clone(), vendor)?, layer));
    }
    stamp(&mut config, built, output);
    let config = serde_json::to_vec(&config)?;
    let (config_type, manifest_type) = match vendor {
        Vendor::Docker => (MediaType::DockerConfig, MediaType::DockerManifest),
        Vendor::Oci => (MediaType::OciConfig, MediaType::OciManifest),
    };
    let config_descriptor = Descriptor::of(config_type, &config);
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(manifest_type.clone()),
        artifact_type: None,
        config: config_descriptor.clone(),
        layers: layers
            .iter()
            .map(|(descriptor, _)| descriptor.clone())
            .collect(),
        subject: None,
        annotations: output.annotations.clone(),
    };
    let manifest = Manifest::new(manifest_type, serde_json::to_vec(&manifest)?);
    Ok(Finished {
        manifest,
        config,
        config_descriptor,
        layers,
    })
}

/// All layers of a stage, base first; waits for those that are being written.
fn stack(built: &Built) -> Result<Vec<KnownLayer>, BlobError> {
    let mut layers = Vec::new();
    if let Some(base) = &built.base {
        layers.extend(base.image.layers.iter().cloned());
    }
    for layer in &built.layers {
        match &layer.blob {
            Blob::Known(known) => layers.push((**known).clone()),
            Blob::Own(pending) => {
                let own = pending.wait()?;
                layers.push(KnownLayer {
                    descriptor: own.descriptor,
                    diff_id: own.diff_id,
                    origin: Origin::Store,
                });
            }
            Blob::Unwritten => {}
        }
    }
    Ok(layers)
}

/// The base's format, unless something else is asked for or needed; Docker's for `scratch`.
fn vendor(base: Option<Vendor>, output: &Output) -> Result<Vendor, ExportError> {
    match (output.vendor, output.compression) {
        (Some(Vendor::Docker), Compression::Zstd) => Err(ExportError::Format {
            vendor: "docker",
            why: "it has no zstd layers: use --image-format=oci or --compression=gzip",
        }),
        (None, Compression::Zstd) => Ok(Vendor::Oci),
        (Some(vendor), _) => Ok(vendor),
        (None, _) => Ok(base.unwrap_or(Vendor::Docker)),
    }
}

fn worded(descriptor: Descriptor, vendor: Vendor) -> Result<Descriptor, ExportError> {
    if descriptor.media_type.vendor() == Some(vendor) {
        return Ok(descriptor);
    }
    match descriptor.media_type.relabelled(vendor) {
        Some(media_type) => Ok(Descriptor {
            media_type,
            ..descriptor
        }),
        None => Err(ExportError::Format {
            vendor: "docker",
            why: "a layer of the base has a type that it does not know: use --image-format=oci",
        }),
    }
}

/// Times and history: entries of the base keep theirs. An entry without a layer has the time of
/// the layer before it, else of the first new one (BuildKit): nothing changed means the same image.
fn stamp(config: &mut ImageConfig, built: &Built, output: &Output) {
    let now = || {
        match (output.epoch, output.times) {
            (Some(epoch), _) => epoch,
            (None, Times::Zero) => jiff::Timestamp::UNIX_EPOCH,
            (None, Times::Kept) => jiff::Timestamp::now(),
        }
        .to_string()
    };
    config.history.clone_from(&built.history);
    let base = built.base.as_ref();
    let inherited = base.map_or(0, |base| base.image.config.history.len());
    let (old, new) = config
        .history
        .split_at_mut(inherited.min(built.history.len()));
    let time_of = |entry: &History| entry.created.clone().filter(|_| !entry.empty_layer);
    let first = new.iter().find_map(time_of);
    let before = || old.iter().rev().find_map(|entry| entry.created.clone());
    let base_time = || base.and_then(|base| base.image.config.created.clone());
    let mut last = first.or_else(before).or_else(base_time).unwrap_or_else(now);
    for entry in new {
        match time_of(entry) {
            Some(time) => last = time,
            None => entry.created = Some(last.clone()),
        }
    }
    for entry in old {
        entry.created.get_or_insert_with(|| last.clone());
    }
    config.created = Some(last);
}
