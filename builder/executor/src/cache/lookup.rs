//! Asking for what earlier builds made, all keys at once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kiln_store::Digest;

use super::key::Reader;
use super::resolve::{Choice, Hits, Resolution, Surroundings, resolve};
use super::{Cache, Change, Hit, Record};
use crate::plan::{Op, Stage};
use crate::progress::Progress;
use crate::remote::Origin;
use crate::request::Request;
use crate::runner::Report;

/// What is left to do, and the one layer of `--single-snapshot` when it is there.
#[derive(Debug, Default)]
pub struct Found {
    /// The steps of the stages that are needed.
    pub resolution: Resolution,
    /// The layer that all steps of the target make.
    pub single: Option<Hit>,
}

impl Found {
    /// Whether something of it has to be fetched from a cache that others keep.
    #[must_use]
    pub fn is_from_elsewhere(&self) -> bool {
        let of_steps = self.resolution.values().flatten();
        let of_steps = of_steps.filter_map(|choice| match choice {
            Choice::Hit(hit) => Some(&**hit),
            _ => None,
        });
        of_steps
            .chain(&self.single)
            .any(|hit| hit.origin != Origin::Store)
    }
}

/// Who is asked for what earlier builds made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The store, and the cache that machines share.
    Everywhere,
    /// The store.
    StoreOnly,
}

