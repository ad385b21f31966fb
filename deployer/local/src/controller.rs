//! Which pods a workload starts and stops now. Pure: the workload and its pods in, changes out.
//!
//! The rules are those of the Kubernetes controllers (documentation, "Workload management"), with
//! this machine as the only node.

use crate::desired::{Controller, Job, Workload};
use crate::pod::Phase;

/// A pod as its controller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Unique.
    pub uid: u64,
    /// Its name.
    pub name: String,
    /// Of the template that it was made from.
    pub hash: String,
    /// How far it is.
    pub phase: Phase,
    /// Whether it takes requests.
    pub ready: bool,
    /// Whether it was told to stop.
    pub stopping: bool,
}

/// What a controller wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new pod. Without a name it gets a generated one.
    Start {
        /// The name it has to have.
        name: Option<String>,
    },
    /// An end to a pod.
    Stop {
        /// Which.
        uid: u64,
    },
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// On its way.
    Active,
    /// All completions are there.
    Complete,
    /// Given up.
    Failed,
}

/// The next changes for a workload. A CronJob has none: its jobs are workloads of their own.
#[must_use]
pub fn reconcile(workload: &Workload, pods: &[Member]) -> Vec<Change> {
    match &workload.controller {
        Controller::Single => fixed(
            workload,
            pods,
            std::slice::from_ref(&workload.name.name),
            true,
        ),
        Controller::Replicas {
            replicas,
            surge: Some(surge),
            unavailable,
        } => rolling(workload, pods, [*replicas, *surge, *unavailable]),
        Controller::Replicas {
            replicas,
            surge: None,
            ..
        } => recreate(workload, pods, *replicas as usize),
        Controller::Ordered {
            replicas,
            one_by_one,
        } => {
            let names = (0..*replicas).map(|number| format!("{}-{number}", workload.name.name));
            fixed(workload, pods, &names.collect::<Vec<_>>(), *one_by_one)
        }
        Controller::Daemon => recreate(workload, pods, 1),
        Controller::Job(job) => run_job(workload, pods, *job),
        Controller::Cron { .. } => Vec::new(),
    }
}

/// Everything is to go.
#[must_use]
pub fn wind_down(pods: &[Member]) -> Vec<Change> {
    pods.iter().filter(|pod| !pod.stopping).map(stop).collect()
}

fn stop(pod: &Member) -> Change {
    Change::Stop { uid: pod.uid }
}

fn starts(count: usize) -> impl Iterator<Item = Change> {
    std::iter::repeat_n(Change::Start { name: None }, count)
}

/// Ended pods of a controller that wants them running are replaced.
fn is_over(pod: &Member) -> bool {
    matches!(pod.phase, Phase::Succeeded | Phase::Failed)
}

/// New pods come up beside the old ones; an old one goes when enough others are ready.
fn rolling(
    workload: &Workload,
    pods: &[Member],
    [want, surge, unavailable]: [u32; 3],
) -> Vec<Change> {
    let [want, surge, unavailable] = [want, surge, unavailable].map(|n| n as usize);
    let mut changes: Vec<Change> = pods
        .iter()
        .filter(|pod| is_over(pod) && !pod.stopping)
        .map(stop)
        .collect();
    let live = || pods.iter().filter(|pod| !pod.stopping && !is_over(pod));
    let mut current: Vec<_> = live().filter(|pod| pod.hash == workload.hash).collect();
    let mut old: Vec<_> = live().filter(|pod| pod.hash != workload.hash).collect();
    // The ready ones are kept longest.
    current.sort_by_key(|pod| !pod.ready);
    old.sort_by_key(|pod| pod.ready);
    changes.extend(current.iter().skip(want).map(|pod| stop(pod)));
    let room = (want + surge).saturating_sub(current.len() + old.len());
    changes.extend(starts(want.saturating_sub(current.len()).min(room)));
    let ready_current = current.iter().take(want).filter(|pod| pod.ready).count();
    let ready_old = old.iter().filter(|pod| pod.ready).count();
    let needed = want.saturating_sub(unavailable);
    let mut spare = (ready_current + ready_old).saturating_sub(needed);
    for pod in old {
        if !pod.ready {
            changes.push(stop(pod));
        } else if spare > 0 {
            spare -= 1;
            changes.push(stop(pod));
        }
    }
    changes
}

