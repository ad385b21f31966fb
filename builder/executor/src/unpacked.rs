//! An image that stays on this machine: its configuration, and its layers as directories of the
//! store, for a runtime that mounts them.

use std::fs::File;
use std::path::PathBuf;

use kiln_store::{LayerSlot, Store, StoreError};

use crate::build::{BuildError, planned};
use crate::export::{self, ExportError, Finished, Source};
use crate::image::{ImageConfig, Runtime};
use crate::layer::dir::Form;
use crate::layer::unpack;
use crate::layer::view::Tree;
use crate::plan::ImageKey;
use crate::remote::{BaseError, BaseImage, Remote, Want};
use crate::request::Request;
use crate::runner::{Blob, Built, Report, Session};

/// An image whose layers are directories.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// Digest of the manifest that a registry would have: `sha256:…`.
    pub digest: String,
    /// How a container of it runs.
    pub runtime: Runtime,
    /// Directories in overlay form, the topmost first.
    pub layers: Vec<PathBuf>,
}

/// Builds an image and leaves it in the store. Nothing is pushed, whatever the request says.
///
/// # Errors
/// [`BuildError`]
pub fn build_unpacked(
    request: &Request,
    store: &Store,
    remote: &Remote,
    report: Report<'_>,
) -> Result<Unpacked, BuildError> {
    let (plan, images) = planned(request, remote, report)?;
    let built = Session::new(request, &plan, &images, store, remote).build(report)?;
    let finished = export::assemble(&built, &request.output)?;
    let below = images.values().find(|image| is_base(image, &built));
    let mut layers = match below {
        Some(image) => directories(image, store, remote)?,
        None => Vec::new(),
    };
    for (at, (_, source)) in finished.layers.iter().enumerate() {
        if let Source::Store(blob) = source {
            layers.insert(0, own_layer(&finished, at, blob, store)?);
        }
    }
    let config = ImageConfig::parse(&finished.config).map_err(ExportError::from)?;
    Ok(Unpacked {
        digest: finished.manifest.digest().to_string(),
        runtime: config.config,
        layers,
    })
}

/// Brings an image of a registry into the store.
///
/// # Errors
/// [`BaseError`]
pub fn pull_unpacked(
    name: &str,
    platform: &str,
    store: &Store,
    remote: &Remote,
) -> Result<Unpacked, BaseError> {
    let key = ImageKey {
        name: name.to_owned(),
        platform: platform.to_owned(),
    };
    let image = remote.base(&key)?;
    Ok(Unpacked {
        digest: String::new(),
        layers: directories(&image, store, remote)?,
        runtime: image.config.config,
    })
}

/// Whether the stage's lowest layers are this image's.
fn is_base(image: &BaseImage, built: &Built) -> bool {
    let own = built.layers.iter().filter_map(|layer| match &layer.blob {
        Blob::Base(base) => Some(base.diff_id),
        _ => None,
    });
    let ids: Vec<_> = own.collect();
    !ids.is_empty() && image.layers.iter().map(|layer| layer.diff_id).eq(ids)
}

fn directories(
    image: &BaseImage,
    store: &Store,
    remote: &Remote,
) -> Result<Vec<PathBuf>, BaseError> {
    let trees = image.fetch(store, remote, Want::Files)?;
    let directory = |tree| match tree {
        Tree::Layer(path) | Tree::Plain(path) => Some(path),
        Tree::Delta(_) => None,
    };
    Ok(trees.into_iter().rev().filter_map(directory).collect())
}

/// The directory of a layer whose blob this build wrote.
fn own_layer(
    finished: &Finished,
    at: usize,
    blob: &kiln_store::Digest,
    store: &Store,
) -> Result<PathBuf, BuildError> {
    let broken = |why: String| {
        BuildError::Base(BaseError::Broken {
            name: "the image that was built".to_owned(),
            why,
        })
    };
    let config = ImageConfig::parse(&finished.config).map_err(ExportError::from)?;
    let diff_id = config.rootfs.diff_ids[at]
        .parse()
        .map_err(|error| broken(format!("{error}")))?;
    let fill = match store.layer_slot(&diff_id).map_err(of_store)? {
        LayerSlot::Ready(path) => return Ok(path),
        LayerSlot::Fill(fill) => fill,
    };
    let path = store
        .blob(blob)
        .ok_or_else(|| broken(format!("the layer {blob} is gone from the store")))?;
    let file = File::open(&path).map_err(|source| ExportError::File { path, source })?;
    unpack::unpack_layer(Box::new(file), fill.path(), Form::Overlay).map_err(|source| {
        BaseError::Layer {
            name: "the image that was built".to_owned(),
            layer: diff_id.to_string(),
            source,
        }
    })?;
    fill.commit().map_err(of_store)
}

fn of_store(error: StoreError) -> BuildError {
    BuildError::Export(ExportError::Store(error))
}
