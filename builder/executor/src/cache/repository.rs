//! A cache that machines share: a repository of a registry, or a directory with an OCI layout.
//!
//! For each step there is a manifest under a tag made of the step's key. It names the layers of
//! all steps of its stage up to this one and holds their records, so a build of which nothing
//! changed asks for one manifest. Nothing is ever rewritten, so writers cannot lose each other's
//! records, and registries that collect garbage see what belongs together.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use kiln_registry::{
    BlobSource, Client, Descriptor, ImageManifest, Manifest, ManifestBody, MediaType, Reference,
};
use kiln_store::{Digest, Store};

use super::{Change, Record};
use crate::layer::blob::store_digest;
use crate::remote::{KnownLayer, Origin, Remote};
use crate::request::CacheRepository;

mod layout;

use layout::Layout;
pub use layout::LayoutError;

/// What kind of artifact a record is (OCI image specification, manifest.md, "Guidelines for
/// Artifact Usage").
const ARTIFACT: &str = "application/vnd.kiln.cache.v1";
/// The empty configuration of an artifact.
const EMPTY: &[u8] = b"{}";
/// Its type.
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The annotation with the records.
const RECORDS: &str = "dev.kiln.cache.records";
/// Requests that are on their way at once.
const PARALLEL: usize = 16;
/// The most that is read of an index of headers, in bytes.
const INDEX_LIMIT: u64 = 64 << 20;

/// Why a cache cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] kiln_registry::Error),
    /// The directory.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A record cannot be written as JSON.
    #[error("cannot encode a record")]
    Encode(#[from] serde_json::Error),
}

/// A cache that machines share.
#[derive(Debug)]
pub struct Repository<'a> {
    place: Place<'a>,
}

#[derive(Debug)]
enum Place<'a> {
    Registry(&'a Remote, Reference),
    Layout(Layout),
}

/// What is put under one key.
#[derive(Debug)]
pub struct Entry {
    /// The key of a step, or of something else.
    pub key: Digest,
    /// The records of its stage up to it.
    pub records: Vec<(Digest, Record)>,
    /// The layers of these, all in the repository.
    pub layers: Vec<Descriptor>,
}

impl<'a> Repository<'a> {
    /// A cache at this place.
    #[must_use]
    pub fn new(place: &CacheRepository, remote: &'a Remote) -> Self {
        let place = match place {
            CacheRepository::Registry(repository) => Place::Registry(remote, repository.clone()),
            CacheRepository::Layout(dir) => Place::Layout(Layout::new(dir)),
        };
        Self { place }
    }

