//! Base images: their configurations, and their layers as directories or header indexes.

mod headers;
mod layer;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kiln_registry::{
    BlobReader, BlockingBlobReader, Client, Descriptor, ImageManifest, MediaType, Platform,
    Reference, Vendor, reference::ReferenceError,
};
use kiln_sandbox::Cancel;
use kiln_store::{Digest, LayerSlot, Store, StoreError};
use tokio::runtime::Runtime;

pub use layer::{KnownLayer, LayerError, Origin};

use crate::image::ImageConfig;
use crate::layer::dir::{Form, LayerDir};
use crate::layer::parents;
use crate::layer::view::Tree;
use crate::plan::ImageKey;
use layer::Fetched;

/// Layers that are fetched at once.
const PARALLEL: usize = 4;

/// Why a base image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The name after `FROM` or `--from`.
    #[error("{name} is no image name")]
    Name {
        /// As written, expanded.
        name: String,
        /// Why.
        #[source]
        source: ReferenceError,
    },
    /// The registry.
    #[error("cannot get the image {name}")]
    Pull {
        /// The image.
        name: String,
        /// Why.
        #[source]
        source: Box<kiln_registry::Error>,
    },
    /// A configuration that does not fit the manifest.
    #[error("the image {name} is broken: {why}")]
    Broken {
        /// The image.
        name: String,
        /// What does not fit.
        why: String,
    },
    /// A layer.
    #[error("cannot use the image {name}")]
    Layer {
        /// The image.
        name: String,
        /// Why.
        #[source]
        source: Box<LayerError>,
    },
    /// Layers that cannot be put on top of each other.
    #[error("cannot merge the layers of {name}")]
    Merge {
        /// The image.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A client with the runtime that drives it; usable from ordinary threads.
#[derive(Debug)]
pub struct Remote {
    runtime: Runtime,
    client: Client,
    /// Images that no registry is asked for.
    known: Vec<BaseImage>,
    /// Ends what is on its way for a build.
    cancel: Mutex<Option<Cancel>>,
}

/// How often a request that waits looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Remote {
    /// Wraps a client.
    ///
    /// # Errors
    /// When the runtime's threads cannot be started.
    pub fn new(client: Client) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        Ok(Self {
            runtime,
            client,
            known: Vec::new(),
            cancel: Mutex::default(),
        })
    }

    /// Knows these images under their names, whatever a registry has.
    #[must_use]
    pub fn knowing(mut self, images: Vec<BaseImage>) -> Self {
        self.known = images;
        self
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A blob as ordinary threads read it.
    #[must_use]
    pub fn blocking(&self, reader: BlobReader) -> BlockingBlobReader {
        let _inside = self.runtime.enter();
        reader.into_blocking()
    }

    /// What is fetched for a build, until this is said anew, ends early when the handle is used.
    pub fn end_with(&self, cancel: Option<Cancel>) {
        *self.cancel.lock().unwrap_or_else(PoisonError::into_inner) = cancel;
    }

    /// Whether what is fetched is not wanted any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let cancel = self.cancel.lock().unwrap_or_else(PoisonError::into_inner);
        cancel.as_ref().is_some_and(Cancel::is_cancelled)
    }

    /// Runs a request to its end; `None` when it was not wanted any more before.
    pub fn wait_while_wanted<F: Future>(&self, future: F) -> Option<F::Output> {
        let cancelled = async {
            while !self.is_cancelled() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                output = future => Some(output),
                () = cancelled => None,
            }
        })
    }

    /// Runs a request to its end.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Manifest and configuration of an image.
    ///
    /// # Errors
    /// [`BaseError`]
    pub fn base(&self, key: &ImageKey) -> Result<BaseImage, BaseError> {
        if let Some(known) = self.known.iter().find(|image| image.name == key.name) {
            return Ok(known.clone());
        }
        let name = || key.name.clone();
        let reference = Reference::parse(&key.name).map_err(|source| BaseError::Name {
            name: name(),
            source,
        })?;
        let image = self
            .wait(self.client.image(&reference, &platform_of(key)))
            .map_err(|source| BaseError::Pull {
                name: name(),
                source: Box::new(source),
            })?;
        let config = &image.config;
        let vendor = image.manifest.media_type().vendor().unwrap_or(Vendor::Oci);
        let origin = Origin::Repository(image.reference);
        BaseImage::new(
            key.name.clone(),
            (config, image.body.layers),
            vendor,
            &origin,
        )
    }
}

fn platform_of(key: &ImageKey) -> Platform {
    let mut parts = key.platform.split('/');
    let os = parts.next().unwrap_or("linux");
    let mut platform = Platform::new(os, parts.next().unwrap_or_default());
    platform.variant = parts.next().map(str::to_owned);
    platform
}

/// An image in a registry.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// As the Dockerfile names it.
    pub name: String,
    /// The configuration.
    pub config: ImageConfig,
    /// Whose vocabulary its manifest speaks.
    pub vendor: Vendor,
    /// The layers, base first.
    pub layers: Vec<KnownLayer>,
}

