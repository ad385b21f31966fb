//! The life of a build pod as Kiln follows it: each observation moves the
//! state on and says what there is to do. Pure; [`super::run`] does it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};

use super::diagnose::{self, Diagnosis, Trouble};

/// How long trouble that the cluster retries may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The kubelet's second back-off ends after 30 s; the third attempt is
    /// still seen.
    pub image_pull: Duration,
    /// For a secret or volume that is just being made.
    pub missing: Duration,
    /// For a container that the runtime does not start.
    pub not_startable: Duration,
    /// For an autoscaler that adds a node.
    pub unschedulable: Duration,
    /// For all else before the container runs.
    pub start: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            image_pull: Duration::from_secs(40),
            missing: Duration::from_secs(20),
            not_startable: Duration::from_secs(10),
            unschedulable: Duration::from_mins(5),
            start: Duration::from_mins(10),
        }
    }
}

impl Patience {
    fn with(&self, diagnosis: &Diagnosis) -> Duration {
        match diagnosis {
            Diagnosis::ImagePull { .. } => self.image_pull,
            Diagnosis::Missing { .. } => self.missing,
            Diagnosis::NotStartable { .. } => self.not_startable,
            Diagnosis::Unschedulable { .. } => self.unschedulable,
            _ => self.start,
        }
    }
}

/// What is to be done after an observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signal {
    /// The pod has a node, so the container that takes the context may run
    /// at any moment.
    Placed,
    /// The container that takes the context runs, as the cluster says.
    Runs,
    /// The container that builds runs.
    Building,
    /// The pod does not start yet, and why; said once per reason.
    Held(String),
    /// The build ended well; the termination message, if it left one.
    Succeeded(Option<String>),
    /// It did not.
    Failed(Diagnosis),
    /// Nothing happened for too long.
    NotStarted,
}

/// Where a pod is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It has been created.
    Starting {
        /// What is wrong at the moment, and since when.
        held: Option<(Diagnosis, Duration)>,
        /// Whether [`Signal::Placed`] was given.
        placed: bool,
        /// Whether [`Signal::Runs`] was given.
        runs: bool,
    },
    /// The build runs.
    Building,
    /// All is said.
    Over,
}

impl State {
    /// Just created.
    pub(super) const NEW: Self = Self::Starting {
        held: None,
        placed: false,
        runs: false,
    };
}

/// Which containers count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Roles<'a> {
    /// The one that takes the context.
    pub(super) context: &'a str,
    /// The one that builds.
    pub(super) build: &'a str,
}

/// Moves on. `at` is the time since the pod was created.
pub(super) fn step(
    state: State,
    seen: (&Pod, &[Event]),
    roles: Roles<'_>,
    at: Duration,
    patience: &Patience,
) -> (Vec<Signal>, State) {
    let (pod, events) = seen;
    if state == State::Over {
        return (Vec::new(), state);
    }
    if let Some(diagnosis) = diagnose::death(pod, roles.build) {
        return (vec![Signal::Failed(diagnosis)], State::Over);
    }
    let build = diagnose::state_of(pod, roles.build);
    if let Some(ended) = build.and_then(|state| state.terminated.as_ref()) {
        return (vec![Signal::Succeeded(ended.message.clone())], State::Over);
    }
    let State::Starting { held, placed, runs } = state else {
        return (Vec::new(), state);
    };

    let mut signals = Vec::new();
    let has_node = pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.node_name.is_some());
    let is_running =
        |name| diagnose::state_of(pod, name).is_some_and(|state| state.running.is_some());
    if !placed && has_node {
        signals.push(Signal::Placed);
    }
    if !runs && is_running(roles.context) {
        signals.push(Signal::Runs);
    }
    let placed = placed || signals.contains(&Signal::Placed);
    let runs = runs || signals.contains(&Signal::Runs);
    if is_running(roles.build) {
        signals.push(Signal::Building);
        return (signals, State::Building);
    }
    let trouble = diagnose::trouble(pod, events);
    match hold(held, trouble, at, patience) {
        Hold::None if at >= patience.start && !runs => (vec![Signal::NotStarted], State::Over),
        Hold::None => (
            signals,
            State::Starting {
                held: None,
                placed,
                runs,
            },
        ),
        Hold::New(diagnosis) => {
            signals.push(Signal::Held(diagnosis.to_string()));
            (
                signals,
                State::Starting {
                    held: Some((diagnosis, at)),
                    placed,
                    runs,
                },
            )
        }
        Hold::Same(diagnosis, since) => (
            signals,
            State::Starting {
                held: Some((diagnosis, since)),
                placed,
                runs,
            },
        ),
        Hold::TooLong(diagnosis) => (vec![Signal::Failed(diagnosis)], State::Over),
    }
}

enum Hold {
    None,
    New(Diagnosis),
    Same(Diagnosis, Duration),
    TooLong(Diagnosis),
}

fn hold(
    held: Option<(Diagnosis, Duration)>,
    trouble: Option<Trouble>,
    at: Duration,
    patience: &Patience,
) -> Hold {
    let now = match trouble {
        None => return Hold::None,
        Some(Trouble::Final(diagnosis)) => return Hold::TooLong(diagnosis),
        Some(Trouble::Retried(diagnosis)) => diagnosis,
    };
    match held {
        Some((before, since)) if same_kind(&before, &now) => {
            // "Back-off pulling image" says less than the failure before it.
            let told = if now.to_string().len() < before.to_string().len() {
                before
            } else {
                now
            };
            if at - since >= patience.with(&told) {
                Hold::TooLong(told)
            } else {
                Hold::Same(told, since)
            }
        }
        _ => Hold::New(now),
    }
}