    /// Its name, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.place {
            Place::Registry(_, repository) => repository.name(),
            Place::Layout(layout) => layout.dir().display().to_string(),
        }
    }

    /// Where its blobs are.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match &self.place {
            Place::Registry(_, repository) => Origin::Repository(repository.clone()),
            Place::Layout(layout) => Origin::Blobs(layout.blobs()),
        }
    }

    /// Whether layers may be pushed to it.
    ///
    /// # Errors
    /// [`RepositoryError`] says why not.
    pub fn check(&self) -> Result<(), RepositoryError> {
        match &self.place {
            Place::Registry(remote, repository) => {
                Ok(remote.wait(remote.client().check_push(repository))?)
            }
            Place::Layout(layout) => Ok(layout.check()?),
        }
    }

    /// The records under a key; none when it is not there.
    ///
    /// # Errors
    /// [`RepositoryError`]
    pub fn records(&self, key: &Digest) -> Result<Vec<(Digest, Record)>, RepositoryError> {
        let manifest = match &self.place {
            Place::Registry(remote, repository) => {
                remote.wait(manifest(remote.client(), &tagged(repository, key)))?
            }
            Place::Layout(layout) => layout.manifest(&tag(key))?,
        };
        Ok(manifest.map(|manifest| read(&manifest)).unwrap_or_default())
    }

    /// Which of these keys are there; all are asked for at once.
    ///
    /// # Errors
    /// [`RepositoryError`]
    pub fn known(&self, keys: &[Digest]) -> Result<BTreeSet<Digest>, RepositoryError> {
        let Place::Registry(remote, repository) = &self.place else {
            let Place::Layout(layout) = &self.place else {
                return Ok(BTreeSet::new());
            };
            let tags = layout.tags()?;
            let is_there = |key: &&Digest| tags.contains(&tag(key));
            return Ok(keys.iter().filter(is_there).copied().collect());
        };
        let answers = at_once(keys, |key| {
            let client = remote.client();
            let found = remote.wait(client.head_manifest(&tagged(repository, key)))?;
            Ok(found.map(|_| *key))
        })?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// The records under each of these keys.
    ///
    /// # Errors
    /// [`RepositoryError`]
    pub fn all_records(
        &self,
        keys: &[Digest],
    ) -> Result<Vec<Vec<(Digest, Record)>>, RepositoryError> {
        at_once(keys, |key| self.records(key))
    }

    /// Brings a layer into the repository: mounted from one of `elsewhere`, or sent. False when
    /// its bytes are not to be had.
    ///
    /// # Errors
    /// [`RepositoryError`]
    pub fn put_layer(
        &self,
        layer: &KnownLayer,
        elsewhere: &[Reference],
        store: &Store,
    ) -> Result<bool, RepositoryError> {
        if layer.origin == self.origin() {
            return Ok(true);
        }
        let file = layer.file(store);
        let (remote, repository) = match &self.place {
            Place::Registry(remote, repository) => (remote, repository),
            Place::Layout(layout) => {
                let Some(file) = file else { return Ok(false) };
                layout.put_blob(&layer.descriptor.digest, &file)?;
                return Ok(true);
            }
        };
        let client = remote.client();
        let Some(file) = file else {
            let Origin::Repository(origin) = &layer.origin else {
                return Ok(false);
            };
            let digest = &layer.descriptor.digest;
            let answer = remote.wait(client.mount_blob(repository, origin, digest))?;
            return Ok(answer == kiln_registry::Mount::Mounted);
        };
        let mut blob = BlobSource::file(file, &layer.descriptor);
        for place in elsewhere {
            blob = blob.mountable_from(place);
        }
        let progress = kiln_registry::Progress::silent();
        remote.wait(client.push_blob(repository, &blob, &progress))?;
        Ok(true)
    }

    /// Puts records under a key.
    ///
    /// # Errors
    /// [`RepositoryError`]
    pub fn put(&self, entry: &Entry) -> Result<(), RepositoryError> {
        let texts: Vec<(String, &Record)> = entry
            .records
            .iter()
            .map(|(key, record)| (key.hex(), record))
            .collect();
        let records = serde_json::to_string(&texts)?;
        let manifest = artifact(&entry.layers, records)?;
        match &self.place {
            Place::Registry(remote, repository) => {
                let client = remote.client();
                let config = BlobSource::bytes(EMPTY);
                let progress = kiln_registry::Progress::silent();
                remote.wait(client.push_blob(repository, &config, &progress))?;
                let target = tagged(repository, &entry.key);
                Ok(remote.wait(client.push_manifest(&target, &manifest))?)
            }
            Place::Layout(layout) => {
                layout.put_bytes(EMPTY)?;
                Ok(layout.put_manifest(&tag(&entry.key), &manifest)?)
            }
        }
    }

    /// A small blob under a key: the index of an image's headers.
    ///
    /// # Errors
    /// [`RepositoryError`]
    pub fn blob(&self, key: &Digest) -> Result<Option<Vec<u8>>, RepositoryError> {
        let found = match &self.place {
            Place::Registry(remote, repository) => {
                remote.wait(manifest(remote.client(), &tagged(repository, key)))?
            }
            Place::Layout(layout) => layout.manifest(&tag(key))?,
        };
        let Some(ManifestBody::Image(body)) = found.and_then(|found| found.parse().ok()) else {
            return Ok(None);
        };
        let Some(layer) = body.layers.first() else {
            return Ok(None);
        };
        match &self.place {
            Place::Registry(remote, repository) => {
                let client = remote.client();
                let bytes = remote.wait(client.blob_bytes(repository, layer, INDEX_LIMIT))?;
                Ok(Some(bytes.to_vec()))
            }
            Place::Layout(layout) => Ok(Some(layout.blob(&layer.digest)?)),
        }
    }

    /// Keeps a small blob under a key.
    ///
    /// # Errors
    /// [`RepositoryError`]
    pub fn put_blob(&self, key: &Digest, bytes: Vec<u8>) -> Result<(), RepositoryError> {
        let media_type = MediaType::from("application/vnd.kiln.headers.v1+zstd");
        let layer = Descriptor::of(media_type, &bytes);
        match &self.place {
            Place::Registry(remote, repository) => {
                let progress = kiln_registry::Progress::silent();
                let blob = BlobSource::bytes(bytes);
                remote.wait(remote.client().push_blob(repository, &blob, &progress))?;
            }
            Place::Layout(layout) => layout.put_bytes(&bytes)?,
        }
        self.put(&Entry {
            key: *key,
            records: Vec::new(),
            layers: vec![layer],
        })
    }

    /// A directory of this machine that holds it, when it is one.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        match &self.place {
            Place::Registry(..) => None,
            Place::Layout(layout) => Some(layout.dir()),
        }
    }
}

