//! The functions of sprig (<https://masterminds.github.io/sprig/>) that
//! configurations use, and skaffold's `cmd`.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gotmpl::{FuncMap, TemplateError, Value};
use regex::Regex;
use sha2::{Digest as _, Sha256};

use super::Runner;

type Outcome = Result<Value, TemplateError>;

/// A name and what it does with its arguments.
type Function = (&'static str, fn(&[Value]) -> Outcome);

/// The functions of text/template itself.
pub(super) const BUILT_IN: [&str; 19] = [
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or",
    "print", "printf", "println", "slice", "urlquery",
];

/// Defaults and choices.
const LOGIC: &[Function] = &[
    ("default", |a| {
        Ok(if get(a, 1)?.is_truthy() {
            a[1].clone()
        } else {
            get(a, 0)?.clone()
        })
    }),
    ("empty", |a| Ok(Value::Bool(!get(a, 0)?.is_truthy()))),
    ("coalesce", |a| {
        Ok(a.iter()
            .find(|v| v.is_truthy())
            .cloned()
            .unwrap_or(Value::Nil))
    }),
    ("ternary", |a| {
        Ok(get(a, if get(a, 2)?.is_truthy() { 0 } else { 1 })?.clone())
    }),
    ("required", required),
    ("fail", |a| Err(TemplateError::Exec(text(a, 0)?))),
];

/// Texts.
const TEXT: &[Function] = &[
    ("lower", |a| string(text(a, 0)?.to_lowercase())),
    ("upper", |a| string(text(a, 0)?.to_uppercase())),
    ("title", |a| string(title(&text(a, 0)?))),
    ("trim", |a| string(text(a, 0)?.trim())),
    ("trimAll", |a| {
        string(text(a, 1)?.trim_matches(|c| text(a, 0).is_ok_and(|set| set.contains(c))))
    }),
    ("trimPrefix", |a| {
        string(
            text(a, 1)?
                .strip_prefix(&text(a, 0)?)
                .unwrap_or(&text(a, 1)?),
        )
    }),
    ("trimSuffix", |a| {
        string(
            text(a, 1)?
                .strip_suffix(&text(a, 0)?)
                .unwrap_or(&text(a, 1)?),
        )
    }),
    ("trunc", trunc),
    ("substr", substr),
    ("nospace", |a| {
        string(text(a, 0)?.split_whitespace().collect::<String>())
    }),
    ("replace", |a| {
        string(text(a, 2)?.replace(&text(a, 0)?, &text(a, 1)?))
    }),
    ("repeat", |a| {
        string(text(a, 1)?.repeat(usize::try_from(integer(a, 0)?.clamp(0, 4096)).unwrap_or(0)))
    }),
    ("quote", |a| {
        string(
            a.iter()
                .map(|v| format!("{:?}", v.to_string()))
                .collect::<Vec<_>>()
                .join(" "),
        )
    }),
    ("squote", |a| {
        string(
            a.iter()
                .map(|v| format!("'{v}'"))
                .collect::<Vec<_>>()
                .join(" "),
        )
    }),
    ("cat", |a| {
        string(
            a.iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
        )
    }),
    ("contains", |a| {
        Ok(Value::Bool(text(a, 1)?.contains(&text(a, 0)?)))
    }),
    ("hasPrefix", |a| {
        Ok(Value::Bool(text(a, 1)?.starts_with(&text(a, 0)?)))
    }),
    ("hasSuffix", |a| {
        Ok(Value::Bool(text(a, 1)?.ends_with(&text(a, 0)?)))
    }),
    ("toString", |a| string(text(a, 0)?)),
    ("indent", |a| string(indent(&text(a, 1)?, integer(a, 0)?))),
    ("nindent", |a| {
        string(format!("\n{}", indent(&text(a, 1)?, integer(a, 0)?)))
    }),
];

/// Lists.
const LISTS: &[Function] = &[
    ("split", split),
    ("splitList", |a| Ok(list(text(a, 1)?.split(&text(a, 0)?)))),
    ("join", join),
    ("list", |a| Ok(Value::List(a.to_vec().into()))),
    ("first", |a| {
        Ok(items(a, 0)?.first().cloned().unwrap_or(Value::Nil))
    }),
    ("last", |a| {
        Ok(items(a, 0)?.last().cloned().unwrap_or(Value::Nil))
    }),
];

/// Integers.
const NUMBERS: &[Function] = &[
    ("int", |a| Ok(Value::Int(integer(a, 0)?))),
    ("add", |a| {
        (0..a.len())
            .try_fold(0i64, |sum, i| Ok(sum.saturating_add(integer(a, i)?)))
            .map(Value::Int)
    }),
    ("sub", |a| {
        Ok(Value::Int(integer(a, 0)?.saturating_sub(integer(a, 1)?)))
    }),
];

/// Digests, encodings, patterns.
const CODES: &[Function] = &[
    ("regexMatch", |a| {
        Ok(Value::Bool(regex(a)?.is_match(&text(a, 1)?)))
    }),
    ("regexReplaceAll", |a| {
        string(regex(a)?.replace_all(&text(a, 1)?, text(a, 2)?))
    }),
    ("sha256sum", |a| {
        string(hex(&Sha256::digest(text(a, 0)?.as_bytes())))
    }),
    ("b64enc", |a| string(BASE64.encode(text(a, 0)?))),
    ("b64dec", b64dec),
    ("toJson", |a| {
        string(serde_json::Value::from(text(a, 0)?).to_string())
    }),
];

/// Every function, by name.
pub(super) fn table(environment: BTreeMap<String, String>, runner: Option<Runner>) -> FuncMap {
    let mut map = FuncMap::new();
    for (name, function) in [LOGIC, TEXT, LISTS, NUMBERS, CODES].concat() {
        map.insert(name.to_owned(), Arc::new(function));
    }
    let environment = Arc::new(environment);
    let variables = Arc::clone(&environment);
    map.insert(
        "env".to_owned(),
        Arc::new(move |a: &[Value]| {
            string(
                variables
                    .get(&text(a, 0)?)
                    .map(String::as_str)
                    .unwrap_or_default(),
            )
        }),
    );
    map.insert(
        "expandenv".to_owned(),
        Arc::new(move |a: &[Value]| string(expand(&text(a, 0)?, &environment))),
    );
    map.insert(
        "cmd".to_owned(),
        Arc::new(move |a: &[Value]| cmd(a, runner.as_ref())),
    );
    map
}

fn cmd(args: &[Value], runner: Option<&Runner>) -> Outcome {
    let program = text(args, 0)?;
    let arguments: Vec<String> = args[1..].iter().map(ToString::to_string).collect();
    let Some(runner) = runner else {
        return Err(TemplateError::Exec("programs are not run here".to_owned()));
    };
    let output = runner(&program, &arguments)
        .map_err(|error| TemplateError::Exec(format!("`{program}`: {error}")))?;
    string(output.trim())
}

fn get(args: &[Value], index: usize) -> Result<&Value, TemplateError> {
    args.get(index).ok_or_else(|| {
        TemplateError::Exec(format!(
            "expected at least {} arguments, got {}",
            index + 1,
            args.len()
        ))
    })
}

/// An argument as text; a missing value is the empty string.
fn text(args: &[Value], index: usize) -> Result<String, TemplateError> {
    Ok(match get(args, index)? {
        Value::Nil => String::new(),
        value => value.to_string(),
    })
}

fn integer(args: &[Value], index: usize) -> Result<i64, TemplateError> {
    let value = get(args, index)?;
    let parsed = value
        .as_int()
        .or_else(|| value.to_string().trim().parse().ok());
    parsed.ok_or_else(|| TemplateError::Exec(format!("`{value}` is not an integer")))
}

fn items(args: &[Value], index: usize) -> Result<&[Value], TemplateError> {
    match get(args, index)? {
        Value::List(items) => Ok(items),
        other => Err(TemplateError::TypeMismatch {
            expected: "list",
            got: other.type_name(),
        }),
    }
}

fn string(text: impl AsRef<str>) -> Outcome {
    Ok(Value::String(text.as_ref().into()))
}

fn list<'a>(parts: impl Iterator<Item = &'a str>) -> Value {
    Value::List(parts.map(|part| Value::String(part.into())).collect())
}

