//! The hash behind the names of generated resources.

use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::yaml::json::{self, ValueError};
use crate::yaml::value::Number;
use crate::yaml::{Kind, NodeId, Tree, Value, ops};

/// The hash of a ConfigMap or Secret: ten characters.
pub(crate) fn of(t: &Tree, node: NodeId) -> Result<String, Error> {
    let kind = ops::top(t, node, "kind");
    let extra = match kind.as_str() {
        "ConfigMap" => "binaryData",
        "Secret" => "stringData",
        _ => {
            return Err(Error::NotNative {
                what: format!("a hash behind the name of a {kind}"),
            });
        }
    };
    let mut fields = vec![
        ("kind".to_owned(), Value::String(kind.clone())),
        // kustomize looks for a field called `metadata/name` and finds none.
        ("name".to_owned(), Value::String(String::new())),
        ("data".to_owned(), value(t, node, "data")?),
    ];
    if kind == "Secret" {
        fields.push(("type".to_owned(), value(t, node, "type")?));
    }
    let more = value(t, node, extra)?;
    if matches!(more, Value::Map(_)) {
        fields.push((extra.to_owned(), more));
    }
    let text = Value::Map(fields)
        .to_go_json()
        .map_err(|number| value_error(ValueError::NotJson(number)))?;
    Ok(encode(&text))
}

fn value_error(source: ValueError) -> Error {
    Error::Hash {
        source: source.into(),
    }
}

fn value(t: &Tree, node: NodeId, field: &str) -> Result<Value, Error> {
    let Some(found) = t.get(node, field) else {
        return Ok(Value::String(String::new()));
    };
    Ok(match t[found].kind {
        Kind::Scalar => Value::String(t[found].value.clone()),
        Kind::Mapping => floats(json::of_resource(t, found).map_err(value_error)?),
        _ => Value::Null,
    })
}

/// Numbers as `encoding/json` reads them.
fn floats(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(Number::Float(number.as_f64())),
        Value::List(items) => Value::List(items.into_iter().map(floats).collect()),
        Value::Map(fields) => Value::Map(
            fields
                .into_iter()
                .map(|(key, value)| (key, floats(value)))
                .collect(),
        ),
        other => other,
    }
}

/// The first ten hexadecimal digits of the SHA-256, without vowels and digits
/// that look like letters.
fn encode(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest
        .iter()
        .take(5)
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| match digit {
            0 => 'g',
            1 => 'h',
            3 => 'k',
            10 => 'm',
            14 => 't',
            digit => char::from_digit(u32::from(digit), 16).unwrap_or('g'),
        })
        .collect()
}
