//! JSON patches (RFC 6902), with the habits of the library that kustomize
//! uses: `replace` creates a missing field, indexes may be negative.

use crate::yaml::plain::analyze;
use crate::yaml::resolve::{Rules, Scalar, is_base60, is_old_bool, resolve};
use crate::yaml::value::{Number, short_float};
use crate::yaml::{Kind, Node, NodeId, Tag, Tree, Value, json, parse, style};

/// Why a patch cannot be read or does not apply.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum JsonPatchError {
    #[error("a JSON patch is a list of operations, and this is {0}")]
    NotList(&'static str),
    #[error("operation {0} is not a mapping")]
    NotMapping(usize),
    #[error("it is neither JSON nor YAML: {0}")]
    Syntax(String),
    #[error("operation {at} has no `{field}`")]
    Missing { at: usize, field: &'static str },
    #[error("operation {at} is `{op}`; known are add, remove, replace, move, copy and test")]
    UnknownOperation { at: usize, op: String },
    #[error("`{op}` finds nothing at {path}")]
    NoPath { op: &'static str, path: String },
    #[error("`{0}` is not an index of the list")]
    Index(String),
    #[error("the test of {0} failed")]
    TestFailed(String),
}

/// A patch that was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct JsonPatch(Vec<Operation>);

#[derive(Debug, Clone)]
struct Operation {
    op: String,
    path: Option<String>,
    from: Option<String>,
    value: Option<Value>,
}

impl JsonPatch {
    /// Reads JSON, or YAML if the text does not start with a bracket.
    pub(crate) fn read(text: &str) -> Result<Self, JsonPatchError> {
        let value = if text.starts_with('[') {
            let json: serde_json::Value =
                serde_json::from_str(text).map_err(|e| JsonPatchError::Syntax(e.to_string()))?;
            from_json(json)
        } else {
            let mut scratch = Tree::default();
            let root = parse::document(&mut scratch, text)
                .map_err(|error| JsonPatchError::Syntax(error.to_string()))?;
            match root {
                None => Value::Null,
                Some(root) => json::by_v2(&scratch, root)
                    .map_err(|error| JsonPatchError::Syntax(error.to_string()))?,
            }
        };
        match value {
            Value::Null => Ok(Self::default()),
            Value::List(items) => items
                .into_iter()
                .enumerate()
                .map(|(at, item)| operation(at, &item))
                .collect::<Result<_, _>>()
                .map(Self),
            other => Err(JsonPatchError::NotList(other.kind())),
        }
    }

    /// Whether there are no operations.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Applies the operations in order.
    pub(crate) fn apply(&self, mut document: Value) -> Result<Value, JsonPatchError> {
        for (at, operation) in self.0.iter().enumerate() {
            operation.apply(at, &mut document)?;
        }
        Ok(document)
    }
}

fn operation(at: usize, item: &Value) -> Result<Operation, JsonPatchError> {
    if !matches!(item, Value::Map(_)) {
        return Err(JsonPatchError::NotMapping(at));
    }
    let text = |name| item.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(Operation {
        op: text("op").unwrap_or_else(|| "unknown".to_owned()),
        path: text("path"),
        from: text("from"),
        value: item.get("value").cloned(),
    })
}

/// JSON to a value.
pub(crate) fn from_json(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => Value::Number(
            number
                .as_i64()
                .map(Number::Int)
                .or_else(|| number.as_u64().map(Number::Uint))
                .unwrap_or_else(|| Number::Float(number.as_f64().unwrap_or(0.0))),
        ),
        serde_json::Value::String(text) => Value::String(text),
        serde_json::Value::Array(items) => Value::List(items.into_iter().map(from_json).collect()),
        serde_json::Value::Object(fields) => Value::Map(
            fields
                .into_iter()
                .map(|(key, value)| (key, from_json(value)))
                .collect(),
        ),
    }
}

impl Operation {
    fn apply(&self, at: usize, document: &mut Value) -> Result<(), JsonPatchError> {
        let path = || {
            self.path
                .as_deref()
                .ok_or(JsonPatchError::Missing { at, field: "path" })
        };
        let from = || {
            self.from
                .as_deref()
                .ok_or(JsonPatchError::Missing { at, field: "from" })
        };
        let value = || self.value.clone().unwrap_or(Value::Null);
        match self.op.as_str() {
            "add" => {
                let path = path()?;
                let (place, key) = find(document, path, "add")?;
                add(place, &key, value())
            }
            "remove" => {
                let path = path()?;
                let (place, key) = find(document, path, "remove")?;
                remove(place, &key, path).map(|_| ())
            }
            "replace" => self.replace(document, path()?, value()),
            "move" => {
                let from = from()?;
                let (place, key) = find(document, from, "move")?;
                let moved = remove(place, &key, from)?;
                let (place, key) = find(document, path()?, "move")?;
                add(place, &key, moved)
            }
            "copy" => {
                let (place, key) = find(document, from()?, "copy")?;
                let copied = get(place, &key)?.cloned().unwrap_or(Value::Null);
                let (place, key) = find(document, path()?, "copy")?;
                add(place, &key, copied)
            }
            "test" => test(document, path()?, self.value.as_ref()),
            op => Err(JsonPatchError::UnknownOperation {
                at,
                op: op.to_owned(),
            }),
        }
    }

    fn replace(
        &self,
        document: &mut Value,
        path: &str,
        value: Value,
    ) -> Result<(), JsonPatchError> {
        if path.is_empty() {
            if !matches!(value, Value::Map(_) | Value::List(_)) {
                return Err(JsonPatchError::NotList(value.kind()));
            }
            *document = value;
            return Ok(());
        }
        let (place, key) = find(document, path, "replace")?;
        match place {
            Value::List(items) => {
                let index = index(&key, items.len())?;
                items[index] = value;
                Ok(())
            }
            other => add(other, &key, value),
        }
    }
}

fn test(document: &mut Value, path: &str, value: Option<&Value>) -> Result<(), JsonPatchError> {
    let failed = || JsonPatchError::TestFailed(path.to_owned());
    let wanted = value.unwrap_or(&Value::Null);
    let found = if path.is_empty() {
        document.clone()
    } else {
        let (place, key) = find(document, path, "test")?;
        get(place, &key)?.cloned().unwrap_or(Value::Null)
    };
    if same(&found, wanted) {
        Ok(())
    } else {
        Err(failed())
    }
}

/// Equality that does not look at the order of fields.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Map(left), Value::Map(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(a, b)| same(a, b))
        }
        _ => a == b,
    }
}