fn required(args: &[Value]) -> Outcome {
    match get(args, 1)? {
        Value::Nil => Err(TemplateError::Exec(text(args, 0)?)),
        Value::String(value) if value.is_empty() => Err(TemplateError::Exec(text(args, 0)?)),
        value => Ok(value.clone()),
    }
}

/// A negative count keeps the end.
fn trunc(args: &[Value]) -> Outcome {
    let (count, text) = (integer(args, 0)?, text(args, 1)?);
    let letters: Vec<char> = text.chars().collect();
    let wanted = usize::try_from(count.unsigned_abs())
        .unwrap_or(usize::MAX)
        .min(letters.len());
    let range = if count < 0 {
        letters.len() - wanted..letters.len()
    } else {
        0..wanted
    };
    string(letters[range].iter().collect::<String>())
}

/// `substr START END TEXT`; a negative start means 0, a negative end the end.
fn substr(args: &[Value]) -> Outcome {
    let letters: Vec<char> = text(args, 2)?.chars().collect();
    let within = |index: i64| usize::try_from(index).unwrap_or(0).min(letters.len());
    let (start, end) = (integer(args, 0)?, integer(args, 1)?);
    let end = if end < 0 { letters.len() } else { within(end) };
    string(
        letters[within(start).min(end)..end]
            .iter()
            .collect::<String>(),
    )
}

