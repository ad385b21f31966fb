//! What a plain scalar means.

use base64::Engine as _;
use serde_json::{Number, Value};

/// Whose rules apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// `yaml.v3`, as kustomize and skaffold read.
    Config,
    /// `sigs.k8s.io/yaml`, as kubectl reads.
    Kubectl,
}

/// Why a scalar has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadScalar {
    #[error("`{0}` cannot be written in JSON")]
    NotFinite(String),
    #[error("`{text}` is not {expected}, as its tag says")]
    Tag {
        text: String,
        expected: &'static str,
    },
    #[error("the tag `{0}` is not understood")]
    UnknownTag(String),
}

/// The value of a plain (unquoted, untagged) scalar.
pub(super) fn resolve(text: &str, rules: Rules) -> Result<Value, BadScalar> {
    if let Some(value) = word(text, rules) {
        return Ok(value);
    }
    if is_infinite_or_nan(text) {
        return match rules {
            Rules::Kubectl => Err(BadScalar::NotFinite(text.to_owned())),
            Rules::Config => Ok(Value::String(text.to_owned())),
        };
    }
    Ok(number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number))
}

/// The value of a scalar with a tag of YAML's core schema.
pub(super) fn tagged(text: &str, tag: &str, rules: Rules) -> Result<Value, BadScalar> {
    let wrong = |expected| BadScalar::Tag {
        text: text.to_owned(),
        expected,
    };
    let resolved = || resolve(text, rules);
    match tag {
        "str" | "!" => Ok(Value::String(text.to_owned())),
        "null" => resolved()?
            .is_null()
            .then_some(Value::Null)
            .ok_or_else(|| wrong("null")),
        "bool" => Some(resolved()?)
            .filter(Value::is_boolean)
            .ok_or_else(|| wrong("a boolean")),
        "int" => Some(resolved()?)
            .filter(|value| value.is_i64() || value.is_u64())
            .ok_or_else(|| wrong("an integer")),
        "float" => Some(resolved()?)
            .filter(Value::is_number)
            .ok_or_else(|| wrong("a number")),
        "timestamp" => Ok(Value::String(text.to_owned())),
        "binary" => {
            let compact: String = text.split_whitespace().collect();
            base64::engine::general_purpose::STANDARD
                .decode(compact)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .map(Value::String)
                .ok_or_else(|| wrong("base64 of UTF-8 text"))
        }
        other => Err(BadScalar::UnknownTag(other.to_owned())),
    }
}

fn word(text: &str, rules: Rules) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "true" | "True" | "TRUE" => return Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Value::Bool(false)),
        _ => {}
    }
    if rules == Rules::Config {
        return None;
    }
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(Value::Bool(true)),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(Value::Bool(false)),
        _ => None,
    }
}

fn is_infinite_or_nan(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN")
}

/// A number as `yaml.v3` sees one: underscores do not count, a leading zero
/// is octal, and what is no integer may still be a decimal float (`08`).
fn number(text: &str) -> Option<Number> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    if let Some(number) = integer(digits, negative) {
        return Some(number);
    }
    if !is_decimal_float(digits) {
        return None;
    }
    let value: f64 = plain.parse().ok().filter(|value: &f64| value.is_finite())?;
    Number::from_f64(value)
}

fn integer(digits: &str, negative: bool) -> Option<Number> {
    let (radix, body) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if body.is_empty() || body.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = u64::from_str_radix(body, radix).ok()?;
    if !negative {
        return Some(Number::from(magnitude));
    }
    0i64.checked_sub_unsigned(magnitude).map(Number::from)
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, yaml.v3's `resolve.go`.
fn is_decimal_float(digits: &str) -> bool {
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        Some(("", fraction)) => !fraction.is_empty() && all_digits(fraction),
        Some((whole, fraction)) => all_digits(whole) && all_digits(fraction),
        None => !mantissa.is_empty() && all_digits(mantissa),
    };
    let exponent_ok = exponent.is_none_or(|exponent| {
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !unsigned.is_empty() && all_digits(unsigned)
    });
    mantissa_ok && exponent_ok
}