/// The collection that holds the last part of a path, and that part.
fn find<'v>(
    document: &'v mut Value,
    path: &str,
    op: &'static str,
) -> Result<(&'v mut Value, String), JsonPatchError> {
    let missing = || JsonPatchError::NoPath {
        op,
        path: path.to_owned(),
    };
    let mut parts: Vec<&str> = path.split('/').collect();
    let Some(last) = parts.pop().filter(|_| !parts.is_empty()) else {
        return Err(missing());
    };
    let mut here = document;
    for part in parts.into_iter().skip(1) {
        let key = unescape(part);
        here = match here {
            Value::Map(fields) => fields
                .iter_mut()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| value)
                .ok_or_else(missing)?,
            Value::List(items) => {
                let index = index(&key, items.len()).map_err(|_| missing())?;
                &mut items[index]
            }
            _ => return Err(missing()),
        };
    }
    if !matches!(here, Value::Map(_) | Value::List(_)) {
        return Err(missing());
    }
    Ok((here, unescape(last)))
}

fn unescape(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    let mut rest = part;
    while let Some(at) = rest.find('~') {
        out.push_str(&rest[..at]);
        let (c, length) = match rest.as_bytes().get(at + 1) {
            Some(b'1') => ('/', 2),
            Some(b'0') => ('~', 2),
            _ => ('~', 1),
        };
        out.push(c);
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    out
}

/// An index of a list; negative ones count from the end.
fn index(key: &str, count: usize) -> Result<usize, JsonPatchError> {
    let wrong = || JsonPatchError::Index(key.to_owned());
    let index: i64 = key.parse().map_err(|_| wrong())?;
    let length = i64::try_from(count).map_err(|_| wrong())?;
    let index = if index < 0 { index + length } else { index };
    usize::try_from(index)
        .ok()
        .filter(|index| *index < count)
        .ok_or_else(wrong)
}

fn get<'v>(place: &'v Value, key: &str) -> Result<Option<&'v Value>, JsonPatchError> {
    match place {
        Value::List(items) => index(key, items.len()).map(|index| items.get(index)),
        other => Ok(other.get(key)),
    }
}

fn add(place: &mut Value, key: &str, value: Value) -> Result<(), JsonPatchError> {
    match place {
        Value::Map(fields) => {
            match fields.iter_mut().find(|(name, _)| name == key) {
                Some(field) => field.1 = value,
                None => fields.push((key.to_owned(), value)),
            }
            Ok(())
        }
        Value::List(items) => {
            let index = if key == "-" {
                items.len()
            } else {
                index(key, items.len() + 1)?
            };
            items.insert(index, value);
            Ok(())
        }
        _ => Err(JsonPatchError::Index(key.to_owned())),
    }
}