/// Parts as a map `_0`, `_1`, …, which is what sprig's `split` gives.
fn split(args: &[Value]) -> Outcome {
    let (separator, text) = (text(args, 0)?, text(args, 1)?);
    let parts = text.split(&separator).enumerate();
    let map = parts.map(|(i, part)| (Arc::from(format!("_{i}")), Value::String(part.into())));
    Ok(Value::Map(Arc::new(map.collect())))
}

fn join(args: &[Value]) -> Outcome {
    let parts: Vec<String> = items(args, 1)?.iter().map(ToString::to_string).collect();
    string(parts.join(&text(args, 0)?))
}

fn regex(args: &[Value]) -> Result<Regex, TemplateError> {
    let pattern = text(args, 0)?;
    Regex::new(&pattern)
        .map_err(|_| TemplateError::Exec(format!("`{pattern}` is not a regular expression")))
}

fn b64dec(args: &[Value]) -> Outcome {
    let text = text(args, 0)?;
    let bytes = BASE64
        .decode(&text)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    bytes.map_or_else(
        || Err(TemplateError::Exec(format!("`{text}` is not base64"))),
        string,
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn title(text: &str) -> String {
    let mut start = true;
    let letters = text.chars().map(|c| {
        let upper = start;
        start = c.is_whitespace();
        if upper {
            c.to_uppercase().to_string()
        } else {
            c.to_string()
        }
    });
    letters.collect()
}

fn indent(text: &str, spaces: i64) -> String {
    let pad = " ".repeat(usize::try_from(spaces.clamp(0, 4096)).unwrap_or(0));
    text.split('\n')
        .map(|line| format!("{pad}{line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `$NAME` and `${NAME}`; unset ones are empty (Go's `os.ExpandEnv`).
fn expand(text: &str, environment: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let tail = &rest[dollar + 1..];
        let (name, after) = match tail.strip_prefix('{').and_then(|t| t.split_once('}')) {
            Some((name, after)) => (name, after),
            None => {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                tail.split_at(tail.find(|c| !word(c)).unwrap_or(tail.len()))
            }
        };
        match environment.get(name) {
            Some(value) => out.push_str(value),
            None if name.is_empty() => out.push('$'),
            None => {}
        }
        rest = after;
    }
    out + rest
}
