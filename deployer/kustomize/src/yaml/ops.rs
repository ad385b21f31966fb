//! Reading and changing trees the way kustomize's own library does, with its
//! rules for style: a new value takes over the style of the one it replaces.

use std::collections::BTreeMap;

use super::json;
use super::node::{Kind, Node, NodeId, Tag, Tree, style};
use super::parse;
use super::plain::analyze;
use super::resolve::{Rules, Scalar, resolve};
use super::value::Value;

/// A path leads through something that it cannot lead through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("expected {expected}, and it is {found}")]
    WrongKind {
        expected: &'static str,
        found: &'static str,
    },
    #[error("`*` is not understood in this path")]
    Wildcard,
    #[error("`{0}` is not an index: it needs the form [field=value]")]
    Index(String),
    #[error("the list is empty and has no last item")]
    NoLastItem,
    #[error("index {index} is given and there are {count} items")]
    OutOfRange { index: usize, count: usize },
    #[error("the index {0} is negative")]
    Negative(String),
    #[error("`{0}` is not a regular expression")]
    Regex(String),
}

/// Refuses nodes of another kind; null passes, as it has no kind.
pub(crate) fn expect(t: &Tree, id: NodeId, kind: Kind) -> Result<(), PathError> {
    let found = t[id].kind;
    if t.is_null(id) || found == kind {
        return Ok(());
    }
    Err(PathError::WrongKind {
        expected: kind.name(),
        found: found.name(),
    })
}

/// Whether a text without quotes is something else than a string to a reader
/// of YAML 1.1. Texts of more than one line are not looked at.
pub(crate) fn is_not_string(text: &str) -> bool {
    if text.is_empty() || text.contains('\n') {
        return false;
    }
    if analyze(text).block_plain {
        return matches!(
            resolve(text, Rules::V2),
            Scalar::Null | Scalar::Bool(_) | Scalar::Number(_)
        );
    }
    let mut scratch = Tree::default();
    match parse::document(&mut scratch, text) {
        Err(_) => false,
        Ok(None) => true,
        Ok(Some(root)) => !matches!(json::by_v2(&scratch, root), Ok(Value::String(_)) | Err(_)),
    }
}

/// What is written into a mapping.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// [`None`] removes the field, and so does null.
    pub(crate) value: Option<NodeId>,
    /// Whether null is written instead.
    pub(crate) keep_null: bool,
    /// The style of the key if the field is new.
    pub(crate) key_style: u8,
}

impl From<NodeId> for Entry {
    fn from(value: NodeId) -> Self {
        Self {
            value: Some(value),
            keep_null: false,
            key_style: style::PLAIN,
        }
    }
}

/// Quotes a new string that would otherwise be read as something else.
fn quote(t: &mut Tree, value: NodeId) {
    if t.is_string(value) && t[value].style == style::PLAIN && is_not_string(&t[value].value) {
        t[value].style = style::DOUBLE;
    }
}

/// Sets, replaces or removes a field. Gives the node that holds the value now.
pub(crate) fn set_field(
    t: &mut Tree,
    map: NodeId,
    name: &str,
    entry: impl Into<Entry>,
) -> Result<Option<NodeId>, PathError> {
    let entry: Entry = entry.into();
    let value = match entry.value {
        Some(value) if entry.keep_null || !t.is_null(value) => value,
        _ => return clear(t, map, name),
    };
    quote(t, value);
    expect(t, map, Kind::Mapping)?;
    if let Some(field) = t.get(map, name) {
        t[value].style = t[field].style;
        if field != value {
            t[field] = t[value].clone();
        }
        return Ok(Some(field));
    }
    let mut key = Node::scalar(name);
    key.style = entry.key_style;
    let key = t.add(key);
    t[map].content.extend([key, value]);
    Ok(Some(value))
}

/// Replaces a scalar, keeping its style.
pub(crate) fn set_scalar(t: &mut Tree, id: NodeId, mut value: Node) -> Result<(), PathError> {
    expect(t, id, Kind::Scalar)?;
    if value.tag != Tag::Null {
        value.style = t[id].style;
        t[id] = value;
    }
    Ok(())
}

