//! Which steps are taken from the cache, which are performed, and which stages are needed for
//! that: a pure function of the plan and of what the cache has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Hit;
use super::key::{Reader, Sight};
use crate::plan::{Base, Op, Plan, Stage, Step};

/// What becomes of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// It changes only the configuration.
    Config,
    /// What it makes is there.
    Hit(Box<Hit>),
    /// It is performed.
    Perform,
}

/// The steps of the stages that are needed, by the places of the stages in the file.
pub type Resolution = BTreeMap<usize, Vec<Choice>>;

/// What the cache has, by step.
pub type Hits = BTreeMap<Reader, Hit>;

/// What is visible to commands that is no part of an image.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Stages whose commands see something.
    pub sights: &'a BTreeMap<usize, Sight>,
    /// Paths that are the machine's and not the image's, when a stage is copied from.
    pub volumes: &'a [PathBuf],
    /// The context's own path.
    pub context: &'a Path,
}

/// Decides for the whole plan.
#[must_use]
pub fn resolve(plan: &Plan, hits: &Hits, around: Surroundings<'_>) -> Resolution {
    let mut forced = BTreeSet::new();
    loop {
        let mut resolver = Resolver {
            plan,
            hits,
            around,
            forced: &forced,
            done: Resolution::new(),
            force: BTreeSet::new(),
        };
        resolver.need(plan.target());
        if resolver.force.is_subset(&forced) {
            return resolver.done;
        }
        let more = std::mem::take(&mut resolver.force);
        forced.extend(more);
    }
}

struct Resolver<'a> {
    plan: &'a Plan,
    hits: &'a Hits,
    around: Surroundings<'a>,
    /// Stages whose commands run whatever the cache has.
    forced: &'a BTreeSet<usize>,
    done: Resolution,
    /// Further ones.
    force: BTreeSet<usize>,
}

impl Resolver<'_> {
    fn need(&mut self, stage: &Stage) {
        if self.done.contains_key(&stage.index) {
            return;
        }
        let choices: Vec<Choice> = (0..stage.steps.len())
            .map(|step| self.choice(stage, step))
            .collect();
        // What a command leaves in the context is not kept, so where a later one may look for it,
        // all run.
        let sees_context = self
            .around
            .sights
            .get(&stage.index)
            .is_some_and(|sight| sight.context.is_some());
        let is_run = |step: &Step| matches!(step.op, Op::Run(_));
        let mut pairs = stage.steps.iter().zip(&choices);
        if sees_context && pairs.any(|(step, choice)| is_run(step) && *choice == Choice::Perform) {
            self.force.insert(stage.index);
        }
        self.done.insert(stage.index, choices.clone());
        if let Base::Stage(below) = stage.base {
            self.need_index(below);
        }
        for (step, choice) in stage.steps.iter().zip(&choices) {
            if *choice == Choice::Perform {
                self.need_inputs(step);
            }
        }
    }

    fn choice(&self, stage: &Stage, step: usize) -> Choice {
        let op = &stage.steps[step].op;
        if matches!(op, Op::Config) {
            return Choice::Config;
        }
        if matches!(op, Op::Run(_)) && self.forced.contains(&stage.index) {
            return Choice::Perform;
        }
        let reader = Reader {
            stage: stage.index,
            step,
            mount: None,
        };
        match self.hits.get(&reader) {
            Some(hit) => Choice::Hit(Box::new(hit.clone())),
            None => Choice::Perform,
        }
    }

    fn need_inputs(&mut self, step: &Step) {
        for index in step.op.stages() {
            if let Op::Copy(copy) = &step.op {
                let mut outside = self.around.volumes.iter().map(PathBuf::as_path);
                let outside = copy.reads_below(self.around.context)
                    || outside.any(|volume| copy.reads_below(volume));
                let sees = self.around.sights.contains_key(&index);
                if outside && sees {
                    self.force.insert(index); // what its commands leave there is wanted
                }
            }
            self.need_index(index);
        }
    }

    fn need_index(&mut self, index: usize) {
        let plan = self.plan;
        if let Some(stage) = plan.stage(index) {
            self.need(stage);
        }
    }
}
