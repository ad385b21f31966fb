//! The rules of a pod: what of its manifest decides the order of things.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, PodSpec, Probe};

use super::probe::{ProbeKind, Times};

/// When an ended container starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Always.
    Always,
    /// When it failed.
    OnFailure,
    /// Never.
    Never,
}

/// What a container is in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerRole {
    /// Has to succeed before the next one.
    Init,
    /// An init container that goes on.
    Sidecar,
    /// One of the pod's own.
    Main,
}

/// One container's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRules {
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: ContainerRole,
    /// Its probes.
    pub probes: Vec<(ProbeKind, Times)>,
    /// Whether there is a postStart hook.
    pub post_start: bool,
    /// Whether there is a preStop hook.
    pub pre_stop: bool,
}

/// A pod's rules. Init containers come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// In order.
    pub containers: Vec<ContainerRules>,
    /// For the pod's own containers.
    pub restart: RestartPolicy,
    /// From the order to stop to the kill.
    pub grace: Duration,
    /// Until the pod fails, however far it is.
    pub deadline: Option<Duration>,
}

impl Rules {
    /// Reads them from a pod's specification.
    #[must_use]
    pub fn of(spec: &PodSpec) -> Self {
        let restart = match spec.restart_policy.as_deref() {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        };
        let init = spec.init_containers.iter().flatten().map(|container| {
            let role = match container.restart_policy.as_deref() {
                Some("Always") => ContainerRole::Sidecar,
                _ => ContainerRole::Init,
            };
            rules(container, role)
        });
        let main = spec.containers.iter();
        let main = main.map(|container| rules(container, ContainerRole::Main));
        Self {
            containers: init.chain(main).collect(),
            restart,
            grace: seconds(spec.termination_grace_period_seconds, 30),
            deadline: spec
                .active_deadline_seconds
                .map(|number| seconds(Some(number), 0)),
        }
    }
}

fn seconds(number: Option<impl Into<i64>>, default: u64) -> Duration {
    let number = number.map(Into::into);
    Duration::from_secs(number.map_or(default, |n| u64::try_from(n).unwrap_or(0)))
}

fn rules(container: &Container, role: ContainerRole) -> ContainerRules {
    let lifecycle = container.lifecycle.as_ref();
    let probes = [
        (ProbeKind::Startup, &container.startup_probe),
        (ProbeKind::Liveness, &container.liveness_probe),
        (ProbeKind::Readiness, &container.readiness_probe),
    ];
    ContainerRules {
        name: container.name.clone(),
        role,
        probes: probes
            .into_iter()
            .filter_map(|(kind, probe)| Some((kind, times(probe.as_ref()?))))
            .collect(),
        post_start: lifecycle.is_some_and(|hooks| hooks.post_start.is_some()),
        pre_stop: lifecycle.is_some_and(|hooks| hooks.pre_stop.is_some()),
    }
}

/// Defaults: Kubernetes API, `Probe`.
fn times(probe: &Probe) -> Times {
    let count = |number: Option<i32>, default| {
        number.map_or(default, |n| u32::try_from(n).unwrap_or(1).max(1))
    };
    let second = Duration::from_secs(1);
    Times {
        initial_delay: seconds(probe.initial_delay_seconds, 0),
        period: seconds(probe.period_seconds, 10).max(second),
        timeout: seconds(probe.timeout_seconds, 1).max(second),
        successes: count(probe.success_threshold, 1),
        failures: count(probe.failure_threshold, 3),
    }
}
