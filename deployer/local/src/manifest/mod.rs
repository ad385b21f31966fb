//! Manifests become what is to run. Pure.
//!
//! Three things can become of a field: it is done; it only concerns scheduling, which one machine
//! has no choice in, and is noted once; or it would change behaviour and cannot be done here, and
//! is listed.

mod data;
mod limits;
mod refs;
mod service;
mod valid;
mod workload;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::desired::{Desired, Name};

/// What manifests say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// What can be done.
    pub desired: Desired,
    /// What concerns only a cluster, once each.
    pub notes: BTreeSet<String>,
    /// What cannot be done here, one line each with the object in front.
    pub unsupported: Vec<String>,
}

/// Why manifests cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// An object that is not as the API has it.
    #[error("{object} is not valid")]
    Invalid {
        /// `Kind name`.
        object: String,
        /// The field and what is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A name, key or path that no API server takes.
    #[error("{object}: {field} {word:?} is not valid: {rule}")]
    Word {
        /// `Kind name`.
        object: String,
        /// Where it stands.
        field: String,
        /// What stands there.
        word: String,
        /// What may stand there.
        rule: &'static str,
    },
    /// A pod of nothing.
    #[error("{0} has no containers")]
    NoContainers(String),
    /// A reference to something that no manifest has.
    #[error("{object} refers to the {kind} {name}, which no manifest has")]
    Missing {
        /// `Kind name`.
        object: String,
        /// `ConfigMap`, `Secret`, …
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A key that the referred object lacks.
    #[error("{object} refers to the key {key} of the {kind} {name}, which has no such key")]
    MissingKey {
        /// `Kind name`.
        object: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
}

/// Kinds of which something becomes.
const KINDS: [&str; 11] = [
    "ConfigMap",
    "Secret",
    "PersistentVolumeClaim",
    "Service",
    "Pod",
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
];

/// Kinds that are read and need nothing to be done here.
const INERT: [&str; 10] = [
    "Namespace",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "PodDisruptionBudget",
    "PriorityClass",
    "StorageClass",
    "LimitRange",
];

/// Reads objects; those without a namespace go to `namespace`.
///
/// # Errors
/// [`ManifestError`]
pub fn read(objects: &[Value], namespace: &str) -> Result<Reading, ManifestError> {
    let mut reading = Reading::default();
    for object in objects {
        let one = One::new(object, namespace);
        if KINDS.contains(&one.kind) {
            valid::names(&one)?;
        }
        match one.kind {
            "ConfigMap" => data::config_map(&one, &mut reading)?,
            "Secret" => data::secret(&one, &mut reading)?,
            "PersistentVolumeClaim" => reading.desired.data.claims.push(one.name.clone()),
            "Service" => service::read(&one, &mut reading)?,
            "Pod" | "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job"
            | "CronJob" => workload::read(&one, &mut reading)?,
            kind if INERT.contains(&kind) => {
                let note = format!("{kind} objects have no effect on a single machine");
                reading.notes.insert(note);
            }
            _ => reading.unsupported.push(format!(
                "{}: objects of this kind ({}) do nothing here",
                one.shown(),
                object["apiVersion"].as_str().unwrap_or_default()
            )),
        }
    }
    refs::check(&reading.desired)?;
    Ok(reading)
}

/// An object that is being read.
struct One<'a> {
    value: &'a Value,
    kind: &'a str,
    name: Name,
}

impl<'a> One<'a> {
    fn new(value: &'a Value, namespace: &str) -> Self {
        let metadata = &value["metadata"];
        let namespace = metadata["namespace"].as_str().unwrap_or(namespace);
        Self {
            value,
            kind: value["kind"].as_str().unwrap_or_default(),
            name: Name::new(namespace, metadata["name"].as_str().unwrap_or_default()),
        }
    }

    fn shown(&self) -> String {
        format!("{} {}", self.kind, self.name.name)
    }

    fn typed<T: serde::de::DeserializeOwned>(&self) -> Result<T, ManifestError> {
        T::deserialize(self.value).map_err(|source| ManifestError::Invalid {
            object: self.shown(),
            source,
        })
    }
}

#[cfg(test)]
mod tests;