/// Removes a field and gives what it held.
pub(crate) fn clear(t: &mut Tree, map: NodeId, name: &str) -> Result<Option<NodeId>, PathError> {
    expect(t, map, Kind::Mapping)?;
    let at = t
        .fields(map)
        .position(|(key, _)| t[key].value == name)
        .map(|at| at * 2);
    Ok(at.map(|at| {
        let removed = t[map].content[at + 1];
        t[map].content.drain(at..at + 2);
        removed
    }))
}

fn clear_if_empty(t: &mut Tree, map: NodeId, name: &str) -> Result<(), PathError> {
    expect(t, map, Kind::Mapping)?;
    if t.get(map, name)
        .is_some_and(|value| t[value].content.is_empty())
    {
        clear(t, map, name)?;
    }
    Ok(())
}

/// One field; null holds none.
pub(crate) fn field(t: &Tree, id: NodeId, name: &str) -> Result<Option<NodeId>, PathError> {
    if t.is_null(id) {
        return Ok(None);
    }
    expect(t, id, Kind::Mapping)?;
    Ok(t.get(id, name))
}

/// The node at a path: fields, `0`, `-`, `[field=value]` or `[=value]`.
pub(crate) fn lookup(
    t: &mut Tree,
    root: NodeId,
    path: &[&str],
) -> Result<Option<NodeId>, PathError> {
    walk(t, root, path, None)
}

/// As [`lookup`], and creates what is missing; the last node gets `kind`.
pub(crate) fn lookup_create(
    t: &mut Tree,
    root: NodeId,
    path: &[&str],
    kind: Kind,
) -> Result<Option<NodeId>, PathError> {
    walk(t, root, path, Some(kind))
}

fn walk(
    t: &mut Tree,
    root: NodeId,
    path: &[&str],
    create: Option<Kind>,
) -> Result<Option<NodeId>, PathError> {
    let parts: Vec<&str> = path
        .iter()
        .map(|part| part.trim())
        .filter(|part| !part.is_empty())
        .collect();
    let mut here = root;
    for (at, part) in parts.iter().enumerate() {
        let next = parts.get(at + 1).copied().unwrap_or("");
        let found = if let Ok(index) = part.parse::<i64>() {
            let index = usize::try_from(index).map_err(|_| PathError::Negative((*part).into()))?;
            expect(t, here, Kind::Sequence)?;
            t[here].content.get(index).copied()
        } else if *part == "-" {
            expect(t, here, Kind::Sequence)?;
            Some(*t[here].content.last().ok_or(PathError::NoLastItem)?)
        } else if *part == "*" {
            return Err(PathError::Wildcard);
        } else if is_list_index(part) {
            element(t, here, part, create.is_some())?
        } else {
            match (field(t, here, part)?, create) {
                (Some(found), _) => Some(found),
                (None, Some(kind)) if !t.is_null(here) => {
                    let fresh = t.add(Node::empty(part_kind(next, kind)));
                    set_field(t, here, part, fresh)?
                }
                (None, _) => None,
            }
        };
        match found {
            Some(found) => here = found,
            None => return Ok(None),
        }
    }
    Ok(Some(here))
}

/// Whether a part of a path is `[...]`.
pub(crate) fn is_list_index(part: &str) -> bool {
    part.starts_with('[') && part.ends_with(']')
}

/// The kind that a created node needs so that the next part fits.
pub(crate) fn part_kind(next: &str, last: Kind) -> Kind {
    if is_list_index(next) || next.parse::<usize>().is_ok() {
        Kind::Sequence
    } else if next.is_empty() {
        last
    } else {
        Kind::Mapping
    }
}

/// Splits `[field=value]`.
pub(crate) fn split_index(part: &str) -> Result<(&str, &str), PathError> {
    let inner = part.strip_suffix(']').unwrap_or(part);
    let inner = inner.strip_prefix('[').unwrap_or(inner);
    inner
        .split_once('=')
        .ok_or_else(|| PathError::Index(part.to_owned()))
}

