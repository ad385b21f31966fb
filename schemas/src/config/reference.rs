//! The reference of `kiln.yaml` as a page: a guide, then every field, both
//! from the same schema that files are checked against.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::schema;

/// What a person reads first. Its examples are read by a test.
const GUIDE: &str = include_str!("reference/guide.md");

/// The page, in Markdown. `docs/kiln-yaml.md` is a copy; `cargo run -p
/// kiln-schemas --example reference` prints it.
pub fn reference() -> String {
    let schema = schema();
    let none = Map::new();
    let definitions = schema["$defs"].as_object().unwrap_or(&none);
    let places = places(&schema, definitions);
    let mut page = format!("{GUIDE}\n## All fields\n\n");
    section(&mut page, &schema, definitions);
    for (name, definition) in definitions {
        if !definition["properties"].is_object() {
            continue;
        }
        let found = places.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        // Writing to a text does not fail.
        let _ = write!(
            page,
            "\n### <a id=\"{}\"></a>{}\n\n",
            name.to_lowercase(),
            heading(found)
        );
        section(&mut page, definition, definitions);
    }
    page
}

/// The places of a mapping. One that is used all over is named by the ends
/// of its paths.
fn heading(places: &[String]) -> String {
    let mut names: Vec<&str> = places.iter().map(String::as_str).collect();
    if names.len() > 4 {
        names = names.into_iter().map(last_two).collect();
        names.sort_unstable();
        names.dedup();
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// The last two parts of a path.
fn last_two(path: &str) -> &str {
    let dots = path.rmatch_indices('.').map(|(at, _)| at);
    dots.take(2).last().map_or(path, |at| &path[at + 1..])
}

/// A description and a table of fields.
fn section(page: &mut String, definition: &Value, definitions: &Map<String, Value>) {
    let required: Vec<&str> = definition["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let _ = write!(
        page,
        "{}\n\n| field | type | meaning |\n|---|---|---|\n",
        sentence(definition)
    );
    for (name, field) in definition["properties"].as_object().into_iter().flatten() {
        let must = if required.contains(&name.as_str()) {
            " **Required.**"
        } else {
            ""
        };
        let _ = writeln!(
            page,
            "| `{name}` | {} | {}{must}{} |",
            kind(field, definitions).replace('|', "\\|"),
            sentence(field).replace('|', "\\|"),
            choices(field, definitions).replace('|', "\\|")
        );
    }
}

/// A doc comment as one line.
fn sentence(value: &Value) -> String {
    value["description"]
        .as_str()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// What a field holds, in words, with a link to the section of a mapping.
fn kind(field: &Value, definitions: &Map<String, Value>) -> String {
    if let Some((name, definition)) = target(field, definitions) {
        return if definition["properties"].is_object() {
            format!("[mapping](#{})", name.to_lowercase())
        } else if definition["oneOf"].is_array() {
            "text".to_owned()
        } else if definition["anyOf"].is_array() {
            kind(definition, definitions)
        } else {
            "`{}`".to_owned()
        };
    }
    if let Some(any) = field["anyOf"].as_array() {
        let kinds: Vec<String> = any
            .iter()
            .filter(|one| one["type"] != "null")
            .map(|one| kind(one, definitions))
            .collect();
        return kinds.join(" or ");
    }
    let names: Vec<&str> = match &field["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    match names.iter().find(|name| **name != "null").copied() {
        Some("string") => "text".to_owned(),
        Some("integer") => "number".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("array") => format!("list of {}", plural(&kind(&field["items"], definitions))),
        Some("object") => match &field["additionalProperties"] {
            Value::Object(_) => format!(
                "name → {}",
                kind(&field["additionalProperties"], definitions)
            ),
            _ => "any mapping".to_owned(),
        },
        _ => "anything".to_owned(),
    }
}

fn plural(kind: &str) -> String {
    match kind {
        "text" => "texts".to_owned(),
        other => other.replacen("[mapping]", "[mappings]", 1),
    }
}

/// The values of a field that takes one of a few.
fn choices(field: &Value, definitions: &Map<String, Value>) -> String {
    let Some(values) =
        target(field, definitions).and_then(|(_, definition)| definition["oneOf"].as_array())
    else {
        return String::new();
    };
    let listed: Vec<String> = values
        .iter()
        .map(|value| {
            let what = sentence(value);
            let what = what.trim_end_matches('.');
            format!("`{}` ({what})", value["const"].as_str().unwrap_or_default())
        })
        .collect();
    format!("<br>One of {}.", listed.join(", "))
}

/// The definition that a field refers to; "or null" does not count.
fn target<'a>(field: &Value, definitions: &'a Map<String, Value>) -> Option<(&'a str, &'a Value)> {
    let reference = field["$ref"].as_str().or_else(|| {
        let any = field["anyOf"].as_array()?;
        let one = any.iter().find(|one| one["$ref"].is_string())?;
        one["$ref"].as_str()
    })?;
    let name = reference.strip_prefix("#/$defs/")?;
    let (name, definition) = definitions.get_key_value(name)?;
    Some((name, definition))
}

/// Where each definition is used, as paths from the document.
fn places<'a>(root: &Value, definitions: &'a Map<String, Value>) -> BTreeMap<&'a str, Vec<String>> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut waiting = vec![(String::new(), root)];
    while let Some((path, definition)) = waiting.pop() {
        for (name, field) in definition["properties"].as_object().into_iter().flatten() {
            let dot = if path.is_empty() { "" } else { "." };
            for (suffix, inner) in [
                ("", field),
                ("[]", &field["items"]),
                (".*", &field["additionalProperties"]),
            ] {
                let Some((name_of_target, found)) = target(inner, definitions) else {
                    continue;
                };
                let place = format!("{path}{dot}{name}{suffix}");
                places
                    .entry(name_of_target)
                    .or_default()
                    .push(place.clone());
                waiting.push((place, found));
            }
        }
    }
    for found in places.values_mut() {
        found.sort();
    }
    places
}
