//! What of the layers of a stage is on this machine: as lists of headers, as directories for a
//! command, and with owners where one user owns everything on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use kiln_sandbox::users::Owners;
use kiln_store::LayerSlot;

use super::built::Note;
use super::copy;
use super::{Blob, Built, NotKept, Report, Session, StepError, io_error, locked};
use crate::cache::{self, Change, Record, key};
use crate::layer::delta::Delta;
use crate::layer::dir::{Form, LayerDir};
use crate::layer::owners;
use crate::layer::view::{Tree, View};
use crate::plan;
use crate::progress::{Phase, Progress};
use crate::remote::{BaseError, Want};

impl Session<'_> {
    pub(super) fn load_base(
        &self,
        built: &mut Built,
        want: Want,
        report: Report<'_>,
    ) -> Result<(), BaseError> {
        let Some(base) = &mut built.base else {
            return Ok(());
        };
        if base.at_hand.as_ref().is_some_and(|(have, _)| *have >= want) {
            return Ok(());
        }
        let start = Instant::now();
        let (store, remote) = (self.store, self.remote);
        let lock = self.fetching(&base.image.name);
        let alone = locked(&lock);
        let trees = match want {
            Want::Files | Want::Copies => base.image.fetch(store, remote, want)?,
            Want::Headers => {
                let shared = self.cache.repository();
                base.image.headers(store, remote, shared)?
            }
        };
        drop(alone);
        base.at_hand = Some((want, trees));
        report(Progress::Phase {
            phase: Phase::Base,
            took: start.elapsed(),
        });
        Ok(())
    }

    /// Brings what is asked for of all layers of a stage; then its view is whole.
    pub(super) fn load(
        &self,
        built: &mut Built,
        want: Want,
        report: Report<'_>,
    ) -> Result<View, StepError> {
        self.load_base(built, want, report)?;
        let start = Instant::now();
        let mut is_fetched = false;
        for layer in &mut built.layers {
            let Blob::Known(known) = &layer.blob else {
                continue;
            };
            let is_enough = match &layer.tree {
                None => false,
                Some(Tree::Delta(_)) => want == Want::Headers,
                Some(Tree::Layer(_) | Tree::Plain(_)) => true,
            };
            if !is_enough {
                layer.tree = Some(known.tree(self.store, self.remote, want)?);
                is_fetched = true;
            }
        }
        if is_fetched {
            report(Progress::Phase {
                phase: Phase::Base,
                took: start.elapsed(),
            });
        }
        built.view().map_err(io_error("cannot read the image"))
    }

    /// What files are put over: the image so far, with the owners that it says. What covers it while
    /// commands run is no part of it.
    pub(super) fn beneath(
        &self,
        built: &mut Built,
        want: Want,
        report: Report<'_>,
    ) -> Result<View, StepError> {
        self.load(built, want, report)?;
        self.with_owners(built)
    }

    /// The image as far as it is at hand, with its true owners.
    pub(super) fn with_owners(&self, built: &mut Built) -> Result<View, StepError> {
        self.list_owners(built)?;
        Ok(built.owned_view())
    }

    /// Where one user owns everything on disk: brings the owners that the headers say, once.
    pub(super) fn list_owners(&self, built: &mut Built) -> Result<(), StepError> {
        if Owners::present().are_many() {
            return Ok(());
        }
        let is_list = |tree: &Tree| matches!(tree, Tree::Delta(_));
        if let Some(base) = &mut built.base
            && let Some((_, trees)) = &base.at_hand
            && base.owned.is_none()
            && !trees.iter().all(is_list)
        {
            let owned = base.image.fetch(self.store, self.remote, Want::Copies)?;
            base.owned = Some(owned);
        }
        for layer in &mut built.layers {
            if let (Blob::Known(known), Some(tree), None) = (&layer.blob, &layer.tree, &layer.owned)
                && !is_list(tree)
            {
                layer.owned = Some(known.tree(self.store, self.remote, Want::Copies)?);
            }
        }
        Ok(())
    }

    /// The files of a finished stage for a copy: where it reads in a volume or in the context at its own
    /// path, what is there.
    pub(super) fn view_to_copy(
        &self,
        index: usize,
        op: &plan::Copy,
        report: Report<'_>,
    ) -> Result<View, StepError> {
        let failed = || io_error("cannot read the image");
        let mut view = self.stage_view(index, report)?;
        if self.plan.runs(index) && !self.request.sandbox.volumes.is_empty() {
            let read = copy::places(op, &view);
            for volume in &self.request.sandbox.volumes {
                let is_named = op.reads_below(volume);
                let at = volume.strip_prefix("/").unwrap_or(volume);
                if !is_named && !read.iter().any(|path| path.starts_with(at)) {
                    continue;
                }
                if !is_named {
                    self.keep_nothing(NotKept::Volume);
                }
                view.graft(volume, volume.clone()).map_err(failed())?;
            }
        }
        let of_stage = self.board.get(index);
        let of_stage = of_stage.map(|built| locked(&built).grafts.clone());
        for (at, dir) in of_stage.unwrap_or_default() {
            let is_volume = self.request.sandbox.volumes.contains(&at);
            if !is_volume && op.reads_below(&at) {
                view.graft(&at, dir).map_err(failed())?;
            }
        }
        Ok(view)
    }

    /// The files of a finished stage.
    pub(super) fn stage_view(&self, index: usize, report: Report<'_>) -> Result<View, StepError> {
        let Some(built) = self.board.get(index) else {
            return Ok(View::default());
        };
        let mut built = locked(&built);
        self.load(&mut built, Want::Files, report)?;
        self.with_owners(&mut built)
    }

    /// What a command changed, with its owners.
    pub(super) fn owned(&self, delta: Delta, built: &mut Built) -> Result<Delta, StepError> {
        if Owners::present().are_many() {
            return Ok(delta);
        }
        let below = self.with_owners(built)?;
        owners::of_before(delta, &below).map_err(io_error("cannot read the image"))
    }

    /// Directories for an overlay, the topmost first: layers that are only lists are written out.
    /// Everything is at hand.
    pub(super) fn lowers(&self, built: &mut Built) -> Result<Vec<PathBuf>, StepError> {
        for index in 0..built.layers.len() {
            if let Some(Tree::Delta(delta)) = &built.layers[index].tree {
                let delta = Arc::clone(delta);
                let dir = self.written_out(&delta, index, built)?;
                let layer = &mut built.layers[index];
                let (tree, owned) = trees(Some(Tree::Layer(dir)), &delta);
                (layer.tree, layer.owned) = (Some(tree), owned);
            }
        }
        let mut lowers = Vec::new();
        for tree in built.trees() {
            match tree {
                Tree::Layer(dir) | Tree::Plain(dir) => lowers.push(dir),
                Tree::Delta(_) => {}
            }
        }
        if lowers.is_empty() {
            let scratch = Arc::new(self.store.scratch()?);
            lowers.push(scratch.path().to_owned());
            built.scratch.push(scratch);
        }
        Ok(lowers)
    }

    /// The files of a layer as a directory, which the next build finds by the step's key.
    fn written_out(
        &self,
        delta: &Delta,
        index: usize,
        built: &mut Built,
    ) -> Result<PathBuf, StepError> {
        let failed = || io_error("cannot write the files of an earlier step");
        let layer = &mut built.layers[index];
        let is_unwritten = matches!(layer.blob, Blob::Unwritten);
        let Some(note) = layer
            .note
            .as_mut()
            .filter(|_| is_unwritten && self.cache.is_local())
        else {
            // The next build finds the blob, or does not want to find anything.
            let scratch = Arc::new(self.store.scratch()?);
            write_out(delta, scratch.path()).map_err(failed())?;
            let dir = scratch.path().to_owned();
            built.scratch.push(scratch);
            if !cache::are_unchanged(&self.cache.files(), delta) {
                self.keep_nothing(NotKept::Changed);
            }
            return Ok(dir);
        };
        // The time alone does not tell two builds apart where it is a fixed one.
        let name = key::directory(note.key, &note.created, Path::new(&self.name));
        note.unpacked = Some(name);
        let note = note.clone();
        let dir = match self.store.layer_slot(&name)? {
            LayerSlot::Ready(dir) => dir,
            LayerSlot::Fill(fill) => {
                write_out(delta, fill.path()).map_err(failed())?;
                fill.commit()?
            }
        };
        // The files were read only now.
        if cache::are_unchanged(&self.cache.files(), delta) {
            self.keep_directory(&note);
        } else {
            self.keep_nothing(NotKept::Changed);
        }
        Ok(dir)
    }

    /// Keeps the record of a step whose files the store has.
    pub(super) fn keep_directory(&self, note: &Note) {
        let Some(name) = note.unpacked else {
            return;
        };
        let change = Change::Files {
            layer: None,
            unpacked: Some(name.to_string()),
        };
        let record = Record::new(note.created.clone(), change);
        self.cache.keep(&note.key, &record);
    }
}

fn write_out(delta: &Delta, to: &Path) -> std::io::Result<()> {
    let mut dir = LayerDir::open(to, Form::Overlay)?;
    dir.write(delta)?;
    dir.finish()
}

/// The files of a layer, and the same with their owners where a directory does not tell them.
pub(super) fn trees(dir: Option<Tree>, delta: &Arc<Delta>) -> (Tree, Option<Tree>) {
    let list = Tree::Delta(Arc::clone(delta));
    match dir {
        Some(dir) if Owners::present().are_many() => (dir, None),
        Some(dir) => (dir, Some(list)),
        None => (list, None),
    }
}
