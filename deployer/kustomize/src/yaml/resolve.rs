//! What an unquoted text means: `yaml.v3` (resources) and `yaml.v2`
//! (kustomizations, configuration, the final output).

use super::node::Tag;
use super::value::Number;

/// Whose rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    /// `yaml.v2`: `yes`, `on` and `y` are booleans, `0o7` is a string.
    V2,
    /// `yaml.v3`.
    V3,
}

/// A resolved scalar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Number(Number),
    /// A date or time, as RFC 3339 with as many digits as it needs.
    Timestamp(String),
    String,
    Merge,
}

impl Scalar {
    /// The tag that goes with it.
    pub(crate) fn tag(&self) -> Tag {
        match self {
            Self::Null => Tag::Null,
            Self::Bool(_) => Tag::Bool,
            Self::Number(Number::Float(_)) => Tag::Float,
            Self::Number(_) => Tag::Int,
            Self::Timestamp(_) => Tag::Timestamp,
            Self::String => Tag::Str,
            Self::Merge => Tag::Merge,
        }
    }
}

/// Resolves a text that carries no tag.
pub(crate) fn resolve(text: &str, rules: Rules) -> Scalar {
    resolve_with(text, rules, true)
}

/// As [`resolve`]; `timestamps` says whether dates are looked for, which
/// happens only without a tag or with the one for timestamps.
pub(crate) fn resolve_with(text: &str, rules: Rules, timestamps: bool) -> Scalar {
    let Some(first) = text.bytes().next() else {
        return Scalar::Null;
    };
    match first {
        b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' | b'~' => {
            word(text, rules).unwrap_or(Scalar::String)
        }
        b'<' if text == "<<" => Scalar::Merge,
        b'.' => word(text, rules)
            .or_else(|| float(text).map(|value| Scalar::Number(Number::Float(value))))
            .unwrap_or(Scalar::String),
        b'+' | b'-' | b'0'..=b'9' => word(text, rules)
            .or_else(|| numeric(text, rules, timestamps))
            .unwrap_or(Scalar::String),
        _ => Scalar::String,
    }
}

fn word(text: &str, rules: Rules) -> Option<Scalar> {
    let scalar = match text {
        "true" | "True" | "TRUE" => Scalar::Bool(true),
        "false" | "False" | "FALSE" => Scalar::Bool(false),
        "~" | "null" | "Null" | "NULL" => Scalar::Null,
        ".nan" | ".NaN" | ".NAN" => Scalar::Number(Number::Float(f64::NAN)),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            Scalar::Number(Number::Float(f64::INFINITY))
        }
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Number(Number::Float(f64::NEG_INFINITY)),
        _ if rules == Rules::V2 => match text {
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Scalar::Bool(true),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Scalar::Bool(false),
            _ => return None,
        },
        _ => return None,
    };
    Some(scalar)
}

/// Whether YAML 1.1 reads a word as a boolean; such strings are quoted.
pub(crate) fn is_old_bool(text: &str) -> bool {
    matches!(word(text, Rules::V2), Some(Scalar::Bool(_))) && word(text, Rules::V3).is_none()
}

fn numeric(text: &str, rules: Rules, timestamps: bool) -> Option<Scalar> {
    if timestamps && let Some(time) = timestamp(text) {
        return Some(Scalar::Timestamp(time));
    }
    let plain: std::borrow::Cow<'_, str> = if text.contains('_') {
        text.replace('_', "").into()
    } else {
        text.into()
    };
    integer(&plain)
        .or_else(|| {
            is_yaml_float(&plain)
                .then(|| plain.parse().ok().filter(|value: &f64| value.is_finite()))
                .flatten()
                .map(Number::Float)
        })
        .or_else(|| prefixed(&plain, "0b", 2))
        .or_else(|| {
            (rules == Rules::V3)
                .then(|| prefixed(&plain, "0o", 8))
                .flatten()
        })
        .map(Scalar::Number)
}

/// Go's `ParseInt` and `ParseUint` with base 0: `0x`, `0o`, `0b` and a leading
/// zero choose the base. Underscores are gone already.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    let (base, digits) = match lower.as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let value = u64::from_str_radix(digits, base).ok()?;
    if negative {
        let limit = i64::MIN.unsigned_abs();
        return (value <= limit).then(|| Number::Int(0i64.wrapping_sub_unsigned(value)));
    }
    match i64::try_from(value) {
        Ok(value) => Some(Number::Int(value)),
        // Go's ParseUint knows no sign.
        Err(_) if text.starts_with('+') => None,
        Err(_) => Some(Number::Uint(value)),
    }
}