/// Old pods go first; new ones come when they are gone.
fn recreate(workload: &Workload, pods: &[Member], want: usize) -> Vec<Change> {
    let outdated = |pod: &&Member| pod.hash != workload.hash || is_over(pod);
    let going: Vec<_> = pods.iter().filter(outdated).collect();
    if !going.is_empty() {
        let left = going.into_iter().filter(|pod| !pod.stopping);
        return left.map(stop).collect();
    }
    let live: Vec<_> = pods.iter().filter(|pod| !pod.stopping).collect();
    let mut changes: Vec<Change> = live.iter().skip(want).map(|pod| stop(pod)).collect();
    changes.extend(starts(want.saturating_sub(pods.len())));
    changes
}

/// Pods with names of their own: each is replaced by stopping it first. One by one upwards when
/// they are made, and downwards when they are replaced.
fn fixed(workload: &Workload, pods: &[Member], names: &[String], one_by_one: bool) -> Vec<Change> {
    let single = workload.controller == Controller::Single;
    // The phase of a bare pod is its own business: one that has ended stays as it is.
    let over = |pod: &Member| is_over(pod) && !single;
    let mut changes: Vec<Change> = pods
        .iter()
        .filter(|pod| !pod.stopping && (!names.contains(&pod.name) || over(pod)))
        .map(stop)
        .collect();
    let mut all_ready = true;
    for name in names {
        match pods.iter().find(|pod| pod.name == *name) {
            None => changes.push(Change::Start {
                name: Some(name.clone()),
            }),
            Some(pod) if pod.ready && !pod.stopping => continue,
            // A pod that is not ready and outdated would hold everything up.
            Some(pod) if pod.hash != workload.hash && !pod.stopping => changes.push(stop(pod)),
            Some(_) => {}
        }
        all_ready = false;
        if one_by_one {
            break;
        }
    }
    let outdated = |name: &&String| {
        pods.iter()
            .find(|pod| pod.name == **name && pod.hash != workload.hash && !pod.stopping)
    };
    if all_ready && let Some(pod) = names.iter().rev().find_map(|name| outdated(&name)) {
        changes.push(stop(pod));
    }
    changes
}

/// How a job stands with these pods, all of its own template.
#[must_use]
pub fn job_state(job: Job, pods: &[Member], hash: &str) -> JobState {
    let count = |phase: Phase| {
        let of_phase = pods
            .iter()
            .filter(|pod| pod.phase == phase && pod.hash == hash);
        u32::try_from(of_phase.count()).unwrap_or(u32::MAX)
    };
    if count(Phase::Failed) > job.backoff_limit {
        JobState::Failed
    } else if count(Phase::Succeeded) >= job.completions {
        JobState::Complete
    } else {
        JobState::Active
    }
}

fn run_job(workload: &Workload, pods: &[Member], job: Job) -> Vec<Change> {
    // A changed job is another job: a cluster deletes and creates it.
    let mut changes: Vec<Change> = pods
        .iter()
        .filter(|pod| pod.hash != workload.hash && !pod.stopping)
        .map(stop)
        .collect();
    let own = pods.iter().filter(|pod| pod.hash == workload.hash);
    let active: Vec<_> = own.clone().filter(|pod| !is_over(pod)).collect();
    match job_state(job, pods, &workload.hash) {
        JobState::Active => {
            let done = own.filter(|pod| pod.phase == Phase::Succeeded).count();
            let missing = (job.completions as usize).saturating_sub(done);
            let want = missing.min(job.parallelism as usize);
            changes.extend(starts(want.saturating_sub(active.len())));
        }
        JobState::Failed => {
            changes.extend(active.into_iter().filter(|pod| !pod.stopping).map(stop));
        }
        JobState::Complete => {}
    }
    changes
}

#[cfg(test)]
mod tests;
