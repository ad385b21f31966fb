//! Why a build in a cluster did not give an image.

use std::time::Duration;

use kiln_schemas::event::Failure;

use super::context::ContextError;
use super::diagnose::Diagnosis;
use super::publish::PublishError;
use super::rbac::Forbidden;
use super::secret::SecretError;

/// A build that gave no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The caller cancelled it. Its pod is deleted.
    #[error("the build was cancelled")]
    Cancelled,
    /// The API server refused or could not be reached.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The pod could not start or died.
    #[error("{0}")]
    Pod(Diagnosis),
    /// The context did not arrive.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A secret could not be prepared.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The executor's image could not be made.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The container did not start in time, and nothing said why.
    #[error("the build pod did not start within {} s", after.as_secs())]
    NotStarted {
        /// How long was waited.
        after: Duration,
        /// What its events said last.
        events: Vec<String>,
    },
    /// The build took longer than `build.cluster.timeout`.
    #[error("the build took longer than its timeout of {} s", after.as_secs())]
    Timeout {
        /// The configured timeout.
        after: Duration,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// The pod succeeded, but neither it nor the registry names a digest.
    #[error(
        "the build of {reference} succeeded, but neither its termination message nor the registry has a digest"
    )]
    NoDigest {
        /// What was to be pushed.
        reference: String,
        /// What the termination message was instead.
        message: String,
    },
}

impl BuildError {
    /// The failure as every renderer shows it.
    pub fn failure(&self) -> Failure {
        let mut failure = Failure::from_error(self);
        match self {
            Self::Pod(diagnosis) => {
                failure.hints.extend(diagnosis.hint());
                failure.log = diagnosis.log().to_vec();
            }
            Self::Timeout { log, .. } => {
                failure.log.clone_from(log);
                failure = failure.hint("raise build.cluster.timeout if the build is only slow");
            }
            Self::NotStarted { events, .. } => failure.causes.extend(events.iter().cloned()),
            Self::NoDigest { message, .. } if !message.is_empty() => {
                failure
                    .causes
                    .push(format!("the termination message is `{message}`"));
            }
            Self::Api(ApiError::Forbidden(forbidden)) => {
                failure = failure.hint(forbidden.hint());
            }
            _ => {}
        }
        failure
    }
}

/// A request to the API server that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Not allowed (403 of the authorizer).
    #[error("not allowed to {}: {}", .0.action, .0.message)]
    Forbidden(Forbidden),
    /// Refused for another reason: quota, admission, an invalid object.
    #[error("the API server refused to {action}: {message}")]
    Refused {
        /// What was asked for.
        action: String,
        /// The server's words.
        message: String,
        /// The HTTP status.
        code: u16,
    },
    /// No usable answer.
    #[error("cannot {action}")]
    Unreachable {
        /// What was asked for.
        action: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

impl ApiError {
    /// Sorts out what the failure of a call means; 403 is the authorizer's.
    pub(crate) fn new(action: &str, namespace: &str, error: kube::Error) -> Self {
        let action = action.to_owned();
        match error {
            kube::Error::Api(status) if status.code == 403 => Self::Forbidden(Forbidden {
                action,
                namespace: namespace.to_owned(),
                message: status.message.clone(),
            }),
            kube::Error::Api(status) => Self::Refused {
                action,
                message: status.message.clone(),
                code: status.code,
            },
            other => Self::Unreachable {
                action,
                source: Box::new(other),
            },
        }
    }

    /// The same for creating an object by `generateName`. Admission (a quota,
    /// a policy) answers 403 too, but it has seen the generated name, which
    /// the authorizer has not.
    pub(crate) fn creating(action: &str, namespace: &str, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status)
                if status
                    .details
                    .as_ref()
                    .is_some_and(|details| !details.name.is_empty()) =>
            {
                Self::Refused {
                    action: action.to_owned(),
                    message: status.message.clone(),
                    code: status.code,
                }
            }
            other => Self::new(action, namespace, other),
        }
    }
}
