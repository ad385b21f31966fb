//! What earlier builds made, by the keys of their steps: in the store of this machine, and in a
//! repository that machines share.
//!
//! | question | module |
//! |---|---|
//! | why is this a miss: what a key is made of | [`key`] (pure) |
//! | what a build reads of its context | [`context`] |
//! | digests of files, and whether they changed since | `files` |
//! | digests of several parts, and their version | `framed` |
//! | which steps and stages are left to do | [`resolve`] (pure) |
//! | where records are kept, who wins when two write | [`repository`] |

pub mod context;
mod files;
mod framed;
pub mod key;
mod lookup;
mod publish;
pub mod repository;
pub mod resolve;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_dockerfile::mount::MountKind;
use kiln_registry::Descriptor;
use kiln_store::{Digest, Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::layer::blob::{Format, Layer};
use crate::layer::delta::Delta;
use crate::plan::{self, Base, ImageKey, Mount, Op, Plan, Stage};
use crate::remote::{BaseImage, KnownLayer, Origin, Remote};
use crate::request::{Caching, Layering, LocalRecords, Request};
use context::Contents;
pub use files::Files;
use key::{Keys, Reader, Sight};
pub use lookup::{Ask, Found};
pub use publish::{Made, Outcome, Outcomes};
use repository::Repository;
pub use repository::RepositoryError;

/// Why the cache stops a build. A cache that merely cannot be reached does not: it is a warning.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The context.
    #[error("cannot read the context")]
    Context(#[source] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The repository refuses what is pushed to it, and would after the build as well.
    #[error(
        "the layer cache cannot be pushed to {place}: name a repository that exists and may be written to with --cache-repo, or build with --no-push-cache"
    )]
    Refused {
        /// The repository.
        place: String,
        /// Why.
        #[source]
        source: Box<RepositoryError>,
    },
}

/// What a step made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When, RFC 3339; also the time in the image's history, so a reproducible build has a fixed one.
    pub created: String,
    /// When the record came into a repository, RFC 3339: how old it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// What.
    #[serde(flatten)]
    pub change: Change,
}

impl Record {
    /// A record for the store.
    #[must_use]
    pub fn new(created: String, change: Change) -> Self {
        Self {
            created,
            kept: None,
            change,
        }
    }

    /// Since when it is in a repository, as far as it is known.
    #[must_use]
    pub fn came(&self) -> &str {
        self.kept.as_ref().unwrap_or(&self.created)
    }
}

/// What a step changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// No files.
    Nothing,
    /// A layer of files.
    Files {
        /// Its blob, when one was written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        layer: Option<Box<LayerRecord>>,
        /// The store's name of its files, when the store keeps them ([`key::directory`]).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unpacked: Option<String>,
    },
}

/// The blob of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Digest of the tar.
    pub diff_id: String,
    /// Type, digest and size.
    pub descriptor: Descriptor,
}

/// A record, and where its blob is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The step's key.
    pub key: Digest,
    /// What the step made.
    pub record: Record,
    /// Where the blob is, when the store does not have it.
    pub origin: Origin,
}

impl Hit {
    /// The directory of this machine's store that holds the files of the step.
    #[must_use]
    pub fn directory(&self, store: &Store) -> Option<std::path::PathBuf> {
        match &self.record.change {
            Change::Files { unpacked, .. } => store.layer(&unpacked.as_ref()?.parse().ok()?),
            Change::Nothing => None,
        }
    }

    /// The layer of the step, when it has one with a blob.
    #[must_use]
    pub fn layer(&self) -> Option<KnownLayer> {
        let Change::Files {
            layer: Some(layer), ..
        } = &self.record.change
        else {
            return None;
        };
        let LayerRecord {
            diff_id,
            descriptor,
        } = &**layer;
        Some(KnownLayer {
            descriptor: descriptor.clone(),
            diff_id: diff_id.parse().ok()?,
            origin: self.origin.clone(),
        })
    }
}

impl From<&Layer> for LayerRecord {
    fn from(layer: &Layer) -> Self {
        Self {
            diff_id: layer.diff_id.to_string(),
            descriptor: layer.descriptor.clone(),
        }
    }
}

/// The cache of one build.
#[derive(Debug)]
pub struct Cache<'a> {
    request: &'a Request,
    plan: &'a Plan,
    store: &'a Store,
    settings: &'a Caching,
    repository: Option<Repository<'a>>,
    /// The keys of all steps.
    pub keys: Keys,
    /// What commands see beside their images.
    pub sights: BTreeMap<usize, Sight>,
    /// The key of all steps of the target as one layer, with `--single-snapshot`.
    pub single: Option<Digest>,
    /// What steps read of contexts, and the files that this was.
    contents: Contents,
    files: Arc<Mutex<Files>>,
    /// Steps that the repository is known to have.
    published: Mutex<Vec<Digest>>,
}

