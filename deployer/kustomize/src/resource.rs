//! A resource and the notes that kustomize keeps in its annotations while it
//! works: former names, prefixes, whether a hash is due.

use std::collections::BTreeMap;

use crate::Error;
use crate::resid::{Gvk, ResId};
use crate::work::Work;
use crate::yaml::ops::{self, PathError};
use crate::yaml::{Node, NodeId, Tree};

const PREVIOUS_KINDS: &str = "internal.config.kubernetes.io/previousKinds";
const PREVIOUS_NAMES: &str = "internal.config.kubernetes.io/previousNames";
const PREVIOUS_NAMESPACES: &str = "internal.config.kubernetes.io/previousNamespaces";
const PREFIXES: &str = "internal.config.kubernetes.io/prefixes";
const SUFFIXES: &str = "internal.config.kubernetes.io/suffixes";
const REFERRED_BY: &str = "internal.config.kubernetes.io/refBy";
const BEHAVIOR: &str = "internal.config.kubernetes.io/generatorBehavior";
const NEEDS_HASH: &str = "internal.config.kubernetes.io/needsHashSuffix";
const NAME_CHANGE: &str = "internal.config.kubernetes.io/allowNameChange";
const KIND_CHANGE: &str = "internal.config.kubernetes.io/allowKindChange";
/// Where a resource came from.
pub(crate) const ORIGIN: &str = "config.kubernetes.io/origin";
/// What changed a resource.
pub(crate) const TRANSFORMATIONS: &str = "alpha.config.kubernetes.io/transformations";
/// Resources with this annotation are not printed.
pub(crate) const LOCAL: &str = "config.kubernetes.io/local-config";
const ENABLED: &str = "enabled";

/// Annotations that never reach the output.
const BUILD_ANNOTATIONS: [&str; 18] = [
    PREVIOUS_KINDS,
    PREVIOUS_NAMES,
    PREFIXES,
    SUFFIXES,
    PREVIOUS_NAMESPACES,
    NAME_CHANGE,
    KIND_CHANGE,
    REFERRED_BY,
    BEHAVIOR,
    NEEDS_HASH,
    "internal.config.kubernetes.io/path",
    "internal.config.kubernetes.io/index",
    "internal.config.kubernetes.io/seqindent",
    "internal.config.kubernetes.io/id",
    "internal.config.kubernetes.io/annotations-migration-resource-id",
    "config.kubernetes.io/path",
    "config.kubernetes.io/index",
    "config.k8s.io/id",
];

/// Labels or annotations.
pub(crate) type Strings = BTreeMap<String, String>;

/// One resource.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    /// [`None`] after a patch deleted it.
    pub(crate) node: Option<NodeId>,
    /// Variables whose value is read from here.
    pub(crate) variables: Vec<String>,
}

impl From<NodeId> for Resource {
    fn from(node: NodeId) -> Self {
        Self {
            node: Some(node),
            variables: Vec::new(),
        }
    }
}

impl Resource {
    /// Whether nothing is left of it.
    pub(crate) fn is_empty(&self, t: &Tree) -> bool {
        self.node.is_none_or(|node| t.is_null_or_empty(node))
    }

    /// The current id.
    pub(crate) fn id(&self, work: &Work) -> ResId {
        self.node.map_or_else(ResId::default, |node| id(work, node))
    }
}

/// Group, version and kind of a node.
pub(crate) fn gvk(t: &Tree, node: NodeId) -> Gvk {
    let value = |name| {
        t.get(node, name)
            .map_or("", |value| t[value].value.as_str())
    };
    Gvk::new(value("apiVersion"), value("kind"))
}

/// The current id of a node.
pub(crate) fn id(work: &Work, node: NodeId) -> ResId {
    let t = &work.tree;
    ResId::new(
        gvk(t, node),
        ops::meta(t, node, "name"),
        ops::meta(t, node, "namespace"),
        &work.schemas,
    )
}

/// Every id that a node had before, oldest first.
pub(crate) fn previous_ids(t: &Tree, node: NodeId) -> Vec<ResId> {
    let list = |key| ops::meta_entry(t, node, "annotations", key);
    let Some(names) = list(PREVIOUS_NAMES) else {
        return Vec::new();
    };
    let gvk = gvk(t, node);
    let namespaces = list(PREVIOUS_NAMESPACES).unwrap_or("").split(',');
    let kinds = list(PREVIOUS_KINDS).unwrap_or("").split(',');
    names
        .split(',')
        .zip(namespaces)
        .zip(kinds)
        .map(|((name, namespace), kind)| ResId {
            gvk: Gvk {
                kind: kind.to_owned(),
                ..gvk.clone()
            },
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            cluster_scoped: false,
        })
        .collect()
}

