//! The value that a node has after kustomize wrote it down and read it
//! again, which it does before every print, hash and JSON patch; and the one
//! that it has without that, which goes into the files of `-o FOLDER`.

use base64::Engine as _;

use super::node::{Kind, NodeId, Tag, Tree, style};
use super::plain::analyze;
use super::resolve::{Rules, Scalar, resolve, resolve_with};
use super::value::{Number, Value};

/// Why a node has no value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("the key `{0}` stands twice in the same mapping")]
    DuplicateKey(String),
    #[error("the key `{0}` is not a string; put it in quotes")]
    KeyNotString(String),
    #[error("`{text}` is not {tag}")]
    WrongTag { text: String, tag: String },
    #[error("`{0:?}` holds a control character that YAML does not allow")]
    Control(String),
    #[error("`{0}` is not base64, as its tag !!binary says")]
    NotBase64(String),
    #[error("`{0}` is not a number that JSON has")]
    NotJson(f64),
    #[error("the document is {0}, and a resource is a mapping")]
    NotMapping(&'static str),
    #[error("a key of a mapping is {0}, and it has to be a string")]
    KeyNotScalar(&'static str),
}

/// How a node becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Written and read, on a line of its own.
    Block,
    /// Written and read, in brackets.
    Flow,
    /// Directly, by its tag.
    Direct,
}

impl Way {
    /// The way of what is in a node.
    fn into(self, style: u8) -> Self {
        if self == Self::Block && style & style::FLOW != 0 {
            Self::Flow
        } else {
            self
        }
    }
}

/// The value of a resource: the same as [`of_node`], but keys of the outermost
/// mapping may be anything.
pub(crate) fn of_resource(tree: &Tree, id: NodeId) -> Result<Value, ValueError> {
    let node = &tree[id];
    if node.kind != Kind::Mapping {
        return Err(ValueError::NotMapping(node.kind.name()));
    }
    mapping(tree, id, Way::Block.into(node.style), true)
}

/// The value of a resource that was not written down before. A text that took
/// the quotes of another and kept its own tag is what the tag says here.
pub(crate) fn of_resource_directly(tree: &Tree, id: NodeId) -> Result<Value, ValueError> {
    let node = &tree[id];
    if node.kind != Kind::Mapping {
        return Err(ValueError::NotMapping(node.kind.name()));
    }
    mapping(tree, id, Way::Direct, true)
}

/// A value that can be printed. kustomize reads its own JSON as YAML once
/// more, and YAML has no place for some characters.
pub(crate) fn printable(value: Value) -> Result<Value, ValueError> {
    refuse_control(&value)?;
    Ok(value)
}

fn refuse_control(value: &Value) -> Result<(), ValueError> {
    let check = |text: &str| {
        let bad = |c: char| matches!(c, '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}');
        if text.is_ascii() && !text.contains('\u{7f}') {
            return Ok(());
        }
        if text.contains(bad) {
            return Err(ValueError::Control(text.to_owned()));
        }
        Ok(())
    };
    match value {
        Value::String(text) => check(text),
        Value::List(items) => items.iter().try_for_each(refuse_control),
        Value::Map(fields) => fields.iter().try_for_each(|(key, value)| {
            check(key)?;
            refuse_control(value)
        }),
        _ => Ok(()),
    }
}

/// The value of a node.
pub(crate) fn of_node(tree: &Tree, id: NodeId) -> Result<Value, ValueError> {
    value(tree, id, Way::Block)
}

fn value(tree: &Tree, id: NodeId, way: Way) -> Result<Value, ValueError> {
    let node = &tree[id];
    let way = way.into(node.style);
    match node.kind {
        Kind::Zero => Ok(Value::Null),
        Kind::Scalar => scalar(tree, id, way, false),
        Kind::Sequence => node
            .content
            .iter()
            .map(|item| value(tree, *item, way))
            .collect::<Result<_, _>>()
            .map(Value::List),
        Kind::Mapping => mapping(tree, id, way, false),
    }
}

fn mapping(tree: &Tree, id: NodeId, way: Way, any_key: bool) -> Result<Value, ValueError> {
    let mut fields: Vec<(String, Value)> = Vec::with_capacity(tree[id].content.len() / 2);
    let mut merged = Vec::new();
    refuse_duplicates(tree, id)?;
    for (key, item) in tree.fields(id) {
        let node = &tree[key];
        if node.kind != Kind::Scalar {
            return Err(ValueError::KeyNotScalar(node.kind.name()));
        }
        if node.tag == Tag::Merge || (node.tag == Tag::Empty && node.value == "<<") {
            merged.push(value(tree, item, way)?);
            continue;
        }
        let name = match scalar(tree, key, way, true)? {
            Value::String(text) => text,
            _ if any_key => node.value.clone(),
            _ => return Err(ValueError::KeyNotString(node.value.clone())),
        };
        fields.push((name, value(tree, item, way)?));
    }
    for value in merged {
        merge(&mut fields, value);
    }
    Ok(Value::Map(fields))
}

fn refuse_duplicates(tree: &Tree, id: NodeId) -> Result<(), ValueError> {
    let keys: Vec<&str> = tree
        .fields(id)
        .map(|(key, _)| tree[key].value.as_str())
        .collect();
    if keys.len() > 16 {
        let mut sorted = keys;
        sorted.sort_unstable();
        return match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(ValueError::DuplicateKey(pair[0].to_owned())),
            None => Ok(()),
        };
    }
    for (at, key) in keys.iter().enumerate() {
        if keys[..at].contains(key) {
            return Err(ValueError::DuplicateKey((*key).to_owned()));
        }
    }
    Ok(())
}

