//! Where resources came from and what changed them: `buildMetadata`.

use std::path::Path;

use crate::load::{Repository, normal};
use crate::resmap::ResMap;
use crate::resource::{self, ORIGIN, TRANSFORMATIONS};
use crate::work::Work;
use crate::yaml::ops::PathError;
use crate::yaml::{NodeId, Tree, Value, json, ops, parse, write};

/// The origin of a resource or of a change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    pub(crate) path: String,
    pub(crate) repository: String,
    pub(crate) reference: String,
    pub(crate) configured_in: String,
    /// API version, kind, name and namespace of what did it.
    pub(crate) configured_by: [String; 4],
}

impl Origin {
    /// The origin of something that this one names by a path.
    pub(crate) fn join(&self, path: &str) -> Self {
        let mut joined = self.clone();
        let Some(repository) = Repository::read(path) else {
            joined.path = join(&self.path, path);
            return joined;
        };
        repository.url().clone_into(&mut joined.repository);
        joined.reference = repository.reference().unwrap_or("").to_owned();
        // A repository without folder has the name of a placeholder here.
        joined.path = if repository.path().is_empty() {
            "notCloned".to_owned()
        } else {
            join("", repository.path())
        };
        joined
    }

    /// The origin of what a kustomization file itself does.
    pub(crate) fn builtin(&self, file: &str, kind: &str) -> Self {
        Self {
            path: String::new(),
            repository: self.repository.clone(),
            reference: self.reference.clone(),
            configured_in: join(&self.path, file),
            configured_by: [
                "builtin".to_owned(),
                kind.to_owned(),
                String::new(),
                String::new(),
            ],
        }
    }

    /// The origin of what a plugin does, if its own origin is known.
    pub(crate) fn of_plugin(work: &Work, node: NodeId) -> Option<Self> {
        let t = &work.tree;
        let text = ops::meta_entry(t, node, "annotations", ORIGIN)?;
        let mut scratch = Tree::default();
        let value = parse::document(&mut scratch, text)
            .ok()
            .flatten()
            .and_then(|root| json::of_node(&scratch, root).ok())
            .unwrap_or(Value::Null);
        let field = |name| {
            value
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or("")
                .to_owned()
        };
        Some(Self {
            path: String::new(),
            repository: field("repo"),
            reference: field("ref"),
            configured_in: field("path"),
            configured_by: [
                ops::top(t, node, "apiVersion"),
                ops::top(t, node, "kind"),
                ops::meta(t, node, "name").to_owned(),
                ops::meta(t, node, "namespace").to_owned(),
            ],
        })
    }

    fn value(&self) -> Value {
        let mut fields = Vec::new();
        let mut put = |name: &str, text: &str| {
            if !text.is_empty() {
                fields.push((name.to_owned(), Value::String(text.to_owned())));
            }
        };
        put("path", &self.path);
        put("repo", &self.repository);
        put("ref", &self.reference);
        put("configuredIn", &self.configured_in);
        let by: Vec<(String, Value)> = ["apiVersion", "kind", "name", "namespace"]
            .into_iter()
            .zip(&self.configured_by)
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| (name.to_owned(), Value::String(text.clone())))
            .collect();
        if !by.is_empty() {
            fields.push(("configuredBy".to_owned(), Value::Map(by)));
        }
        Value::Map(fields)
    }

    /// As it stands in the annotation.
    pub(crate) fn text(&self) -> String {
        write::in_order(&self.value())
    }
}

fn join(base: &str, path: &str) -> String {
    let joined = if base.is_empty() {
        normal(Path::new(path))
    } else {
        normal(&Path::new(base).join(path.trim_start_matches('/')))
    };
    joined.to_string_lossy().into_owned()
}

/// Notes an origin on resources that have none.
pub(crate) fn add(work: &mut Work, nodes: &[NodeId], origin: &Origin) -> Result<(), PathError> {
    for node in nodes {
        if ops::meta_entry(&work.tree, *node, "annotations", ORIGIN).is_none() {
            set(work, *node, ORIGIN, origin.text())?;
        }
    }
    Ok(())
}

/// Notes a change. What has no origin was made by it.
pub(crate) fn add_change(work: &mut Work, map: &ResMap, origin: &Origin) -> Result<(), PathError> {
    for node in map.nodes() {
        if ops::meta_entry(&work.tree, node, "annotations", ORIGIN).is_none() {
            set(work, node, ORIGIN, origin.text())?;
            continue;
        }
        let mut text = ops::meta_entry(&work.tree, node, "annotations", TRANSFORMATIONS)
            .unwrap_or("")
            .to_owned();
        text.push_str(&write::in_order(&Value::List(vec![origin.value()])));
        set(work, node, TRANSFORMATIONS, text)?;
    }
    Ok(())
}

fn set(work: &mut Work, node: NodeId, key: &str, text: String) -> Result<(), PathError> {
    resource::change_annotations(&mut work.tree, node, |all| {
        all.insert(key.to_owned(), text);
    })
}

/// Removes the notes.
pub(crate) fn remove(work: &mut Work, map: &ResMap, key: &str) -> Result<(), PathError> {
    for node in map.nodes() {
        resource::change_annotations(&mut work.tree, node, |all| {
            all.remove(key);
        })?;
    }
    Ok(())
}
