//! Schemas of `openapi.path`.

use std::collections::HashMap;
use std::rc::Rc;

use super::Schema;
use crate::yaml::Value;

type Kind = (String, String);

/// A file with OpenAPI definitions.
#[derive(Debug, Default)]
pub(crate) struct CustomSchema {
    definitions: HashMap<String, Rc<Value>>,
    kinds: HashMap<Kind, String>,
    namespaced: HashMap<Kind, bool>,
}

impl CustomSchema {
    /// Takes the definitions and paths of a file.
    pub(crate) fn read(file: &Value) -> Self {
        let mut all = Self::default();
        for (name, definition) in fields(file.get("definitions")) {
            if let Some(Value::List(kinds)) = definition.get("x-kubernetes-group-version-kind") {
                for kind in kinds.iter().filter_map(kind_of) {
                    all.kinds.insert(kind, name.clone());
                }
            }
            all.definitions
                .insert(name.clone(), Rc::new(definition.clone()));
        }
        for (path, operations) in fields(file.get("paths")) {
            let kind = operations
                .get("get")
                .and_then(|get| get.get("x-kubernetes-group-version-kind"))
                .and_then(kind_of);
            if let Some(kind) = kind {
                let namespaced = path.contains("namespaces/{namespace}");
                let known = all.namespaced.entry(kind).or_insert(namespaced);
                *known |= namespaced;
            }
        }
        all
    }

    pub(super) fn of_kind(all: &Rc<Self>, api_version: &str, kind: &str) -> Option<Schema> {
        let name = all.kinds.get(&(api_version.to_owned(), kind.to_owned()))?;
        let definition = all.definitions.get(name)?;
        Some(Schema::Custom(Rc::clone(all), Rc::clone(definition)))
    }

    pub(super) fn is_namespaced(&self, api_version: &str, kind: &str) -> Option<bool> {
        self.namespaced
            .get(&(api_version.to_owned(), kind.to_owned()))
            .copied()
    }

    pub(super) fn field(all: &Rc<Self>, value: &Value, name: &str) -> Option<Schema> {
        let field = value
            .get("properties")
            .and_then(|properties| properties.get(name))
            .or_else(|| {
                value
                    .get("additionalProperties")
                    .filter(|additional| matches!(additional, Value::Map(_)))
            })?;
        Self::resolve(all, field)
    }

    pub(super) fn items(all: &Rc<Self>, value: &Value) -> Option<Schema> {
        if value.get("type").and_then(Value::as_str) != Some("array") {
            return None;
        }
        Self::resolve(all, value.get("items")?)
    }

    /// Follows references, at most as many as there are definitions.
    fn resolve(all: &Rc<Self>, value: &Value) -> Option<Schema> {
        let mut value = Rc::new(value.clone());
        for _ in 0..=all.definitions.len() {
            let Some(reference) = value.get("$ref").and_then(Value::as_str) else {
                return Some(Schema::Custom(Rc::clone(all), value));
            };
            let name = reference.strip_prefix("#/definitions/")?;
            let Some(target) = all.definitions.get(name) else {
                return super::definition(name);
            };
            value = Rc::clone(target);
        }
        None
    }
}

/// Patch strategy and merge keys of a schema.
pub(super) fn strategy(value: &Value) -> (String, Vec<String>) {
    let Some(strategy) = value
        .get("x-kubernetes-patch-strategy")
        .and_then(Value::as_str)
    else {
        return (String::new(), Vec::new());
    };
    let keys = match value.get("x-kubernetes-list-map-keys") {
        Some(Value::List(keys)) => keys
            .iter()
            .filter_map(|key| key.as_str().map(str::to_owned))
            .collect(),
        _ => value
            .get("x-kubernetes-patch-merge-key")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .into_iter()
            .collect(),
    };
    (strategy.to_owned(), keys)
}

fn fields(value: Option<&Value>) -> &[(String, Value)] {
    match value {
        Some(Value::Map(fields)) => fields,
        _ => &[],
    }
}

fn kind_of(value: &Value) -> Option<Kind> {
    let text = |name| value.get(name).and_then(Value::as_str);
    let version = text("version")?;
    let api_version = match text("group") {
        Some(group) if !group.is_empty() => format!("{group}/{version}"),
        _ => version.to_owned(),
    };
    Some((api_version, text("kind")?.to_owned()))
}
