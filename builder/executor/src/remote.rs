//! Base images: their configurations, and their layers as directories or header indexes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
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
use crate::layer::dir::{Form, LayerDir};
use crate::layer::index::TarError;
use crate::layer::parents;
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

/// A layer at hand, and its [unnamed directories](parents::Parents::unnamed).
type Fetched = (Tree, BTreeSet<PathBuf>);

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
        if want == Want::Headers {
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

    fn layer(
        &self,
        layer: &BaseLayer,
        store: &Store,
        remote: &Remote,
        want: Want,
    ) -> Result<Fetched, BaseError> {
        let of_delta = |delta| {
            let unnamed = parents::unnamed(&delta);
            (Tree::Delta(Arc::new(delta)), unnamed)
        };
        match want {
            Want::Files => {
                let path = self.unpacked(layer, store, remote)?;
                Ok((Tree::Layer(path), read_unnamed(layer, store)?))
            }
            Want::Headers => {
                if let Some(path) = store.layer(&layer.diff_id) {
                    return Ok((Tree::Layer(path), read_unnamed(layer, store)?));
                }
                let known = store.index(&layer.diff_id)?;
                if let Some(delta) = known.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                    return Ok(of_delta(delta));
                }
                let blob = self.open(layer, store, remote)?;
                let (delta, diff_id) =
                    unpack::headers(blob).map_err(|source| self.layer_error(layer, source))?;
                self.check(layer, &diff_id)?;
                if let Ok(bytes) = serde_json::to_vec(&delta) {
                    store.put_index(&layer.diff_id, &bytes)?;
                }
                Ok(of_delta(delta))
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
        let unpacked = unpack::unpack_layer(blob, fill.path(), Form::Overlay)
            .map_err(|source| self.layer_error(layer, source))?;
        self.check(layer, &unpacked.diff_id)?;
        write_unnamed(layer, store, &unpacked.unnamed)?;
        Ok(fill.commit()?)
    }

    /// The blob: from the store when it is there, else from the registry, verified as it comes.
    fn open(
        &self,
        layer: &BaseLayer,
        store: &Store,
        remote: &Remote,
    ) -> Result<Box<dyn io::Read + Send>, BaseError> {
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

/// Where the store keeps the unnamed directories of an unpacked layer.
fn unnamed_key(layer: &BaseLayer) -> Digest {
    Digest::of(format!("unnamed directories of {}", layer.diff_id).as_bytes())
}

/// Written before the layer itself appears, so that whoever sees the layer sees this too.
fn write_unnamed(
    layer: &BaseLayer,
    store: &Store,
    unnamed: &BTreeSet<PathBuf>,
) -> Result<(), StoreError> {
    if unnamed.is_empty() {
        return Ok(());
    }
    let paths: Vec<&[u8]> = unnamed
        .iter()
        .map(|path| path.as_os_str().as_bytes())
        .collect();
    store.put_index(&unnamed_key(layer), &paths.join(&0))
}

fn read_unnamed(layer: &BaseLayer, store: &Store) -> Result<BTreeSet<PathBuf>, StoreError> {
    let bytes = store.index(&unnamed_key(layer))?.unwrap_or_default();
    let paths = bytes
        .split(|byte| *byte == 0)
        .filter(|path| !path.is_empty());
    Ok(paths
        .map(|path| PathBuf::from(OsStr::from_bytes(path)))
        .collect())
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
