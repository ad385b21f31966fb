//! YAML and JSON text becomes objects and goes back to text.

use kiln_schemas::diagnostic::Diagnostic;
use kiln_schemas::yaml::{self, EmitError};
use serde_json::Value;

use crate::object::{NotAnObject, Object};

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The text is not YAML.
    #[error(transparent)]
    Syntax(Box<Diagnostic>),
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
    /// Objects cannot be written.
    #[error("cannot write the manifests")]
    Write(#[from] EmitError),
}

/// Reads every object of a text of YAML documents or JSON. `List` kinds are
/// taken apart, empty documents are skipped. `origin` is for messages.
pub fn parse(text: &str, origin: &str) -> Result<Vec<Object>, ManifestError> {
    let documents =
        yaml::manifests(text, origin).map_err(|error| ManifestError::Syntax(Box::new(error)))?;
    let mut objects = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
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
    let documents: Vec<Value> = objects
        .iter()
        .map(|object| object.value().clone())
        .collect();
    Ok(yaml::to_string(&documents)?)
}

/// A `List` (or `ConfigMapList`, …) stands for its items.
fn items(mut document: Value) -> Vec<Value> {
    let is_list = document["kind"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("List"));
    match document.get_mut("items") {
        Some(Value::Array(items)) if is_list => std::mem::take(items),
        _ => vec![document],
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
