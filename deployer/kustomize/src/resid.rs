//! What names a resource: group, version, kind, name and namespace.

use std::fmt;

use crate::schema::Schemas;

/// Group, version and kind. Empty fields of a selector match anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Gvk {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
}

const NAMESPACE_OF_CLUSTER: &str = "_non_namespaceable_";

impl Gvk {
    /// Reads `group/version` and a kind.
    pub(crate) fn new(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
        }
    }

    /// `group/version`, or the version alone.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether a selector with these fields selects this one.
    pub(crate) fn is_selected(&self, selector: &Gvk) -> bool {
        (selector.group.is_empty() || selector.group == self.group)
            && (selector.version.is_empty() || selector.version == self.version)
            && (selector.kind.is_empty() || selector.kind == self.kind)
    }

    /// The rank that the legacy order gives, and the text that breaks ties.
    pub(crate) fn order(&self) -> (i32, String) {
        (rank(&self.kind), self.sort_text())
    }

    pub(crate) fn sort_text(&self) -> String {
        let or = |text: &str, other: &str| {
            if text.is_empty() {
                other.to_owned()
            } else {
                text.to_owned()
            }
        };
        format!(
            "{}_{}_{}",
            or(&self.group, "~G"),
            or(&self.version, "~V"),
            or(&self.kind, "~K")
        )
    }
}

impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: &str, other: &'static str| {
            if text.is_empty() {
                other.to_owned()
            } else {
                text.to_owned()
            }
        };
        write!(
            f,
            "{}.{}.{}",
            or(&self.kind, "[noKind]"),
            or(&self.version, "[noVer]"),
            or(&self.group, "[noGrp]")
        )
    }
}

/// Kinds that come first, in this order, and kinds that come last.
pub(crate) const ORDER_FIRST: [&str; 22] = [
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];

/// See [`ORDER_FIRST`].
pub(crate) const ORDER_LAST: [&str; 2] = [
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

fn rank(kind: &str) -> i32 {
    let place = |list: &[&str]| list.iter().position(|name| *name == kind);
    if let Some(at) = place(&ORDER_FIRST) {
        return i32::try_from(at).unwrap_or(0) - 22;
    }
    place(&ORDER_LAST).map_or(0, |at| i32::try_from(at).unwrap_or(0) + 1)
}

/// The id of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct ResId {
    pub(crate) gvk: Gvk,
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// Whether the kind is known to live outside namespaces.
    pub(crate) cluster_scoped: bool,
}

impl ResId {
    /// An id whose scope is looked up.
    pub(crate) fn new(gvk: Gvk, name: &str, namespace: &str, schemas: &Schemas) -> Self {
        let cluster_scoped = schemas.is_cluster_scoped(&gvk);
        Self {
            gvk,
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            cluster_scoped,
        }
    }

    /// The namespace that comparisons use: never empty.
    pub(crate) fn effective_namespace(&self) -> &str {
        if self.cluster_scoped {
            NAMESPACE_OF_CLUSTER
        } else if self.namespace.is_empty() {
            "default"
        } else {
            &self.namespace
        }
    }

    /// Whether both live in the same namespace.
    pub(crate) fn same_namespace(&self, other: &Self) -> bool {
        self.effective_namespace() == other.effective_namespace()
    }

    /// Whether both name the same resource.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.same_gvkn(other) && self.same_namespace(other)
    }

    /// As [`Self::same`], in any namespace.
    pub(crate) fn same_gvkn(&self, other: &Self) -> bool {
        self.name == other.name && self.gvk == other.gvk
    }

    /// Whether the non-empty fields of a selector fit exactly.
    pub(crate) fn is_selected_by(&self, selector: &Self) -> bool {
        (selector.name.is_empty() || selector.name == self.name)
            && (selector.namespace.is_empty() || selector.same_namespace(self))
            && self.gvk.is_selected(&selector.gvk)
    }

    /// Whether nothing is set.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A value that is equal for two ids that are [`Self::same`].
    pub(crate) fn key(&self) -> (Gvk, String, String) {
        (
            self.gvk.clone(),
            self.name.clone(),
            self.effective_namespace().to_owned(),
        )
    }
}

impl fmt::Display for ResId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: &str, other: &'static str| {
            if text.is_empty() {
                other.to_owned()
            } else {
                text.to_owned()
            }
        };
        write!(
            f,
            "{}/{}.{}",
            self.gvk,
            or(&self.name, "[noName]"),
            or(&self.namespace, "[noNs]")
        )
    }
}