fn same_kind(one: &Diagnosis, other: &Diagnosis) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ROLES: Roles<'static> = Roles {
        context: "kaniko",
        build: "kaniko",
    };
    const WITH_INIT: Roles<'static> = Roles {
        context: "init",
        build: "kaniko",
    };

    fn pod(init: Option<Value>, build: Value) -> Pod {
        let status = |name: &str, state: Value| {
            json!([{"name": name, "image": "r.example/x:1", "imageID": "", "ready": false,
                    "restartCount": 0, "state": state}])
        };
        let mut pod = json!({"metadata": {}, "status": {
            "phase": "Pending", "containerStatuses": status("kaniko", build),
        }});
        if let Some(init) = init {
            pod["status"]["initContainerStatuses"] = status("init", init);
        }
        serde_json::from_value(pod).unwrap()
    }

    fn waiting(reason: &str, message: &str) -> Pod {
        pod(
            None,
            json!({"waiting": {"reason": reason, "message": message}}),
        )
    }

    /// Plays observations and collects what is signalled at which second.
    fn play(roles: Roles<'_>, observations: &[(u64, Pod)]) -> Vec<(u64, Signal)> {
        let (mut state, mut all) = (State::NEW, Vec::new());
        for (second, pod) in observations {
            let at = Duration::from_secs(*second);
            let (signals, next) = step(state, (pod, &[]), roles, at, &Patience::default());
            all.extend(signals.into_iter().map(|signal| (*second, signal)));
            state = next;
        }
        all
    }

    #[test]
    fn a_build_without_an_init_container() {
        let creating = waiting("ContainerCreating", "");
        let running = pod(None, json!({"running": {}}));
        let ended = pod(
            None,
            json!({"terminated": {"exitCode": 0, "message": "sha256:1"}}),
        );
        let signals = play(
            ROLES,
            &[
                (0, creating),
                (1, running.clone()),
                (2, running),
                (3, ended.clone()),
                (4, ended),
            ],
        );
        assert_eq!(
            signals,
            [
                (1, Signal::Runs),
                (1, Signal::Building),
                (3, Signal::Succeeded(Some("sha256:1".into()))),
            ]
        );
    }

    #[test]
    fn a_pod_on_a_node_may_run_before_that_is_said() {
        let mut placed = waiting("ContainerCreating", "");
        placed.spec.get_or_insert_default().node_name = Some("node".into());
        let mut running = pod(None, json!({"running": {}}));
        running.spec.clone_from(&placed.spec);
        let waits = waiting("ContainerCreating", "");
        let signals = play(
            ROLES,
            &[(0, waits), (1, placed.clone()), (2, placed), (3, running)],
        );
        let expected = [
            (1, Signal::Placed),
            (3, Signal::Runs),
            (3, Signal::Building),
        ];
        assert_eq!(signals, expected);
    }

    #[test]
    fn a_build_with_one() {
        let wait = json!({"waiting": {"reason": "PodInitializing"}});
        let init = pod(Some(json!({"running": {}})), wait.clone());
        let done = json!({"terminated": {"exitCode": 0}});
        let between = pod(Some(done.clone()), wait);
        let running = pod(Some(done), json!({"running": {}}));
        let signals = play(
            WITH_INIT,
            &[(1, init.clone()), (2, init), (3, between), (4, running)],
        );
        assert_eq!(signals, [(1, Signal::Runs), (4, Signal::Building)]);
    }

    #[test]
    fn a_pull_may_fail_twice_and_is_then_told_with_the_registrys_words() {
        let failed = waiting(
            "ErrImagePull",
            "r.example/x:1: not found, says the registry",
        );
        let back_off = waiting("ImagePullBackOff", "Back-off");
        let signals = play(
            ROLES,
            &[
                (1, failed.clone()),
                (2, back_off.clone()),
                (13, failed.clone()),
                (15, back_off.clone()),
                (33, failed),
                (41, back_off),
            ],
        );
        let words = "r.example/x:1: not found, says the registry".to_owned();
        let diagnosis = Diagnosis::ImagePull {
            container: "kaniko".into(),
            image: "r.example/x:1".into(),
            words,
        };
        assert_eq!(
            signals,
            [
                (1, Signal::Held(diagnosis.to_string())),
                (41, Signal::Failed(diagnosis)),
            ]
        );
    }

    #[test]
    fn trouble_that_passes_is_forgotten() {
        let failed = waiting("ErrImagePull", "timeout");
        let running = pod(None, json!({"running": {}}));
        let signals = play(ROLES, &[(1, failed), (20, running.clone()), (500, running)]);
        assert_eq!(signals.len(), 3, "{signals:?}");
        assert_eq!(signals[2], (20, Signal::Building));
    }

    #[test]
    fn a_pod_that_never_starts_without_a_reason_is_given_up() {
        let creating = waiting("ContainerCreating", "");
        let signals = play(
            ROLES,
            &[
                (1, creating.clone()),
                (599, creating.clone()),
                (600, creating),
            ],
        );
        assert_eq!(signals, [(600, Signal::NotStarted)]);
    }

    #[test]
    fn death_is_told_once() {
        let dead = pod(None, json!({"terminated": {"exitCode": 3}}));
        let signals = play(ROLES, &[(1, dead.clone()), (2, dead)]);
        let exit = Diagnosis::Exit {
            container: "kaniko".into(),
            code: 3,
            log: Vec::new(),
        };
        assert_eq!(signals, [(1, Signal::Failed(exit))]);
    }
}
