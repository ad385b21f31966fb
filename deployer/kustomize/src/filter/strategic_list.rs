//! Lists of a strategic merge. Items are known by the values of their merge
//! keys; those of the patch come first.

use std::collections::BTreeSet;

use super::strategic::{Sources, walk};
use crate::Error;
use crate::schema::Schema;
use crate::work::Work;
use crate::yaml::ops::{self, PathError};
use crate::yaml::{Kind, Node, NodeId, Tree};

/// Merges the list of a patch into the list of a resource. Without keys the
/// items are plain values.
pub(super) fn merge(
    work: &mut Work,
    schema: Option<&Schema>,
    sources: Sources,
    keys: &[String],
) -> Result<NodeId, Error> {
    let plain = [String::new()];
    let mut values = values_of(&work.tree, sources, keys);
    let keys = if keys.is_empty() { &plain[..] } else { keys };
    let Some(dest) = sources.dest else {
        return Err(PathError::NoLastItem.into());
    };
    if keys.len() > 1 {
        unite(&mut values);
    }
    if values.is_empty() {
        return Ok(dest);
    }
    let added = work.tree.add(Node::empty(Kind::Sequence));
    let mut last_keys = Vec::new();
    for item in values.iter().filter(|item| !item.is_empty()) {
        let (valid_keys, valid_values) = valid(&values, item, keys);
        let mut pair = elements(&work.tree, sources, &valid_keys, &valid_values);
        let merged = walk(work, schema.cloned(), &mut pair)?.map(|merged| merged.node);
        let t = &mut work.tree;
        let gone = merged.is_none_or(|node| {
            t.is_null(node) || (t[node].kind == Kind::Mapping && t[node].content.is_empty())
        });
        if let Some(merged) = merged.filter(|_| !gone) {
            complete(t, merged, &valid_keys, &valid_values)?;
            set_element(t, added, Some(merged), &valid_keys, &valid_values)?;
        } else {
            set_element(t, dest, None, &valid_keys, &valid_values)?;
        }
        last_keys = valid_keys;
    }
    append(&mut work.tree, added, dest, &last_keys)?;
    Ok(added)
}

/// Makes sure that an item has its keys.
fn complete(
    t: &mut Tree,
    item: NodeId,
    keys: &[String],
    values: &[String],
) -> Result<(), PathError> {
    for (key, value) in keys.iter().zip(values) {
        if value.is_empty() || t.get(item, key).is_some() {
            continue;
        }
        if key.is_empty() {
            ops::set_scalar(t, item, Node::scalar(value))?;
        } else {
            let value = t.add(Node::scalar(value));
            ops::set_field(t, item, key, value)?;
        }
    }
    Ok(())
}

/// What names the items of both lists, those of the patch first, each once.
fn values_of(t: &Tree, sources: Sources, keys: &[String]) -> Vec<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut values = Vec::new();
    for source in [sources.patch, sources.dest].into_iter().flatten() {
        for item in &t[source].content {
            let item_values: Vec<String> = if keys.is_empty() {
                vec![t[*item].value.clone()]
            } else {
                let value = |key: &String| {
                    t.get(*item, key)
                        .filter(|value| !t.is_null_or_empty(*value))
                        .map(|value| t[value].value.clone())
                        .unwrap_or_default()
                };
                keys.iter().map(value).collect()
            };
            if seen.insert(item_values.clone()) {
                values.push(item_values);
            }
        }
    }
    values
}

/// A port without protocol is the port with one.
fn unite(values: &mut [Vec<String>]) {
    for i in 0..values.len() {
        for j in 0..values.len() {
            if let Some(united) = united(&values[i], &values[j]) {
                values[i].clone_from(&united);
                values[j] = united;
            }
        }
    }
}

fn united(a: &[String], b: &[String]) -> Option<Vec<String>> {
    let mut common = false;
    let mut result = Vec::with_capacity(a.len());
    for (a, b) in a.iter().zip(b) {
        if a == b {
            common = true;
        } else if !a.is_empty() && !b.is_empty() {
            return None;
        }
        result.push(if a.is_empty() { b } else { a }.clone());
    }
    common.then_some(result)
}