/// The oldest id.
pub(crate) fn original_id(work: &Work, node: NodeId) -> ResId {
    previous_ids(&work.tree, node)
        .into_iter()
        .next()
        .unwrap_or_else(|| id(work, node))
}

/// The current id without its scope, then the previous ones: what
/// replacements select by.
pub(crate) fn ids_for_selection(t: &Tree, node: NodeId) -> Vec<ResId> {
    let mut ids = vec![ResId {
        gvk: gvk(t, node),
        name: ops::meta(t, node, "name").to_owned(),
        namespace: ops::meta(t, node, "namespace").to_owned(),
        cluster_scoped: false,
    }];
    ids.extend(previous_ids(t, node));
    ids
}

/// Notes the current id as a former one.
pub(crate) fn store_previous_id(work: &mut Work, node: NodeId) -> Result<(), PathError> {
    let id = id(work, node);
    let t = &mut work.tree;
    append(t, node, PREVIOUS_NAMES, &id.name)?;
    append(t, node, PREVIOUS_NAMESPACES, id.effective_namespace())?;
    append(t, node, PREVIOUS_KINDS, &id.gvk.kind)
}

fn append(t: &mut Tree, node: NodeId, key: &str, value: &str) -> Result<(), PathError> {
    if value.is_empty() {
        return Ok(());
    }
    let joined = match ops::meta_entry(t, node, "annotations", key) {
        Some(known) => format!("{known},{value}"),
        None => value.to_owned(),
    };
    ops::set_annotation(t, node, key, &joined)
}

/// Notes a prefix.
pub(crate) fn add_prefix(t: &mut Tree, node: NodeId, prefix: &str) -> Result<(), PathError> {
    append(t, node, PREFIXES, prefix)
}

/// Notes a suffix.
pub(crate) fn add_suffix(t: &mut Tree, node: NodeId, suffix: &str) -> Result<(), PathError> {
    append(t, node, SUFFIXES, suffix)
}

/// The prefixes and the suffixes that were added.
pub(crate) fn affixes(t: &Tree, node: NodeId) -> (Vec<String>, Vec<String>) {
    let list = |key| -> Vec<String> {
        ops::meta_entry(t, node, "annotations", key)
            .map(|text| text.split(',').map(str::to_owned).collect())
            .unwrap_or_default()
    };
    (list(PREFIXES), list(SUFFIXES))
}

fn enable(t: &mut Tree, node: NodeId, key: &str) -> Result<(), PathError> {
    change_annotations(t, node, |all| {
        all.insert(key.to_owned(), ENABLED.to_owned());
    })
}

fn is_enabled(t: &Tree, node: NodeId, key: &str) -> bool {
    ops::meta_entry(t, node, "annotations", key) == Some(ENABLED)
}

/// Rewrites the annotations.
pub(crate) fn change_annotations(
    t: &mut Tree,
    node: NodeId,
    change: impl FnOnce(&mut Strings),
) -> Result<(), PathError> {
    let mut all = ops::meta_map(t, node, "annotations");
    change(&mut all);
    ops::set_meta_map(t, node, "annotations", &all)
}

/// Lets a patch rename its target.
pub(crate) fn allow_name_change(t: &mut Tree, node: NodeId) -> Result<(), PathError> {
    enable(t, node, NAME_CHANGE)
}

/// Lets a patch change the kind of its target.
pub(crate) fn allow_kind_change(t: &mut Tree, node: NodeId) -> Result<(), PathError> {
    enable(t, node, KIND_CHANGE)
}

/// Whether a patch may rename its target, and whether it may change its kind.
pub(crate) fn allowed_changes(t: &Tree, node: NodeId) -> (bool, bool) {
    (
        is_enabled(t, node, NAME_CHANGE),
        is_enabled(t, node, KIND_CHANGE),
    )
}

/// Asks for a hash behind the name.
pub(crate) fn enable_hash(t: &mut Tree, node: NodeId) -> Result<(), PathError> {
    enable(t, node, NEEDS_HASH)
}