fn merge(fields: &mut Vec<(String, Value)>, value: Value) {
    match value {
        Value::Map(other) => {
            for (key, value) in other {
                if !fields.iter().any(|(name, _)| *name == key) {
                    fields.push((key, value));
                }
            }
        }
        Value::List(items) => items.into_iter().for_each(|item| merge(fields, item)),
        _ => {}
    }
}

/// A scalar as the last reader sees it. To stand in brackets and to be a key
/// both forbid an empty plain scalar.
fn scalar(tree: &Tree, id: NodeId, way: Way, key: bool) -> Result<Value, ValueError> {
    let node = &tree[id];
    let text = node.value.as_str();
    let quoted = node.style & style::QUOTED != 0;
    let string = || Ok(Value::String(text.to_owned()));
    if way == Way::Direct {
        return match &node.tag {
            Tag::Str => string(),
            Tag::Empty if quoted => string(),
            Tag::Empty => of_scalar(text, resolve(text, Rules::V3)),
            tag => explicit(text, tag),
        };
    }
    let flow = way == Way::Flow;
    let tagged = node.style & style::TAGGED != 0;
    match &node.tag {
        Tag::Str => return string(),
        Tag::Empty => {}
        tag if !tagged && resolve(text, Rules::V3).tag() == *tag => {}
        tag => return explicit(text, tag),
    }
    if quoted || text.contains('\n') {
        return string();
    }
    let plain = if text.is_empty() {
        !flow && !key
    } else {
        let allowed = analyze(text);
        if flow {
            allowed.flow_plain
        } else {
            allowed.block_plain
        }
    };
    if !plain {
        return string();
    }
    of_scalar(text, resolve(text, Rules::V3))
}

fn of_scalar(text: &str, scalar: Scalar) -> Result<Value, ValueError> {
    Ok(match scalar {
        Scalar::Null => Value::Null,
        Scalar::Bool(value) => Value::Bool(value),
        Scalar::Number(number) => {
            Value::Number(number.through_json().map_err(ValueError::NotJson)?)
        }
        Scalar::Timestamp(time) => Value::String(time),
        Scalar::String | Scalar::Merge => Value::String(text.to_owned()),
    })
}

/// A scalar whose tag is written out.
fn explicit(text: &str, tag: &Tag) -> Result<Value, ValueError> {
    match tag {
        Tag::Binary => {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text.replace(['\n', '\r'], ""))
                .map_err(|_| ValueError::NotBase64(text.to_owned()))?;
            return Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        }
        Tag::Null | Tag::Bool | Tag::Int | Tag::Float | Tag::Timestamp => {}
        _ => return Ok(Value::String(text.to_owned())),
    }
    let resolved = resolve_with(text, Rules::V3, *tag == Tag::Timestamp);
    match (&resolved, tag) {
        (Scalar::Number(Number::Int(_)), Tag::Float) => {}
        _ if resolved.tag() == *tag => {}
        _ => {
            return Err(ValueError::WrongTag {
                text: text.to_owned(),
                tag: tag.name().to_owned(),
            });
        }
    }
    of_scalar(text, resolved)
}

/// Reads a tree by the rules of `yaml.v2`, as kustomization files are read:
/// keys become strings, a key that stands twice counts once, the last time.
pub(crate) fn by_v2(tree: &Tree, id: NodeId) -> Result<Value, ValueError> {
    let node = &tree[id];
    match node.kind {
        Kind::Zero => Ok(Value::Null),
        Kind::Scalar => scalar_v2(tree, id),
        Kind::Sequence => node
            .content
            .iter()
            .map(|item| by_v2(tree, *item))
            .collect::<Result<_, _>>()
            .map(Value::List),
        Kind::Mapping => {
            let mut fields: Vec<(String, Value)> = Vec::new();
            for (key, item) in tree.fields(id) {
                let name = key_v2(tree, key)?;
                let value = by_v2(tree, item)?;
                match fields.iter_mut().find(|(known, _)| *known == name) {
                    Some(field) => field.1 = value,
                    None => fields.push((name, value)),
                }
            }
            Ok(Value::Map(fields))
        }
    }
}

fn key_v2(tree: &Tree, key: NodeId) -> Result<String, ValueError> {
    if tree[key].kind != Kind::Scalar {
        return Err(ValueError::KeyNotScalar(tree[key].kind.name()));
    }
    match scalar_v2(tree, key)? {
        Value::String(text) => Ok(text),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) => Ok(number.to_yaml()),
        _ => Err(ValueError::KeyNotString(tree[key].value.clone())),
    }
}

fn scalar_v2(tree: &Tree, id: NodeId) -> Result<Value, ValueError> {
    let node = &tree[id];
    let text = node.value.as_str();
    let string = || Ok(Value::String(text.to_owned()));
    if node.style & style::TAGGED != 0 {
        return match node.tag {
            Tag::Str | Tag::Timestamp => string(),
            ref tag => explicit(text, tag),
        };
    }
    if node.style & style::QUOTED != 0 {
        return string();
    }
    match resolve(text, Rules::V2) {
        Scalar::Timestamp(_) => string(),
        other => of_scalar(text, other),
    }
}
