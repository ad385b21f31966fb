//! Base images: their configurations, and their layers as directories or header indexes.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_registry::{
    Client, Descriptor, Image, Platform, Reference, Vendor, digest::Verifier,
    reference::ReferenceError,
};
use kiln_store::{Digest, LayerSlot, Store, StoreError};
use tokio::runtime::Runtime;

use crate::image::ImageConfig;
use crate::layer::blob::store_digest;
use crate::layer::dir::Form;
use crate::layer::index::TarError;
use crate::layer::unpack;
use crate::layer::view::Tree;
use crate::plan::ImageKey;

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
    #[error("cannot unpack layer {layer} of {name}")]
    Layer {
        /// The image.
        name: String,
        /// Digest of the layer.
        layer: String,
        /// Why.
        #[source]
        source: TarError,
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
}

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
        Ok(Self { runtime, client })
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
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
        BaseImage::new(key.name.clone(), image)
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
    pub layers: Vec<BaseLayer>,
}

/// A layer of an image in a registry.
#[derive(Debug, Clone)]
pub struct BaseLayer {
    /// Type, digest and size of the blob.
    pub descriptor: Descriptor,
    /// Digest of its tar, as the configuration promises it.
    pub diff_id: Digest,
    /// The image that has it.
    pub origin: Reference,
}

/// What is needed of an image's layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Directories with all files.
    Files,
    /// Names, owners, modes and links, and the content of `/etc/passwd` and `/etc/group`.
    Headers,
}

impl BaseImage {
    fn new(name: String, image: Image) -> Result<Self, BaseError> {
        let broken = |why: String| BaseError::Broken {
            name: name.clone(),
            why,
        };
        let config = ImageConfig::parse(&image.config)
            .map_err(|error| broken(format!("its configuration is not valid: {error}")))?;
        let (layers, ids) = (image.body.layers.len(), config.rootfs.diff_ids.len());
        if layers != ids {
            return Err(broken(format!(
                "{layers} layers in the manifest, {ids} in the configuration"
            )));
        }
        let vendor = image.manifest.media_type().vendor().unwrap_or(Vendor::Oci);
        let layers = image
            .body
            .layers
            .into_iter()
            .zip(&config.rootfs.diff_ids)
            .map(|(descriptor, id)| {
                let diff_id = id.parse().map_err(|error| broken(format!("{error}")))?;
                Ok(BaseLayer {
                    descriptor,
                    diff_id,
                    origin: image.reference.clone(),
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

    /// Brings all layers into the store, several at once, and returns them, base first.
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
        let done: Mutex<Vec<(usize, Result<Tree, BaseError>)>> = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL.min(self.layers.len()) {
                scope.spawn(|| {
                    while let Some(index) = lock(&queue).pop() {
                        let tree = self.layer(&self.layers[index], store, remote, want);
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
        done.into_iter().map(|(_, tree)| tree).collect()
    }

    fn layer(
        &self,
        layer: &BaseLayer,
        store: &Store,
        remote: &Remote,
        want: Want,
    ) -> Result<Tree, BaseError> {
        match want {
            Want::Files => Ok(Tree::Layer(self.unpacked(layer, store, remote)?)),
            Want::Headers => {
                if let Some(path) = store.layer(&layer.diff_id) {
                    return Ok(Tree::Layer(path));
                }
                let known = store.index(&layer.diff_id)?;
                if let Some(delta) = known.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                    return Ok(Tree::Delta(Arc::new(delta)));
                }
                let blob = self.open(layer, store, remote)?;
                let (delta, diff_id) =
                    unpack::headers(blob).map_err(|source| self.layer_error(layer, source))?;
                self.check(layer, &diff_id)?;
                if let Ok(bytes) = serde_json::to_vec(&delta) {
                    store.put_index(&layer.diff_id, &bytes)?;
                }
                Ok(Tree::Delta(Arc::new(delta)))
            }
        }
    }

    fn unpacked(
        &self,
        layer: &BaseLayer,
        store: &Store,
        remote: &Remote,
    ) -> Result<PathBuf, BaseError> {
        let fill = match store.layer_slot(&layer.diff_id)? {
            LayerSlot::Ready(path) => return Ok(path),
            LayerSlot::Fill(fill) => fill,
        };
        let blob = self.open(layer, store, remote)?;
        let diff_id = unpack::unpack(blob, fill.path(), Form::Overlay)
            .map_err(|source| self.layer_error(layer, source))?;
        self.check(layer, &diff_id)?;
        Ok(fill.commit()?)
    }

    /// The blob: from the store when it is there, else from the registry, verified as it comes.
    fn open(
        &self,
        layer: &BaseLayer,
        store: &Store,
        remote: &Remote,
    ) -> Result<Box<dyn io::Read>, BaseError> {
        if let Some(path) = store_digest(&layer.descriptor.digest).and_then(|id| store.blob(&id)) {
            let file = std::fs::File::open(path)
                .map_err(|source| self.layer_error(layer, TarError::Read(source)))?;
            return Ok(Box::new(Verified {
                inner: file,
                verifier: Some(Verifier::new(
                    layer.descriptor.digest.clone(),
                    layer.descriptor.size,
                )),
            }));
        }
        let reader = remote
            .wait(remote.client.blob(&layer.origin, &layer.descriptor))
            .map_err(|source| BaseError::Pull {
                name: self.name.clone(),
                source: Box::new(source),
            })?;
        let _inside = remote.runtime.enter();
        Ok(Box::new(reader.into_blocking()))
    }

    fn check(&self, layer: &BaseLayer, found: &Digest) -> Result<(), BaseError> {
        if *found == layer.diff_id {
            return Ok(());
        }
        Err(BaseError::Broken {
            name: self.name.clone(),
            why: format!(
                "layer {} unpacks to {found}, its configuration promises {}",
                layer.descriptor.digest, layer.diff_id
            ),
        })
    }

    fn layer_error(&self, layer: &BaseLayer, source: TarError) -> BaseError {
        let layer = layer.descriptor.digest.to_string();
        BaseError::Layer {
            name: self.name.clone(),
            layer,
            source,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks a file of the store once more while it is read: disks lie too.
struct Verified<R> {
    inner: R,
    verifier: Option<Verifier>,
}

impl<R: io::Read> io::Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if buffer.is_empty() {
            return Ok(count);
        }
        if count > 0 {
            if let Some(verifier) = &mut self.verifier {
                verifier
                    .update(&buffer[..count])
                    .map_err(io::Error::other)?;
            }
        } else if let Some(verifier) = self.verifier.take() {
            verifier.finish().map_err(io::Error::other)?;
        }
        Ok(count)
    }
}