fn element(
    t: &mut Tree,
    list: NodeId,
    part: &str,
    create: bool,
) -> Result<Option<NodeId>, PathError> {
    let (name, value) = split_index(part)?;
    expect(t, list, Kind::Sequence)?;
    let found = if name.is_empty() {
        t[list]
            .content
            .iter()
            .copied()
            .find(|item| t[*item].value == value)
    } else {
        element_with(t, list, &[name], &[value])
    };
    if found.is_some() || !create {
        return Ok(found);
    }
    let scalar = t.add(Node::scalar(value));
    let item = if name.is_empty() {
        scalar
    } else {
        let key = t.add(Node::scalar(name));
        let mut map = Node::empty(Kind::Mapping);
        map.content = vec![key, scalar];
        t.add(map)
    };
    t[list].content.push(item);
    Ok(Some(item))
}

/// The first mapping of a list in which every key has its value. An empty
/// value matches a field of any value.
pub(crate) fn element_with<K: AsRef<str>, V: AsRef<str>>(
    t: &Tree,
    list: NodeId,
    keys: &[K],
    values: &[V],
) -> Option<NodeId> {
    t[list].content.iter().copied().find(|item| {
        (t[*item].kind == Kind::Mapping || t.is_null(*item))
            && keys.iter().zip(values).all(|(key, value)| {
                t.get(*item, key.as_ref())
                    .is_some_and(|field| t[field].value == value.as_ref())
            })
    })
}

/// The text of a field of the resource itself.
pub(crate) fn top(t: &Tree, root: NodeId, name: &str) -> String {
    t.get(root, name)
        .map(|value| t[value].value.clone())
        .unwrap_or_default()
}

fn metadata(t: &Tree, root: NodeId) -> Option<NodeId> {
    if t.is_null(root) {
        return None;
    }
    t.get(root, "metadata")
        .filter(|value| !t.is_null_or_empty(*value))
}

/// A text of the metadata; empty if it is not there.
pub(crate) fn meta<'t>(t: &'t Tree, root: NodeId, name: &str) -> &'t str {
    metadata(t, root)
        .and_then(|metadata| t.get(metadata, name))
        .filter(|value| !t.is_null_or_empty(*value))
        .map_or("", |value| &t[value].value)
}

/// Labels or annotations.
pub(crate) fn meta_map(t: &Tree, root: NodeId, name: &str) -> BTreeMap<String, String> {
    metadata(t, root)
        .and_then(|metadata| t.get(metadata, name))
        .into_iter()
        .flat_map(|map| t[map].content.chunks_exact(2))
        .map(|pair| (t[pair[0]].value.clone(), t[pair[1]].value.clone()))
        .collect()
}

/// One label or annotation.
pub(crate) fn meta_entry<'t>(t: &'t Tree, root: NodeId, map: &str, key: &str) -> Option<&'t str> {
    let metadata = metadata(t, root)?;
    let map = t.get(metadata, map)?;
    t[map]
        .content
        .chunks_exact(2)
        .find(|pair| t[pair[0]].value == key)
        .map(|pair| t[pair[1]].value.as_str())
}

/// Writes labels or annotations anew, sorted, as strings.
pub(crate) fn set_meta_map(
    t: &mut Tree,
    root: NodeId,
    name: &str,
    values: &BTreeMap<String, String>,
) -> Result<(), PathError> {
    let Some(metadata) = lookup_create(t, root, &["metadata"], Kind::Mapping)? else {
        return Ok(());
    };
    clear(t, metadata, name)?;
    if values.is_empty() {
        return Ok(());
    }
    let mut content = Vec::with_capacity(values.len() * 2);
    for (key, value) in values {
        let key = t.add(Node::scalar(key));
        let value = t.add(Node::string(value));
        quote(t, value);
        content.extend([key, value]);
    }
    let mut map = Node::empty(Kind::Mapping);
    map.content = content;
    let map = t.add(map);
    set_field(t, metadata, name, map)?;
    Ok(())
}

