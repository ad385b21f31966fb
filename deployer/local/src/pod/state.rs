//! A pod's state, and its steps while it is not being stopped.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::probe::{Probe, ProbeKind, Verdict};
use super::spec::{ContainerRole, RestartPolicy, Rules};

/// How far a pod is (Kubernetes documentation, "Pod phase").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Some container has not started yet.
    Pending,
    /// At least one of its own containers runs or will run again.
    Running,
    /// All have ended well.
    Succeeded,
    /// All have ended, one of them badly.
    Failed,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// What a shell would report.
    pub code: i32,
    /// Why it never ran, or who ended it.
    pub message: Option<String>,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Its turn has not come.
    Waiting,
    /// It was told to start.
    Starting,
    /// It runs.
    Running,
    /// It ended and starts again.
    BackOff(Exit),
    /// It ended and stays so.
    Ended(Exit),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The pod's network and files are there.
    Begin,
    /// A container runs.
    Started(usize),
    /// A container's postStart hook has ended.
    PostStarted(usize, Result<(), String>),
    /// A container's preStop hook has ended.
    PreStopped(usize),
    /// A container has ended, or could not be started.
    Ended(usize, Exit),
    /// A probe was answered.
    Probed(usize, ProbeKind, bool),
    /// Time has passed.
    Tick,
    /// The pod is to go.
    Stop,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a container.
    Start(usize),
    /// Run its postStart hook.
    PostStart(usize),
    /// Run its preStop hook.
    PreStop(usize),
    /// Ask it to end, with its stop signal.
    Terminate(usize),
    /// Kill it.
    Kill(usize),
    /// Ask it.
    Probe(usize, ProbeKind),
    /// Something to tell.
    Say(usize, String),
    /// A probe has failed as often as it may: the container is restarted, or not ready.
    SayFailing(usize, ProbeKind),
}

/// A container's state.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ContainerState {
    pub status: Status,
    pub ready: bool,
    /// The hook has run and the startup probe has passed.
    pub started: bool,
    pub restarts: u32,
    pub probes: Vec<Probe>,
    backoff: Backoff,
    pub since: Duration,
    pub again_at: Option<Duration>,
    /// When it is killed, once it was asked to end.
    pub kill_at: Option<Duration>,
    pub asked: bool,
    /// It was told that it is not ready, and has not been ready since.
    said_unready: bool,
}

/// A container as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// Whether it is one of the pod's own, no init container.
    pub is_main: bool,
    /// How it is.
    pub status: Status,
    /// Whether it takes requests.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
}

/// A pod's state. Times are since the pod was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    pub(super) rules: Rules,
    pub(super) containers: Vec<ContainerState>,
    begun: bool,
    pub(super) stopping: bool,
    failed: bool,
}

