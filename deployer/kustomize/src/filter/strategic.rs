//! Strategic merge: a patch and a resource are walked together; lists are
//! merged by the keys that the schema of the kind names.

use std::collections::BTreeSet;

use super::strategic_list as list;
use crate::Error;
use crate::resid::Gvk;
use crate::resource;
use crate::schema::Schema;
use crate::work::Work;
use crate::yaml::ops::{self, Entry, PathError};
use crate::yaml::{Kind, Node, NodeId, Tag, Tree, style};

const DIRECTIVE: &str = "$patch";

/// Merges a patch into a resource. Gives the resource, or [`None`] if the
/// patch deleted it.
pub(crate) fn apply(work: &mut Work, node: NodeId, patch: NodeId) -> Result<Option<NodeId>, Error> {
    let t = &work.tree;
    let name = ops::meta(t, node, "name").to_owned();
    let namespace = ops::meta(t, node, "namespace").to_owned();
    let kind = ops::top(t, node, "kind");
    let (rename, retype) = resource::allowed_changes(t, patch);
    if rename || retype {
        resource::store_previous_id(work, node)?;
    }
    let mut sources = Sources {
        dest: Some(node),
        patch: Some(patch),
    };
    if walk(work, None, &mut sources)?.is_none() {
        return Ok(None);
    }
    let t = &mut work.tree;
    if t.is_null_or_empty(node) {
        return Ok(Some(node));
    }
    if !retype {
        ops::set_at(t, node, &[], "kind", Node::scalar(kind))?;
    }
    if !rename {
        ops::set_at(t, node, &["metadata"], "name", Node::scalar(name))?;
    }
    ops::set_namespace(t, node, &namespace)?;
    Ok(Some(node))
}

/// Gives a patch the API version of its target and a kind.
pub(crate) fn set_gvk(t: &mut Tree, node: NodeId, gvk: &Gvk, kind: &str) -> Result<(), PathError> {
    ops::set_at(t, node, &[], "kind", Node::scalar(gvk.kind.as_str()))?;
    ops::set_at(t, node, &[], "apiVersion", Node::scalar(gvk.api_version()))?;
    ops::set_at(t, node, &[], "kind", Node::scalar(kind))
}

/// The two values that are merged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources {
    pub(super) dest: Option<NodeId>,
    pub(super) patch: Option<NodeId>,
}

impl Sources {
    fn both(self) -> [Option<NodeId>; 2] {
        [self.dest, self.patch]
    }
}

/// A merged value; null is usually dropped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Merged {
    pub(super) node: NodeId,
    keep_null: bool,
}

impl From<NodeId> for Merged {
    fn from(node: NodeId) -> Self {
        Self {
            node,
            keep_null: false,
        }
    }
}

/// What a patch wants with a mapping or a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

impl Directive {
    fn read(text: &str) -> Result<Self, Error> {
        match text {
            "merge" => Ok(Self::Merge),
            "replace" => Ok(Self::Replace),
            "delete" => Ok(Self::Delete),
            _ => Err(Error::Directive {
                text: text.to_owned(),
            }),
        }
    }
}

/// Merges two values.
pub(super) fn walk(
    work: &mut Work,
    schema: Option<Schema>,
    sources: &mut Sources,
) -> Result<Option<Merged>, Error> {
    let schema = schema.or_else(|| schema_of(work, *sources));
    let t = &work.tree;
    let filled: Vec<NodeId> = sources
        .both()
        .into_iter()
        .flatten()
        .filter(|node| !t.is_null(*node))
        .collect();
    let kind = filled.first().map_or(Kind::Zero, |node| t[*node].kind);
    for node in filled {
        ops::expect(t, node, kind)?;
    }
    match kind {
        Kind::Mapping | Kind::Zero => mapping(work, schema.as_ref(), sources),
        Kind::Scalar => Ok(sources.patch.or(sources.dest).map(Merged::from)),
        Kind::Sequence => {
            let merge = schema.as_ref().map(Schema::list_merge);
            match merge {
                Some(merge) if merge.merges => {
                    let items = schema.as_ref().and_then(Schema::items);
                    sequence(work, items.as_ref(), sources, &merge.keys)
                }
                _ => {
                    keep_style(&mut work.tree, *sources);
                    Ok(sources.patch.or(sources.dest).map(Merged::from))
                }
            }
        }
    }
}

/// Objects inside of others are known by their own kind where the schema
/// around them says nothing.
fn schema_of(work: &Work, sources: Sources) -> Option<Schema> {
    let t = &work.tree;
    sources.both().into_iter().flatten().find_map(|node| {
        if t.is_null(node) {
            return None;
        }
        let text = |name| {
            t.get(node, name)
                .filter(|value| !t.is_null_or_empty(*value))
                .map_or("", |value| t[value].value.as_str())
        };
        let (kind, api_version) = (text("kind"), text("apiVersion"));
        if kind.is_empty() || api_version.is_empty() {
            return None;
        }
        work.schemas.of_kind(api_version, kind)
    })
}

