//! Why a build pod cannot start, or how it died: a pure reading of the pod and
//! its events, by their reasons and never by the wording of their messages.

use std::fmt;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Event, Pod};

/// What is known of a pod's trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Diagnosis {
    /// An image cannot be pulled.
    ImagePull {
        /// The container.
        container: String,
        /// Its image.
        image: String,
        /// The kubelet's words, which hold the registry's.
        words: String,
    },
    /// No node takes the pod.
    Unschedulable {
        /// The scheduler's words.
        words: String,
    },
    /// A secret, config map or volume that the pod names is not there.
    Missing {
        /// The kubelet's words, which name it.
        words: String,
    },
    /// The container's process could not be started.
    NotStartable {
        /// The container.
        container: String,
        /// The runtime's words.
        words: String,
    },
    /// The kernel killed it for its memory.
    OutOfMemory {
        /// The container.
        container: String,
        /// Its memory limit as configured, if it has one.
        limit: Option<String>,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// The node ended it to save itself.
    Evicted {
        /// The kubelet's words.
        words: String,
    },
    /// The cluster ended it after `activeDeadlineSeconds`.
    DeadlineExceeded {
        /// The deadline.
        seconds: Option<i64>,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// The build ran and failed.
    Exit {
        /// The container.
        container: String,
        /// Its exit code.
        code: i32,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// Somebody deleted the pod.
    Deleted,
    /// It failed for another reason.
    Failed {
        /// `status.reason` and `status.message`, as far as there are any.
        words: String,
    },
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ImagePull {
                container,
                image,
                words,
            } => {
                write!(
                    f,
                    "the image {image} of container {container} cannot be pulled: {words}"
                )
            }
            Self::Unschedulable { words } => write!(f, "no node takes the build pod: {words}"),
            Self::Missing { words } => {
                write!(f, "the build pod names something that is missing: {words}")
            }
            Self::NotStartable { container, words } => {
                write!(f, "container {container} cannot be started: {words}")
            }
            Self::OutOfMemory {
                container,
                limit: Some(limit),
                ..
            } => {
                write!(
                    f,
                    "container {container} was killed for using more memory than its limit of {limit}"
                )
            }
            Self::OutOfMemory {
                container,
                limit: None,
                ..
            } => {
                write!(
                    f,
                    "container {container} was killed because the node ran out of memory"
                )
            }
            Self::Evicted { words } => write!(f, "the node evicted the build pod: {words}"),
            Self::DeadlineExceeded {
                seconds: Some(seconds),
                ..
            } => {
                write!(
                    f,
                    "the build pod ran longer than its deadline of {seconds} s"
                )
            }
            Self::DeadlineExceeded { seconds: None, .. } => {
                f.write_str("the build pod ran longer than its deadline")
            }
            Self::Exit { code, .. } => write!(f, "the build failed with exit code {code}"),
            Self::Deleted => f.write_str("somebody deleted the build pod"),
            Self::Failed { words } => write!(f, "the build pod failed: {words}"),
        }
    }
}

impl Diagnosis {
    /// What to do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::ImagePull { .. } => {
                "check the image's name, and the pull secret if its registry asks for one".into()
            }
            Self::Unschedulable { .. } => {
                "check resources, nodeSelector and tolerations of build.cluster against the nodes".into()
            }
            Self::Missing { .. } => {
                "create it in the build's namespace, or correct its name in the configuration".into()
            }
            Self::OutOfMemory { limit: Some(_), .. } => {
                "raise build.cluster.resources.limits.memory".into()
            }
            Self::OutOfMemory { limit: None, .. } => {
                "set build.cluster.resources.requests.memory to what the build needs".into()
            }
            Self::Evicted { .. } => {
                "ask for the memory and ephemeral storage that the build needs in build.cluster.resources".into()
            }
            Self::DeadlineExceeded { .. } => {
                "raise build.cluster.timeout if the build is only slow".into()
            }
            _ => return None,
        })
    }

    /// The last lines of the log, where the container had one.
    pub fn log(&self) -> &[String] {
        match self {
            Self::OutOfMemory { log, .. }
            | Self::DeadlineExceeded { log, .. }
            | Self::Exit { log, .. } => log,
            _ => &[],
        }
    }

    /// The same with the last lines of the log.
    #[must_use]
    pub fn with_log(mut self, lines: Vec<String>) -> Self {
        match &mut self {
            Self::OutOfMemory { log, .. }
            | Self::DeadlineExceeded { log, .. }
            | Self::Exit { log, .. } => *log = lines,
            _ => {}
        }
        self
    }
}

/// How a pod that is not over stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It cannot get better without a change.
    Final(Diagnosis),
    /// It is tried again by the cluster; bad if it lasts.
    Retried(Diagnosis),
}

