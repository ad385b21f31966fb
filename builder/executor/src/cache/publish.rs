//! Giving to the shared cache what this build made.

use std::collections::BTreeMap;

use kiln_registry::Reference;
use kiln_store::Digest;

use super::key::Reader;
use super::repository::{Entry, Repository};
use super::{Cache, CacheError, Change, Hit, LayerRecord, Record, RepositoryError};
use crate::plan::{Base, Stage};
use crate::progress::{Progress, chain};
use crate::remote::{BaseImage, KnownLayer, Origin};
use crate::runner::{Pending, Report};

/// What became of a step.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its key.
    pub key: Digest,
    /// When it was done, RFC 3339.
    pub created: String,
    /// What it made.
    pub made: Made,
}

/// See [`Outcome::made`].
#[derive(Debug, Clone)]
pub enum Made {
    /// No files.
    Nothing,
    /// A layer.
    Layer(Pending),
    /// It was there.
    Known(Box<Hit>),
}

/// The outcomes of a build's steps.
pub type Outcomes = BTreeMap<Reader, Outcome>;

impl Cache<'_> {
    /// Whether layers can be pushed to the repository, asked before the build.
    ///
    /// # Errors
    /// [`CacheError::Refused`]
    pub fn check(&self) -> Result<(), CacheError> {
        match &self.repository {
            Some(repository) if self.publishes() => {
                repository.check().map_err(|source| CacheError::Refused {
                    place: repository.name(),
                    source: Box::new(source),
                })
            }
            _ => Ok(()),
        }
    }

    /// Pushes what the repository does not have. That it cannot be done is a warning.
    pub fn publish(&self, outcomes: &Outcomes, destinations: &[Reference], report: Report<'_>) {
        let Some(repository) = self.repository.as_ref().filter(|_| self.publishes()) else {
            return;
        };
        let mut errors: Vec<RepositoryError> = Vec::new();
        for stage in &self.plan.stages {
            let is_new = |outcome: &&Outcome| !self.is_published(&outcome.key);
            if !outcomes
                .iter()
                .filter(|(reader, _)| reader.stage == stage.index)
                .any(|(_, outcome)| is_new(&outcome))
            {
                continue;
            }
            if let Err(error) = self.publish_stage(repository, stage, outcomes, destinations) {
                errors.push(error);
            }
        }
        if let Some(error) = errors.first() {
            report(Progress::Warning(format!(
                "the layer cache was not pushed to {}: {}",
                repository.name(),
                chain(error)
            )));
        }
    }

    /// Gives the lists of headers that this build made or found to the repository.
    pub fn publish_headers<'i>(
        &self,
        images: impl Iterator<Item = &'i BaseImage>,
        report: Report<'_>,
    ) {
        let Some(repository) = self.repository.as_ref().filter(|_| self.publishes()) else {
            return;
        };
        for image in images {
            if let Err(error) = image.share_headers(self.store, repository) {
                report(Progress::Warning(format!(
                    "the headers of {} were not pushed to {}: {}",
                    image.name,
                    repository.name(),
                    chain(&error)
                )));
            }
        }
    }

    fn publish_stage(
        &self,
        repository: &Repository<'_>,
        stage: &Stage,
        outcomes: &Outcomes,
        destinations: &[Reference],
    ) -> Result<(), RepositoryError> {
        let mut entry = Entry {
            key: Digest::of(b""),
            records: Vec::new(),
            layers: Vec::new(),
        };
        let mut has_news = false;
        for stage in self.below(stage) {
            for (step, op) in stage.steps.iter().map(|step| &step.op).enumerate() {
                let reader = Reader {
                    stage: stage.index,
                    step,
                    mount: None,
                };
                let Some(outcome) = outcomes.get(&reader).filter(|_| self.is_kept(op)) else {
                    continue;
                };
                let Some((record, layer)) = self.record(outcome)? else {
                    continue;
                };
                if let Some(layer) = layer {
                    if !repository.put_layer(&layer, destinations, self.store)? {
                        continue;
                    }
                    entry.layers.push(layer.descriptor);
                }
                entry.key = outcome.key;
                entry.records.push((outcome.key, record));
                // What builds on something new names it too, so that one request finds both.
                has_news |= !self.is_published(&outcome.key);
                if has_news {
                    repository.put(&entry)?;
                    self.note_published([outcome.key]);
                }
            }
        }
        Ok(())
    }

    /// A stage and those that it is based on, the lowest first.
    fn below<'s>(&'s self, stage: &'s Stage) -> Vec<&'s Stage> {
        let mut stages = vec![stage];
        let mut at = stage;
        while let Base::Stage(index) = at.base
            && let Some(below) = self.plan.stage(index)
        {
            stages.insert(0, below);
            at = below;
        }
        stages
    }

    /// The record of a step and its layer; nothing when there is no blob to give away.
    fn record(
        &self,
        outcome: &Outcome,
    ) -> Result<Option<(Record, Option<KnownLayer>)>, RepositoryError> {
        let record = |change| Record {
            kept: Some(jiff::Timestamp::now().to_string()),
            ..Record::new(outcome.created.clone(), change)
        };
        Ok(match &outcome.made {
            Made::Nothing => Some((record(Change::Nothing), None)),
            Made::Layer(pending) => {
                pending
                    .wait()
                    .ok()
                    .filter(|_| pending.is_kept())
                    .map(|layer| {
                        let change = Change::Files {
                            layer: Some(Box::new(LayerRecord::from(&layer))),
                            unpacked: None,
                        };
                        let known = KnownLayer {
                            descriptor: layer.descriptor,
                            diff_id: layer.diff_id,
                            origin: Origin::Store,
                        };
                        (record(change), Some(known))
                    })
            }
            Made::Known(hit) => match (&hit.record.change, hit.layer()) {
                (Change::Nothing, _) => Some((hit.record.clone(), None)),
                (Change::Files { .. }, Some(layer)) => Some((hit.record.clone(), Some(layer))),
                (Change::Files { .. }, None) => None,
            },
        })
    }
}
