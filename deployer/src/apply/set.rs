//! The ApplySet of a module (KEP-3659): its name, its id, and the parent
//! object, a ConfigMap that remembers what the set contains.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::ConfigMap;
use kiln_schemas::event::ObjectName;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::FIELD_MANAGER;
use crate::cluster::{Cluster, RequestError};

/// Label of a parent: the set's id.
const ID: &str = "applyset.kubernetes.io/id";
/// Label of a member: the id of its set.
pub(crate) const PART_OF: &str = "applyset.kubernetes.io/part-of";
/// Annotation of a parent: the tool that owns it, `name/version`.
const TOOLING: &str = "applyset.kubernetes.io/tooling";
/// Annotation of a parent: `Kind.group`, separated by commas.
const GROUP_KINDS: &str = "applyset.kubernetes.io/contains-group-kinds";
/// Annotation of a parent: namespaces of members besides its own.
const NAMESPACES: &str = "applyset.kubernetes.io/additional-namespaces";
/// Annotations of a parent that say whose set it is: two names may become one
/// parent name, and such sets must not be mixed.
const PROJECT: &str = "kiln.dev/project";
const MODULE: &str = "kiln.dev/module";

/// This tool, as the convention wants it: `name/v1.2.3`.
const TOOL: &str = concat!("kiln/v", env!("CARGO_PKG_VERSION"));

/// Identifies what one module of a project deployed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetName {
    /// The project's name.
    pub project: String,
    /// The module's name.
    pub module: String,
    /// Where the parent object lives: the namespace that is deployed to.
    pub namespace: String,
}

/// Why a set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// An object of the parent's name exists and is no ApplySet.
    #[error("{parent} exists but is no ApplySet of Kiln; rename the project or delete it")]
    NotASet {
        /// The object.
        parent: ObjectName,
    },
    /// Another tool owns the set.
    #[error(
        "the ApplySet {parent} belongs to `{tool}`; rename the project or delete the set with that tool"
    )]
    OtherTool {
        /// The parent.
        parent: ObjectName,
        /// Its tooling annotation.
        tool: String,
    },
    /// Another project owns the set.
    #[error(
        "the ApplySet {parent} belongs to project `{project}`, module `{module}`; \
         rename this project or deploy to another namespace"
    )]
    OtherProject {
        /// The parent.
        parent: ObjectName,
        /// The owner's project.
        project: String,
        /// The owner's module.
        module: String,
    },
    /// The parent cannot be read or written.
    #[error("cannot {verb} the ApplySet {parent}")]
    Request {
        /// `read`, `write` or `delete`.
        verb: &'static str,
        /// The parent.
        parent: ObjectName,
        /// Why.
        source: RequestError,
    },
}

impl SetError {
    /// Whether the user lacked a right.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Request { source, .. } if source.is_forbidden())
    }
}

/// What a set contains, as its parent says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// `Kind.group` of every member.
    pub group_kinds: BTreeSet<String>,
    /// Namespaces of members, the parent's own among them.
    pub namespaces: BTreeSet<String>,
}

impl Contents {
    /// Everything that either contains.
    pub fn union(&self, other: &Self) -> Self {
        Self {
            group_kinds: &self.group_kinds | &other.group_kinds,
            namespaces: &self.namespaces | &other.namespaces,
        }
    }
}

impl SetName {
    /// The id of the set: value of every member's `part-of` label.
    pub fn id(&self) -> String {
        id(&self.parent_name(), &self.namespace, "ConfigMap", "")
    }

    /// How messages name the parent.
    pub fn parent(&self) -> ObjectName {
        ObjectName {
            kind: "ConfigMap".into(),
            namespace: Some(self.namespace.clone()),
            name: self.parent_name(),
        }
    }

    /// `kiln.PROJECT.MODULE` in the characters that names may have.
    fn parent_name(&self) -> String {
        let name = format!(
            "kiln.{}.{}",
            subdomain(&self.project),
            subdomain(&self.module)
        );
        if name.len() <= 253 {
            return name;
        }
        let digest = URL_SAFE_NO_PAD
            .encode(Sha256::digest(name.as_bytes()))
            .to_lowercase();
        let digest: String = digest
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(16)
            .collect();
        format!("{}-{digest}", name[..200].trim_end_matches(['.', '-']))
    }

    fn api(&self, cluster: &Cluster) -> Api<ConfigMap> {
        Api::namespaced(cluster.client().clone(), &self.namespace)
    }

    fn failed(&self, verb: &'static str, error: kube::Error) -> SetError {
        SetError::Request {
            verb,
            parent: self.parent(),
            source: error.into(),
        }
    }

    /// What the set contained when it was last applied; `None` when there is
    /// no such set. A set that belongs to someone else is an error.
    pub(crate) async fn read(&self, cluster: &Cluster) -> Result<Option<Contents>, SetError> {
        let found = self.api(cluster).get_opt(&self.parent_name()).await;
        match found.map_err(|error| self.failed("read", error))? {
            Some(parent) => self.contents(&parent).map(Some),
            None => Ok(None),
        }
    }