impl Pod {
    /// A pod whose containers wait.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let waiting = ContainerState {
            status: Status::Waiting,
            ready: false,
            started: false,
            restarts: 0,
            probes: Vec::new(),
            backoff: Backoff::default(),
            since: Duration::ZERO,
            again_at: None,
            kill_at: None,
            asked: false,
            said_unready: false,
        };
        Self {
            containers: vec![waiting; rules.containers.len()],
            rules,
            begun: false,
            stopping: false,
            failed: false,
        }
    }

    /// The pod's rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What follows from an event.
    #[must_use]
    pub fn step(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Begin => self.begun = true,
            Event::Started(index) => self.started(index, now, &mut actions),
            Event::PostStarted(index, Ok(())) => self.hooked(index, now),
            Event::PostStarted(index, Err(why)) => {
                actions.push(Action::Say(
                    index,
                    format!("the postStart hook failed: {why}"),
                ));
                self.end(index, now, &mut actions);
            }
            Event::PreStopped(index) => self.terminate(index, &mut actions),
            Event::Ended(index, exit) => self.ended(index, exit, now),
            Event::Probed(index, kind, ok) => self.probed((index, kind), ok, now, &mut actions),
            Event::Stop => self.stopping = true,
            Event::Tick => {}
        }
        self.pass_deadline(now);
        if self.stopping || self.failed {
            self.wind_down(now, &mut actions);
        } else if self.begun {
            self.advance(now, &mut actions);
        }
        self.kill_late(now, &mut actions);
        actions
    }

    fn pass_deadline(&mut self, now: Duration) {
        if self.rules.deadline.is_some_and(|deadline| now >= deadline) {
            self.failed = true;
        }
    }

    /// When time itself is an event.
    #[must_use]
    pub fn next_tick(&self) -> Option<Duration> {
        let times = self.containers.iter().flat_map(|container| {
            let running = container.status == Status::Running;
            let probes = container.probes.iter();
            let probes = probes.filter(move |probe| {
                let counts = container.started || probe.kind == ProbeKind::Startup;
                running && counts && !probe.in_flight
            });
            let probes = probes.map(|probe| probe.next);
            probes.chain(container.again_at).chain(container.kill_at)
        });
        let deadline = self.rules.deadline.filter(|_| !self.failed);
        times.chain(deadline).min()
    }

    /// The containers.
    #[must_use]
    pub fn views(&self) -> Vec<ContainerView> {
        let both = self.rules.containers.iter().zip(&self.containers);
        both.map(|(rules, state)| ContainerView {
            name: rules.name.clone(),
            is_main: rules.role == ContainerRole::Main,
            status: state.status.clone(),
            ready: state.ready,
            restarts: state.restarts,
        })
        .collect()
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        if self.failed && self.is_still() {
            return Phase::Failed;
        }
        if let Some(exit) = self.failed_init() {
            debug_assert_ne!(exit.code, 0);
            return Phase::Failed;
        }
        let main = || self.of_role(ContainerRole::Main);
        if main().all(|index| matches!(self.containers[index].status, Status::Ended(_))) {
            // Sidecars are part of the pod until they are gone.
            if !self.is_still() {
                return Phase::Running;
            }
            let ok = main().all(|index| match &self.containers[index].status {
                Status::Ended(exit) => exit.code == 0,
                _ => false,
            });
            return if ok { Phase::Succeeded } else { Phase::Failed };
        }
        let begun = |index: usize| {
            !matches!(
                self.containers[index].status,
                Status::Waiting | Status::Starting
            )
        };
        if main().any(begun) {
            Phase::Running
        } else {
            Phase::Pending
        }
    }

    fn failed_init(&self) -> Option<&Exit> {
        self.of_role(ContainerRole::Init)
            .find_map(|index| match &self.containers[index].status {
                Status::Ended(exit) if exit.code != 0 => Some(exit),
                _ => None,
            })
    }

    /// Whether every container that should take requests does.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let ready = |index: usize| self.containers[index].ready;
        !self.stopping
            && !self.failed
            && self.of_role(ContainerRole::Main).all(ready)
            && self.of_role(ContainerRole::Sidecar).all(ready)
    }

    /// Whether no process of it is left.
    #[must_use]
    pub fn is_still(&self) -> bool {
        let alive =
            |state: &ContainerState| matches!(state.status, Status::Running | Status::Starting);
        !self.containers.iter().any(alive)
    }

    /// Whether it was told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(super) fn of_role(&self, role: ContainerRole) -> impl Iterator<Item = usize> {
        let containers = self.rules.containers.iter().enumerate();
        containers
            .filter(move |(_, rules)| rules.role == role)
            .map(|(index, _)| index)
    }

    fn started(&mut self, index: usize, now: Duration, actions: &mut Vec<Action>) {
        let state = &mut self.containers[index];
        if state.status != Status::Starting {
            return;
        }
        state.status = Status::Running;
        state.since = now;
        if self.rules.containers[index].post_start {
            actions.push(Action::PostStart(index));
        } else {
            self.hooked(index, now);
        }
    }

    /// The container runs and its hook is done: probes begin.
    fn hooked(&mut self, index: usize, now: Duration) {
        let rules = &self.rules.containers[index];
        let state = &mut self.containers[index];
        if state.status != Status::Running {
            return;
        }
        let probes = rules.probes.iter();
        state.probes = probes
            .map(|(kind, times)| Probe::new(*kind, *times, now))
            .collect();
        let has = |kind| rules.probes.iter().any(|(other, _)| *other == kind);
        state.started = !has(ProbeKind::Startup);
        state.ready = state.started && !has(ProbeKind::Readiness);
    }

    fn probed(
        &mut self,
        (index, kind): (usize, ProbeKind),
        ok: bool,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let state = &mut self.containers[index];
        let found = state.probes.iter_mut().find(|probe| probe.kind == kind);
        let Some(verdict) = found.and_then(|probe| probe.answered(ok, now)) else {
            return;
        };
        match (kind, verdict) {
            (ProbeKind::Startup, Verdict::Passed) => {
                state.started = true;
                state.probes.retain(|probe| probe.kind != kind);
                let readiness = |probe: &Probe| probe.kind == ProbeKind::Readiness;
                state.ready = !state.probes.iter().any(readiness);
                for probe in &mut state.probes {
                    probe.next = probe.next.max(now);
                }
            }
            (ProbeKind::Readiness, verdict) => {
                state.ready = verdict == Verdict::Passed;
                let said = std::mem::replace(&mut state.said_unready, !state.ready);
                if !state.ready && !said {
                    actions.push(Action::SayFailing(index, kind));
                }
            }
            (ProbeKind::Liveness, Verdict::Passed) => {}
            (_, Verdict::Failed) => {
                actions.push(Action::SayFailing(index, kind));
                self.end(index, now, actions);
            }
        }
    }

    fn ended(&mut self, index: usize, exit: Exit, now: Duration) {
        let role = self.rules.containers[index].role;
        let again = match (role, self.rules.restart) {
            _ if self.stopping || self.failed => false,
            (ContainerRole::Sidecar, _) => !self.mains_are_over(),
            (_, RestartPolicy::Never) => false,
            (ContainerRole::Init, _) | (_, RestartPolicy::OnFailure) => exit.code != 0,
            (ContainerRole::Main, RestartPolicy::Always) => true,
        };
        let state = &mut self.containers[index];
        let ran = match state.status {
            Status::Running => now.saturating_sub(state.since),
            _ => Duration::ZERO,
        };
        state.ready = false;
        state.started = false;
        state.probes.clear();
        state.kill_at = None;
        state.asked = false;
        if again {
            state.again_at = Some(now + state.backoff.after_end(ran));
            state.status = Status::BackOff(exit);
        } else {
            state.status = Status::Ended(exit);
        }
    }

    pub(super) fn mains_are_over(&self) -> bool {
        self.of_role(ContainerRole::Main)
            .all(|index| matches!(self.containers[index].status, Status::Ended(_)))
    }

    /// Starts what can start, asks what is due.
    fn advance(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.restart(now, actions);
        if self.mains_are_over() || self.failed_init().is_some() {
            self.wind_down(now, actions);
            return;
        }
        for index in 0..self.containers.len() {
            let role = self.rules.containers[index].role;
            if self.containers[index].status == Status::Waiting {
                self.containers[index].status = Status::Starting;
                actions.push(Action::Start(index));
            }
            let state = &self.containers[index];
            let done = match role {
                ContainerRole::Init => matches!(state.status, Status::Ended(_)),
                ContainerRole::Sidecar => state.started,
                ContainerRole::Main => true,
            };
            if !done {
                break;
            }
        }
        self.ask(now, actions);
    }

    fn restart(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for (index, state) in self.containers.iter_mut().enumerate() {
            if state.again_at.is_some_and(|at| at <= now) {
                state.again_at = None;
                state.restarts += 1;
                state.status = Status::Starting;
                actions.push(Action::Start(index));
            }
        }
    }

    fn ask(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for (index, state) in self.containers.iter_mut().enumerate() {
            if state.status != Status::Running || state.kill_at.is_some() {
                continue;
            }
            for probe in &mut state.probes {
                let counts = state.started || probe.kind == ProbeKind::Startup;
                if counts && !probe.in_flight && probe.next <= now {
                    probe.in_flight = true;
                    actions.push(Action::Probe(index, probe.kind));
                }
            }
        }
    }
}