impl Trouble {
    /// What is wrong.
    pub fn diagnosis(&self) -> &Diagnosis {
        match self {
            Self::Final(diagnosis) | Self::Retried(diagnosis) => diagnosis,
        }
    }
}

/// Why a pod does not start, if something is known. `events` are the pod's.
pub fn trouble(pod: &Pod, events: &[Event]) -> Option<Trouble> {
    waiting_trouble(pod)
        .or_else(|| unschedulable(pod))
        .or_else(|| mount_trouble(events))
}

/// Reasons of `state.waiting` (kubelet, `images/types.go` and
/// `kuberuntime_manager.go`).
fn waiting_trouble(pod: &Pod) -> Option<Trouble> {
    statuses(pod).find_map(|status| {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        let words = waiting.message.clone().unwrap_or_default();
        let container = status.name.clone();
        let pull = |words| Diagnosis::ImagePull {
            container: container.clone(),
            image: status.image.clone(),
            words,
        };
        Some(match waiting.reason.as_deref()? {
            "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" => {
                Trouble::Retried(pull(words))
            }
            "InvalidImageName" | "ErrImageNeverPull" | "ErrInvalidImageName" => {
                Trouble::Final(pull(words))
            }
            "CreateContainerConfigError" => Trouble::Retried(Diagnosis::Missing { words }),
            "CreateContainerError" | "RunContainerError" | "StartError" => {
                Trouble::Retried(Diagnosis::NotStartable { container, words })
            }
            _ => return None,
        })
    })
}

fn unschedulable(pod: &Pod) -> Option<Trouble> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    let words = condition.message.clone().unwrap_or_default();
    Some(Trouble::Retried(Diagnosis::Unschedulable { words }))
}

/// A volume that cannot be mounted shows in events alone: the container's
/// state stays `ContainerCreating`.
fn mount_trouble(events: &[Event]) -> Option<Trouble> {
    let event = events.iter().rev().find(|event| {
        matches!(
            event.reason.as_deref(),
            Some("FailedMount" | "FailedAttachVolume")
        )
    })?;
    let words = event.message.clone().unwrap_or_default();
    Some(Trouble::Retried(Diagnosis::Missing { words }))
}

/// How a container or the pod as a whole ended badly; `None` while it runs or
/// after success. `container` is the one whose end counts.
pub fn death(pod: &Pod, container: &str) -> Option<Diagnosis> {
    let status = pod.status.as_ref()?;
    let failed = status.phase.as_deref() == Some("Failed");
    // The pod's own reason comes first: after an eviction or a deadline the
    // containers only show that they were killed.
    match status.reason.as_deref() {
        Some("Evicted") => {
            return Some(Diagnosis::Evicted {
                words: status.message.clone().unwrap_or_default(),
            });
        }
        Some("DeadlineExceeded") => {
            let seconds = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.active_deadline_seconds);
            return Some(Diagnosis::DeadlineExceeded {
                seconds,
                log: Vec::new(),
            });
        }
        _ => {}
    }
    let bad = statuses(pod).find_map(|status| {
        let ended = status
            .state
            .as_ref()
            .and_then(|state| state.terminated.as_ref())?;
        // Another container's end counts only when it took the pod with it.
        let counts = status.name == container || failed;
        (counts && ended.exit_code != 0).then_some((status, ended))
    });
    if let Some((status, ended)) = bad {
        return Some(match ended.reason.as_deref() {
            Some("OOMKilled") => Diagnosis::OutOfMemory {
                container: status.name.clone(),
                limit: memory_limit(pod, &status.name),
                log: Vec::new(),
            },
            Some("StartError" | "ContainerCannotRun") => Diagnosis::NotStartable {
                container: status.name.clone(),
                words: ended.message.clone().unwrap_or_default(),
            },
            _ => Diagnosis::Exit {
                container: status.name.clone(),
                code: ended.exit_code,
                log: Vec::new(),
            },
        });
    }
    failed.then(|| Diagnosis::Failed {
        words: pod_words(pod),
    })
}

fn pod_words(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let parts = [
        status.and_then(|status| status.reason.clone()),
        status.and_then(|status| status.message.clone()),
    ];
    let words: Vec<String> = parts.into_iter().flatten().collect();
    if words.is_empty() {
        "its status gives no reason".into()
    } else {
        words.join(": ")
    }
}

/// Every container's status, init containers first, in the pod's order.
pub(super) fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let main = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().flatten().chain(main.into_iter().flatten())
}

/// The state of a container, by name.
pub(super) fn state_of<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerState> {
    statuses(pod)
        .find(|status| status.name == container)?
        .state
        .as_ref()
}

fn memory_limit(pod: &Pod, container: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let limits = all
        .into_iter()
        .find(|candidate| candidate.name == container)?
        .resources
        .as_ref()?
        .limits
        .as_ref()?;
    limits.get("memory").map(|quantity| quantity.0.clone())
}

#[cfg(test)]
mod tests;
