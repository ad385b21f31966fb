//! One Kubernetes object as it stands in a manifest: JSON in the API's shape.

use kiln_schemas::event::ObjectName;
use serde_json::{Map, Value};

/// A manifest: a JSON object that has `apiVersion`, `kind` and
/// `metadata.name` or `metadata.generateName`.
///
/// Everything else is kept as it was read, in the order in which it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Object(Value);

/// Why a document is not a Kubernetes object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnObject {
    /// The document is a list or a scalar.
    #[error("expected a mapping with apiVersion, kind and metadata")]
    NotAMapping,
    /// A field that every object has is absent or not a string.
    #[error("{field} is missing")]
    Missing {
        /// `apiVersion`, `kind` or `metadata.name`.
        field: &'static str,
    },
}

impl Object {
    /// Checks the fields that every object has.
    pub fn new(value: Value) -> Result<Self, NotAnObject> {
        if !value.is_object() {
            return Err(NotAnObject::NotAMapping);
        }
        for field in ["apiVersion", "kind"] {
            if value[field].as_str().is_none_or(str::is_empty) {
                return Err(NotAnObject::Missing { field });
            }
        }
        let metadata = &value["metadata"];
        if metadata["name"]
            .as_str()
            .or(metadata["generateName"].as_str())
            .is_none_or(str::is_empty)
        {
            return Err(NotAnObject::Missing {
                field: "metadata.name",
            });
        }
        Ok(Self(value))
    }

    /// The whole object.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// The whole object, to be changed; `apiVersion`, `kind` and the name
    /// must stay.
    pub fn value_mut(&mut self) -> &mut Value {
        &mut self.0
    }

    /// The whole object, owned.
    pub fn into_value(self) -> Value {
        self.0
    }

    /// `group/version`, or `version` for the core group.
    pub fn api_version(&self) -> &str {
        self.0["apiVersion"].as_str().unwrap_or_default()
    }

    /// The API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version()
            .rsplit_once('/')
            .map_or("", |(group, _)| group)
    }

    /// The version without its group.
    pub fn version(&self) -> &str {
        self.api_version()
            .rsplit_once('/')
            .map_or(self.api_version(), |(_, version)| version)
    }

    /// The kind.
    pub fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap_or_default()
    }

    /// `Kind.group`, or `Kind` for the core group, as the ApplySet convention
    /// and skaffold's resource selectors write it.
    pub fn group_kind(&self) -> String {
        group_kind(self.group(), self.kind())
    }

    /// `metadata.name`; empty when the server is to generate one.
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// `metadata.namespace`, unless absent or empty.
    pub fn namespace(&self) -> Option<&str> {
        self.0["metadata"]["namespace"]
            .as_str()
            .filter(|namespace| !namespace.is_empty())
    }

    /// The label of that key.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.0["metadata"]["labels"][key].as_str()
    }

    /// The annotation of that key.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.0["metadata"]["annotations"][key].as_str()
    }

    /// How events and messages name it.
    pub fn object_name(&self) -> ObjectName {
        let generated = || {
            self.0["metadata"]["generateName"]
                .as_str()
                .unwrap_or_default()
        };
        ObjectName {
            kind: self.kind().to_owned(),
            namespace: self.namespace().map(str::to_owned),
            name: if self.name().is_empty() {
                generated()
            } else {
                self.name()
            }
            .to_owned(),
        }
    }

    /// Sets `metadata.namespace`.
    pub fn set_namespace(&mut self, namespace: &str) {
        self.metadata_mut()
            .insert("namespace".into(), namespace.into());
    }

    /// Sets a label of the object itself, never of a pod template.
    pub fn set_label(&mut self, key: &str, value: &str) {
        let labels = self.metadata_mut().entry("labels").or_insert(Value::Null);
        if !labels.is_object() {
            *labels = Value::Object(Map::new());
        }
        labels[key] = value.into();
    }

    fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        let metadata = &mut self.0["metadata"];
        if !metadata.is_object() {
            *metadata = Value::Object(Map::new());
        }
        match metadata {
            Value::Object(map) => map,
            _ => unreachable!("made an object just above"),
        }
    }
}

/// `Kind.group`, or `Kind` for the core group.
pub fn group_kind(group: &str, kind: &str) -> String {
    if group.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind}.{group}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_parts_of_an_object_are_read_from_its_json() {
        let object = Object::new(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"a": "b"}},
        }))
        .unwrap();
        assert_eq!(
            (object.group(), object.version(), object.kind()),
            ("apps", "v1", "Deployment")
        );
        assert_eq!(object.group_kind(), "Deployment.apps");
        assert_eq!(object.object_name().to_string(), "Deployment shop/web");
        assert_eq!(object.label("a"), Some("b"));
    }

    #[test]
    fn the_core_group_is_empty() {
        let object =
            Object::new(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}))
                .unwrap();
        assert_eq!((object.group(), object.version()), ("", "v1"));
        assert_eq!(object.group_kind(), "Pod");
    }

    #[test]
    fn a_document_that_is_no_object_names_what_it_lacks() {
        assert_eq!(Object::new(json!([])), Err(NotAnObject::NotAMapping));
        assert_eq!(
            Object::new(json!({"apiVersion": "v1", "kind": "Pod"})),
            Err(NotAnObject::Missing {
                field: "metadata.name"
            })
        );
        assert_eq!(
            Object::new(json!({"kind": "Pod", "metadata": {"name": "p"}})),
            Err(NotAnObject::Missing {
                field: "apiVersion"
            })
        );
    }
}
