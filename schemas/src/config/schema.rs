//! The JSON Schema of `kiln.yaml`.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Document;

/// The schema (draft 2020-12), made from the structs of this module.
/// `docs/kiln.schema.json` is a copy; `cargo run -p kiln-schemas --example
/// schema` prints it.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Document>().to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), Value::from("kiln.yaml"));
    }
    schema
}
