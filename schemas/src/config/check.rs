//! Checks a tree against the JSON Schema and makes the value that serde
//! reads, so that every wrong name and shape is reported with its place, all
//! at once. Understands the part of JSON Schema that the structs produce.

use serde_json::{Map, Value};

use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::yaml::{Content, Map as NodeMap, Node};

/// Walks one document.
pub(super) struct Checker<'a> {
    schema: &'a Value,
    errors: Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    /// Starts with the root schema.
    pub(super) fn new(schema: &'a Value) -> Self {
        Self {
            schema,
            errors: Vec::new(),
        }
    }

    /// The document as a value that fits the schema, or what is wrong.
    pub(super) fn check(mut self, node: &Node) -> Result<Value, Vec<Diagnostic>> {
        let value = self.node(node, self.schema, "");
        if self.errors.is_empty() {
            Ok(value)
        } else {
            Err(self.errors)
        }
    }

    fn node(&mut self, node: &Node, schema: &'a Value, path: &str) -> Value {
        let alternatives = self.alternatives(schema);
        if alternatives.is_empty() {
            return node.to_value();
        }
        if let Some(words) = words(&alternatives) {
            return self.word(node, &words, path);
        }
        for alternative in &alternatives {
            match &node.content {
                Content::Map(map) if has_type(alternative, "object") => {
                    return self.mapping(node, map, alternative, path);
                }
                Content::List(items) if has_type(alternative, "array") => {
                    let schema = alternative.get("items").unwrap_or(&Value::Bool(true));
                    let read = items.iter().enumerate();
                    return read
                        .map(|(index, item)| self.node(item, schema, &format!("{path}[{index}]")))
                        .collect();
                }
                Content::Scalar { .. } => {
                    if let Some(value) = scalar(node, alternative) {
                        return value;
                    }
                }
                _ => {}
            }
        }
        // A key without a value means the section with its defaults.
        if node.is_null() && alternatives.iter().any(|s| has_type(s, "object")) {
            return Value::Object(Map::new());
        }
        let expected = expectation(&alternatives);
        let message = format!("`{path}` must be {expected}, not {}", node.describe());
        self.errors.push(Diagnostic::at(&node.span, message));
        Value::Null
    }

    /// The schemas of which one must fit, references followed.
    fn alternatives(&self, schema: &'a Value) -> Vec<&'a Value> {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let target = reference
                .strip_prefix('#')
                .and_then(|at| self.schema.pointer(at));
            return target
                .map(|target| self.alternatives(target))
                .unwrap_or_default();
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(options) = schema.get(key).and_then(Value::as_array) {
                return options
                    .iter()
                    .flat_map(|option| self.alternatives(option))
                    .collect();
            }
        }
        let constrained = ["type", "const", "enum"]
            .iter()
            .any(|key| schema.get(key).is_some());
        if constrained {
            vec![schema]
        } else {
            Vec::new()
        }
    }

    fn mapping(&mut self, node: &Node, map: &NodeMap, schema: &'a Value, path: &str) -> Value {
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties");
        let mut value = Map::new();
        for (key, child) in map.iter() {
            let below = if path.is_empty() {
                key.name.clone()
            } else {
                format!("{path}.{}", key.name)
            };
            let known = properties.and_then(|properties| properties.get(&key.name));
            let Some(schema) = known.or_else(|| others.filter(|s| **s != Value::Bool(false)))
            else {
                let names = properties
                    .into_iter()
                    .flat_map(Map::keys)
                    .map(String::as_str);
                self.errors.push(unknown(&key.name, &key.span, path, names));
                continue;
            };
            // An absent value is the default; serde needs no null for it.
            if known.is_some() && child.is_null() && !self.is_section(schema) {
                continue;
            }
            value.insert(key.name.clone(), self.node(child, schema, &below));
        }
        for required in schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let name = required.as_str().unwrap_or_default();
            if map.get(name).is_none_or(Node::is_null) {
                let at = if path.is_empty() {
                    name.to_owned()
                } else {
                    format!("{path}.{name}")
                };
                self.errors
                    .push(Diagnostic::at(&node.span, format!("`{at}` is required")));
            }
        }
        Value::Object(value)
    }

    fn is_section(&self, schema: &'a Value) -> bool {
        self.alternatives(schema)
            .iter()
            .any(|schema| has_type(schema, "object"))
    }

    fn word(&mut self, node: &Node, words: &[&str], path: &str) -> Value {
        match node.as_text() {
            Some(text) if words.contains(&text) => Value::from(text),
            text => {
                let found =
                    text.map_or_else(|| node.describe().to_owned(), |text| format!("`{text}`"));
                let finding = Diagnostic::at(&node.span, format!("`{path}` cannot be {found}"));
                let meant = text.and_then(|text| did_you_mean(text, words.iter().copied()));
                self.errors.push(match meant {
                    Some(word) => finding.help(format!("did you mean `{word}`?")),
                    None => finding.help(format!("use one of {}", words.join(", "))),
                });
                Value::Null
            }
        }
    }
}

