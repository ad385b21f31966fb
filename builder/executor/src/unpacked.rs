//! An image that stays on this machine: its configuration, and its layers as directories of the
//! store, for a runtime that mounts them.

use std::path::PathBuf;

use kiln_registry::Vendor;
use kiln_sandbox::Cancel;
use kiln_store::Store;
use serde::{Deserialize, Serialize};

use crate::build::{BuildError, planned, tidy};
use crate::cache::{Ask, Cache};
use crate::export::{self, ExportError};
use crate::image::{ImageConfig, Runtime};
use crate::layer::view::Tree;
use crate::plan::ImageKey;
use crate::remote::{BaseError, BaseImage, Remote, Want};
use crate::request::Request;
use crate::runner::{Report, Session};

/// An image whose layers are directories.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// Digest of the manifest that a registry would have: `sha256:…`.
    pub digest: String,
    /// How a container of it runs.
    pub runtime: Runtime,
    /// Directories in overlay form, the topmost first.
    pub layers: Vec<PathBuf>,
    /// What other builds need to start from it; absent for an image of a registry.
    pub stored: Option<Stored>,
}

/// An image of the store, as other images are built from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its manifest, JSON.
    pub manifest: String,
    /// Its configuration, JSON.
    pub config: String,
}

impl Stored {
    /// The image under the name by which a Dockerfile finds it.
    ///
    /// # Errors
    /// [`BaseError::Broken`]
    pub fn image(&self, name: &str) -> Result<BaseImage, BaseError> {
        BaseImage::in_store(name, self.manifest.as_bytes(), self.config.as_bytes())
    }
}

/// Builds an image and leaves it in the store, which is tidied now and then. Nothing is pushed,
/// whatever the request says. Once `cancel` is used no further step is performed, and the
/// command of a RUN is killed.
///
/// # Errors
/// [`BuildError`]
pub fn build_unpacked(
    request: &Request,
    store: &Store,
    remote: &Remote,
    report: Report<'_>,
    cancel: &Cancel,
) -> Result<Unpacked, BuildError> {
    let (plan, images) = planned(request, remote, report)?;
    let cache = Cache::new(request, (&plan, &images), store, remote)?;
    let found = cache.find(request, Ask::Everywhere, report);
    let session = Session::new(request, (&plan, &images), (&cache, &found), store, remote);
    let (built, _) = session.cancelled_by(cancel).build(report)?;
    let finished = export::assemble(&built, &request.output)?;
    let position = plan.target().position;
    let at_target = |source| BuildError::Base { position, source };
    let image = BaseImage {
        name: "the image that was built".to_owned(),
        config: ImageConfig::parse(&finished.config).map_err(ExportError::from)?,
        vendor: built.vendor().unwrap_or(Vendor::Docker),
        layers: finished
            .layers
            .into_iter()
            .map(|(_, layer)| layer)
            .collect(),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let unpacked = Unpacked {
        digest: finished.manifest.digest().to_string(),
        layers: directories(&image, store, remote).map_err(at_target)?,
        runtime: image.config.config,
        stored: Some(Stored {
            manifest: text(finished.manifest.bytes()),
            config: text(&finished.config),
        }),
    };
    // After the layers were looked up: what this build uses is not old.
    tidy(store, request);
    Ok(unpacked)
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
        stored: None,
    })
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
