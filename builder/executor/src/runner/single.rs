//! `--single-snapshot`: all steps of a stage become one layer.

use super::built::Note;
use super::stage::Made;
use super::{Blob, Built, BuiltLayer, RunError, Session, locked};
use crate::cache::key::Reader;
use crate::cache::{self, Change, Outcome, Record};
use crate::layer::delta::Delta;
use crate::plan::{Op, Stage};

impl Session<'_> {
    /// `--single-snapshot`: all steps become one layer, which belongs to the last entry of the
    /// history.
    pub(super) fn close_single(
        &self,
        stage: &Stage,
        mut single: Delta,
        built: &mut Built,
    ) -> Result<(), RunError> {
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
        let key = self.cache.single.filter(|_| last.is_some() && self.keeps());
        built
            .layers
            .retain(|layer| !matches!(layer.blob, Blob::Unwritten));
        if let Some(step) = last.and_then(|last| stage.steps.get(last))
            && !single.is_empty()
        {
            // What one step made and a later one took away was never in the base.
            self.without_unchanged(&mut single, built)
                .map_err(|source| RunError::of_step(step, source))?;
        }
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
            self.cache.keep(key, &Record::new(created, change));
        }
        if !is_empty && let Some(entry) = built.history.last_mut() {
            entry.empty_layer = false;
            entry.created = Some(created.clone());
        }
        if let (Some(key), Some(reader)) = (key, reader) {
            let outcome = Outcome { key, created, made };
            locked(&self.outcomes).insert(reader, outcome);
        }
        Ok(())
    }
}
