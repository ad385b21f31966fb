//! Values as JSON has them, with the numbers of YAML.

use std::fmt::Write as _;

/// A number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    /// Above the largest [`i64`].
    Uint(u64),
    Float(f64),
}

/// A value. Mappings keep the order in which keys were written; a key that
/// stands twice is there twice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

impl Value {
    /// The last value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Map(fields) => fields
                .iter()
                .rev()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The name that messages use.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }

    /// As Go's `encoding/json` writes it: keys sorted, `<`, `>` and `&`
    /// escaped. Numbers that JSON does not have are an error.
    pub(crate) fn to_go_json(&self) -> Result<String, f64> {
        let mut out = String::new();
        self.write_json(&mut out)?;
        Ok(out)
    }

    fn write_json(&self, out: &mut String) -> Result<(), f64> {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => out.push_str(&number.to_json()?),
            Self::String(text) => write_json_string(text, out),
            Self::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write_json(out)?;
                }
                out.push(']');
            }
            Self::Map(fields) => {
                let mut sorted: Vec<_> = fields.iter().collect();
                sorted.sort_by(|a, b| a.0.cmp(&b.0));
                out.push('{');
                for (at, (key, value)) in sorted.into_iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_json_string(key, out);
                    out.push(':');
                    value.write_json(out)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

impl Number {
    /// As a float, as Go's `encoding/json` reads numbers.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn as_f64(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Uint(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    /// As Go's `encoding/json` writes it.
    fn to_json(self) -> Result<String, f64> {
        match self {
            Self::Int(value) => Ok(value.to_string()),
            Self::Uint(value) => Ok(value.to_string()),
            Self::Float(value) if !value.is_finite() => Err(value),
            Self::Float(value) => Ok(json_float(value)),
        }
    }

    /// What a number is after it was written as JSON and read as YAML: floats
    /// without fraction become integers.
    pub(crate) fn through_json(self) -> Result<Self, f64> {
        match self {
            Self::Float(value) if !value.is_finite() => Err(value),
            Self::Float(value) => Ok(reread(&json_float(value), value)),
            other => Ok(other),
        }
    }

    /// As `yaml.v2` writes it.
    pub(crate) fn to_yaml(self) -> String {
        match self {
            Self::Int(value) => value.to_string(),
            Self::Uint(value) => value.to_string(),
            Self::Float(value) => short_float(value),
        }
    }
}

fn reread(text: &str, value: f64) -> Number {
    if let Ok(int) = text.parse::<i64>() {
        // `-0` is the integer zero to a reader of YAML.
        return Number::Int(int);
    }
    text.parse::<u64>()
        .map_or(Number::Float(value), Number::Uint)
}

/// Shortest decimal digits and exponent: `0.d1d2... * 10^exponent`.
fn shortest(value: f64) -> (String, i32) {
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    (digits, exponent.parse::<i32>().unwrap_or(0))
}

/// Go's `%e` form: at least two digits of exponent.
fn exponent_form(value: f64, minimum: usize) -> String {
    let (digits, exponent) = shortest(value);
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let (head, tail) = digits.split_at(1);
    let point = if tail.is_empty() { "" } else { "." };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    let exponent = exponent.unsigned_abs();
    format!("{sign}{head}{point}{tail}e{exponent_sign}{exponent:0minimum$}")
}

/// Go's `encoding/json`: plain unless very large or small, and then without
/// padding of negative exponents.
fn json_float(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = exponent_form(value, 2);
        return match text.find("e-0") {
            Some(at) => format!("{}e-{}", &text[..at], &text[at + 3..]),
            None => text,
        };
    }
    format!("{value}")
}

/// Go's `FormatFloat(_, 'g', -1)`: exponents below -4 or from 6 on.
pub(crate) fn short_float(value: f64) -> String {
    if value.is_nan() {
        return ".nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let (_, exponent) = shortest(value);
    if value != 0.0 && !(-4..6).contains(&exponent) {
        return exponent_form(value, 2);
    }
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_go_writes_them() {
        for (value, json, yaml) in [
            (1.0, "1", "1"),
            (0.5, "0.5", "0.5"),
            (1e21, "1e+21", "1e+21"),
            (1e20, "100000000000000000000", "1e+20"),
            (123_456.5, "123456.5", "123456.5"),
            (1.5e-7, "1.5e-7", "1.5e-07"),
            (0.00001, "0.00001", "1e-05"),
            (-2.25, "-2.25", "-2.25"),
        ] {
            assert_eq!(json_float(value), json);
            assert_eq!(short_float(value), yaml);
        }
    }

    #[test]
    fn json_is_escaped_and_sorted() {
        let value = Value::Map(vec![
            ("b".into(), Value::String("<\u{1}\u{2028}\"é".into())),
            (
                "a".into(),
                Value::List(vec![Value::Null, Value::Bool(true)]),
            ),
        ]);
        assert_eq!(
            value.to_go_json().unwrap(),
            r#"{"a":[null,true],"b":"\u003c\u0001\u2028\"é"}"#
        );
    }
}