fn remove(place: &mut Value, key: &str, path: &str) -> Result<Value, JsonPatchError> {
    match place {
        Value::Map(fields) => fields
            .iter()
            .position(|(name, _)| name == key)
            .map(|at| fields.remove(at).1)
            .ok_or_else(|| JsonPatchError::NoPath {
                op: "remove",
                path: path.to_owned(),
            }),
        Value::List(items) => {
            let index = index(key, items.len())?;
            Ok(items.remove(index))
        }
        _ => Err(JsonPatchError::Index(key.to_owned())),
    }
}

/// A value as the tree that kustomize reads after it wrote the value down:
/// every number went through a float, strings are quoted where they must be.
pub(crate) fn to_tree(t: &mut Tree, value: &Value) -> NodeId {
    let node = match value {
        Value::Null => tagged("null", Tag::Null),
        Value::Bool(value) => tagged(if *value { "true" } else { "false" }, Tag::Bool),
        Value::Number(number) => {
            let text = short_float(number.as_f64());
            let tag = resolve(&text, Rules::V3).tag();
            tagged(&text, tag)
        }
        Value::String(text) => string(text),
        Value::List(items) => {
            let content: Vec<NodeId> = items.iter().map(|item| to_tree(t, item)).collect();
            collection(Kind::Sequence, Tag::Seq, content)
        }
        Value::Map(fields) => {
            let mut content = Vec::with_capacity(fields.len() * 2);
            for (key, value) in fields {
                content.push(t.add(string(key)));
                content.push(to_tree(t, value));
            }
            collection(Kind::Mapping, Tag::Map, content)
        }
    };
    t.add(node)
}

fn tagged(text: &str, tag: Tag) -> Node {
    let mut node = Node::scalar(text);
    node.tag = tag;
    node
}

fn collection(kind: Kind, tag: Tag, content: Vec<NodeId>) -> Node {
    Node {
        kind,
        tag,
        style: if content.is_empty() {
            style::FLOW
        } else {
            style::PLAIN
        },
        content,
        value: String::new(),
    }
}

fn string(text: &str) -> Node {
    let allowed = analyze(text);
    let plain =
        resolve(text, Rules::V3) == Scalar::String && !is_base60(text) && !is_old_bool(text);
    let style = if text.contains('\n') {
        if allowed.block {
            style::LITERAL
        } else {
            style::DOUBLE
        }
    } else if !plain || !allowed.single_quoted {
        style::DOUBLE
    } else if allowed.block_plain {
        style::PLAIN
    } else {
        style::SINGLE
    };
    let mut node = tagged(text, Tag::Str);
    node.style = style;
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(patch: &str) -> Result<String, JsonPatchError> {
        let document = serde_json::json!({"a": {"b~/": [1, 2]}, "c": null});
        JsonPatch::read(patch)?
            .apply(from_json(document))
            .map(|value| value.to_go_json().unwrap())
    }

    #[test]
    fn operations_apply_as_the_library_of_kustomize_does() {
        for (patch, expected) in [
            (
                r#"[{"op":"add","path":"/a/b~0~1/-","value":3}]"#,
                r#"{"a":{"b~/":[1,2,3]},"c":null}"#,
            ),
            (
                r#"[{"op":"add","path":"/a/b~0~1/-1","value":3}]"#,
                r#"{"a":{"b~/":[1,2,3]},"c":null}"#,
            ),
            (
                r#"[{"op":"replace","path":"/d","value":4}]"#,
                r#"{"a":{"b~/":[1,2]},"c":null,"d":4}"#,
            ),
            (
                "- {op: move, from: /a, path: /e}",
                r#"{"c":null,"e":{"b~/":[1,2]}}"#,
            ),
            (
                "- {op: copy, from: /c, path: /a/x}",
                r#"{"a":{"b~/":[1,2],"x":null},"c":null}"#,
            ),
            (
                "- {op: test, path: /a/b~0~1/0, value: 1}",
                r#"{"a":{"b~/":[1,2]},"c":null}"#,
            ),
        ] {
            assert_eq!(patched(patch).unwrap(), expected, "{patch}");
        }
        for patch in [
            "- {op: remove, path: /z}",
            "- {op: add, path: /a/b~0~1/9, value: 1}",
            "- {op: test, path: /c, value: 1}",
            "- {op: sing, path: /c}",
            "- {op: add, path: /c/d, value: 1}",
            "op: add",
        ] {
            assert!(patched(patch).is_err(), "{patch}");
        }
    }
}
