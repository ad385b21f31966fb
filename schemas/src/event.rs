//! The one event vocabulary. Plain output, progress bars, JSON lines and the
//! dashboard are renderers of these; nothing else reaches the user.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Receives events. Cheap to clone and to call; never blocks for long.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Wraps the function that gets every event, from any thread.
    pub fn new(receive: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    /// Drops everything; for tests and for callers that do not show progress.
    pub fn ignore() -> Self {
        Self::new(drop)
    }

    /// Hands over one event.
    pub fn emit(&self, event: Event) {
        (self.0)(event);
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

/// A Kubernetes object as events name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectName {
    /// Kind, for example `Deployment`.
    pub kind: String,
    /// Namespace; absent for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// Something that went wrong, in the shape that every renderer shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What failed, one line, without a full stop.
    pub message: String,
    /// The chain of causes, outermost first; none repeats the message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do about it, each one sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// Last lines of the log that explain it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

impl Failure {
    /// A failure that has only a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            log: Vec::new(),
        }
    }

    /// Takes message and causes from an error and its sources.
    pub fn from_error(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut failure = Self::new(error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            failure.causes.push(cause.to_string());
            source = cause.source();
        }
        failure
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// Why an image is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BuildReason {
    /// First build of this run.
    First,
    /// These context-relative paths changed.
    Changed(Vec<String>),
    /// An image that it requires was rebuilt.
    Required(String),
    /// The last attempt failed or was cancelled.
    Dirty,
}

/// The parts of an image build, in the order in which they happen; the units
/// in which `make bench` reports a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// From the file's mtime to the decision to build.
    Detect,
    /// Asking the registry whether the image is there already.
    Cache,
    /// From creating the build pod to its container running.
    PodStart,
    /// Sending the context.
    Context,
    /// Resolving, downloading and unpacking base images.
    Base,
    /// RUN steps.
    Run,
    /// Writing layers.
    Layers,
    /// Pushing blobs and manifest.
    Push,
    /// Rendering manifests.
    Render,
    /// Applying objects.
    Apply,
    /// From applied to ready.
    Rollout,
}

/// How an image came to be available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BuildOutcome {
    /// Built and pushed now.
    Built,
    /// Its content tag was in the registry already.
    Cached,
}

/// What applying did to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// It did not exist.
    Created,
    /// It differs now.
    Configured,
    /// Nothing changed.
    Unchanged,
    /// Immutable fields differ: deleted and created again.
    Replaced,
    /// It is gone from the manifests and was deleted.
    Pruned,
    /// It was deleted on request (`kiln delete`, clean-up).
    Deleted,
    /// It would be deleted, but its kind is kept unless asked for.
    Kept,
}

/// How far a workload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Readiness {
    /// On its way.
    InProgress,
    /// As wanted.
    Ready,
    /// Will not get there without a change.
    Failed,
}

