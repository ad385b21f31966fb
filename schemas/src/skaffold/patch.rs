//! JSON Patch (RFC 6902) on the tree that keeps places, so that a value from
//! a patch points at the patch and a failing patch at its own line.
//!
//! As in skaffold, `op` is `replace` when absent, and a segment `key=value`
//! stands for the first item of a list with that value.

use crate::diagnostic::Diagnostic;
use crate::yaml::{Content, Key, Node, Span};

/// One operation, taken apart.
pub(super) struct Patch<'a> {
    pub(super) op: &'a str,
    pub(super) path: &'a Node,
    pub(super) from: Option<&'a Node>,
    pub(super) value: Option<&'a Node>,
    pub(super) span: &'a Span,
}

/// Changes `document` as one patch says.
pub(super) fn apply(document: &mut Node, patch: &Patch<'_>) -> Result<(), Diagnostic> {
    let value = || {
        patch.value.cloned().ok_or_else(|| {
            Diagnostic::at(
                patch.span,
                format!("a patch with op `{}` needs a `value`", patch.op),
            )
        })
    };
    let from = || {
        patch.from.ok_or_else(|| {
            Diagnostic::at(
                patch.span,
                format!("a patch with op `{}` needs `from`", patch.op),
            )
        })
    };
    match patch.op {
        "add" => add(document, patch.path, value()?),
        "replace" => {
            let value = value()?;
            *find(document, patch.path)? = value;
            Ok(())
        }
        "remove" => remove(document, patch.path).map(drop),
        "move" => {
            let node = remove(document, from()?)?;
            add(document, patch.path, node)
        }
        "copy" => {
            let node = find(document, from()?)?.clone();
            add(document, patch.path, node)
        }
        "test" => {
            let expected = value()?;
            if find(document, patch.path)?.to_value() == expected.to_value() {
                return Ok(());
            }
            Err(Diagnostic::at(
                &expected.span,
                "the value is not what this patch tests for",
            ))
        }
        other => {
            let help = "use add, remove, replace, move, copy or test";
            Err(Diagnostic::at(patch.span, format!("unknown patch op `{other}`")).help(help))
        }
    }
}

fn add(document: &mut Node, path: &Node, value: Node) -> Result<(), Diagnostic> {
    let (parent, last) = parent(document, path)?;
    match &mut parent.content {
        Content::Map(map) => {
            map.insert(
                Key {
                    name: last,
                    span: path.span.clone(),
                },
                value,
            );
            Ok(())
        }
        Content::List(items) if last == "-" => {
            items.push(value);
            Ok(())
        }
        Content::List(items) => match last.parse::<usize>() {
            Ok(index) if index <= items.len() => {
                items.insert(index, value);
                Ok(())
            }
            _ => Err(missing(path, &last)),
        },
        Content::Scalar { .. } => Err(missing(path, &last)),
    }
}

fn remove(document: &mut Node, path: &Node) -> Result<Node, Diagnostic> {
    let (parent, last) = parent(document, path)?;
    let removed = match &mut parent.content {
        Content::Map(map) => map.remove(&last).map(|(_, node)| node),
        Content::List(items) => position(items, &last).map(|index| items.remove(index)),
        Content::Scalar { .. } => None,
    };
    removed.ok_or_else(|| missing(path, &last))
}

fn find<'a>(document: &'a mut Node, path: &Node) -> Result<&'a mut Node, Diagnostic> {
    let (parent, last) = parent(document, path)?;
    child(parent, &last).ok_or_else(|| missing(path, &last))
}

/// The node that holds the last segment, and that segment.
fn parent<'a>(document: &'a mut Node, path: &Node) -> Result<(&'a mut Node, String), Diagnostic> {
    let text = path.as_text().unwrap_or_default();
    let Some((above, last)) = text.rsplit_once('/') else {
        let message = format!("`{text}` is not a path: it must begin with `/`");
        return Err(Diagnostic::at(&path.span, message));
    };
    let mut node = document;
    for segment in above.split('/').skip(1) {
        let segment = unescape(segment);
        node = child(node, &segment).ok_or_else(|| missing(path, &segment))?;
    }
    Ok((node, unescape(last)))
}

fn child<'a>(node: &'a mut Node, segment: &str) -> Option<&'a mut Node> {
    match &mut node.content {
        Content::Map(map) => map.get_mut(segment),
        Content::List(items) => {
            let index = position(items, segment)?;
            items.get_mut(index)
        }
        Content::Scalar { .. } => None,
    }
}

fn position(items: &[Node], segment: &str) -> Option<usize> {
    if let Ok(index) = segment.parse::<usize>() {
        return (index < items.len()).then_some(index);
    }
    let (key, value) = segment.split_once('=')?;
    items
        .iter()
        .position(|item| item.get(key).and_then(Node::as_text) == Some(value))
}

fn unescape(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

fn missing(path: &Node, segment: &str) -> Diagnostic {
    let text = path.as_text().unwrap_or_default();
    let message = format!("this patch's path `{text}` does not exist: nothing at `{segment}`");
    let help = "paths are those of the newest schema version, after profiles that come before; \
                op `add` makes what is not there";
    Diagnostic::at(&path.span, message).help(help)
}
