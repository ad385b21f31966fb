//! Patches: reading them and applying them to their targets.

use super::Target;
use crate::filter::json_patch::{self, JsonPatch};
use crate::filter::strategic;
use crate::kustomization::Patch;
use crate::resmap::ResMap;
use crate::resource;
use crate::selector::Selector;
use crate::work::Work;
use crate::yaml::{NodeId, json};
use crate::{Error, documents};

/// A patch that was read.
enum Loaded {
    Strategic(Vec<NodeId>),
    Json(JsonPatch),
}

/// Reads a text that may be either kind of patch.
fn load(work: &mut Work, text: &str) -> Result<Loaded, Error> {
    let strategic = documents::read(work, text);
    let json = JsonPatch::read(text);
    match (strategic, json) {
        (Ok(nodes), Ok(json)) if !nodes.is_empty() && !json.is_empty() => {
            Err(Error::PatchAmbiguous)
        }
        (Ok(nodes), Ok(json)) if nodes.is_empty() => Ok(Loaded::Json(json)),
        (Ok(nodes), _) => Ok(Loaded::Strategic(nodes)),
        (Err(_), Ok(json)) => Ok(Loaded::Json(json)),
        (Err(strategic), Err(json)) => Err(Error::PatchUnreadable {
            strategic: strategic.chain(),
            json: json.to_string(),
        }),
    }
}

/// Applies a JSON patch to one resource. Notes of the build survive it.
fn apply_json(
    work: &mut Work,
    map: &mut ResMap,
    at: usize,
    patch: &JsonPatch,
) -> Result<(), Error> {
    let Some(node) = map.list[at].node else {
        return Ok(());
    };
    let notes = resource::internal_annotations(&work.tree, node);
    let value = json::of_resource(&work.tree, node).map_err(|source| Error::Value {
        id: resource::id(work, node).to_string(),
        source: source.into(),
    })?;
    let patched = patch.apply(value)?;
    let fresh = json_patch::to_tree(&mut work.tree, &patched);
    resource::change_annotations(&mut work.tree, fresh, |all| all.extend(notes))?;
    map.list[at].node = Some(fresh);
    Ok(())
}

impl Target<'_> {
    /// One entry of `patches`.
    pub(super) fn patch(
        &self,
        work: &mut Work,
        map: &mut ResMap,
        patch: &Patch,
    ) -> Result<(), Error> {
        let inline = patch.patch.trim();
        let text = match (inline.is_empty(), patch.path.is_empty()) {
            (false, true) => inline.to_owned(),
            (true, false) => self
                .loader
                .text(&patch.path)
                .map_err(|error| Error::from(error).in_field("path"))?,
            _ => return Err(Error::PatchSource),
        };
        let in_place = |error: Error| {
            if patch.path.is_empty() {
                error.in_field("patch")
            } else {
                self.in_file(&patch.path, error)
            }
        };
        match load(work, &text).map_err(in_place)? {
            Loaded::Strategic(nodes) => {
                for node in &nodes {
                    if patch.name_change {
                        resource::allow_name_change(&mut work.tree, *node)?;
                    }
                    if patch.kind_change {
                        resource::allow_kind_change(&mut work.tree, *node)?;
                    }
                }
                strategic_patch(work, map, &nodes, patch.target.as_ref()).map_err(in_place)
            }
            Loaded::Json(json) => {
                let Some(target) = &patch.target else {
                    return Err(Error::PatchNoTarget);
                };
                for at in map.select(work, target)? {
                    if let Some(node) = map.list[at].node {
                        resource::store_previous_id(work, node)?;
                    }
                    apply_json(work, map, at, &json).map_err(in_place)?;
                }
                Ok(())
            }
        }
    }

    /// One entry of `patchesStrategicMerge`: a patch itself, else a file.
    pub(super) fn merge_patches(&self, work: &mut Work, entry: &str) -> Result<Vec<NodeId>, Error> {
        if let Ok(nodes) = documents::read(work, entry) {
            return Ok(nodes);
        }
        let text = self.loader.text(entry)?;
        documents::read(work, &text).map_err(|error| self.in_file(entry, error))
    }

    /// Applies strategic merge patches to the resources that they name.
    pub(super) fn merge_named(
        work: &mut Work,
        map: &mut ResMap,
        patches: &[NodeId],
    ) -> Result<(), Error> {
        for patch in patches {
            let id = resource::original_id(work, *patch);
            let at = map.by_id(work, &id)?;
            map.merge_patch(work, &[at], *patch)?;
        }
        Ok(())
    }

    /// One entry of `patchesJson6902`.
    pub(super) fn json_patch(
        &self,
        work: &mut Work,
        map: &mut ResMap,
        patch: &Patch,
    ) -> Result<(), Error> {
        let Some(target) = &patch.target else {
            return Err(Error::PatchNoTarget);
        };
        if target.id.name.is_empty() {
            return Err(Error::PatchNoTargetName);
        }
        let text = match (patch.patch.is_empty(), patch.path.is_empty()) {
            (false, true) => patch.patch.clone(),
            (true, false) => self
                .loader
                .text(&patch.path)
                .map_err(|error| Error::from(error).in_field("path"))?,
            _ => return Err(Error::PatchSource),
        };
        let json = JsonPatch::read(&text)?;
        if json.is_empty() {
            return Err(Error::PatchEmpty);
        }
        for at in map.select(work, target)? {
            apply_json(work, map, at, &json)?;
        }
        Ok(())
    }
}

fn strategic_patch(
    work: &mut Work,
    map: &mut ResMap,
    patches: &[NodeId],
    target: Option<&Selector>,
) -> Result<(), Error> {
    if let Some(target) = target {
        let [patch] = patches else {
            return Err(Error::PatchMany);
        };
        let selected = map.select(work, target)?;
        return map.merge_patch(work, &selected, *patch);
    }
    for patch in patches {
        let id = resource::original_id(work, *patch);
        let at = map.by_id(work, &id)?;
        if let Some(node) = map.list[at].node {
            map.list[at].node = strategic::apply(work, node, *patch)?;
        }
    }
    Ok(())
}