/// Which stream a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Everything that Kiln says. Durations are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "event",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Event {
    /// A command began. Always the first event.
    Started {
        /// `dev`, `run`, `build`, …
        command: String,
        /// Kiln's version.
        version: String,
        /// The project's name.
        project: String,
        /// The kube-context, where one is used.
        context: Option<String>,
        /// The namespace that objects without one go to.
        namespace: Option<String>,
    },
    /// The command is over. Always the last event.
    Finished {
        /// Whether everything that was asked for happened.
        ok: bool,
        /// Since `Started`.
        ms: u64,
    },
    /// One line for the user that is neither progress nor trouble.
    Note {
        /// The line.
        message: String,
    },
    /// Something to know that does not stop the work.
    Warning {
        /// The line.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// An iteration of the loop failed; the loop goes on.
    Failed {
        /// What failed.
        failure: Failure,
    },
    /// Files changed and their bytes differ.
    Changed {
        /// Paths, relative to the project where they are below it.
        paths: Vec<String>,
    },
    /// Something waits, and why; said once per reason.
    Held {
        /// What waits: an image name or `deploy`.
        what: String,
        /// On what it waits.
        why: String,
    },
    /// An image's build was started.
    BuildStarted {
        /// The artifact's name.
        image: String,
        /// The reference that will be pushed.
        reference: String,
        /// Why.
        reason: BuildReason,
        /// From the newest changed file's mtime until now; absent when no
        /// file is the reason.
        detect_ms: Option<u64>,
    },
    /// A part of a build or of a deploy took this long.
    Timing {
        /// The artifact's name, or `deploy`.
        what: String,
        /// Which part.
        phase: Phase,
        /// How long.
        ms: u64,
    },
    /// Bytes moved, for progress bars.
    Transfer {
        /// The artifact's name.
        image: String,
        /// Which part moves them.
        phase: Phase,
        /// So far.
        done: u64,
        /// In all, where known.
        total: Option<u64>,
    },
    /// One line of a build's log.
    BuildLog {
        /// The artifact's name.
        image: String,
        /// Without its line end.
        line: String,
    },
    /// An image is in the registry.
    BuildFinished {
        /// The artifact's name.
        image: String,
        /// `repository:tag@digest`.
        reference: String,
        /// Built or found.
        outcome: BuildOutcome,
        /// Since `BuildStarted`.
        ms: u64,
    },
    /// A build failed; the image stays dirty.
    BuildFailed {
        /// The artifact's name.
        image: String,
        /// What failed.
        failure: Failure,
    },
    /// A newer change made a running build pointless.
    BuildCancelled {
        /// The artifact's name.
        image: String,
    },
    /// Manifests were rendered.
    Rendered {
        /// How many objects.
        objects: usize,
        /// How long.
        ms: u64,
    },
    /// One object was applied, replaced or deleted.
    Applied {
        /// Which.
        object: ObjectName,
        /// What happened to it.
        change: Change,
    },
    /// A workload's state changed.
    Status {
        /// Which object.
        object: ObjectName,
        /// How far it is.
        readiness: Readiness,
        /// In words, for example `1 of 2 pods ready`.
        message: String,
    },
    /// Everything that was deployed is ready.
    DeployReady {
        /// How many objects were waited for.
        objects: usize,
        /// Since applying began.
        ms: u64,
    },
    /// A deploy failed.
    DeployFailed {
        /// What failed.
        failure: Failure,
    },
    /// One line of a workload's log.
    Log {
        /// Namespace of the pod.
        namespace: String,
        /// Pod.
        pod: String,
        /// Container.
        container: String,
        /// The artifact that the container's image comes from, if any.
        image: Option<String>,
        /// What `deploy.logs.prefix` wants in front of the line, with a
        /// trailing space; empty for nothing.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        prefix: String,
        /// Without its line end.
        line: String,
    },
    /// A local port leads to a workload.
    Forwarding {
        /// The resource, for example `service/web`.
        resource: String,
        /// Local address, `127.0.0.1:8080`.
        local: String,
        /// Port in the pod or of the service.
        remote: u16,
    },
    /// A forward broke and is tried again.
    ForwardLost {
        /// The resource.
        resource: String,
        /// Why.
        reason: String,
    },
    /// Files were copied into running containers instead of a build.
    Synced {
        /// The artifact's name.
        image: String,
        /// Files written.
        copied: usize,
        /// Files removed.
        deleted: usize,
        /// Into how many containers.
        containers: usize,
        /// How long.
        ms: u64,
    },
    /// The loop waits for changes.
    Watching {
        /// How many files are watched for.
        files: usize,
        /// The command that removes what the end of the loop leaves running; absent when the end
        /// removes it, or nothing was deployed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        removed_by: Option<String>,
        /// Whether the end of the loop removes what was deployed.
        #[serde(default)]
        cleans_up: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_json_objects_tagged_by_name() {
        let event = Event::BuildStarted {
            image: "app".into(),
            reference: "r/app:1".into(),
            reason: BuildReason::Changed(vec!["main.go".into()]),
            detect_ms: Some(12),
        };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "event": "buildStarted", "image": "app", "reference": "r/app:1",
                "reason": {"changed": ["main.go"]}, "detectMs": 12,
            })
        );
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }
}
