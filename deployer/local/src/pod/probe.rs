//! When a probe is due, and what its answers mean.

use std::time::Duration;

/// What a probe decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Whether the others may begin.
    Startup,
    /// Whether the container is restarted.
    Liveness,
    /// Whether the pod takes requests.
    Readiness,
}

/// The numbers of a probe, with Kubernetes' defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// From the container's start to the first.
    pub initial_delay: Duration,
    /// From one to the next.
    pub period: Duration,
    /// Until an answer is given up.
    pub timeout: Duration,
    /// Successes in a row that count as one.
    pub successes: u32,
    /// Failures in a row that count as one.
    pub failures: u32,
}

/// The pause after the first answer of a start that is not yet awaited.
const QUICK: Duration = Duration::from_millis(20);

/// A probe of a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probe {
    pub kind: ProbeKind,
    pub times: Times,
    pub next: Duration,
    pub in_flight: bool,
    good: u32,
    bad: u32,
    /// The pause of the quick phase; none once it has succeeded.
    quick: Option<Duration>,
    /// When a failure counts again.
    counts_from: Duration,
}

/// What a run of answers means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    Failed,
}

impl Probe {
    pub(super) fn new(kind: ProbeKind, times: Times, now: Duration) -> Self {
        let next = now + times.initial_delay;
        Self {
            kind,
            times,
            next,
            in_flight: false,
            good: 0,
            bad: 0,
            quick: (kind != ProbeKind::Liveness).then_some(QUICK),
            counts_from: next,
        }
    }

    /// Takes an answer in. Until the first success a container that starts is asked more often
    /// than its period says, so that nobody waits for a server that is there already; failures
    /// are counted only once per period, so that their limit means what it says.
    pub(super) fn answered(&mut self, ok: bool, now: Duration) -> Option<Verdict> {
        self.in_flight = false;
        self.next = now + self.times.period;
        if ok {
            self.quick = None;
            self.bad = 0;
            self.good += 1;
            return (self.good >= self.times.successes).then_some(Verdict::Passed);
        }
        self.good = 0;
        if let Some(pause) = self.quick {
            self.next = now + pause.min(self.times.period);
            self.quick = Some(pause * 2);
        }
        if now < self.counts_from {
            return None;
        }
        self.counts_from = now.max(self.counts_from) + self.times.period;
        self.bad += 1;
        (self.bad >= self.times.failures).then_some(Verdict::Failed)
    }
}
