//! Objects become what the manifests say: server-side apply, in order, as one
//! ApplySet (KEP-3659) per module, and what has gone is pruned.

mod conflict;
mod field_managers;
mod one;
mod order;
mod prune;
mod replace;
pub mod set;

use kiln_schemas::event::{Change, Events, Failure, ObjectName};

use crate::cluster::{Cluster, RequestError, Served};
use crate::object::Object;
pub use conflict::FieldConflict;
pub use set::{SetError, SetName};

/// The field manager of everything that Kiln applies.
pub const FIELD_MANAGER: &str = "kiln";

/// What may be deleted when it is gone from the manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prune {
    /// Nothing.
    Off,
    /// Everything but Namespaces, PersistentVolumeClaims and
    /// CustomResourceDefinitions.
    #[default]
    SparingData,
    /// Everything: the user said so.
    Everything,
}

/// What to do with a field that another manager owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conflicts {
    /// An error that lists the fields.
    #[default]
    Refuse,
    /// Take the field: the user said so.
    TakeOver,
}

/// What to do with an object whose immutable fields differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replace {
    /// Delete and create where that loses no data: Jobs, Pods, Deployments, …
    #[default]
    WhereSafe,
    /// Also custom resources and StatefulSets (`force`). A Namespace,
    /// PersistentVolumeClaim, PersistentVolume or CustomResourceDefinition is
    /// never replaced.
    Force,
}

/// What the API server does with fields that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validation {
    /// It refuses the object.
    #[default]
    Strict,
    /// It drops them.
    Ignore,
}

/// How to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ApplySettings {
    /// What may be deleted.
    pub prune: Prune,
    /// Fields of other managers.
    pub conflicts: Conflicts,
    /// Immutable fields.
    pub replace: Replace,
    /// Unknown fields.
    pub validation: Validation,
}

/// What was applied; what waiting, logs and forwards go by.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// In the order of the manifests.
    pub objects: Vec<AppliedObject>,
    /// The id of the ApplySet, the value of every member's `part-of` label.
    pub set_id: String,
}

/// One object as the server has it now.
#[derive(Debug, Clone)]
pub struct AppliedObject {
    /// How events name it, with its effective namespace.
    pub name: ObjectName,
    /// Its kind as served.
    pub served: Served,
    /// What applying did.
    pub change: Change,
    /// `metadata.uid`.
    pub uid: String,
    /// The object as the server returned it.
    pub live: Object,
}

/// Why applying failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The set's parent.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The server does not say what it serves.
    #[error("cannot ask the API server which kinds it serves")]
    Discovery(#[source] RequestError),
    /// Some objects; others may have been applied.
    #[error("{}", several(.0))]
    Objects(Vec<ObjectError>),
    /// Rights are missing.
    #[error("not allowed to {}", .missing.join(", "))]
    Forbidden {
        /// `create deployments.apps in namespace shop`, one per right.
        missing: Vec<String>,
        /// YAML of the smallest Role (and ClusterRole) that would do.
        role: String,
    },
    /// What has gone from the manifests could not be listed or deleted.
    #[error("cannot prune {what}")]
    Prune {
        /// An object or a kind.
        what: String,
        /// Why.
        source: RequestError,
    },
}

/// Why one object was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The server does not serve its kind.
    #[error("{object}: the cluster does not serve {api_version} {}; install its CustomResourceDefinition or use a served version", .object.kind)]
    UnknownKind {
        /// Which.
        object: ObjectName,
        /// As written.
        api_version: String,
    },
    /// It needs a name: a generated one would be a new object each time.
    #[error(
        "{object} has metadata.generateName; give it a metadata.name, so that it can be applied again"
    )]
    GeneratedName {
        /// Which.
        object: ObjectName,
    },
    /// Two manifests describe it.
    #[error("{object} is described twice by the manifests")]
    Twice {
        /// Which.
        object: ObjectName,
    },
    /// It belongs to another ApplySet.
    #[error(
        "{object} belongs to another set ({part_of}); delete it there first, or give one of them another name"
    )]
    ForeignMember {
        /// Which.
        object: ObjectName,
        /// The other set's id.
        part_of: String,
    },
    /// Fields are owned by other managers.
    #[error("{object} has fields that others manage: {}", conflict::list(.fields))]
    Conflict {
        /// Which.
        object: ObjectName,
        /// Each field with its owner.
        fields: Vec<FieldConflict>,
    },
    /// Immutable fields differ and it is not replaced without being told to.
    #[error("{object} cannot be changed in {}", .fields.join(", "))]
    Immutable {
        /// Which.
        object: ObjectName,
        /// Which fields.
        fields: Vec<String>,
        /// Whether `force` would replace it.
        replaceable: bool,
    },
    /// It was applied but does not become what later objects need.
    #[error("{object} did not become {wanted} within {seconds} s")]
    NotUsable {
        /// Which.
        object: ObjectName,
        /// `Established`, `Active` or `gone`.
        wanted: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The server refused it or could not be asked.
    #[error("cannot apply {object}")]
    Request {
        /// Which.
        object: ObjectName,
        /// Why.
        source: RequestError,
    },
}

/// Applies `objects` as the set `set`, prunes what has gone from it, and says
/// what happened to each object.
///
/// # Errors
/// Objects that do not depend on each other are all tried; the error lists
/// every one that failed. Nothing is pruned after a failure.
pub async fn apply(
    cluster: &Cluster,
    objects: &[Object],
    set: &SetName,
    settings: &ApplySettings,
    events: &Events,
) -> Result<Applied, ApplyError> {
    todo!()
}

impl ApplyError {
    /// The error in the shape that every renderer shows.
    pub fn failure(&self) -> Failure {
        todo!()
    }
}

fn several(errors: &[ObjectError]) -> String {
    todo!()
}