/// Whether a hash was asked for.
pub(crate) fn needs_hash(t: &Tree, node: NodeId) -> bool {
    is_enabled(t, node, NEEDS_HASH)
}

/// What a generated resource does with one of the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behavior {
    Unspecified,
    Create,
    Replace,
    Merge,
}

impl Behavior {
    /// Reads the field; unknown words count as nothing.
    pub(crate) fn read(text: &str) -> Self {
        match text {
            "create" => Self::Create,
            "replace" => Self::Replace,
            "merge" => Self::Merge,
            _ => Self::Unspecified,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Merge => "merge",
        }
    }
}

/// Notes the behavior.
pub(crate) fn set_behavior(
    t: &mut Tree,
    node: NodeId,
    behavior: Behavior,
) -> Result<(), PathError> {
    change_annotations(t, node, |all| {
        all.insert(BEHAVIOR.to_owned(), behavior.name().to_owned());
    })
}

/// The behavior that was noted.
pub(crate) fn behavior(t: &Tree, node: NodeId) -> Behavior {
    ops::meta_entry(t, node, "annotations", BEHAVIOR).map_or(Behavior::Unspecified, Behavior::read)
}

/// Takes labels, annotations, name and namespace over from another resource;
/// own labels and annotations win, notes of the build come from the other one.
pub(crate) fn merge_metadata(t: &mut Tree, node: NodeId, other: NodeId) -> Result<(), PathError> {
    let mut labels = ops::meta_map(t, other, "labels");
    labels.extend(ops::meta_map(t, node, "labels"));
    ops::set_meta_map(t, node, "labels", &labels)?;
    let own = ops::meta_map(t, node, "annotations");
    let theirs = ops::meta_map(t, other, "annotations");
    let mut merged = theirs.clone();
    merged.extend(own.clone());
    for key in BUILD_ANNOTATIONS {
        match theirs.get(key) {
            Some(value) => merged.insert(key.to_owned(), value.clone()),
            None => merged.remove(key),
        };
    }
    if !own.contains_key(NEEDS_HASH) {
        merged.remove(NEEDS_HASH);
    }
    ops::set_meta_map(t, node, "annotations", &merged)?;
    let name = ops::meta(t, other, "name").to_owned();
    ops::set_at(t, node, &["metadata"], "name", Node::scalar(name))?;
    let namespace = ops::meta(t, other, "namespace").to_owned();
    ops::set_namespace(t, node, &namespace)
}

/// Removes the notes of the build; annotations come out as sorted strings.
pub(crate) fn remove_notes(t: &mut Tree, node: NodeId) -> Result<(), PathError> {
    let mut all = ops::meta_map(t, node, "annotations");
    if all.is_empty() {
        return Ok(());
    }
    all.retain(|key, _| !BUILD_ANNOTATIONS.contains(&key.as_str()));
    ops::set_meta_map(t, node, "annotations", &all)
}

/// Notes of the build and of other programs that a JSON patch must not lose.
pub(crate) fn internal_annotations(t: &Tree, node: NodeId) -> Strings {
    ops::meta_map(t, node, "annotations")
        .into_iter()
        .filter(|(key, _)| {
            key.starts_with("internal.config.kubernetes.io/")
                || matches!(
                    key.as_str(),
                    "config.kubernetes.io/path" | "config.kubernetes.io/index" | "config.k8s.io/id"
                )
        })
        .collect()
}

/// Refuses documents that are no resources.
pub(crate) fn validate(t: &Tree, node: NodeId) -> Result<(), Error> {
    let filled = |map: NodeId, name: &str| {
        t.get(map, name)
            .filter(|value| !t.is_null_or_empty(*value))
            .map(|value| t[value].value.as_str())
    };
    let metadata = t
        .get(node, "metadata")
        .filter(|value| !t.is_null_or_empty(*value));
    let kind = filled(node, "kind").unwrap_or("");
    let name = metadata.and_then(|map| filled(map, "name")).unwrap_or("");
    if kind.is_empty() {
        return Err(Error::NoKind {
            name: name.to_owned(),
        });
    }
    if !kind.ends_with("List") && name.is_empty() {
        return Err(Error::NoName {
            kind: kind.to_owned(),
        });
    }
    Ok(())
}
