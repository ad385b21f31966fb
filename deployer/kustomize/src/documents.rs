//! Texts to resources: documents are split, lists are taken apart, what is no
//! resource is refused.

use std::collections::VecDeque;

use crate::Error;
use crate::resource;
use crate::work::Work;
use crate::yaml::value::Number;
use crate::yaml::{Kind, Node, NodeId, Tag, Tree, Value, json, ops, parse, style};

/// The resources of a text.
pub(crate) fn read(work: &mut Work, text: &str) -> Result<Vec<NodeId>, Error> {
    let all = nodes(work, text)?;
    let mut queue: VecDeque<NodeId> = good(work, all)?.into();
    let mut result = Vec::with_capacity(queue.len());
    while let Some(node) = queue.pop_front() {
        let kind = ops::top(&work.tree, node, "kind");
        let items = kind
            .ends_with("List")
            .then(|| work.tree.get(node, "items"))
            .flatten();
        let Some(items) = items else {
            result.push(node);
            continue;
        };
        // The items of a list come after the other documents.
        queue.extend(list_items(work, &kind, items)?);
    }
    Ok(result)
}

fn list_items(work: &mut Work, kind: &str, items: NodeId) -> Result<Vec<NodeId>, Error> {
    let value = json::of_node(&work.tree, items).map_err(|source| Error::Value {
        id: kind.to_owned(),
        source: source.into(),
    })?;
    let values = match value {
        Value::Null => return Ok(Vec::new()),
        Value::List(values) => values,
        other => {
            return Err(Error::ListItems {
                kind: kind.to_owned(),
                found: other.kind(),
            });
        }
    };
    let mut found = Vec::new();
    for value in values {
        let root = from_json(&mut work.tree, &value);
        let unwrapped = unwrap_list(&work.tree, root).unwrap_or_else(|| vec![root]);
        found.extend(good(work, unwrapped)?);
    }
    Ok(found)
}

/// Every document as a tree.
fn nodes(work: &mut Work, text: &str) -> Result<Vec<NodeId>, Error> {
    let text = if text.contains("\r\n") {
        text.replace("\r\n", "\n").into()
    } else {
        std::borrow::Cow::Borrowed(text)
    };
    let documents = split(&text)?;
    let single = documents.len() == 1;
    let mut found = Vec::with_capacity(documents.len());
    for (line, document) in documents {
        let root = parse::document(&mut work.tree, document).map_err(|mut error| {
            error.line += line;
            Error::Syntax(error)
        })?;
        let Some(root) = root else { continue };
        match single.then(|| unwrap_list(&work.tree, root)).flatten() {
            Some(items) => found.extend(items),
            None => found.push(root),
        }
    }
    Ok(found)
}

/// The items of a `List`.
fn unwrap_list(t: &Tree, root: NodeId) -> Option<Vec<NodeId>> {
    let kind = t.get(root, "kind").map(|kind| t[kind].value.as_str())?;
    if !matches!(kind, "List" | "ResourceList") {
        return None;
    }
    match (t.get(root, "items"), t.get(root, "functionConfig")) {
        (Some(items), _) => Some(t[items].content.clone()),
        (None, Some(_)) => Some(Vec::new()),
        (None, None) => None,
    }
}

fn good(work: &Work, nodes: Vec<NodeId>) -> Result<Vec<NodeId>, Error> {
    let mut found = Vec::with_capacity(nodes.len());
    for node in nodes {
        if !work.tree.is_null_or_empty(node) {
            resource::validate(&work.tree, node)?;
            found.push(node);
        }
    }
    Ok(found)
}

/// Documents with the number of lines in front of them. A separator is a line
/// that starts with `---`; only a comment may follow on it.
fn split(text: &str) -> Result<Vec<(usize, &str)>, Error> {
    let mut documents = Vec::new();
    let mut start = 0;
    let mut from = 0;
    let mut line = 0;
    while let Some(found) = text[from..].find("\n---") {
        let at = from + found;
        let after = at + "\n---".len();
        let Some(end) = text[after..].find('\n') else {
            break;
        };
        let end = after + end;
        let rest = text[after..end].trim();
        let lines = line + text[start..end].matches('\n').count();
        if !rest.is_empty() && !rest.starts_with('#') {
            return Err(Error::Separator {
                line: lines + 1,
                text: format!("---{rest}"),
            });
        }
        documents.push((line, &text[start..=at]));
        start = end + 1;
        from = start;
        line = lines + 1;
    }
    if !text.is_empty() {
        documents.push((line, &text[start..]));
    }
    Ok(documents)
}

/// A value as the tree of its JSON text.
fn from_json(t: &mut Tree, value: &Value) -> NodeId {
    let node = match value {
        Value::Null => scalar("null", Tag::Null),
        Value::Bool(value) => scalar(if *value { "true" } else { "false" }, Tag::Bool),
        Value::Number(number) => {
            let tag = if matches!(number, Number::Float(_)) {
                Tag::Float
            } else {
                Tag::Int
            };
            scalar(&number.to_yaml(), tag)
        }
        Value::String(text) => {
            let mut node = scalar(text, Tag::Str);
            node.style = style::DOUBLE;
            node
        }
        Value::List(items) => {
            let content = items.iter().map(|item| from_json(t, item)).collect();
            flow(Kind::Sequence, Tag::Seq, content)
        }
        Value::Map(fields) => {
            let mut content = Vec::with_capacity(fields.len() * 2);
            for (key, value) in fields {
                let mut key = scalar(key, Tag::Str);
                key.style = style::DOUBLE;
                content.push(t.add(key));
                content.push(from_json(t, value));
            }
            flow(Kind::Mapping, Tag::Map, content)
        }
    };
    t.add(node)
}

fn scalar(text: &str, tag: Tag) -> Node {
    let mut node = Node::scalar(text);
    node.tag = tag;
    node
}

fn flow(kind: Kind, tag: Tag, content: Vec<NodeId>) -> Node {
    Node {
        kind,
        tag,
        style: style::FLOW,
        content,
        value: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_split_with_their_lines() {
        let text = "a: 1\n--- # two\nb: 2\n---\n---\nc: 3\n---";
        let found = split(text).unwrap();
        assert_eq!(found, [(0, "a: 1\n"), (2, "b: 2\n"), (4, "---\nc: 3\n---")]);
        assert!(split("a: 1\n---x\nb: 2\n").is_err());
        assert_eq!(split("").unwrap(), []);
    }
}
