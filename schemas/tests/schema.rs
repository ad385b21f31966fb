//! The checked-in JSON Schema is the one that the reader enforces.

use kiln_schemas::config;
use serde_json::Value;

const CHECKED_IN: &str = include_str!("../../docs/kiln.schema.json");

#[test]
fn the_checked_in_schema_is_current() {
    assert_eq!(
        CHECKED_IN.trim_end(),
        format!("{:#}", config::schema()),
        "regenerate it: cargo run -p kiln-schemas --example schema > docs/kiln.schema.json"
    );
}

/// A field without a description would be a hole in the reference.
#[test]
fn every_field_is_described() {
    fn visit(value: &Value, path: &str, bare: &mut Vec<String>) {
        if let Some(properties) = value.get("properties").and_then(Value::as_object) {
            for (name, field) in properties {
                if field.get("description").is_none() {
                    bare.push(format!("{path}.{name}"));
                }
            }
        }
        for (name, value) in value.as_object().into_iter().flatten() {
            visit(value, &format!("{path}.{name}"), bare);
        }
    }
    let mut bare = Vec::new();
    visit(&config::schema(), "", &mut bare);
    assert_eq!(bare, Vec::<String>::new());
}