/// The keys that any item has, and the values of one item for them.
fn valid(all: &[Vec<String>], values: &[String], keys: &[String]) -> (Vec<String>, Vec<String>) {
    let used: BTreeSet<&String> = all
        .iter()
        .flat_map(|values| values.iter().zip(keys))
        .filter(|(value, _)| !value.is_empty())
        .map(|(_, key)| key)
        .collect();
    if used.is_empty() {
        return (keys.to_vec(), values.to_vec());
    }
    let valid_keys = keys.iter().filter(|key| used.contains(key)).cloned();
    let valid_values = values
        .iter()
        .zip(keys)
        .filter(|(value, key)| !value.is_empty() || used.contains(key))
        .map(|(value, _)| value.clone());
    (valid_keys.collect(), valid_values.collect())
}

/// The items with these values in both lists.
fn elements(t: &Tree, sources: Sources, keys: &[String], values: &[String]) -> Sources {
    let (keys, values) = valid(std::slice::from_ref(&values.to_vec()), values, keys);
    let find = |source: Option<NodeId>| {
        let list = source.filter(|list| t[*list].kind == Kind::Sequence)?;
        if keys.first().is_none_or(String::is_empty) {
            let wanted = values.first().map_or("", String::as_str);
            return t[list]
                .content
                .iter()
                .copied()
                .find(|item| t[*item].value == wanted);
        }
        if keys.len() != values.len() {
            return None;
        }
        t[list].content.iter().copied().find(|item| {
            t[*item].kind == Kind::Mapping
                && keys.iter().zip(&values).all(|(key, value)| {
                    t.get(*item, key)
                        .is_some_and(|field| t[field].value == *value)
                })
        })
    };
    Sources {
        dest: find(sources.dest),
        patch: find(sources.patch),
    }
}

/// Replaces the items with these values, or removes them; what was not there
/// is added. Empty items are dropped on the way.
pub(super) fn set_element(
    t: &mut Tree,
    list: NodeId,
    element: Option<NodeId>,
    keys: &[String],
    values: &[String],
) -> Result<(), PathError> {
    ops::expect(t, list, Kind::Sequence)?;
    let plain = [String::new()];
    let keys = if keys.is_empty() { &plain[..] } else { keys };
    let names_mappings = !keys[0].is_empty() && values.first().is_some_and(|v| !v.is_empty());
    let mut content = Vec::with_capacity(t[list].content.len() + 1);
    let mut found = false;
    for item in t[list].content.clone() {
        let kind = t[item].kind;
        if t.is_null(item) || (kind == Kind::Mapping && t[item].content.is_empty()) {
            continue;
        }
        if kind != Kind::Mapping && names_mappings {
            content.push(item);
            continue;
        }
        if !has_values(t, item, keys, values)? {
            if !values.is_empty() {
                content.push(item);
            }
            continue;
        }
        found = true;
        content.extend(element);
    }
    if let Some(element) = element.filter(|element| !found && !t.is_null(*element)) {
        content.push(element);
    }
    t[list].content = content;
    Ok(())
}

fn has_values(
    t: &Tree,
    item: NodeId,
    keys: &[String],
    values: &[String],
) -> Result<bool, PathError> {
    if values.is_empty() {
        return Ok(false);
    }
    for (key, value) in keys.iter().zip(values) {
        let matches = if key.is_empty() {
            ops::expect(t, item, Kind::Scalar)?;
            t.text(item) == value
        } else {
            ops::field(t, item, key)?
                .is_some_and(|field| value.is_empty() || t[field].value == *value)
        };
        if !matches {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Adds the items of `source` behind those of `list`; items that are in both
/// stand where they stood in `list`.
fn append(t: &mut Tree, list: NodeId, source: NodeId, keys: &[String]) -> Result<(), PathError> {
    let plain = keys.first().is_none_or(String::is_empty);
    for item in t[source].content.clone() {
        if plain {
            let value = [t[item].value.clone()];
            set_element(t, list, Some(item), &[String::new()], &value)?;
            continue;
        }
        let mut values = Vec::new();
        for key in keys {
            match ops::field(t, item, key)? {
                Some(value) => values.push(t[value].value.clone()),
                None => t[list].content.push(item),
            }
        }
        if keys.len() > 1 {
            set_element(t, list, None, keys, &values)?;
        }
        set_element(t, list, Some(item), keys, &values)?;
    }
    Ok(())
}
