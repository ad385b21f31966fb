//! Why applying failed, in words.

use kiln_schemas::event::{Failure, ObjectName};

use super::{FieldConflict, SetError};
use crate::cluster::RequestError;

/// Why applying failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The set's parent.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The server does not say what it serves.
    #[error("cannot ask the API server which kinds it serves")]
    Discovery(#[source] RequestError),
    /// Some objects; others may have been applied. Never empty.
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
    #[error("the cluster does not serve {api_version} {}, the kind of {object}", .object.kind)]
    UnknownKind {
        /// Which.
        object: ObjectName,
        /// As written.
        api_version: String,
    },
    /// It needs a name: a generated one would be a new object each time.
    #[error("{object} has a generated name and would be a new object each time")]
    GeneratedName {
        /// Which.
        object: ObjectName,
    },
    /// Two manifests describe it.
    #[error("two manifests describe {object}")]
    Twice {
        /// Which.
        object: ObjectName,
    },
    /// It belongs to another ApplySet.
    #[error("{object} belongs to another ApplySet, {part_of}")]
    ForeignMember {
        /// Which.
        object: ObjectName,
        /// The other set's id.
        part_of: String,
    },
    /// Fields are owned by other managers.
    #[error("{object} has fields that others manage")]
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
        /// Whether [`super::Replace::Force`] would replace it.
        replaceable: bool,
    },
    /// It was applied but does not become what later objects need.
    #[error("{object} was not {wanted} after {seconds} s")]
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

impl ApplyError {
    /// The error in the shape that every renderer shows.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Objects(errors) => match errors.as_slice() {
                [error] => error.failure(),
                errors => {
                    errors
                        .iter()
                        .fold(Failure::new(self.to_string()), |mut failure, error| {
                            let one = error.failure();
                            let words = [vec![one.message], one.causes].concat();
                            failure.causes.push(words.join(": "));
                            let new = one
                                .hints
                                .into_iter()
                                .filter(|hint| !failure.hints.contains(hint));
                            failure.hints.extend(new.collect::<Vec<_>>());
                            failure
                        })
                }
            },
            Self::Forbidden { role, .. } => Failure::new(self.to_string()).hint(format!(
                "This is the smallest role that would allow it; bind it to your user:\n{role}"
            )),
            _ => Failure::from_error(self),
        }
    }

    /// Whether the user lacked a right somewhere.
    pub(crate) fn is_forbidden(&self) -> bool {
        match self {
            Self::Objects(errors) => errors.iter().any(ObjectError::is_forbidden),
            Self::Set(error) => error.is_forbidden(),
            Self::Discovery(source) | Self::Prune { source, .. } => source.is_forbidden(),
            Self::Forbidden { .. } => false,
        }
    }
}

impl ObjectError {
    /// The error in the shape that every renderer shows.
    pub fn failure(&self) -> Failure {
        let failure = Failure::from_error(self);
        match self {
            Self::UnknownKind { .. } => failure.hint(
                "Install its CustomResourceDefinition, or use a version that the cluster serves.",
            ),
            Self::GeneratedName { .. } => {
                failure.hint("Replace metadata.generateName by metadata.name.")
            }
            Self::Twice { .. } => failure.hint("Remove one of them, or rename it."),
            Self::ForeignMember { .. } => failure.hint(
                "Delete it with the project that deployed it, or give one of the two another name.",
            ),
            Self::Conflict { fields, .. } => {
                let causes = fields.iter().map(ToString::to_string).collect();
                Failure { causes, ..failure }
                    .hint("Remove those fields from the manifest, or take them over.")
            }
            Self::Immutable {
                replaceable: true, ..
            } => failure.hint(
                "Deploy with --force to delete it and create it again; what it stores may be lost.",
            ),
            Self::Immutable {
                replaceable: false, ..
            } => failure
                .hint("Delete it yourself if what it stores may be lost, or undo the change."),
            Self::NotUsable { .. } => {
                failure.hint("Look at its status and its finalizers with kubectl describe.")
            }
            Self::Request { .. } => failure,
        }
    }

    fn is_forbidden(&self) -> bool {
        matches!(self, Self::Request { source, .. } if source.is_forbidden())
    }
}

fn several(errors: &[ObjectError]) -> String {
    match errors {
        [error] => error.to_string(),
        errors => format!("{} objects could not be applied", errors.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> ObjectName {
        ObjectName {
            kind: "Deployment".into(),
            namespace: Some("shop".into()),
            name: name.into(),
        }
    }

    #[test]
    fn a_conflict_lists_every_field_with_its_owner() {
        let fields = vec![FieldConflict {
            field: ".spec.replicas".into(),
            manager: "\"hpa\"".into(),
        }];
        let failure = ApplyError::Objects(vec![ObjectError::Conflict {
            object: object("web"),
            fields,
        }])
        .failure();
        assert_eq!(
            failure.message,
            "Deployment shop/web has fields that others manage"
        );
        assert_eq!(failure.causes, [".spec.replicas is managed by \"hpa\""]);
        assert_eq!(failure.hints.len(), 1);
    }

    #[test]
    fn several_errors_are_all_told_and_hints_once() {
        let twice = |name| ObjectError::Twice {
            object: object(name),
        };
        let failure = ApplyError::Objects(vec![twice("a"), twice("b")]).failure();
        assert_eq!(failure.message, "2 objects could not be applied");
        assert_eq!(
            failure.causes,
            [
                "two manifests describe Deployment shop/a",
                "two manifests describe Deployment shop/b"
            ]
        );
        assert_eq!(failure.hints, ["Remove one of them, or rename it."]);
    }
}