fn prefixed(text: &str, prefix: &str, base: u32) -> Option<Number> {
    if let Some(digits) = text.strip_prefix(prefix) {
        return i64::from_str_radix(digits, base).ok().map(Number::Int);
    }
    let digits = text.strip_prefix('-')?.strip_prefix(prefix)?;
    i64::from_str_radix(&format!("-{digits}"), base)
        .ok()
        .map(Number::Int)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_yaml_float(text: &str) -> bool {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let whole = digits(rest);
    let mut rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let count = digits(fraction);
        if whole == 0 && count == 0 {
            return false;
        }
        rest = &fraction[count..];
    } else if whole == 0 {
        return false;
    }
    if rest.is_empty() {
        return true;
    }
    let Some(exponent) = rest.strip_prefix(['e', 'E']) else {
        return false;
    };
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    !exponent.is_empty() && digits(exponent) == exponent.len()
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Go's `ParseFloat` for a text that starts with a point.
fn float(text: &str) -> Option<f64> {
    if !is_yaml_float(text) {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Base 60 notation of YAML 1.1; quoted on the way out.
pub(crate) fn is_base60(text: &str) -> bool {
    let Some(first) = text.bytes().next() else {
        return false;
    };
    if !(matches!(first, b'+' | b'-') || first.is_ascii_digit()) || !text.contains(':') {
        return false;
    }
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (rest, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let mut groups = rest.split(':');
    let Some(head) = groups.next() else {
        return false;
    };
    let digit_or_line = |byte: u8| byte.is_ascii_digit() || byte == b'_';
    head.starts_with(|c: char| c.is_ascii_digit())
        && head.bytes().all(digit_or_line)
        && fraction.bytes().all(digit_or_line)
        && groups.all(|group| match group.as_bytes() {
            [one] => one.is_ascii_digit(),
            [tens, one] => (b'0'..=b'5').contains(tens) && one.is_ascii_digit(),
            _ => false,
        })
}

/// The four forms of date and time that `yaml.v3` knows, as RFC 3339.
fn timestamp(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || bytes[4] != b'-' || !bytes[..4].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut rest = &text[5..];
    let month = one_or_two(&mut rest)?;
    rest = rest.strip_prefix('-')?;
    let day = one_or_two(&mut rest)?;
    let year: i16 = text[..4].parse().ok()?;
    jiff::civil::Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let date = format!("{year:04}-{month:02}-{day:02}");
    if rest.is_empty() {
        return Some(format!("{date}T00:00:00Z"));
    }
    let separator = rest.chars().next()?;
    if !matches!(separator, 'T' | 't' | ' ') {
        return None;
    }
    rest = &rest[1..];
    let hour = two_digits_or_one(&mut rest)?;
    rest = rest.strip_prefix(':')?;
    let minute = one_or_two(&mut rest)?;
    rest = rest.strip_prefix(':')?;
    let second = one_or_two(&mut rest)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = fraction(&mut rest);
    let clock = format!("{date}T{hour:02}:{minute:02}:{second:02}{fraction}");
    if separator == ' ' {
        return rest.is_empty().then(|| format!("{clock}Z"));
    }
    zone(rest).map(|zone| format!("{clock}{zone}"))
}

fn one_or_two(rest: &mut &str) -> Option<u8> {
    let count = digits(rest).min(2);
    let value = rest.get(..count)?.parse().ok()?;
    *rest = &rest[count..];
    Some(value)
}

/// Go's `15` wants two digits.
fn two_digits_or_one(rest: &mut &str) -> Option<u8> {
    (digits(rest) >= 2).then(|| one_or_two(rest)).flatten()
}

fn fraction(rest: &mut &str) -> String {
    let Some(after) = rest.strip_prefix(['.', ',']) else {
        return String::new();
    };
    let count = digits(after);
    if count == 0 {
        return String::new();
    }
    let nanos = after[..count.min(9)].trim_end_matches('0');
    *rest = &after[count..];
    if nanos.is_empty() {
        String::new()
    } else {
        format!(".{nanos}")
    }
}

fn zone(rest: &str) -> Option<String> {
    if rest == "Z" {
        return Some("Z".to_owned());
    }
    let bytes = rest.as_bytes();
    let shape = bytes.len() == 6
        && matches!(bytes[0], b'+' | b'-')
        && bytes[3] == b':'
        && [1, 2, 4, 5].iter().all(|at| bytes[*at].is_ascii_digit());
    if !shape || &rest[1..3] > "24" || &rest[4..6] > "60" {
        return None;
    }
    Some(if &rest[1..] == "00:00" {
        "Z".to_owned()
    } else {
        rest.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_dates_and_words() {
        let int = |value| Scalar::Number(Number::Int(value));
        let cases = [
            ("12", int(12)),
            ("-0x1F", int(-31)),
            ("010", int(8)),
            ("0o10", int(8)),
            ("1_000", int(1000)),
            ("08", Scalar::Number(Number::Float(8.0))),
            ("1e3", Scalar::Number(Number::Float(1000.0))),
            (".5", Scalar::Number(Number::Float(0.5))),
            ("1.2.3", Scalar::String),
            (
                "18446744073709551615",
                Scalar::Number(Number::Uint(u64::MAX)),
            ),
            ("2001-1-2", Scalar::Timestamp("2001-01-02T00:00:00Z".into())),
            (
                "2001-01-02T03:04:05.600+02:00",
                Scalar::Timestamp("2001-01-02T03:04:05.6+02:00".into()),
            ),
            ("2001-13-02", Scalar::String),
            ("yes", Scalar::String),
            ("~", Scalar::Null),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve(text, Rules::V3), expected, "{text}");
        }
        assert_eq!(resolve("yes", Rules::V2), Scalar::Bool(true));
        assert!(is_base60("1:30") && !is_base60("1:70") && !is_base60("a:1"));
        assert!(is_old_bool("off") && !is_old_bool("true"));
    }
}
