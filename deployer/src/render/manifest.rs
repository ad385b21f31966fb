//! YAML and JSON text becomes objects and goes back to text.

use serde_json::Value;

use crate::object::{NotAnObject, Object};

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The text is not YAML.
    #[error("{origin} is not valid YAML")]
    Syntax {
        /// The file, URL or overlay.
        origin: String,
        /// Where and why.
        source: Box<serde_saphyr::Error>,
    },
    /// A document is not a Kubernetes object.
    #[error("document {document} of {origin} is not a Kubernetes object")]
    NotAnObject {
        /// The file, URL or overlay.
        origin: String,
        /// Counted from 1; empty documents do not count. Items of a `List`
        /// share the number of their list.
        document: usize,
        /// What it lacks.
        source: NotAnObject,
    },
    /// An object cannot be written as YAML.
    #[error("cannot write {object} as YAML")]
    Write {
        /// Which.
        object: String,
        /// Why.
        source: Box<serde_saphyr::ser::Error>,
    },
}

/// Reads every object of a text of YAML documents or JSON. `List` kinds are
/// taken apart, empty documents are skipped. `origin` is for messages.
pub fn parse(text: &str, origin: &str) -> Result<Vec<Object>, ManifestError> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        strict_booleans: false,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        budget: None,
    };
    let documents: Vec<Value> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|source| {
            ManifestError::Syntax {
                origin: origin.to_owned(),
                source: Box::new(source),
            }
        })?;
    let mut objects = Vec::new();
    for (index, mut document) in documents.into_iter().enumerate() {
        integral_floats_become_integers(&mut document);
        for value in items(document) {
            let object = Object::new(value).map_err(|source| ManifestError::NotAnObject {
                origin: origin.to_owned(),
                document: index + 1,
                source,
            })?;
            objects.push(object);
        }
    }
    Ok(objects)
}

/// Writes objects as YAML documents, separated by `---`.
pub fn to_yaml(objects: &[Object]) -> Result<String, ManifestError> {
    let mut text = String::new();
    for object in objects {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
        let document =
            serde_saphyr::to_string_with_options(object.value(), options).map_err(|source| {
                ManifestError::Write {
                    object: object.object_name().to_string(),
                    source: Box::new(source),
                }
            })?;
        text.push_str(document.trim_start_matches("---\n"));
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

/// A `List` (or `ConfigMapList`, …) stands for its items.
fn items(mut document: Value) -> Vec<Value> {
    if document.is_null() {
        return Vec::new();
    }
    let is_list = document["kind"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("List"));
    match document.get_mut("items") {
        Some(Value::Array(items)) if is_list => std::mem::take(items),
        _ => vec![document],
    }
}

/// kubectl reads YAML through Go's JSON, where `1.0` and `1e3` are integers;
/// the API server refuses `1000.0` in an integer field.
fn integral_floats_become_integers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(float) = number.as_f64()
                && float.fract() == 0.0
                && float.abs() < 9e15
            {
                // Exact: below 2^53 every integral f64 is an i64.
                #[allow(clippy::cast_possible_truncation)]
                let integer = float as i64;
                *value = integer.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(integral_floats_become_integers),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(integral_floats_become_integers),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_lists_and_empty_documents_are_read_in_order() {
        let text = "
# nothing but a comment
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
---
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Secret, metadata: {name: b}}
- {apiVersion: v1, kind: Service, metadata: {name: c}}
";
        let names: Vec<_> = parse(text, "t.yaml")
            .unwrap()
            .iter()
            .map(|o| format!("{}/{}", o.kind(), o.name()))
            .collect();
        assert_eq!(names, ["ConfigMap/a", "Secret/b", "Service/c"]);
    }

    #[test]
    fn numbers_and_booleans_are_read_as_kubectl_reads_them() {
        // Expected values: sigs.k8s.io/yaml 1.3.
        let text = "{apiVersion: v1, kind: X, metadata: {name: x}, a: 1.0, b: 1e3, c: 0777, d: yes, e: 1.5}";
        let object = parse(text, "t").unwrap().remove(0).into_value();
        assert_eq!(
            serde_json::to_string(&[
                &object["a"],
                &object["b"],
                &object["c"],
                &object["d"],
                &object["e"]
            ])
            .unwrap(),
            "[1,1000,511,true,1.5]"
        );
    }

    #[test]
    fn json_is_read_too() {
        let text = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#;
        assert_eq!(parse(text, "t.json").unwrap()[0].name(), "a");
    }

    #[test]
    fn a_document_that_is_no_object_is_named_by_number() {
        let text = "apiVersion: v1\nkind: A\nmetadata: {name: a}\n---\nname: nothing\n";
        let error = parse(text, "k8s/x.yaml").unwrap_err();
        assert_eq!(
            error.to_string(),
            "document 2 of k8s/x.yaml is not a Kubernetes object"
        );
    }

    #[test]
    fn what_is_written_is_read_again_unchanged() {
        let text = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},
            "data":{"yes":"no","n":"0777","multi":"a\nb\n","long":"word word word word word word word word word word word word word word word word word"}}"#;
        let objects = parse(text, "t").unwrap();
        let yaml = to_yaml(&[objects[0].clone(), objects[0].clone()]).unwrap();
        assert_eq!(yaml.matches("---").count(), 1);
        assert_eq!(
            parse(&yaml, "t").unwrap(),
            [objects[0].clone(), objects[0].clone()]
        );
    }
}