/// A collection without items takes the style of the patch.
fn keep_style(t: &mut Tree, sources: Sources) {
    if let (Some(dest), Some(patch)) = (sources.dest, sources.patch)
        && t[dest].kind != Kind::Scalar
        && t[dest].content.is_empty()
    {
        t[dest].style = t[patch].style;
    }
}

fn mapping(
    work: &mut Work,
    schema: Option<&Schema>,
    sources: &mut Sources,
) -> Result<Option<Merged>, Error> {
    let Some(dest) = visit_mapping(&mut work.tree, *sources)? else {
        return Ok(None);
    };
    sources.dest = Some(dest.node);
    for key in field_names(&work.tree, *sources) {
        let t = &work.tree;
        let pair = |source: Option<NodeId>| {
            let (name, value) = t.fields(source?).find(|(name, _)| t[*name].value == key)?;
            Some((t[name].style, value))
        };
        let (ours, theirs) = (pair(sources.dest), pair(sources.patch));
        let mut inner = Sources {
            dest: ours.map(|(_, value)| value),
            patch: theirs.map(|(_, value)| value),
        };
        let value = walk(
            work,
            schema.and_then(|schema| schema.field(&key)),
            &mut inner,
        )?;
        let key_style = [theirs, ours]
            .into_iter()
            .flatten()
            .find(|(_, node)| value.is_some_and(|value| value.node == *node))
            .map_or(style::PLAIN, |(style, _)| style);
        let entry = Entry {
            value: value.map(|value| value.node),
            keep_null: value.is_some_and(|value| value.keep_null),
            key_style,
        };
        ops::set_field(&mut work.tree, dest.node, &key, entry)?;
    }
    Ok(Some(dest))
}

fn field_names(t: &Tree, sources: Sources) -> BTreeSet<String> {
    sources
        .both()
        .into_iter()
        .flatten()
        .flat_map(|node| t.fields(node))
        .map(|(key, _)| t[key].value.clone())
        .collect()
}

fn visit_mapping(t: &mut Tree, sources: Sources) -> Result<Option<Merged>, Error> {
    keep_style(t, sources);
    let dest = sources.dest.filter(|dest| !t.is_null(*dest));
    let Some(dest) = dest else {
        if let Some(patch) = sources.patch
            && matches!(directive(t, patch), Ok(Directive::Delete))
        {
            return Ok(None);
        }
        if let (None, Some(dest)) = (sources.patch, sources.dest)
            && !t[dest].value.is_empty()
        {
            let node = t.add(Node {
                kind: Kind::Scalar,
                tag: Tag::Null,
                value: t[dest].value.clone(),
                ..Node::default()
            });
            return Ok(Some(Merged {
                node,
                keep_null: true,
            }));
        }
        return Ok(sources.patch.map(Merged::from));
    };
    decide(t, dest, sources.patch)
}

/// Whether the value of the resource stays, is replaced or goes.
fn decide(t: &mut Tree, dest: NodeId, patch: Option<NodeId>) -> Result<Option<Merged>, Error> {
    let Some(patch) = patch else {
        return Ok(Some(dest.into()));
    };
    if t.is_null(patch) {
        return Ok(None);
    }
    Ok(match directive(t, patch)? {
        Directive::Delete => None,
        Directive::Replace => Some(patch.into()),
        Directive::Merge => Some(dest.into()),
    })
}

/// Reads and removes `$patch`.
fn directive(t: &mut Tree, patch: NodeId) -> Result<Directive, Error> {
    match t[patch].kind {
        Kind::Mapping => {
            let Some(value) = ops::field(t, patch, DIRECTIVE)? else {
                return Ok(Directive::Merge);
            };
            let directive = Directive::read(&t[value].value)?;
            ops::clear(t, patch, DIRECTIVE)?;
            Ok(directive)
        }
        Kind::Sequence => {
            let item =
                t[patch].content.iter().copied().find(|item| {
                    t[*item].kind == Kind::Mapping && t.get(*item, DIRECTIVE).is_some()
                });
            // An item with more fields is an item, not a word on the list.
            let Some(item) = item.filter(|item| t[*item].content.len() <= 2) else {
                return Ok(Directive::Merge);
            };
            let Some(value) = t.get(item, DIRECTIVE) else {
                return Ok(Directive::Merge);
            };
            let text = t[value].value.clone();
            let directive = Directive::read(&text)?;
            list::set_element(t, patch, None, &[DIRECTIVE.to_owned()], &[text])?;
            Ok(directive)
        }
        other => Err(PathError::WrongKind {
            expected: "a mapping or a list",
            found: other.name(),
        }
        .into()),
    }
}

fn sequence(
    work: &mut Work,
    items: Option<&Schema>,
    sources: &mut Sources,
    keys: &[String],
) -> Result<Option<Merged>, Error> {
    let t = &mut work.tree;
    keep_style(t, *sources);
    let dest = match sources.dest.filter(|dest| !t.is_null(*dest)) {
        None => sources.patch,
        Some(dest) => decide(t, dest, sources.patch)?.map(|merged| merged.node),
    };
    let Some(dest) = dest else { return Ok(None) };
    sources.dest = Some(dest);
    let found = list::merge(work, items, *sources, keys)?;
    Ok((!work.tree.is_null(found)).then_some(found.into()))
}
