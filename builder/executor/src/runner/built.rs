//! A finished stage: its base, its layers, its history.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use kiln_registry::Vendor;
use kiln_store::{Digest, Scratch, Store};

use crate::cache::{self, Change, Files, LayerRecord, Record};
use crate::image::{History, ImageConfig};
use crate::layer::blob::{self, BlobError, Format, Layer};
use crate::layer::delta::Delta;
use crate::layer::view::{Tree, View};
use crate::remote::{BaseImage, KnownLayer, Want};

/// A finished stage.
#[derive(Debug, Clone)]
pub struct Built {
    /// The image below all.
    pub base: Option<BaseStack>,
    /// What steps added, the first first.
    pub layers: Vec<BuiltLayer>,
    /// The base's and its own.
    pub history: Vec<History>,
    /// The configuration without history and layers.
    pub config: ImageConfig,
    /// Directories that covered a path while commands ran.
    pub(super) grafts: Vec<(PathBuf, PathBuf)>,
    /// Scratch directories that layers lie in.
    pub(super) scratch: Vec<Arc<Scratch>>,
}

/// An image that a stage starts from.
#[derive(Debug, Clone)]
pub struct BaseStack {
    /// The image.
    pub image: Box<BaseImage>,
    /// Its files or headers, the lowest layer first, when something asked for them.
    pub(super) at_hand: Option<(Want, Vec<Tree>)>,
    /// The same with its owners, where they are needed and directories do not tell them.
    pub(super) owned: Option<Vec<Tree>>,
}

/// A layer that a step made.
#[derive(Debug, Clone)]
pub struct BuiltLayer {
    /// Its files; absent when nothing asked for them.
    pub(super) tree: Option<Tree>,
    /// The same with their owners, where the directory does not tell them.
    pub(super) owned: Option<Tree>,
    /// Its blob.
    pub blob: Blob,
    /// What made it.
    pub(super) note: Option<Note>,
}

/// The step that made a layer.
#[derive(Debug, Clone)]
pub(super) struct Note {
    /// Its key.
    pub(super) key: Digest,
    /// When, RFC 3339.
    pub(super) created: String,
    /// The store's name of its files.
    pub(super) unpacked: Option<Digest>,
}

/// The blob of a layer.
#[derive(Debug, Clone)]
pub enum Blob {
    /// An earlier build made it.
    Known(Box<KnownLayer>),
    /// It is being written.
    Own(Pending),
    /// There is none: the stage is not exported.
    Unwritten,
}

/// A layer that another thread writes.
#[derive(Debug, Clone)]
pub struct Pending(Arc<Mutex<State>>);

#[derive(Debug)]
enum State {
    Running(JoinHandle<Result<(Layer, bool), BlobError>>),
    /// And whether it is what its key says.
    Done(Box<Layer>, bool),
    Failed,
}

/// What is done with a layer when it is written.
pub(super) struct Writing {
    pub(super) store: Store,
    pub(super) format: Format,
    /// Files that the layer refers to.
    pub(super) scratch: Vec<Arc<Scratch>>,
    /// The record that is kept.
    pub(super) note: Option<Note>,
    /// What has to be unchanged for that: the layer may be made of them.
    pub(super) files: Arc<Mutex<Files>>,
}

impl Pending {
    pub(super) fn start(delta: Arc<Delta>, writing: Writing) -> Self {
        let thread = std::thread::spawn(move || {
            let Writing {
                store,
                format,
                scratch,
                note,
                files,
            } = writing;
            let layer = blob::write(&store, &delta, format)?;
            drop(scratch);
            let is_kept = cache::are_unchanged(&files, &delta);
            if let Some(Note {
                key,
                created,
                unpacked,
            }) = note.filter(|_| is_kept)
            {
                let unpacked = unpacked.map(|name| name.to_string());
                let change = Change::Files {
                    layer: Some(Box::new(LayerRecord::from(&layer))),
                    unpacked,
                };
                cache::keep(&store, &key, &Record::new(created, change));
            }
            Ok((layer, is_kept))
        });
        Self(Arc::new(Mutex::new(State::Running(thread))))
    }

    /// Waits for the layer.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn wait(&self) -> Result<Layer, BlobError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let dead =
            || BlobError::Write(io::Error::other("the thread that writes the layer is gone"));
        match std::mem::replace(&mut *state, State::Failed) {
            State::Running(thread) => {
                let (layer, is_kept) = thread.join().map_err(|_| dead())??;
                *state = State::Done(Box::new(layer.clone()), is_kept);
                Ok(layer)
            }
            State::Done(layer, is_kept) => {
                *state = State::Done(layer.clone(), is_kept);
                Ok(*layer)
            }
            State::Failed => Err(dead()),
        }
    }
}

impl Pending {
    /// Whether the layer, which is written, is what the key of its step says.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*state, State::Done(_, true))
    }
}

impl Built {
    /// Whose vocabulary the base speaks.
    #[must_use]
    pub fn vendor(&self) -> Option<Vendor> {
        self.base.as_ref().map(|base| base.image.vendor)
    }

    /// What is at hand of its files, the topmost layer first.
    pub(super) fn trees(&self) -> Vec<Tree> {
        let own = self.layers.iter().rev();
        let own = own.filter_map(|layer| layer.tree.clone());
        let base = self.base.iter().filter_map(|base| base.at_hand.as_ref());
        let base = base.flat_map(|(_, trees)| trees.iter().rev().cloned());
        own.chain(base).collect()
    }

    /// As [`trees`](Self::trees), with owners from lists where there are any.
    pub(super) fn owned_trees(&self) -> Vec<Tree> {
        let own = self.layers.iter().rev();
        let own = own.filter_map(|layer| layer.owned.as_ref().or(layer.tree.as_ref()));
        let base = self.base.iter().filter_map(|base| {
            let at_hand = base.at_hand.as_ref().map(|(_, trees)| trees);
            base.owned.as_ref().or(at_hand)
        });
        own.chain(base.flat_map(|trees| trees.iter().rev()))
            .cloned()
            .collect()
    }

    /// The image itself, with owners from lists where there are any.
    pub(super) fn owned_view(&self) -> View {
        View::new(self.owned_trees())
    }

    /// The image itself: of what is not at hand nothing is seen.
    pub(super) fn image(&self) -> View {
        View::new(self.trees())
    }

    /// Its files as a command of it would see them, volumes included; of what is not at hand
    /// nothing is seen.
    pub(super) fn view(&self) -> Result<View, io::Error> {
        let mut view = self.image();
        for (at, dir) in &self.grafts {
            view.graft(at, dir.clone())?;
        }
        Ok(view)
    }
}