/// What is needed of an image's layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// Names, owners, modes and links, and the content of `/etc/passwd` and `/etc/group`.
    Headers,
    /// Directories with all files.
    Files,
    /// All files, to be copied from: as [`Want::Files`], and for who is not root with the owners
    /// that the headers say.
    Copies,
}

impl BaseImage {
    fn new(
        name: String,
        (config, layers): (&[u8], Vec<Descriptor>),
        vendor: Vendor,
        origin: &Origin,
    ) -> Result<Self, BaseError> {
        let broken = |why: String| BaseError::Broken {
            name: name.clone(),
            why,
        };
        let config = ImageConfig::parse(config)
            .map_err(|error| broken(format!("its configuration is not valid: {error}")))?;
        let (count, ids) = (layers.len(), config.rootfs.diff_ids.len());
        if count != ids {
            return Err(broken(format!(
                "{count} layers in the manifest, {ids} in the configuration"
            )));
        }
        let layers = layers
            .into_iter()
            .zip(&config.rootfs.diff_ids)
            .map(|(descriptor, id)| {
                let diff_id = id.parse().map_err(|error| broken(format!("{error}")))?;
                Ok(KnownLayer {
                    descriptor,
                    diff_id,
                    origin: origin.clone(),
                })
            })
            .collect::<Result<_, BaseError>>()?;
        Ok(Self {
            name,
            config,
            vendor,
            layers,
        })
    }

    /// An image whose layers are in the store: what its manifest and its configuration say.
    ///
    /// # Errors
    /// [`BaseError::Broken`]
    pub fn in_store(name: &str, manifest: &[u8], config: &[u8]) -> Result<Self, BaseError> {
        let body: ImageManifest =
            serde_json::from_slice(manifest).map_err(|error| BaseError::Broken {
                name: name.to_owned(),
                why: format!("its manifest is not valid: {error}"),
            })?;
        let vendor = body.media_type.as_ref().and_then(MediaType::vendor);
        let vendor = vendor.unwrap_or(Vendor::Oci);
        Self::new(
            name.to_owned(),
            (config, body.layers),
            vendor,
            &Origin::Store,
        )
    }

    /// The digests of the layers' tars, base first.
    pub fn diff_ids(&self) -> impl Iterator<Item = Digest> + '_ {
        self.layers.iter().map(|layer| layer.diff_id)
    }

    /// Brings all layers into the store, several at once, and returns them, base first. On top
    /// there may be a further tree, which is no layer: [`parents::corrections`].
    ///
    /// # Errors
    /// [`BaseError`] of the first layer that fails.
    pub fn fetch(
        &self,
        store: &Store,
        remote: &Remote,
        want: Want,
    ) -> Result<Vec<Tree>, BaseError> {
        // Large ones first: the longest is not left for the end.
        let mut order: Vec<usize> = (0..self.layers.len()).collect();
        order.sort_by_key(|index| self.layers[*index].descriptor.size);
        let queue = Mutex::new(order);
        let done: Mutex<Vec<(usize, Result<Fetched, BaseError>)>> = Mutex::new(Vec::new());
        // In the head of a loop the lock would be held for the whole round.
        let next = || lock(&queue).pop();
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL.min(self.layers.len()) {
                scope.spawn(|| {
                    while let Some(index) = next() {
                        let fetched = self.layers[index].fetch(store, remote, want);
                        let tree = fetched.map_err(|source| BaseError::Layer {
                            name: self.name.clone(),
                            source: Box::new(source),
                        });
                        if tree.is_err() {
                            lock(&queue).clear();
                        }
                        lock(&done).push((index, tree));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(index, tree)| (tree.is_ok(), *index));
        let layers: Vec<Fetched> = done
            .into_iter()
            .map(|(_, tree)| tree)
            .collect::<Result<_, _>>()?;
        let corrections = self.corrections(&layers, store, want)?;
        Ok(layers
            .into_iter()
            .map(|(tree, _)| tree)
            .chain(corrections)
            .collect())
    }

    /// What makes the stack of layers right where they do not name their directories.
    fn corrections(
        &self,
        layers: &[Fetched],
        store: &Store,
        want: Want,
    ) -> Result<Option<Tree>, BaseError> {
        let merge = |source| BaseError::Merge {
            name: self.name.clone(),
            source,
        };
        let delta = parents::corrections(layers).map_err(merge)?;
        if delta.is_empty() {
            return Ok(None);
        }
        if want != Want::Files {
            return Ok(Some(Tree::Delta(Arc::new(delta))));
        }
        let ids = self.layers.iter().map(|layer| layer.diff_id.to_string());
        let key = format!("directories of {}", ids.collect::<Vec<_>>().join(" "));
        let dir = match store.layer_slot(&Digest::of(key.as_bytes()))? {
            LayerSlot::Ready(path) => path,
            LayerSlot::Fill(fill) => {
                let write = || -> io::Result<()> {
                    let mut dir = LayerDir::open(fill.path(), Form::Overlay)?;
                    dir.write(&delta)?;
                    dir.finish()
                };
                write().map_err(merge)?;
                fill.commit()?
            }
        };
        Ok(Some(Tree::Layer(dir)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
