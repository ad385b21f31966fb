//! One stage: its base, then its steps, each a layer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use kiln_sandbox::users::Owners;
use kiln_store::{Digest, LayerSlot};

use super::built::{Note, Writing};
use super::copy::{self, Owner, Place};
use super::identity;
use super::{
    BaseStack, Blob, Built, BuiltLayer, Current, Pending, Report, RunError, Session, StepError,
    io_error,
};
use crate::cache::key::{self, Reader};
use crate::cache::resolve::Choice;
use crate::cache::{self, Change, Hit, Outcome, Record};
use crate::layer::delta::Delta;
use crate::layer::dir::{Form, LayerDir};
use crate::layer::view::{Tree, View};
use crate::layer::{owners, settle, upper};
use crate::plan::{self, Base, From, NamedContext, Op, Placing, Source, Stage};
use crate::progress::{Phase, Progress, StepEnd, StepId};
use crate::remote::{BaseError, Origin, Want};
use crate::request::Layering;

/// A layer that a step made.
pub(super) struct Made {
    /// What it says.
    pub(super) delta: Delta,
    /// Its directory, when it is one.
    pub(super) tree: Option<Tree>,
    /// The store's name of that directory, when the store keeps it.
    pub(super) kept: Option<Digest>,
}

impl Made {
    /// A layer that is only a list so far.
    fn list(delta: Delta) -> Self {
        Self {
            delta,
            tree: None,
            kept: None,
        }
    }
}