/// Sets one annotation, in single quotes.
pub(crate) fn set_annotation(
    t: &mut Tree,
    root: NodeId,
    key: &str,
    value: &str,
) -> Result<(), PathError> {
    if let Some(metadata) = lookup(t, root, &["metadata"])? {
        clear_if_empty(t, metadata, "annotations")?;
    }
    clear_if_empty(t, root, "metadata")?;
    set_meta_entry(t, root, "annotations", key, value)
}

/// Sets one label, in single quotes.
pub(crate) fn set_label(
    t: &mut Tree,
    root: NodeId,
    key: &str,
    value: &str,
) -> Result<(), PathError> {
    set_meta_entry(t, root, "labels", key, value)
}

fn set_meta_entry(
    t: &mut Tree,
    root: NodeId,
    map: &str,
    key: &str,
    value: &str,
) -> Result<(), PathError> {
    let mut node = Node::string(value);
    node.style = style::SINGLE;
    let node = t.add(node);
    if let Some(map) = lookup_create(t, root, &["metadata", map], Kind::Mapping)? {
        set_field(t, map, key, node)?;
    }
    Ok(())
}

/// Sets a field below `path`, creating mappings on the way.
pub(crate) fn set_at(
    t: &mut Tree,
    root: NodeId,
    path: &[&str],
    name: &str,
    value: Node,
) -> Result<(), PathError> {
    if let Some(map) = lookup_create(t, root, path, Kind::Mapping)? {
        let value = t.add(value);
        set_field(t, map, name, value)?;
    }
    Ok(())
}

/// Sets the namespace; an empty one removes the field.
pub(crate) fn set_namespace(t: &mut Tree, root: NodeId, namespace: &str) -> Result<(), PathError> {
    if namespace.is_empty() {
        if let Some(metadata) = lookup(t, root, &["metadata"])? {
            clear(t, metadata, "namespace")?;
        }
        return Ok(());
    }
    set_at(t, root, &["metadata"], "namespace", Node::scalar(namespace))
}

/// Splits a path; `\` in front of the delimiter keeps it.
pub(crate) fn split_path(path: &str, delimiter: char) -> Vec<String> {
    let mut parts: Vec<&str> = path.split(delimiter).collect();
    if parts.len() > 1 && parts[0].is_empty() {
        parts.remove(0);
    }
    let mut result: Vec<String> = Vec::with_capacity(parts.len());
    for part in parts {
        match result.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push(delimiter);
                last.push_str(part);
            }
            _ => result.push(part.to_owned()),
        }
    }
    result
}

/// Splits a path at points; what stands in brackets stays together.
pub(crate) fn split_bracketed(path: &str) -> Vec<String> {
    let mut result = Vec::new();
    let mut parts = split_path(path, '.').into_iter();
    while let Some(part) = parts.next() {
        if !part.starts_with('[') || part.ends_with(']') {
            result.push(part);
            continue;
        }
        let mut joined = part;
        for more in parts.by_ref() {
            joined.push('.');
            joined.push_str(&more);
            if more.ends_with(']') {
                break;
            }
        }
        if joined.contains('=') {
            result.push(joined);
        } else {
            result.push(joined.trim_matches(['[', ']']).to_owned());
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_as_kustomize_splits_them() {
        assert_eq!(split_path("/a/b\\/c/d", '/'), ["a", "b/c", "d"]);
        assert_eq!(
            split_bracketed("spec.[name=a.b.c].image"),
            ["spec", "[name=a.b.c]", "image"]
        );
        assert_eq!(
            split_bracketed("metadata.annotations.[a.b/c]"),
            ["metadata", "annotations", "a.b/c"]
        );
    }

    #[test]
    fn texts_that_are_no_strings() {
        for text in ["1", "yes", "null", "a: b", "- a", "#", "1.5", "{}"] {
            assert!(is_not_string(text), "{text}");
        }
        for text in ["", "a", "2001-01-02", "[a", "a #b", "'1'", "@a"] {
            assert!(!is_not_string(text), "{text}");
        }
    }
}