fn unknown<'a>(
    name: &str,
    span: &crate::yaml::Span,
    path: &str,
    known: impl Iterator<Item = &'a str>,
) -> Diagnostic {
    let place = if path.is_empty() {
        "the document"
    } else {
        path
    };
    let finding = Diagnostic::at(span, format!("unknown field `{name}` in {place}"));
    match did_you_mean(name, known) {
        Some(known) => finding.help(format!("did you mean `{known}`?")),
        None => finding,
    }
}

/// A scalar as the schema wants it. A string takes any scalar as written, so
/// `VERSION: 1.20` stays `1.20`.
fn scalar(node: &Node, schema: &Value) -> Option<Value> {
    let Content::Scalar { text, value } = &node.content else {
        return None;
    };
    match value {
        Value::Null => has_type(schema, "null").then_some(Value::Null),
        Value::Bool(_) if has_type(schema, "boolean") => Some(value.clone()),
        Value::Number(number) if has_type(schema, "integer") => {
            let within = |key: &str, ok: fn(f64, f64) -> bool| {
                let bound = schema.get(key).and_then(Value::as_f64);
                bound
                    .zip(number.as_f64())
                    .is_none_or(|(bound, number)| ok(number, bound))
            };
            let integral = number.is_i64() || number.is_u64();
            let fits = within("minimum", |n, min| n >= min) && within("maximum", |n, max| n <= max);
            (integral && fits).then(|| value.clone())
        }
        _ if has_type(schema, "string") => Some(Value::String(text.clone())),
        _ => None,
    }
}

fn has_type(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(known)) => known == name,
        Some(Value::Array(names)) => names.iter().any(|known| known == name),
        _ => false,
    }
}

/// The words of an enumeration; null beside them does not count.
fn words<'a>(alternatives: &[&'a Value]) -> Option<Vec<&'a str>> {
    let mut words = Vec::new();
    for schema in alternatives {
        if let Some(word) = schema.get("const").and_then(Value::as_str) {
            words.push(word);
        } else if let Some(list) = schema.get("enum").and_then(Value::as_array) {
            words.extend(list.iter().filter_map(Value::as_str));
        } else if schema.get("type").and_then(Value::as_str) != Some("null") {
            return None;
        }
    }
    Some(words)
}

fn expectation(alternatives: &[&Value]) -> String {
    let kinds = [
        ("string", "a string"),
        ("boolean", "true or false"),
        ("integer", "an integer"),
        ("array", "a list"),
        ("object", "a mapping"),
    ];
    let named: Vec<String> = kinds
        .iter()
        .filter_map(|(name, words)| {
            let schema = alternatives.iter().find(|schema| has_type(schema, name))?;
            let bounds = schema.get("minimum").zip(schema.get("maximum"));
            Some(match bounds {
                Some((min, max)) => format!("{words} from {min} to {max}"),
                None => (*words).to_owned(),
            })
        })
        .collect();
    named.join(" or ")
}