impl Cache<'_> {
    /// Decides which steps are left to do.
    pub fn find(&self, request: &Request, ask: Ask, report: Report<'_>) -> Found {
        let around = Surroundings {
            sights: &self.sights,
            volumes: &request.sandbox.volumes,
            context: &request.context.dir,
        };
        let mut hits = Hits::new();
        let mut single = None;
        if ask == Ask::StoreOnly {
            self.forget_published();
        }
        if self.is_local() {
            hits = self.local();
            single = self.single.and_then(|key| self.local_record(&key, true));
        }
        let mut resolution = self.decide(&hits, single.as_ref(), around);
        if ask == Ask::Everywhere && self.repository.is_some() && is_left(&resolution) {
            let remote = self.remote().unwrap_or_else(|error| {
                report(Progress::Warning(format!(
                    "the layer cache cannot be read: {}",
                    crate::progress::chain(&error)
                )));
                BTreeMap::new()
            });
            for (reader, key) in self.readers() {
                if let Some(hit) = remote.get(&key).filter(|_| !hits.contains_key(&reader)) {
                    hits.insert(reader, hit.clone());
                }
            }
            if single.is_none() {
                single = self.single.and_then(|key| remote.get(&key).cloned());
            }
            resolution = self.decide(&hits, single.as_ref(), around);
        }
        Found { resolution, single }
    }

    /// With `--single-snapshot` the steps of the target are one.
    fn decide(&self, hits: &Hits, single: Option<&Hit>, around: Surroundings<'_>) -> Resolution {
        let Some(key) = self.single else {
            return resolve(self.plan, hits, around);
        };
        let target = self.plan.target();
        let mut hits = hits.clone();
        hits.retain(|reader, _| reader.stage != target.index);
        if let Some(single) = single {
            for step in 0..target.steps.len() {
                let reader = Reader {
                    stage: target.index,
                    step,
                    mount: None,
                };
                let record = Record::new(single.record.created.clone(), Change::Nothing);
                let origin = Origin::Store;
                hits.insert(
                    reader,
                    Hit {
                        key,
                        record,
                        origin,
                    },
                );
            }
        }
        resolve(self.plan, &hits, around)
    }

    /// All steps that do something and have a key.
    fn readers(&self) -> Vec<(Reader, Digest)> {
        let mut readers = Vec::new();
        for stage in &self.plan.stages {
            for step in 0..stage.steps.len() {
                let reader = Reader {
                    stage: stage.index,
                    step,
                    mount: None,
                };
                if !matches!(stage.steps[step].op, Op::Config)
                    && let Some(key) = self.key(reader)
                {
                    readers.push((reader, key));
                }
            }
        }
        readers
    }

    fn local(&self) -> Hits {
        let exported: BTreeSet<usize> = self.exported().into_iter().collect();
        self.readers()
            .into_iter()
            .filter_map(|(reader, key)| {
                let hit = self.local_record(&key, exported.contains(&reader.stage))?;
                Some((reader, hit))
            })
            .collect()
    }

    /// A record of the store whose files are still there: for an image a blob is needed, or
    /// something that one can be made from; for anything else the files are enough.
    fn local_record(&self, key: &Digest, exported: bool) -> Option<Hit> {
        let bytes = self.store.record(key).ok().flatten()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        let hit = Hit {
            key: *key,
            record,
            origin: Origin::Store,
        };
        if hit.record.change == Change::Nothing {
            return Some(hit);
        }
        let directory = || hit.directory(self.store).is_some();
        let is_there = match hit.layer() {
            Some(layer) => {
                layer.file(self.store).is_some()
                    || (!exported && self.store.layer(&layer.diff_id).is_some())
                    || directory()
            }
            None => directory(),
        };
        is_there.then_some(hit)
    }

    /// Asks the repository: first for the whole image, then for every step, then for what the
    /// last known step of each stage has to say.
    fn remote(&self) -> Result<BTreeMap<Digest, Hit>, super::RepositoryError> {
        let Some(repository) = &self.repository else {
            return Ok(BTreeMap::new());
        };
        let mut found = BTreeMap::new();
        if let Some(key) = self.single {
            self.take(repository.records(&key)?, &mut found);
        }
        let exported = self.exported();
        let last = self.last(self.plan.target());
        if let Some(key) = last {
            self.take(repository.records(&key)?, &mut found);
            let is_there = |(reader, key): &(Reader, Digest)| {
                !exported.contains(&reader.stage) || found.contains_key(key)
            };
            if self.readers().iter().all(is_there) {
                return Ok(found);
            }
        }
        let asked: Vec<Digest> = self
            .readers()
            .into_iter()
            .map(|(_, key)| key)
            .filter(|key| Some(*key) != last && !found.contains_key(key))
            .collect();
        let there = repository.known(&asked)?;
        let deepest: Vec<Digest> = self
            .plan
            .stages
            .iter()
            .filter_map(|stage| {
                let keys = &self.keys.get(&stage.index)?.steps;
                keys.iter().rev().flatten().find(|key| there.contains(key))
            })
            .copied()
            .collect();
        for records in repository.all_records(&deepest)? {
            self.take(records, &mut found);
        }
        // Those that came into the repository after the ones that build on them.
        let rest: Vec<Digest> = there
            .into_iter()
            .filter(|key| !deepest.contains(key) && !found.contains_key(key))
            .collect();
        for records in repository.all_records(&rest)? {
            self.take(records, &mut found);
        }
        Ok(found)
    }

    /// The key of the last step of a stage that is kept.
    fn last(&self, stage: &Stage) -> Option<Digest> {
        let keys = &self.keys.get(&stage.index)?.steps;
        let kept = (0..stage.steps.len()).rev().find(|step| {
            !matches!(stage.steps[*step].op, Op::Config) && self.is_kept(&stage.steps[*step].op)
        })?;
        keys[kept]
    }

    /// Records that are young enough.
    fn take(&self, records: Vec<(Digest, Record)>, found: &mut BTreeMap<Digest, Hit>) {
        let Some(repository) = &self.repository else {
            return;
        };
        for (key, record) in records {
            let is_young = match self.settings.ttl {
                None => true,
                Some(ttl) => record.came().parse::<Timestamp>().is_ok_and(|came| {
                    let age = Timestamp::now().duration_since(came);
                    // Times of a reproducible build say nothing.
                    came == Timestamp::UNIX_EPOCH
                        || age.as_secs() < i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)
                }),
            };
            if is_young {
                self.note_published([key]);
                let origin = repository.origin();
                found.insert(
                    key,
                    Hit {
                        key,
                        record,
                        origin,
                    },
                );
            }
        }
    }

    /// Whether layers of such a step belong in the repository.
    pub(super) fn is_kept(&self, op: &Op) -> bool {
        match op {
            Op::Config => false,
            Op::Copy(_) => self.settings.copies == crate::request::Kept::Yes,
            // kaniko counts WORKDIR with RUN.
            Op::Run(_) | Op::Workdir { .. } => self.settings.runs == crate::request::Kept::Yes,
        }
    }
}

fn is_left(resolution: &Resolution) -> bool {
    resolution
        .values()
        .flatten()
        .any(|choice| *choice == Choice::Perform)
}