impl Session<'_> {
    pub(super) fn stage(
        &mut self,
        stage: &Stage,
        choices: &[Choice],
        report: Report<'_>,
    ) -> Result<Built, RunError> {
        let of = stage.visible_steps();
        let mut id = StepId {
            stage: stage.name.clone(),
            number: 1,
            of,
        };
        let text = format!("FROM {}", stage.base_name);
        let mut built = self.timed(&id, text, report, |session, report| {
            session.base(stage, report)
        })?;
        built.config = stage.config.clone();
        let is_single = stage.index == self.plan.target().index
            && self.request.output.layering == Layering::Single;
        let mut single = Delta::default();
        for (index, (step, choice)) in stage.steps.iter().zip(choices).enumerate() {
            let mut history = step.history.clone();
            let reader = Reader {
                stage: stage.index,
                step: index,
                mount: None,
            };
            if *choice != Choice::Config {
                id.number += 1;
            }
            let at = Current {
                stage,
                step,
                id: &id,
            };
            match choice {
                Choice::Config => {}
                Choice::Hit(hit) => {
                    self.reuse(at, (reader, hit), &mut built, report)?;
                    history.empty_layer = hit.record.change == Change::Nothing;
                    if !history.empty_layer {
                        history.created = Some(hit.record.created.clone());
                    }
                }
                Choice::Perform => {
                    self.check_cancelled()?;
                    let made = self.step(at, reader, &mut built, report)?;
                    let created = self.stamp();
                    history.empty_layer = made.delta.is_empty() || is_single;
                    if is_single {
                        single.absorb(made.delta.clone());
                        // Not yet a layer of the image, but the next step sees it.
                        self.put(&mut built, made, None);
                    } else {
                        self.made(reader, made, &created, &mut built);
                        if !history.empty_layer {
                            history.created = Some(created);
                        }
                    }
                }
            }
            built.history.push(history);
        }
        if is_single {
            self.close_single(stage, single, &mut built);
        }
        Ok(built)
    }

    /// `--single-snapshot`: all steps become one layer, which belongs to the last entry of the
    /// history.
    fn close_single(&mut self, stage: &Stage, single: Delta, built: &mut Built) {
        let known = self.found.single.clone();
        let last = stage
            .steps
            .iter()
            .rposition(|step| !matches!(step.op, Op::Config));
        let reader = last.map(|step| Reader {
            stage: stage.index,
            step,
            mount: None,
        });
        let created = match &known {
            Some(hit) => hit.record.created.clone(),
            None => self.stamp(),
        };
        let key = self.cache.single.filter(|_| last.is_some());
        built
            .layers
            .retain(|layer| !matches!(layer.blob, Blob::Unwritten));
        let mut made = cache::Made::Nothing;
        let mut is_empty = true;
        if let Some(hit) = known {
            if let Some(layer) = hit.layer() {
                is_empty = false;
                built.layers.push(BuiltLayer {
                    tree: None,
                    owned: None,
                    blob: Blob::Known(Box::new(layer)),
                    note: None,
                });
            }
            made = cache::Made::Known(Box::new(hit));
        } else if !single.is_empty() {
            is_empty = false;
            let note = key.map(|key| Note {
                key,
                created: created.clone(),
                unpacked: None,
            });
            let pending = self.write(Made::list(single), note, built);
            made = cache::Made::Layer(pending);
        } else if let Some(key) = &key {
            let change = Change::Nothing;
            let created = created.clone();
            self.cache.keep(key, &Record { created, change });
        }
        if !is_empty && let Some(entry) = built.history.last_mut() {
            entry.empty_layer = false;
            entry.created = Some(created.clone());
        }
        if let (Some(key), Some(reader)) = (key, reader) {
            let outcome = Outcome { key, created, made };
            self.outcomes.insert(reader, outcome);
        }
    }

    /// A step was done: its layer goes on top, its record into the cache.
    fn made(&mut self, reader: Reader, made: Made, created: &str, built: &mut Built) {
        let key = self.cache.key(reader);
        let created = created.to_owned();
        let note = key.map(|key| Note {
            key,
            created: created.clone(),
            unpacked: made.kept,
        });
        // Before the blob is written: a build that fails later starts from here.
        if let Some(note) = note.as_ref().filter(|_| !made.delta.is_empty()) {
            self.keep_directory(note);
        }
        let outcome = if made.delta.is_empty() {
            if let Some(key) = &key {
                let (created, change) = (created.clone(), Change::Nothing);
                self.cache.keep(key, &Record { created, change });
            }
            Some(cache::Made::Nothing)
        } else if self.is_exported(reader.stage) || self.cache.publishes() {
            Some(cache::Made::Layer(self.write(made, note, built)))
        } else {
            self.put(built, made, note);
            None
        };
        if let (Some(key), Some(made)) = (key, outcome) {
            self.outcomes.insert(reader, Outcome { key, created, made });
        }
    }

    /// Puts a layer on top and starts to write its blob.
    fn write(&self, made: Made, note: Option<Note>, built: &mut Built) -> Pending {
        let delta = Arc::new(made.delta);
        let (tree, owned) = trees(made.tree, &delta);
        let kept = note.clone().filter(|_| self.cache.is_local());
        let pending = Pending::start(
            delta,
            Writing {
                store: self.store.clone(),
                format: self.format(),
                scratch: built.scratch.clone(),
                note: kept,
            },
        );
        built.layers.push(BuiltLayer {
            tree: Some(tree),
            owned,
            blob: Blob::Own(pending.clone()),
            note,
        });
        pending
    }

    /// Puts a layer on top that no image gets.
    fn put(&self, built: &mut Built, made: Made, note: Option<Note>) {
        if made.delta.is_empty() {
            return;
        }
        let (tree, owned) = trees(made.tree, &Arc::new(made.delta));
        built.layers.push(BuiltLayer {
            tree: Some(tree),
            owned,
            blob: Blob::Unwritten,
            note,
        });
    }

    /// Takes what an earlier build made.
    fn reuse(
        &mut self,
        at: Current<'_>,
        (reader, hit): (Reader, &Hit),
        built: &mut Built,
        report: Report<'_>,
    ) -> Result<(), RunError> {
        self.timed(at.id, at.step.source.clone(), report, |session, _| {
            session
                .known(reader, hit, built)
                .map_err(|error| at.failed(error))?;
            Ok(((), StepEnd::Cached))
        })?;
        if self.cache.key(reader) == Some(hit.key) {
            let outcome = Outcome {
                key: hit.key,
                created: hit.record.created.clone(),
                made: cache::Made::Known(Box::new(hit.clone())),
            };
            self.outcomes.entry(reader).or_insert(outcome);
        }
        Ok(())
    }

    fn known(&mut self, reader: Reader, hit: &Hit, built: &mut Built) -> Result<(), StepError> {
        if hit.record.change == Change::Nothing {
            return Ok(());
        }
        let exported = self.is_exported(reader.stage);
        let dir = hit.directory(self.store);
        let note = Some(Note {
            key: hit.key,
            created: hit.record.created.clone(),
            unpacked: match &hit.record.change {
                Change::Files { unpacked, .. } => {
                    unpacked.as_ref().and_then(|name| name.parse().ok())
                }
                Change::Nothing => None,
            },
        });
        let layer = hit.layer().filter(|layer| {
            layer.origin != Origin::Store || !exported || layer.file(self.store).is_some()
        });
        match (layer, dir) {
            (Some(layer), dir) => built.layers.push(BuiltLayer {
                tree: dir.map(Tree::Layer),
                owned: None,
                blob: Blob::Known(Box::new(layer)),
                note,
            }),
            (None, Some(dir)) => {
                let tree = Some(Tree::Layer(dir.clone()));
                let mut delta = upper::read(&dir)
                    .map_err(io_error(format!("cannot read {}", dir.display())))?;
                delta.items.retain(|path, _| !self.is_excluded(path));
                let delta = self.owned(delta, built)?;
                let made = Made {
                    delta,
                    tree,
                    kept: None,
                };
                if exported || self.cache.publishes() {
                    let key = hit.key;
                    let created = hit.record.created.clone();
                    let pending = self.write(made, note, built);
                    let made = cache::Made::Layer(pending);
                    self.outcomes.insert(reader, Outcome { key, created, made });
                } else {
                    self.put(built, made, note);
                }
            }
            (None, None) => {
                let gone = std::io::Error::from(std::io::ErrorKind::NotFound);
                return Err(io_error("a layer of an earlier build is gone")(gone));
            }
        }
        Ok(())
    }

    fn base(&mut self, stage: &Stage, report: Report<'_>) -> Result<(Built, StepEnd), RunError> {
        let mut built = Built {
            base: None,
            layers: Vec::new(),
            history: Vec::new(),
            config: stage.config.clone(),
            grafts: Vec::new(),
            scratch: Vec::new(),
        };
        match &stage.base {
            Base::Scratch => {}
            Base::Stage(index) => {
                if let Some(below) = self.built.get(index) {
                    built = below.clone();
                    built.grafts.clear();
                }
            }
            Base::Image(key) => {
                let Some(image) = self.images.get(key) else {
                    return Ok((built, StepEnd::Done));
                };
                built.history.clone_from(&image.config.history);
                built.base = Some(BaseStack {
                    image: Box::new(image.clone()),
                    at_hand: None,
                });
                if let Some(want) = self.want(stage.index) {
                    self.load_base(&mut built, want, report)
                        .map_err(|source| RunError::Base {
                            position: stage.position,
                            source: Box::new(source),
                        })?;
                }
            }
        }
        Ok((built, StepEnd::Done))
    }

    fn load_base(
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
        let trees = match want {
            Want::Files | Want::Copies => base.image.fetch(store, remote, want)?,
            Want::Headers => {
                let shared = self.cache.repository();
                base.image.headers(store, remote, shared)?
            }
        };
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

    fn step(
        &mut self,
        at: Current<'_>,
        reader: Reader,
        built: &mut Built,
        report: Report<'_>,
    ) -> Result<Made, RunError> {
        self.timed(at.id, at.step.source.clone(), report, |session, report| {
            let start = Instant::now();
            let (mut made, phase) = match &at.step.op {
                Op::Run(run) => (session.run(at, (reader, run), built, report)?, Phase::Run),
                Op::Copy(op) => {
                    let made = session.copy(op, built, report);
                    (made.map_err(|error| at.failed(error))?, Phase::Copy)
                }
                Op::Workdir { path, owner } => {
                    let made = session.workdir((path, owner), built, report);
                    (made.map_err(|error| at.failed(error))?, Phase::Copy)
                }
                Op::Config => (Made::list(Delta::default()), Phase::Copy),
            };
            if !made.delta.is_empty() {
                Self::without_unchanged(&mut made.delta, built)
                    .map_err(|error| at.failed(error))?;
            }
            report(Progress::Phase {
                phase,
                took: start.elapsed(),
            });
            let end = if made.delta.is_empty() {
                StepEnd::Unchanged
            } else {
                StepEnd::Done
            };
            Ok((made, end))
        })
    }

    /// Leaves in a layer what it changes. What is below was loaded for the step.
    fn without_unchanged(delta: &mut Delta, built: &Built) -> Result<(), StepError> {
        let mut below = built.clone();
        below.grafts.clear();
        let below = below.view().map_err(io_error("cannot read the image"))?;
        settle::settle(delta, &below).map_err(io_error("cannot compare with the image"))
    }

    fn workdir(
        &self,
        (path, owner): (&str, &str),
        built: &mut Built,
        report: Report<'_>,
    ) -> Result<Made, StepError> {
        let image = self.load(built, Want::Headers, report)?;
        let owner = match owner {
            "" => None,
            spec => Some(identity::owner(&image, spec)?),
        };
        let delta = copy::workdir(path, owner, &image, self.now)?;
        Ok(Made::list(delta))
    }

    /// Reports the start and the end of a step around its work.
    fn timed<T>(
        &mut self,
        id: &StepId,
        text: String,
        report: Report<'_>,
        work: impl FnOnce(&mut Self, Report<'_>) -> Result<(T, StepEnd), RunError>,
    ) -> Result<T, RunError> {
        report(Progress::StepStarted {
            step: id.clone(),
            text,
        });
        let start = Instant::now();
        let result = work(self, report);
        let end = result.as_ref().map_or(StepEnd::Failed, |(_, end)| *end);
        report(Progress::StepEnded {
            step: id.clone(),
            end,
            took: start.elapsed(),
        });
        result.map(|(value, _)| value)
    }

    fn copy(
        &mut self,
        op: &plan::Copy,
        built: &mut Built,
        report: Report<'_>,
    ) -> Result<Made, StepError> {
        let image = self.load(built, Want::Headers, report)?;
        let image = match op.placing {
            Placing::Within => image,
            Placing::Alone => View::default(),
        };
        let (view, name, owner) = match &op.from {
            From::Context => {
                let view = View::plain(self.request.context.dir.clone());
                (view, "the context".to_owned(), Owner::Root)
            }
            From::Named(name) => {
                let view = View::plain(self.named_dir(name)?.dir.clone());
                (view, format!("the context {name}"), Owner::Root)
            }
            From::Stage(index) => {
                let view = self.stage_view(*index, report)?;
                // The new layer refers to files of that stage.
                let scratch = self.built.get(index).map(|built| built.scratch.clone());
                built.scratch.extend(scratch.unwrap_or_default());
                let name = self
                    .plan
                    .stage(*index)
                    .map_or_else(String::new, |stage| stage.name.clone());
                (view, format!("stage {name}"), Owner::Kept)
            }
            From::Image(key) => (
                self.image_view(key, report)?,
                format!("image {}", key.name),
                Owner::Kept,
            ),
            From::Scratch => (View::default(), "scratch".to_owned(), Owner::Kept),
        };
        let ignore = match &op.from {
            From::Context => self.request.context.ignore.as_ref(),
            From::Named(name) => self.named_dir(name)?.ignore.as_ref(),
            _ => None,
        };
        let ignore = ignore.map(|(patterns, file)| (patterns, file.as_str()));
        let place = Place {
            view: &view,
            ignore,
            name: &name,
            owner,
        };
        let mut given = Vec::new();
        for source in &op.sources {
            match source {
                Source::Inline { name, content } => {
                    given.push(copy::inline(name, content, self.now));
                }
                Source::Url(url) => {
                    let file = self.download(url, op)?;
                    given.push(self.perhaps_unpacked(file, op, built)?);
                }
                Source::Git {
                    address, history, ..
                } => given.push(self.checkout(address, (*history, op), built)?),
                Source::Path(_) => {}
            }
        }
        let mut op = op.clone();
        if op.unpack_local {
            self.archives(&mut op, place, &mut given, built)?;
        }
        let mut delta = copy::copy(&op, place, &given, &image, self.now)?;
        if !delta.has_all_bytes() {
            // An archive gives a further name to a file of the image.
            let image = self.load(built, Want::Copies, report)?;
            delta = copy::copy(&op, place, &given, &image, self.now)?;
        }
        Ok(Made::list(delta))
    }

    /// A directory of `--build-context`.
    pub(super) fn named_dir(&self, name: &str) -> Result<&plan::Directory, StepError> {
        match self.request.contexts.get(name) {
            Some(NamedContext::Directory(directory)) => Ok(directory),
            _ => Err(StepError::Unsupported {
                what: format!("the context {name}, which is no directory"),
                instead: "name a directory with --build-context",
            }),
        }
    }

    /// The files of a finished stage.
    pub(super) fn stage_view(
        &mut self,
        index: usize,
        report: Report<'_>,
    ) -> Result<View, StepError> {
        let Some(mut built) = self.built.remove(&index) else {
            return Ok(View::default());
        };
        let view = self.load(&mut built, Want::Files, report);
        let view = match view {
            Ok(_) if !Owners::present().are_many() => self.true_owners(&built),
            view => view,
        };
        self.built.insert(index, built);
        view
    }

    /// What a command changed, with its owners.
    pub(super) fn owned(&self, delta: Delta, built: &Built) -> Result<Delta, StepError> {
        if Owners::present().are_many() {
            return Ok(delta);
        }
        let below = self.true_owners(built)?;
        owners::of_before(delta, &below).map_err(io_error("cannot read the image"))
    }

    /// Where the disk does not tell owners: a view of a stage in which the files of images and of
    /// earlier builds have the owners that their headers say.
    fn true_owners(&self, built: &Built) -> Result<View, StepError> {
        let mut built = built.clone();
        if let Some(base) = &mut built.base {
            let trees = base.image.fetch(self.store, self.remote, Want::Copies)?;
            base.at_hand = Some((Want::Copies, trees));
        }
        for layer in &mut built.layers {
            if let Some(owned) = layer.owned.take() {
                layer.tree = Some(owned);
            } else if let Blob::Known(known) = &layer.blob {
                layer.tree = Some(known.tree(self.store, self.remote, Want::Copies)?);
            }
        }
        built.view().map_err(io_error("cannot read the image"))
    }

    /// Directories for an overlay, the topmost first: layers that are only lists are written out.
    /// Everything is at hand.
    pub(super) fn lowers(&self, built: &mut Built) -> Result<Vec<PathBuf>, StepError> {
        for index in 0..built.layers.len() {
            if let Some(Tree::Delta(delta)) = &built.layers[index].tree {
                let delta = Arc::clone(delta);
                let dir = self.written_out(&delta, index, built)?;
                built.layers[index].tree = Some(Tree::Layer(dir));
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
            return Ok(dir);
        };
        let name = key::directory(note.key, &note.created, self.store.root());
        note.unpacked = Some(name);
        let note = note.clone();
        let dir = match self.store.layer_slot(&name)? {
            LayerSlot::Ready(dir) => dir,
            LayerSlot::Fill(fill) => {
                write_out(delta, fill.path()).map_err(failed())?;
                fill.commit()?
            }
        };
        self.keep_directory(&note);
        Ok(dir)
    }

    /// Keeps the record of a step whose files the store has.
    fn keep_directory(&self, note: &Note) {
        let Some(name) = note.unpacked else {
            return;
        };
        let record = Record {
            created: note.created.clone(),
            change: Change::Files {
                layer: None,
                unpacked: Some(name.to_string()),
            },
        };
        self.cache.keep(&note.key, &record);
    }
}

/// The files of a layer, and the same with their owners where a directory does not tell them.
fn trees(dir: Option<Tree>, delta: &Arc<Delta>) -> (Tree, Option<Tree>) {
    let list = Tree::Delta(Arc::clone(delta));
    match dir {
        Some(dir) if Owners::present().are_many() => (dir, None),
        Some(dir) => (dir, Some(list)),
        None => (list, None),
    }
}

fn write_out(delta: &Delta, to: &Path) -> std::io::Result<()> {
    let mut dir = LayerDir::open(to, Form::Overlay)?;
    dir.write(delta)?;
    dir.finish()
}