fn tag(key: &Digest) -> String {
    format!("kiln-{}", key.hex())
}

fn tagged(repository: &Reference, key: &Digest) -> Reference {
    // Letters, digits and a dash, 69 of them: always a tag.
    repository
        .with_tag(&tag(key))
        .unwrap_or_else(|_| repository.clone())
}

/// Asks for several things at once; the answers come in any order.
fn at_once<T: Send>(
    keys: &[Digest],
    ask: impl Fn(&Digest) -> Result<T, RepositoryError> + Sync,
) -> Result<Vec<T>, RepositoryError> {
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL.min(keys.len()) {
            scope.spawn(|| {
                while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let answer = ask(key);
                    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                    answers.push(answer);
                }
            });
        }
    });
    let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.into_iter().collect()
}

async fn manifest(
    client: &Client,
    reference: &Reference,
) -> Result<Option<Manifest>, kiln_registry::Error> {
    match client.manifest(reference).await {
        Ok(manifest) => Ok(Some(manifest)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn artifact(layers: &[Descriptor], records: String) -> Result<Manifest, serde_json::Error> {
    let config = Descriptor::of(MediaType::from(EMPTY_TYPE), EMPTY);
    let mut distinct: Vec<Descriptor> = Vec::new();
    for layer in layers {
        if !distinct.iter().any(|known| known.digest == layer.digest) {
            distinct.push(layer.clone());
        }
    }
    if distinct.is_empty() {
        distinct.push(config.clone()); // a manifest should have a layer
    }
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(MediaType::OciManifest),
        artifact_type: Some(ARTIFACT.to_owned()),
        config,
        layers: distinct,
        subject: None,
        annotations: [(RECORDS.to_owned(), records)].into(),
    };
    Ok(Manifest::new(
        MediaType::OciManifest,
        serde_json::to_vec(&manifest)?,
    ))
}

/// The records of a manifest; whatever else lies under that tag has none.
fn read(manifest: &Manifest) -> Vec<(Digest, Record)> {
    let Ok(ManifestBody::Image(body)) = manifest.parse() else {
        return Vec::new();
    };
    let Some(text) = body.annotations.get(RECORDS) else {
        return Vec::new();
    };
    let Ok(records) = serde_json::from_str::<Vec<(String, Record)>>(text) else {
        return Vec::new();
    };
    records
        .into_iter()
        .filter_map(|(key, mut record)| {
            let key = format!("sha256:{key}").parse().ok()?;
            if let Change::Files { layer, unpacked } = &mut record.change {
                *unpacked = None; // that was another machine
                let digest = &layer.as_ref()?.descriptor.digest;
                store_digest(digest)?;
                body.layers.iter().find(|known| known.digest == *digest)?;
            }
            Some((key, record))
        })
        .collect()
}

/// The directory of blobs in an OCI layout.
fn blobs_of(layout: &Path) -> PathBuf {
    layout.join("blobs/sha256")
}
