//! When an object is ready, and why it is not: pure functions from objects to
//! words, one file per kind, and the watch that uses them.
//!
//! Kinds without a file of their own follow the conventions of conditions
//! (`generic`), as sigs.k8s.io/cli-utils' kstatus reads them.

mod board;
mod claim;
mod conditions;
mod daemonset;
mod definition;
mod deployment;
mod evidence;
mod generic;
mod job;
pub mod pod;
mod replicaset;
mod service;
mod statefulset;
pub mod wait;
mod watches;

use jiff::Timestamp;
use kiln_schemas::event::Readiness;
use serde_json::Value;

use crate::object::group_kind;

/// How far an object is, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How far.
    pub readiness: Readiness,
    /// For example `1 of 2 pods ready`.
    pub message: String,
    /// The container whose log may explain it.
    pub culprit: Option<Culprit>,
}

/// A container whose log may explain a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Culprit {
    /// The pod.
    pub pod: String,
    /// The container; absent while the pod has not started any.
    pub container: Option<String>,
    /// Whether it is the log of the container's previous run that explains.
    pub previous: bool,
}

/// What the state of an object depends on besides itself.
#[derive(Debug, Clone, Copy)]
pub struct Related<'a> {
    /// Pods of its namespace.
    pub pods: &'a [&'a Value],
    /// ReplicaSets of its namespace.
    pub replica_sets: &'a [&'a Value],
    /// Now.
    pub now: Timestamp,
}

impl Status {
    fn new(readiness: Readiness, message: impl Into<String>) -> Self {
        Self {
            readiness,
            message: message.into(),
            culprit: None,
        }
    }

    fn ready(message: impl Into<String>) -> Self {
        Self::new(Readiness::Ready, message)
    }

    fn in_progress(message: impl Into<String>) -> Self {
        Self::new(Readiness::InProgress, message)
    }

    fn failed(message: impl Into<String>) -> Self {
        Self::new(Readiness::Failed, message)
    }

    /// Explains an unfinished state by what is wrong with the pods: the first
    /// one that is beyond repair makes it a failure. Pods of a finished one may
    /// have crashed a moment ago, which puts the end off.
    fn explained_by<'a>(self, pods: impl Iterator<Item = &'a Value>, now: Timestamp) -> Self {
        // What is left of pods that were evicted does not count any more.
        let pods = pods
            .filter(|pod| pod["status"]["phase"] != "Failed" || self.readiness != Readiness::Ready);
        let troubles: Vec<_> = pods.filter_map(|pod| pod::trouble(pod, now)).collect();
        let Some(worst) = troubles
            .iter()
            .find(|trouble| trouble.fatal)
            .or(troubles.first())
        else {
            return self;
        };
        Self {
            readiness: if worst.fatal || self.readiness == Readiness::Failed {
                Readiness::Failed
            } else {
                Readiness::InProgress
            },
            message: format!(
                "{}: pod {}: {}",
                self.message, worst.culprit.pod, worst.message
            ),
            culprit: Some(worst.culprit.clone()),
        }
    }
}

/// Whether objects of a kind become ready at some time after they are applied;
/// the others are ready at once and are not watched.
pub(crate) fn takes_time(object: &Value) -> bool {
    match kind_of(object).as_str() {
        "Deployment.apps"
        | "StatefulSet.apps"
        | "DaemonSet.apps"
        | "ReplicaSet.apps"
        | "ReplicationController"
        | "Job.batch"
        | "Pod"
        | "PersistentVolumeClaim"
        | "Service"
        | "CustomResourceDefinition.apiextensions.k8s.io" => true,
        // Built-in kinds report no readiness; custom ones may.
        kind => kind
            .split_once('.')
            .is_some_and(|(_, group)| group.contains('.') && !group.ends_with(".k8s.io")),
    }
}

/// How far an object is.
pub fn of(object: &Value, related: &Related<'_>) -> Status {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return Status::in_progress("is being deleted");
    }
    match kind_of(object).as_str() {
        "Deployment.apps" => deployment::status(object, related),
        "StatefulSet.apps" => statefulset::status(object, related),
        "DaemonSet.apps" => daemonset::status(object, related),
        "ReplicaSet.apps" | "ReplicationController" => replicaset::status(object, related),
        "Job.batch" => job::status(object, related),
        "Pod" => pod::status(object, related.now),
        "PersistentVolumeClaim" => claim::status(object, related),
        "Service" => service::status(object),
        "CustomResourceDefinition.apiextensions.k8s.io" => definition::status(object),
        _ => generic::status(object),
    }
}

fn kind_of(object: &Value) -> String {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    group_kind(group, object["kind"].as_str().unwrap_or_default())
}

/// Whether the controller has not yet seen the object as it is now.
fn is_unobserved(object: &Value) -> bool {
    let generation = object["metadata"]["generation"]
        .as_i64()
        .unwrap_or_default();
    object["status"]["observedGeneration"]
        .as_i64()
        .unwrap_or_default()
        < generation
}

fn unobserved() -> Status {
    Status::in_progress("the controller has not seen the change yet")
}

/// A count in the status; absent means 0.
fn count(object: &Value, field: &str) -> i64 {
    object["status"][field].as_i64().unwrap_or_default()
}

/// `spec.replicas`; absent means 1.
fn wanted_replicas(object: &Value) -> i64 {
    object["spec"]["replicas"].as_i64().unwrap_or(1)
}

fn is_owned_by(object: &Value, owner: &Value) -> bool {
    let uid = &owner["metadata"]["uid"];
    let owners = object["metadata"]["ownerReferences"].as_array();
    !uid.is_null()
        && owners
            .into_iter()
            .flatten()
            .any(|reference| reference["uid"] == *uid)
}

/// `1 pod ready`, `2 pods ready`.
fn all_ready(count: i64) -> Status {
    let pods = if count == 1 { "pod" } else { "pods" };
    Status::ready(format!("{count} {pods} ready"))
}