impl<'a> Cache<'a> {
    /// Computes the keys of a plan, for which the files that it copies are read.
    ///
    /// # Errors
    /// When the context cannot be read.
    pub fn new(
        request: &'a Request,
        (plan, images): (&'a Plan, &BTreeMap<ImageKey, BaseImage>),
        store: &'a Store,
        remote: &'a Remote,
    ) -> Result<Self, CacheError> {
        let settings = &request.caching;
        let repository = settings
            .repository
            .as_ref()
            .map(|place| Repository::new(place, remote));
        let mut cache = Self {
            request,
            plan,
            store,
            settings,
            repository,
            keys: Keys::new(),
            sights: BTreeMap::new(),
            single: None,
            contents: Contents::default(),
            files: Arc::default(),
            published: Mutex::default(),
        };
        if !cache.is_used() && !plan.stages.iter().any(begins_a_cache) {
            return Ok(cache);
        }
        let mut files = Files::default();
        cache.contents = context::contents(plan, request, &mut files);
        cache.sights = context::sights(plan, request, &cache.contents, &mut files)
            .map_err(CacheError::Context)?;
        files.compare();
        cache.files = Arc::new(Mutex::new(files));
        let images: BTreeMap<ImageKey, Vec<Digest>> = images
            .iter()
            .map(|(key, image)| (key.clone(), image.diff_ids().collect()))
            .collect();
        cache.keys = key::keys(&key::Inputs {
            plan,
            epoch: request.output.epoch,
            images: &images,
            contents: &cache.contents.digests,
            format: Format::of(&request.output),
            sights: &cache.sights,
            ignored: &request.sandbox.ignored,
            volumes: &request.sandbox.volumes,
        });
        if request.output.layering == Layering::Single {
            cache.single = cache
                .keys
                .get(&plan.target().index)
                .and_then(key::StageKeys::last)
                .map(key::single);
        }
        Ok(cache)
    }

    /// Whether anything is looked up or kept at all.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.is_local() || self.repository.is_some()
    }

    /// Whether the records of the store count.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.settings.records == LocalRecords::Used
    }

    /// Whether layers are pushed to a repository.
    #[must_use]
    pub fn publishes(&self) -> bool {
        self.repository.is_some() && self.settings.push == crate::request::PushMode::Push
    }

    /// The cache that machines share.
    #[must_use]
    pub fn repository(&self) -> Option<&Repository<'a>> {
        self.repository.as_ref()
    }

    /// The key of a step.
    #[must_use]
    pub fn key(&self, reader: Reader) -> Option<Digest> {
        *self.keys.get(&reader.stage)?.steps.get(reader.step)?
    }

    /// Whether what a step has read of a context is what its key says. Files may be written while a
    /// build goes on, and a key stands for what is read before it.
    #[must_use]
    pub fn holds(&self, stage: &Stage, step: usize) -> bool {
        let reads = |reader: &Reader| (reader.stage, reader.step) == (stage.index, step);
        let sight = self
            .sights
            .get(&stage.index)
            .and_then(|sight| sight.context);
        let sight = sight.filter(|_| matches!(stage.steps[step].op, Op::Run(_)));
        if sight.is_none() && !self.contents.digests.keys().any(reads) {
            return true;
        }
        let files = &mut *self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.is_shared() {
            return true;
        }
        let around = (self.plan, self.request);
        self.contents.holds_of(around, stage, step, files)
            && sight.is_none_or(|sight| {
                context::visible(self.request, files).is_ok_and(|now| now == sight)
            })
    }

    /// Commands work in the context itself and not in a copy: what they change there belongs to their
    /// keys, as what they change in the image does.
    pub fn share_context(&self) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.share();
    }

    /// The files that steps read.
    #[must_use]
    pub fn files(&self) -> Arc<Mutex<Files>> {
        Arc::clone(&self.files)
    }

    /// Keeps in the store what a step made.
    pub fn keep(&self, key: &Digest, record: &Record) {
        if self.is_local() {
            keep(self.store, key, record);
        }
    }

    /// The stages whose layers become part of the image: the target and what it is based on.
    fn exported(&self) -> Vec<usize> {
        let mut exported = Vec::new();
        let mut at = Some(self.plan.target());
        while let Some(stage) = at {
            exported.push(stage.index);
            at = match &stage.base {
                Base::Stage(below) => self.plan.stage(*below),
                Base::Scratch | Base::Image(_) => None,
            };
        }
        exported
    }

    fn note_published(&self, keys: impl IntoIterator<Item = Digest>) {
        let mut published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        published.extend(keys);
    }

    /// What is in the repository is of no use, so it is published anew.
    fn forget_published(&self) {
        let mut published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        published.clear();
    }

    fn is_published(&self, key: &Digest) -> bool {
        let published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        published.contains(key)
    }
}

/// Whether a command of a stage has a cache mount that begins with files of another stage, whose key is
/// then part of its name, also in a build that keeps nothing.
fn begins_a_cache(stage: &Stage) -> bool {
    let is_begun = |mount: &Mount| {
        mount.options.kind == MountKind::Cache && matches!(mount.from, plan::From::Stage(_))
    };
    stage.steps.iter().any(|step| match &step.op {
        Op::Run(run) => run.mounts.iter().any(is_begun),
        _ => false,
    })
}

/// Whether the files that a layer is made of are those that keys were made of.
pub(crate) fn are_unchanged(files: &Mutex<Files>, delta: &Delta) -> bool {
    let files = files.lock().unwrap_or_else(PoisonError::into_inner);
    files.are_unchanged_in(delta)
}

/// Keeps a record; a store that cannot be written makes the next build slower, not this one fail.
pub(crate) fn keep(store: &Store, key: &Digest, record: &Record) {
    let written = serde_json::to_vec(record).map_err(|error| error.to_string());
    let written = written.and_then(|bytes| {
        store
            .put_record(key, &bytes)
            .map_err(|error| error.to_string())
    });
    if let Err(error) = written {
        tracing::warn!(%key, error, "a step's record is not kept");
    }
}