    /// Writes the parent.
    pub(crate) async fn write(
        &self,
        cluster: &Cluster,
        contents: &Contents,
    ) -> Result<(), SetError> {
        let join = |items: &BTreeSet<String>, skip: Option<&str>| {
            let items = items
                .iter()
                .map(String::as_str)
                .filter(|item| Some(*item) != skip);
            items.collect::<Vec<_>>().join(",")
        };
        let parent = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self.parent_name(),
                "namespace": self.namespace,
                "labels": {ID: self.id()},
                "annotations": {
                    TOOLING: TOOL,
                    GROUP_KINDS: join(&contents.group_kinds, None),
                    NAMESPACES: join(&contents.namespaces, Some(&self.namespace)),
                    PROJECT: self.project,
                    MODULE: self.module,
                },
            },
        });
        // The parent was read and is ours: a field that someone edited goes back.
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let written = self
            .api(cluster)
            .patch(&self.parent_name(), &params, &Patch::Apply(&parent))
            .await;
        written
            .map(drop)
            .map_err(|error| self.failed("write", error))
    }

    /// Deletes the parent; fine when it is gone.
    pub(crate) async fn forget(&self, cluster: &Cluster) -> Result<(), SetError> {
        match self
            .api(cluster)
            .delete(&self.parent_name(), &kube::api::DeleteParams::default())
            .await
        {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(self.failed("delete", error)),
            Ok(_) => Ok(()),
        }
    }

    fn contents(&self, parent: &ConfigMap) -> Result<Contents, SetError> {
        let annotation = |key: &str| {
            let annotations = parent.metadata.annotations.as_ref();
            annotations
                .and_then(|all| all.get(key))
                .map(String::as_str)
                .unwrap_or_default()
        };
        let id = parent
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(ID));
        let tool = annotation(TOOLING);
        if tool.is_empty() || id.is_none() {
            return Err(SetError::NotASet {
                parent: self.parent(),
            });
        }
        if !tool.starts_with("kiln/") {
            return Err(SetError::OtherTool {
                parent: self.parent(),
                tool: tool.to_owned(),
            });
        }
        let (project, module) = (annotation(PROJECT), annotation(MODULE));
        if (project, module) != (self.project.as_str(), self.module.as_str()) {
            return Err(SetError::OtherProject {
                parent: self.parent(),
                project: project.to_owned(),
                module: module.to_owned(),
            });
        }
        let split = |text: &str| -> BTreeSet<String> {
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let mut namespaces = split(annotation(NAMESPACES));
        namespaces.insert(self.namespace.clone());
        Ok(Contents {
            group_kinds: split(annotation(GROUP_KINDS)),
            namespaces,
        })
    }
}

/// The id of a set by its parent
/// (KEP-3659: `applyset-<base64url(sha256(name.namespace.kind.group))>-v1`).
fn id(name: &str, namespace: &str, kind: &str, group: &str) -> String {
    let digest = Sha256::digest(format!("{name}.{namespace}.{kind}.{group}").as_bytes());
    format!("applyset-{}-v1", URL_SAFE_NO_PAD.encode(digest))
}

/// A name in the characters of an RFC 1123 subdomain's label.
fn subdomain(name: &str) -> String {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(allowed).collect();
    match name.trim_matches('-') {
        "" => "unnamed".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> SetName {
        SetName {
            project: "Shop_1".into(),
            module: "web".into(),
            namespace: "test".into(),
        }
    }

    fn parent(annotations: serde_json::Value) -> ConfigMap {
        serde_json::from_value(json!({"metadata": {
            "name": "kiln.shop-1.web", "labels": {ID: "x"}, "annotations": annotations}}))
        .unwrap()
    }

    #[test]
    fn the_id_is_that_of_the_convention() {
        // kubectl's own vector: Secret `my-set` in namespace `test`
        // (k8s.io/kubectl pkg/cmd/apply/apply_test.go).
        assert_eq!(
            id("my-set", "test", "Secret", ""),
            "applyset-0eFHV8ySqp7XoShsGvyWFQD3s96yqwHmzc4e0HR1dsY-v1"
        );
    }

    #[test]
    fn parent_names_are_valid_object_names() {
        assert_eq!(set().parent_name(), "kiln.shop-1.web");
        let long = SetName {
            project: "p".repeat(300),
            module: "_".into(),
            namespace: "n".into(),
        };
        let name = long.parent_name();
        assert!(name.len() <= 253, "{name}");
        assert!(name.ends_with(|c: char| c.is_ascii_alphanumeric()));
    }

    #[test]
    fn the_parent_says_what_the_set_contains() {
        let parent = parent(
            json!({TOOLING: "kiln/v0.0.1", PROJECT: "Shop_1", MODULE: "web",
            GROUP_KINDS: "Deployment.apps,Service", NAMESPACES: "other"}),
        );
        let contents = set().contents(&parent).unwrap();
        assert_eq!(
            contents.group_kinds,
            BTreeSet::from(["Deployment.apps".into(), "Service".into()])
        );
        assert_eq!(
            contents.namespaces,
            BTreeSet::from(["other".into(), "test".into()])
        );
    }

    #[test]
    fn a_set_of_someone_else_is_refused() {
        let kubectl = parent(json!({TOOLING: "kubectl/v1.34.0"}));
        assert!(matches!(
            set().contents(&kubectl),
            Err(SetError::OtherTool { .. })
        ));
        let other = parent(json!({TOOLING: "kiln/v0.1.0", PROJECT: "shop.1", MODULE: "web"}));
        let error = set().contents(&other).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("belongs to project `shop.1`, module `web`"),
            "{error}"
        );
        assert!(matches!(
            set().contents(&parent(json!({}))),
            Err(SetError::NotASet { .. })
        ));
    }
}
