//! Kubernetes manifests as kubectl reads them.

use serde_json::{Number, Value};

use super::compose;
use super::node::Source;
use super::scalar::Rules;
use crate::diagnostic::Diagnostic;

/// Largest magnitude below which Go writes an integral float without an
/// exponent (`encoding/json`, floatEncoder).
const INTEGRAL_LIMIT: f64 = 1e21;

/// Reads manifests: every document that is not empty, by the rules of
/// `sigs.k8s.io/yaml`: YAML 1.1 booleans, `0777` is 511, `1e3` is 1000.
/// `file` names the text in messages. Documents of kind `List` are not
/// taken apart.
pub fn manifests(text: &str, file: &str) -> Result<Vec<Value>, Diagnostic> {
    let documents = compose::documents(&Source::new(file, text), Rules::Kubectl)?;
    Ok(documents
        .iter()
        .map(|node| normalise(node.to_value()))
        .collect())
}

/// Integral floats become integers, as on their way through Go's JSON; the
/// API server refuses `1000.0` where it wants an integer.
fn normalise(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(integral(number)),
        Value::Array(items) => items.into_iter().map(normalise).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, v)| (key, normalise(v)))
            .collect(),
        other => other,
    }
}

fn integral(number: Number) -> Number {
    if number.is_i64() || number.is_u64() {
        return number;
    }
    match number.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() < INTEGRAL_LIMIT => {
            format!("{float:.0}")
                .parse::<i64>()
                .map_or(number, Number::from)
        }
        _ => number,
    }
}
