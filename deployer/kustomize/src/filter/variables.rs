//! Variables: `$(NAME)` in texts.

use std::collections::{BTreeMap, BTreeSet};

use super::fieldspec::{self, FieldSpec};
use crate::Error;
use crate::resmap::ResMap;
use crate::work::Work;
use crate::yaml::ops::{self, PathError};
use crate::yaml::value::short_float;
use crate::yaml::{Kind, NodeId, Tag, Tree, style};

/// The value of a variable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum VarValue {
    String(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// A list or a mapping; it is not put anywhere.
    Collection,
}

impl VarValue {
    /// As it stands inside of a longer text.
    fn text(&self) -> Option<String> {
        match self {
            Self::String(text) => Some(text.clone()),
            Self::Int(value) => Some(value.to_string()),
            Self::Float(value) => Some(if (1e-4..1e21).contains(&value.abs()) || *value == 0.0 {
                format!("{value}")
            } else {
                short_float(*value)
            }),
            Self::Bool(value) => Some(value.to_string()),
            Self::Collection => None,
        }
    }

    /// Reads the value at a path such as `spec.ports[0].port`.
    pub(crate) fn read(t: &mut Tree, root: NodeId, path: &str) -> Result<Option<Self>, Error> {
        let parts = with_indexes(&ops::split_bracketed(path));
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let Some(node) = ops::lookup(t, root, &parts)? else {
            return Ok(None);
        };
        let node = &t[node];
        let text = &node.value;
        let wrong = || Error::VariableType { text: text.clone() };
        let value = match (node.kind, &node.tag) {
            (Kind::Mapping | Kind::Sequence, _) => Self::Collection,
            (Kind::Zero, _) => return Ok(None),
            (_, Tag::Int) => Self::Int(text.parse().map_err(|_| wrong())?),
            (_, Tag::Float) => Self::Float(text.parse().map_err(|_| wrong())?),
            (_, Tag::Bool) => match text.as_str() {
                "true" | "True" | "TRUE" => Self::Bool(true),
                "false" | "False" | "FALSE" => Self::Bool(false),
                _ => return Err(wrong()),
            },
            _ => Self::String(text.clone()),
        };
        Ok(Some(value))
    }
}

/// `ports[0]` is `ports` and `0`.
fn with_indexes(parts: &[String]) -> Vec<String> {
    let mut result = Vec::with_capacity(parts.len());
    for part in parts {
        let index = part
            .strip_suffix(']')
            .and_then(|part| part.rsplit_once('['))
            .filter(|(_, index)| !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit()));
        match index {
            Some((name, index)) => {
                if !name.is_empty() {
                    result.push(name.to_owned());
                }
                result.push(index.to_owned());
            }
            None => result.push(part.clone()),
        }
    }
    result
}

/// Puts values where `$(NAME)` stands, and gives the names that stand nowhere.
pub(crate) fn replace(
    work: &mut Work,
    map: &ResMap,
    values: &BTreeMap<String, VarValue>,
    places: &[FieldSpec],
) -> Result<Vec<String>, Error> {
    let mut used = BTreeSet::new();
    for node in map.nodes() {
        for place in places {
            fieldspec::apply(&mut work.tree, node, place, None, &mut |t, field| {
                at(t, field, values, &mut used)
            })?;
        }
    }
    Ok(values
        .keys()
        .filter(|name| !used.contains(*name))
        .cloned()
        .collect())
}

type Values = BTreeMap<String, VarValue>;

fn at(
    t: &mut Tree,
    node: NodeId,
    values: &Values,
    used: &mut BTreeSet<String>,
) -> Result<(), Error> {
    if t.is_null(node) {
        return Ok(());
    }
    let wrong = |t: &Tree, node: NodeId| -> Error {
        PathError::WrongKind {
            expected: "a string",
            found: t[node].kind.name(),
        }
        .into()
    };
    match t[node].kind {
        Kind::Scalar => {
            if t.is_string(node) {
                expand(t, node, values, used);
            }
        }
        Kind::Mapping => {
            for pair in t[node].content.clone().chunks_exact(2) {
                if !t.is_string(pair[0]) {
                    return Err(Error::VariableKey {
                        key: t[pair[0]].value.clone(),
                    });
                }
                if t.is_string(pair[1]) {
                    expand(t, pair[1], values, used);
                }
            }
        }
        Kind::Sequence => {
            for item in t[node].content.clone() {
                if !t.is_string(item) {
                    return Err(wrong(t, item));
                }
                expand(t, item, values, used);
            }
        }
        Kind::Zero => return Err(wrong(t, node)),
    }
    Ok(())
}

fn expand(t: &mut Tree, node: NodeId, values: &Values, used: &mut BTreeSet<String>) {
    let (text, tag) = match expanded(&t[node].value, values, used) {
        VarValue::String(text) => (text, Tag::Str),
        VarValue::Int(value) => (value.to_string(), Tag::Int),
        VarValue::Bool(value) => (value.to_string(), Tag::Bool),
        VarValue::Float(value) => (format!("{value}"), Tag::Float),
        VarValue::Collection => return,
    };
    t[node].value = text;
    t[node].tag = tag;
    t[node].style = style::PLAIN;
}

/// Replaces references; a text that is one reference takes its type too.
/// `$$` is one dollar.
fn expanded(input: &str, values: &Values, used: &mut BTreeSet<String>) -> VarValue {
    let mut out = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        if after.is_empty() {
            break;
        }
        out.push_str(&rest[..at]);
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            let whole = at == 0 && out.is_empty() && tail.is_empty();
            let value = values.get(name);
            match value.and_then(VarValue::text) {
                Some(text) => {
                    used.insert(name.to_owned());
                    if whole && let Some(value) = value {
                        return value.clone();
                    }
                    out.push_str(&text);
                }
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            let mut chars = after.chars();
            out.extend(chars.next());
            rest = chars.as_str();
        }
    }
    out.push_str(rest);
    VarValue::String(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_kubernetes_does() {
        let values: Values = [
            ("A".to_owned(), VarValue::String("a".to_owned())),
            ("N".to_owned(), VarValue::Int(5)),
        ]
        .into();
        let text = |input: &str| expanded(input, &values, &mut BTreeSet::new());
        for (input, output) in [
            ("$(A)-$(A)", "a-a"),
            ("x$(N)", "x5"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$(A", "$(A"),
            ("$A$", "$A$"),
            ("--$($($($--", "--$($($($--"),
        ] {
            assert_eq!(text(input), VarValue::String(output.into()), "{input}");
        }
        assert_eq!(text("$(N)"), VarValue::Int(5));
        assert_eq!(
            with_indexes(&["ports[0]".to_owned(), "x".to_owned()]),
            ["ports", "0", "x"]
        );
    }
}
