//! One stage: its base, then its steps, each a layer.

use std::sync::Arc;
use std::time::Instant;

use kiln_store::Digest;

use super::at_hand::trees;
use super::built::{Note, Writing};
use super::{
    BaseStack, Blob, Built, BuiltLayer, Current, NotKept, Pending, Report, RunError, Session,
    StepError, io_error, locked,
};
use crate::cache::key::Reader;
use crate::cache::resolve::Choice;
use crate::cache::{self, Change, Hit, Outcome, Record};
use crate::layer::delta::Delta;
use crate::layer::view::Tree;
use crate::layer::{settle, upper};
use crate::plan::{Base, Op, Placing, Stage};
use crate::progress::{Phase, Progress, StepEnd, StepId};
use crate::remote::Origin;
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
    pub(super) fn list(delta: Delta) -> Self {
        Self {
            delta,
            tree: None,
            kept: None,
        }
    }
}

impl Session<'_> {
    pub(super) fn stage(
        &self,
        (place, stage): (usize, &Stage),
        choices: &[Choice],
        report: Report<'_>,
    ) -> Result<Built, RunError> {
        let of = stage.visible_steps();
        let mut id = StepId {
            stage: stage.name.clone(),
            number: 1,
            of,
        };
        self.wait_for(stage.base.stages(), place)?;
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
                    self.wait_for(step.op.stages(), place)?;
                    let made = self.step(at, reader, &mut built, report)?;
                    if self.keeps() && !self.cache.holds(stage, index) {
                        self.keep_nothing(NotKept::Changed);
                    }
                    self.tell_what_is_not_kept(report);
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
            self.close_single(stage, single, &mut built)?;
        }
        Ok(built)
    }

    /// A step was done: its layer goes on top, its record into the cache.
    fn made(&self, reader: Reader, made: Made, created: &str, built: &mut Built) {
        let key = self.key(reader);
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
                self.cache.keep(key, &Record::new(created, change));
            }
            Some(cache::Made::Nothing)
        } else if self.is_exported(reader.stage) || self.cache.publishes() {
            Some(cache::Made::Layer(self.write(made, note, built)))
        } else {
            self.put(built, made, note);
            None
        };
        if let (Some(key), Some(made)) = (key, outcome) {
            let outcome = Outcome { key, created, made };
            locked(&self.outcomes).insert(reader, outcome);
        }
    }

    /// Puts a layer on top and starts to write its blob.
    pub(super) fn write(&self, made: Made, note: Option<Note>, built: &mut Built) -> Pending {
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
                files: self.cache.files(),
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
        &self,
        at: Current<'_>,
        (reader, hit): (Reader, &Hit),
        built: &mut Built,
        report: Report<'_>,
    ) -> Result<(), RunError> {
        self.timed(at.id, at.step.source.clone(), report, |session, _| {
            session
                .known(&at.step.op, (reader, hit), built)
                .map_err(|error| at.failed(error))?;
            Ok(((), StepEnd::Cached))
        })?;
        if self.key(reader) == Some(hit.key) {
            let outcome = Outcome {
                key: hit.key,
                created: hit.record.created.clone(),
                made: cache::Made::Known(Box::new(hit.clone())),
            };
            locked(&self.outcomes).entry(reader).or_insert(outcome);
        }
        Ok(())
    }

    fn known(
        &self,
        op: &Op,
        (reader, hit): (Reader, &Hit),
        built: &mut Built,
    ) -> Result<(), StepError> {
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
                // A copy puts its files wherever it is told to.
                if matches!(op, Op::Run(_)) {
                    delta.items.retain(|path, _| !self.is_excluded(path));
                }
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
                    let outcome = Outcome { key, created, made };
                    locked(&self.outcomes).insert(reader, outcome);
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

    fn base(&self, stage: &Stage, report: Report<'_>) -> Result<(Built, StepEnd), RunError> {
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
                if let Some(below) = self.board.get(*index) {
                    let mut below = locked(&below);
                    // All that is ever needed of it: whether a COPY changes a file can be told where its
                    // bytes are at hand, and must not depend on which stage is ahead.
                    if let Some(want) = self.wants.get(index) {
                        self.load(&mut below, *want, report)
                            .map_err(|source| RunError::Step {
                                position: stage.position,
                                source_line: format!("FROM {}", stage.base_name),
                                source: Box::new(source),
                            })?;
                    }
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
                    owned: None,
                });
                if let Some(want) = self.wants.get(&stage.index) {
                    self.load_base(&mut built, *want, report)
                        .map_err(|source| RunError::Base {
                            position: stage.position,
                            source: Box::new(source),
                        })?;
                }
            }
        }
        Ok((built, StepEnd::Done))
    }

    fn step(
        &self,
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
            if !made.delta.is_empty() && !is_alone(&at.step.op) {
                session
                    .without_unchanged(&mut made.delta, built)
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
    pub(super) fn without_unchanged(
        &self,
        delta: &mut Delta,
        built: &mut Built,
    ) -> Result<(), StepError> {
        let below = self.with_owners(built)?;
        settle::settle(delta, &below).map_err(io_error("cannot compare with the image"))
    }

    /// Reports the start and the end of a step around its work.
    fn timed<T>(
        &self,
        id: &StepId,
        text: String,
        report: Report<'_>,
        work: impl FnOnce(&Self, Report<'_>) -> Result<(T, StepEnd), RunError>,
    ) -> Result<T, RunError> {
        report(Progress::StepStarted {
            step: id.clone(),
            text,
        });
        let start = Instant::now();
        let result = work(self, report);
        let end = match &result {
            Ok((_, end)) => *end,
            Err(_) if self.check_cancelled().is_err() => StepEnd::Stopped,
            Err(_) => StepEnd::Failed,
        };
        report(Progress::StepEnded {
            step: id.clone(),
            end,
            took: start.elapsed(),
        });
        result.map(|(value, _)| value)
    }
}

/// Whether a step makes its layer without looking at what is below (`--link`): it holds what is
/// copied, even where the image has the same.
fn is_alone(op: &Op) -> bool {
    matches!(op, Op::Copy(copy) if copy.placing == Placing::Alone)
}
