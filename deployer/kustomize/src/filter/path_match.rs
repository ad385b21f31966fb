//! Paths that may name many nodes: `spec.containers.[name=web].image`, `*`.

use regex::Regex;

use crate::yaml::json;
use crate::yaml::ops::{self, PathError};
use crate::yaml::plain::analyze;
use crate::yaml::resolve::{Rules, resolve};
use crate::yaml::write;
use crate::yaml::{Kind, Node, NodeId, Tag, Tree, style};

/// The nodes at a path. With `create`, missing ones are created, the last of
/// them with that kind.
pub(crate) fn find(
    t: &mut Tree,
    node: NodeId,
    path: &[String],
    create: Option<Kind>,
) -> Result<Vec<NodeId>, PathError> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(vec![node]);
    };
    let next = rest.first().map_or("", String::as_str);
    if let Ok(index) = first.parse::<usize>() {
        ops::expect(t, node, Kind::Sequence)?;
        let count = t[node].content.len();
        if count == index
            && let Some(kind) = create
        {
            let item = t.add(Node::empty(ops::part_kind(next, kind)));
            t[node].content.push(item);
        }
        let Some(item) = t[node].content.get(index).copied() else {
            return Err(PathError::OutOfRange { index, count });
        };
        return find(t, item, rest, create);
    }
    if ops::is_list_index(first) {
        return matching(t, node, first, rest, create);
    }
    if first == "*" {
        ops::expect(t, node, Kind::Sequence)?;
        let mut found = Vec::new();
        for item in t[node].content.clone() {
            found.extend(find(t, item, rest, create)?);
        }
        return Ok(found);
    }
    let field = match (ops::field(t, node, first)?, create) {
        (Some(field), _) => field,
        (None, None) => return Ok(Vec::new()),
        (None, Some(kind)) => {
            let field = t.add(Node::empty(ops::part_kind(next, kind)));
            ops::set_field(t, node, first, field)?.unwrap_or(field)
        }
    };
    find(t, field, rest, create)
}

/// Items of a list whose field, or whose own text, matches an expression.
fn matching(
    t: &mut Tree,
    list: NodeId,
    part: &str,
    rest: &[String],
    create: Option<Kind>,
) -> Result<Vec<NodeId>, PathError> {
    let (field, pattern) = ops::split_index(part)?;
    let expression = Regex::new(pattern).map_err(|_| PathError::Regex(pattern.to_owned()))?;
    ops::expect(t, list, Kind::Sequence)?;
    let mut found = Vec::new();
    for item in t[list].content.clone() {
        let compared = if field.is_empty() {
            Some(item)
        } else {
            t.get(item, field)
        };
        let matches = compared.is_some_and(|node| expression.is_match(text(t, node).trim()));
        if matches && field.is_empty() {
            found.push(item);
        } else if matches {
            found.extend(find(t, item, rest, create)?);
        }
    }
    if !found.is_empty() || create.is_none() {
        return Ok(found);
    }
    let value = t.add(Node::scalar(pattern));
    if field.is_empty() {
        t[list].content.push(value);
        return Ok(vec![value]);
    }
    let key = t.add(Node::scalar(field));
    let mut item = Node::empty(Kind::Mapping);
    item.content = vec![key, value];
    let item = t.add(item);
    t[list].content.push(item);
    find(t, item, rest, create)
}

/// A node as it would be written down: quotes belong to it.
fn text(t: &Tree, node: NodeId) -> String {
    let scalar = &t[node];
    if scalar.kind != Kind::Scalar {
        return json::of_node(t, node).map_or_else(|_| String::new(), |v| write::in_order(&v));
    }
    let value = scalar.value.as_str();
    let needs_quotes = scalar.tag == Tag::Str && resolve(value, Rules::V3).tag() != Tag::Str;
    if scalar.style & style::DOUBLE != 0 {
        return format!("\"{value}\"");
    }
    if scalar.style & style::SINGLE != 0 {
        return format!("'{}'", value.replace('\'', "''"));
    }
    if needs_quotes {
        return format!("\"{value}\"");
    }
    if scalar.style & style::QUOTED == 0 && !value.is_empty() && !analyze(value).block_plain {
        return format!("'{}'", value.replace('\'', "''"));
    }
    value.to_owned()
}
