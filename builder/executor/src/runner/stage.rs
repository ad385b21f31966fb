//! One stage: its base, then its steps, each a layer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use kiln_store::Scratch;

use super::copy::{self, Owner, Place};
use super::identity;
use super::{
    Blob, Built, BuiltLayer, Current, Pending, Report, RunError, Session, StepError, io_error,
};
use crate::layer::delta::Delta;
use crate::layer::dir::{Form, LayerDir};
use crate::layer::settle;
use crate::layer::view::{Tree, View};
use crate::plan::{self, Base, From, NamedContext, Op, Placing, Source, Stage};
use crate::progress::{Phase, Progress, StepEnd, StepId};
use crate::remote::Want;
use crate::request::Layering;

/// A layer that a step made.
pub(super) struct Made {
    /// What it says.
    pub(super) delta: Delta,
    /// Its directory, when it is one.
    pub(super) tree: Option<Tree>,
}

impl Session<'_> {
    pub(super) fn stage(&mut self, stage: &Stage, report: Report<'_>) -> Result<Built, RunError> {
        let of = stage.visible_steps();
        let mut id = StepId {
            stage: stage.name.clone(),
            number: 1,
            of,
        };
        let text = format!("FROM {}", stage.base_name);
        let mut built = self.timed(&id, text, report, |session, report| {
            session
                .base(stage, report)
                .map(|built| (built, StepEnd::Done))
        })?;
        built.config = stage.config.clone();
        let mut single = Delta::default();
        let keep = self.is_exported(stage.index);
        let layering = if stage.index == self.plan.target().index {
            self.request.output.layering
        } else {
            Layering::PerStep
        };
        for step in &stage.steps {
            let mut history = step.history.clone();
            if !matches!(step.op, Op::Config) {
                id.number += 1;
                let at = Current {
                    stage,
                    step,
                    id: &id,
                };
                let made = self.step(at, &mut built, report)?;
                history.empty_layer = made.delta.is_empty();
                if !history.empty_layer {
                    if layering == Layering::Single {
                        single.absorb(made.delta.clone());
                        history.empty_layer = true;
                    }
                    let write = keep && layering == Layering::PerStep;
                    self.add(&mut built, made, write);
                }
            }
            built.history.push(history);
        }
        if !single.is_empty() {
            self.close_single(&mut built, single);
        }
        Ok(built)
    }

    /// `--single-snapshot`: all steps become one layer, which belongs to the last step that
    /// changed files.
    fn close_single(&self, built: &mut Built, single: Delta) {
        built
            .layers
            .retain(|layer| !matches!(layer.blob, Blob::Unwritten));
        let made = Made {
            delta: single,
            tree: None,
        };
        self.add(built, made, true);
        if let Some(last) = built.history.last_mut() {
            last.empty_layer = false;
        }
    }

    fn add(&self, built: &mut Built, made: Made, write: bool) {
        let delta = Arc::new(made.delta);
        let tree = made.tree.unwrap_or_else(|| Tree::Delta(Arc::clone(&delta)));
        let blob = if write {
            Blob::Own(Pending::start(
                self.store,
                delta,
                self.format(),
                built.scratch.clone(),
            ))
        } else {
            Blob::Unwritten
        };
        built.layers.push(BuiltLayer {
            tree: Some(tree),
            blob,
        });
    }

    fn base(&mut self, stage: &Stage, report: Report<'_>) -> Result<Built, RunError> {
        let mut built = Built {
            layers: Vec::new(),
            history: Vec::new(),
            config: stage.config.clone(),
            vendor: None,
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
                    return Ok(built);
                };
                let has_files = stage
                    .steps
                    .iter()
                    .any(|step| !matches!(step.op, Op::Config));
                let want = if self.needs_files(stage.index) {
                    Some(Want::Files)
                } else if has_files || self.is_base_of_copies(stage.index) {
                    Some(Want::Headers)
                } else {
                    None
                };
                let start = Instant::now();
                let trees = match want {
                    Some(want) => image
                        .fetch(self.store, self.remote, want)
                        .map_err(|source| RunError::Base {
                            position: stage.position,
                            source: Box::new(source),
                        })?,
                    None => Vec::new(),
                };
                report(Progress::Phase {
                    phase: Phase::Base,
                    took: start.elapsed(),
                });
                let mut trees = trees.into_iter();
                built.layers = image
                    .layers
                    .iter()
                    .map(|layer| BuiltLayer {
                        tree: trees.next(),
                        blob: Blob::Base(Box::new(layer.clone())),
                    })
                    .collect();
                built.layers.extend(trees.map(|tree| BuiltLayer {
                    tree: Some(tree),
                    blob: Blob::Unwritten,
                }));
                built.history.clone_from(&image.config.history);
                built.vendor = Some(image.vendor);
            }
        }
        Ok(built)
    }

    /// Whether a stage on top of this one copies files.
    fn is_base_of_copies(&self, index: usize) -> bool {
        self.plan.stages.iter().any(|stage| {
            matches!(stage.base, Base::Stage(below) if below == index)
                && (stage
                    .steps
                    .iter()
                    .any(|step| !matches!(step.op, Op::Config))
                    || self.is_base_of_copies(stage.index))
        })
    }

    fn step(
        &mut self,
        at: Current<'_>,
        built: &mut Built,
        report: Report<'_>,
    ) -> Result<Made, RunError> {
        self.timed(at.id, at.step.source.clone(), report, |session, report| {
            let start = Instant::now();
            let (mut made, phase) = match &at.step.op {
                Op::Run(run) => (session.run(at, run, built, report)?, Phase::Run),
                Op::Copy(op) => {
                    let made = session.copy(op, built, report);
                    (made.map_err(|error| at.failed(error))?, Phase::Copy)
                }
                Op::Workdir { path, owner } => {
                    let made = session.workdir((path, owner), built);
                    (made.map_err(|error| at.failed(error))?, Phase::Copy)
                }
                Op::Config => (
                    Made {
                        delta: Delta::default(),
                        tree: None,
                    },
                    Phase::Copy,
                ),
            };
            if !made.delta.is_empty() {
                session
                    .settle(&mut made.delta, built)
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

    /// Leaves in a layer what it changes.
    fn settle(&self, delta: &mut Delta, built: &Built) -> Result<(), StepError> {
        let mut below = Built {
            grafts: Vec::new(),
            ..built.clone()
        };
        below.scratch.clear();
        let below = below.view().map_err(io_error("cannot read the image"))?;
        settle::settle(delta, &below).map_err(io_error("cannot compare with the image"))
    }

    fn workdir(&self, (path, owner): (&str, &str), built: &Built) -> Result<Made, StepError> {
        let image = built.view().map_err(io_error("cannot read the image"))?;
        let owner = match owner {
            "" => None,
            spec => Some(identity::owner(&image, spec)?),
        };
        let delta = copy::workdir(path, owner, &image, self.now)?;
        Ok(Made { delta, tree: None })
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
        let image = match op.placing {
            Placing::Within => built.view().map_err(io_error("cannot read the image"))?,
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
                let view = self.stage_view(*index)?;
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
                Source::Path(_) => {}
            }
        }
        let mut op = op.clone();
        if op.unpack_local {
            self.archives(&mut op, place, &mut given, built)?;
        }
        let delta = copy::copy(&op, place, &given, &image, self.now)?;
        Ok(Made { delta, tree: None })
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
    pub(super) fn stage_view(&self, index: usize) -> Result<View, StepError> {
        match self.built.get(&index) {
            Some(built) => built.view().map_err(io_error("cannot read the stage")),
            None => Ok(View::default()),
        }
    }

    /// Directories for an overlay, the topmost first: layers that are only lists are written out.
    pub(super) fn lowers(&self, built: &mut Built) -> Result<Vec<PathBuf>, StepError> {
        let mut lowers = Vec::new();
        for index in (0..built.layers.len()).rev() {
            let dir = match &built.layers[index].tree {
                Some(Tree::Layer(dir) | Tree::Plain(dir)) => dir.clone(),
                Some(Tree::Delta(delta)) => {
                    let scratch = Arc::new(self.store.scratch()?);
                    write_out(delta, &scratch)
                        .map_err(io_error("cannot write the files of an earlier step"))?;
                    let dir = scratch.path().to_owned();
                    built.scratch.push(scratch);
                    built.layers[index].tree = Some(Tree::Layer(dir.clone()));
                    dir
                }
                None => continue,
            };
            lowers.push(dir);
        }
        if lowers.is_empty() {
            let scratch = Arc::new(self.store.scratch()?);
            lowers.push(scratch.path().to_owned());
            built.scratch.push(scratch);
        }
        Ok(lowers)
    }
}

fn write_out(delta: &Delta, scratch: &Scratch) -> std::io::Result<()> {
    let mut dir = LayerDir::open(scratch.path(), Form::Overlay)?;
    dir.write(delta)?;
    dir.finish()
}
