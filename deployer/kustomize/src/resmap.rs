//! The resources of a build, in order.

use std::collections::{BTreeMap, HashSet};

use crate::Error;
use crate::filter::strategic;
use crate::resid::{ORDER_FIRST, ORDER_LAST, ResId};
use crate::resource::{self, Behavior, Resource};
use crate::selector::Selector;
use crate::work::Work;
use crate::yaml::json::{self, ValueError};
use crate::yaml::ops;
use crate::yaml::{NodeId, Tree, Value};

/// Resources in the order in which they were loaded.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResMap {
    pub(crate) list: Vec<Resource>,
}

impl ResMap {
    /// Takes resources, each id once.
    pub(crate) fn from_nodes(work: &Work, nodes: Vec<NodeId>) -> Result<Self, Error> {
        let mut map = Self::default();
        map.append_all(work, nodes.into_iter().map(Resource::from).collect())?;
        Ok(map)
    }

    /// Adds resources; an id that is there already is an error.
    pub(crate) fn append_all(&mut self, work: &Work, more: Vec<Resource>) -> Result<(), Error> {
        let mut known: HashSet<_> = self.list.iter().map(|r| r.id(work).key()).collect();
        for resource in more {
            let id = resource.id(work);
            if !known.insert(id.key()) {
                return Err(Error::DuplicateId { id: id.to_string() });
            }
            self.list.push(resource);
        }
        Ok(())
    }

    /// Adds generated resources, or merges them into those that are there.
    pub(crate) fn absorb_all(&mut self, work: &mut Work, more: ResMap) -> Result<(), Error> {
        for resource in more.list {
            self.absorb(work, resource)?;
        }
        Ok(())
    }

    fn absorb(&mut self, work: &mut Work, resource: Resource) -> Result<(), Error> {
        let Some(node) = resource.node else {
            return Ok(());
        };
        let id = resource.id(work);
        let matches = self.with_any_id(work, |known| known.same(&id));
        let behavior = resource::behavior(&work.tree, node);
        let old = match matches.as_slice() {
            [] if matches!(behavior, Behavior::Merge | Behavior::Replace) => {
                return Err(Error::NothingToMerge { id: id.to_string() });
            }
            [] => return self.append_all(work, vec![resource]),
            [at] => *at,
            _ => return Err(Error::ManyToMerge { id: id.to_string() }),
        };
        let Some(old_node) = self.list[old].node else {
            return Ok(());
        };
        let mut resource = resource;
        match behavior {
            Behavior::Replace => resource::merge_metadata(&mut work.tree, node, old_node)?,
            Behavior::Merge => {
                let origin = ops::meta_entry(&work.tree, old_node, "annotations", resource::ORIGIN)
                    .map(str::to_owned);
                resource::merge_metadata(&mut work.tree, node, old_node)?;
                crate::generate::merge_data(&mut work.tree, node, old_node)?;
                if let Some(origin) = origin {
                    resource::change_annotations(&mut work.tree, node, |all| {
                        all.insert(resource::ORIGIN.to_owned(), origin);
                    })?;
                }
            }
            _ => return Err(Error::GeneratedTwice { id: id.to_string() }),
        }
        resource.variables.clone_from(&self.list[old].variables);
        let new_id = resource.id(work);
        let places: Vec<usize> = (0..self.list.len())
            .filter(|at| self.list[*at].id(work).same(&new_id))
            .collect();
        if places != [old] {
            return Err(Error::ManyToMerge { id: id.to_string() });
        }
        self.list[old] = resource;
        Ok(())
    }

    /// Places of the resources one of whose ids, current or former, fits.
    pub(crate) fn with_any_id(&self, work: &Work, fits: impl Fn(&ResId) -> bool) -> Vec<usize> {
        let mut found = Vec::new();
        for (at, resource) in self.list.iter().enumerate() {
            let Some(node) = resource.node else { continue };
            if work.tree.is_null_or_empty(node) {
                continue;
            }
            if fits(&resource::id(work, node))
                || resource::previous_ids(&work.tree, node).iter().any(&fits)
            {
                found.push(at);
            }
        }
        found
    }

    /// The one resource that has or had an id.
    pub(crate) fn by_id(&self, work: &Work, id: &ResId) -> Result<usize, Error> {
        match self.with_any_id(work, |known| known.same(id)).as_slice() {
            [at] => Ok(*at),
            [] => Err(Error::NoTarget { id: id.to_string() }),
            _ => Err(Error::ManyTargets { id: id.to_string() }),
        }
    }

    /// Places of the resources that a selector selects.
    pub(crate) fn select(&self, work: &Work, selector: &Selector) -> Result<Vec<usize>, Error> {
        let compiled = selector.compile()?;
        let mut found = Vec::new();
        for (at, resource) in self.list.iter().enumerate() {
            if let Some(node) = resource.node
                && compiled.selects(work, node)
            {
                found.push(at);
            }
        }
        Ok(found)
    }

    /// Merges a patch into resources, as often as there are any; deleted ones
    /// leave the list.
    pub(crate) fn merge_patch(
        &mut self,
        work: &mut Work,
        targets: &[usize],
        patch: NodeId,
    ) -> Result<(), Error> {
        for at in targets {
            let Some(node) = self.list[*at].node else {
                continue;
            };
            let copy = work.tree.copy(patch);
            resource::merge_metadata(&mut work.tree, copy, patch)?;
            let target = resource::gvk(&work.tree, node);
            let kind = ops::top(&work.tree, patch, "kind");
            strategic::set_gvk(&mut work.tree, copy, &target, &kind)?;
            self.list[*at].node = strategic::apply(work, node, copy)?;
        }
        self.drop_empty(work);
        self.check_ids(work)
    }

    fn check_ids(&self, work: &Work) -> Result<(), Error> {
        let mut known = HashSet::with_capacity(self.list.len());
        for resource in &self.list {
            let id = resource.id(work);
            if !known.insert(id.key()) {
                return Err(Error::DuplicateId { id: id.to_string() });
            }
        }
        Ok(())
    }

    /// Drops what is empty.
    pub(crate) fn drop_empty(&mut self, work: &Work) {
        self.list.retain(|resource| !resource.is_empty(&work.tree));
    }

    /// The nodes that are left.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.list.iter().filter_map(|r| r.node).collect()
    }

    /// Puts resources into the order that suits their creation.
    pub(crate) fn sort(&mut self, work: &Work, order: &LegacyOrder) {
        let mut keyed: Vec<_> = self
            .list
            .drain(..)
            .map(|resource| (order.key(&resource.id(work)), resource))
            .collect();
        keyed.sort_by(|a, b| a.0.compare(&b.0));
        self.list = keyed.into_iter().map(|(_, resource)| resource).collect();
    }

    /// Every resource as the value that is printed.
    pub(crate) fn values(&self, work: &Work) -> Result<Vec<Value>, Error> {
        self.all_values(work, json::of_resource)
    }

    /// Every resource as the value that goes into a file of its own.
    pub(crate) fn separate_values(&self, work: &Work) -> Result<Vec<Value>, Error> {
        self.all_values(work, json::of_resource_directly)
    }

    fn all_values(
        &self,
        work: &Work,
        read: fn(&Tree, NodeId) -> Result<Value, ValueError>,
    ) -> Result<Vec<Value>, Error> {
        self.nodes()
            .into_iter()
            .map(|node| {
                read(&work.tree, node)
                    .and_then(json::printable)
                    .map_err(|source| Error::Value {
                        id: resource::id(work, node).to_string(),
                        source: source.into(),
                    })
            })
            .collect()
    }
}

/// The order of `sortOptions`.
#[derive(Debug, Clone)]
pub(crate) struct LegacyOrder {
    ranks: BTreeMap<String, i64>,
}

impl Default for LegacyOrder {
    fn default() -> Self {
        let own = |list: &[&str]| {
            list.iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        Self::new(&own(&ORDER_FIRST), &own(&ORDER_LAST))
    }
}

#[derive(Debug)]
struct SortKey {
    rank: i64,
    core_namespace: bool,
    gvk: String,
    id: String,
}

impl SortKey {
    /// Two namespaces of which one is in the core group are in reverse order.
    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        let by_gvk = self.gvk.cmp(&other.gvk);
        let namespaces = self.core_namespace || other.core_namespace;
        self.rank
            .cmp(&other.rank)
            .then(
                if namespaces && self.is_namespace() && other.is_namespace() {
                    by_gvk.reverse()
                } else {
                    by_gvk
                },
            )
            .then_with(|| self.id.cmp(&other.id))
    }

    fn is_namespace(&self) -> bool {
        self.gvk.ends_with("_Namespace")
    }
}

impl LegacyOrder {
    /// Kinds that come first and kinds that come last.
    pub(crate) fn new(first: &[String], last: &[String]) -> Self {
        let count = i64::try_from(first.len()).unwrap_or(0);
        let mut ranks = BTreeMap::new();
        for (at, kind) in (0..).zip(first) {
            ranks.insert(kind.clone(), at - count);
        }
        for (at, kind) in (1..).zip(last) {
            ranks.insert(kind.clone(), at);
        }
        Self { ranks }
    }

    fn key(&self, id: &ResId) -> SortKey {
        let or = |text: &str, other: &str| {
            if text.is_empty() {
                other.to_owned()
            } else {
                text.to_owned()
            }
        };
        SortKey {
            rank: self.ranks.get(&id.gvk.kind).copied().unwrap_or(0),
            core_namespace: id.gvk.kind == "Namespace" && id.gvk.group.is_empty(),
            gvk: id.gvk.sort_text(),
            id: format!(
                "{}|{}|{}",
                id.gvk,
                or(&id.namespace, "~X"),
                or(&id.name, "~N")
            ),
        }
    }
}
