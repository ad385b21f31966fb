//! The holder's one decision maker: it owns what is wanted and what there is, asks the
//! controllers, and starts and stops pods.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::cron::Schedules;
use super::forwards::Forwards;
use super::host::Host;
use super::logs::Logs;
use super::pod::{self, PodHandle, State, Surroundings, Update};
use super::services::Services;
use super::spare::{Maker, Spare};
use super::{NodeError, paths, serve};
use crate::controller::{self, Change as PodChange, JobState, Member};
use crate::desired::{Controller, Desired, Job, Name, Workload};
use crate::network::links::Links;
use crate::pod::{Event, Phase};
use crate::protocol::{Applied, Change, PodView, WorkloadState, WorkloadView, World};

/// What the decision maker is told.
#[derive(Debug)]
pub(super) enum Message {
    /// A command wants this to run.
    Apply(Box<Desired>, oneshot::Sender<Applied>),
    /// A pod has changed.
    Pod(u64, Update),
    /// Everything is to stop; answered when it has.
    Leave(oneshot::Sender<()>),
    /// Something is worth telling.
    Remark(String),
}

/// Remarks that are kept.
const REMARKS: usize = 50;

/// A pod as the decision maker knows it.
struct Entry {
    owner: (String, Name),
    name: Name,
    hash: String,
    born: Instant,
    handle: PodHandle,
    latest: Box<State>,
}

/// Everything that the holder holds.
struct Core {
    desired: Desired,
    generation: u64,
    /// Jobs that a CronJob has started.
    started: Vec<Workload>,
    pods: BTreeMap<u64, Entry>,
    next: u64,
    schedules: Schedules,
    services: Services,
    forwards: Forwards,
    surroundings: Surroundings,
    world: watch::Sender<World>,
    remarks: Vec<String>,
    leaving: Vec<oneshot::Sender<()>>,
    /// When a job's deadline or a start that failed is looked at again.
    look_again: Option<Instant>,
}

/// Runs until the holder is told to leave.
pub(super) async fn run(state: &Path, host: Host, control: UnixStream) -> Result<(), NodeError> {
    let at = |path: PathBuf| move |source| NodeError::State { path, source };
    let pods = state.join(paths::PODS);
    // What a killed holder left.
    drop(std::fs::remove_dir_all(&pods));
    std::fs::create_dir_all(&pods).map_err(at(pods.clone()))?;
    let links = Links::start().await?;
    let (messages, inbox) = mpsc::unbounded_channel();
    let (world, _) = watch::channel(World::default());
    let logs = Logs::new(state.join(paths::LOGS));
    let services = Services::new(host.clone());
    let surroundings = Surroundings {
        pods,
        claims: state.join(paths::CLAIMS),
        maker: Maker {
            links,
            host: host.clone(),
            egress: None,
        },
        spare: Spare::default(),
        logs: logs.clone(),
        host: host.clone(),
        messages: messages.clone(),
        directory: services.directory(),
        layers: Arc::default(),
    };
    let resolver = tokio::spawn(crate::network::resolver::serve(
        services.zone(),
        host.clone(),
    ));
    let listener = serve::listen(state).map_err(at(state.join(paths::SOCKET)))?;
    let server = tokio::spawn(serve::serve(
        listener,
        serve::Rooms {
            messages: messages.clone(),
            world: world.clone(),
            logs,
            directory: services.directory(),
            host: host.clone(),
        },
    ));
    // The end of the channel tells the command that the holder is there.
    drop(control);
    let core = Core {
        desired: Desired::default(),
        generation: 0,
        started: Vec::new(),
        pods: BTreeMap::new(),
        next: 0,
        schedules: Schedules::default(),
        services,
        forwards: Forwards::new(host),
        surroundings,
        world,
        remarks: Vec::new(),
        leaving: Vec::new(),
        look_again: None,
    };
    core.turn(inbox).await;
    server.abort();
    resolver.abort();
    drop(std::fs::remove_file(state.join(paths::SOCKET)));
    Ok(())
}

impl Core {
    async fn turn(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        loop {
            let due = self
                .schedules
                .next()
                .into_iter()
                .chain(self.look_again)
                .min();
            let due = due.unwrap_or_else(|| Instant::now() + Duration::from_hours(1));
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.take(message).await,
                    None => return,
                },
                () = tokio::time::sleep_until(due.into()) => {}
            }
            // What came meanwhile is one change.
            while let Ok(message) = inbox.try_recv() {
                self.take(message).await;
            }
            self.start_cron_jobs();
            self.reconcile();
            self.publish();
            if !self.leaving.is_empty() && self.pods.is_empty() {
                for done in self.leaving.drain(..) {
                    // Whoever asked is gone.
                    let _ = done.send(());
                }
                return;
            }
        }
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::Apply(desired, done) => {
                let applied = self.apply(*desired).await;
                drop(done.send(applied));
            }
            Message::Pod(uid, Update::Gone) => {
                if let Some(entry) = self.pods.remove(&uid) {
                    let taken = self.pods.values().any(|other| other.name == entry.name);
                    if !taken {
                        self.surroundings.logs.forget(&entry.name);
                    }
                }
            }
            Message::Pod(uid, Update::Is(state)) => {
                if let Some(entry) = self.pods.get_mut(&uid) {
                    entry.latest = state;
                }
            }
            Message::Leave(done) => {
                self.desired = Desired::default();
                self.started.clear();
                self.leaving.push(done);
            }
            Message::Remark(text) => self.remark(text),
        }
    }

    fn remark(&mut self, text: String) {
        self.remarks.push(text);
        if self.remarks.len() > REMARKS {
            self.remarks.remove(0);
        }
    }

    async fn apply(&mut self, desired: Desired) -> Applied {
        self.generation += 1;
        let changes = changes(&self.desired, &desired);
        let kept = |job: &Workload| {
            let of = |cron: &Workload| {
                cron.name.namespace == job.name.namespace
                    && job.name.name.starts_with(&format!("{}-", cron.name.name))
            };
            desired.workloads.iter().any(of)
        };
        self.started.retain(kept);
        self.schedules.set(&desired.workloads);
        let data_changed = self.desired.data != desired.data;
        // Pods that run already keep what they were started with.
        let (layers, remarks) = super::layers::hold(&desired);
        self.surroundings.layers = Arc::new(layers);
        self.surroundings.maker.egress.clone_from(&desired.egress);
        for remark in remarks {
            self.remark(remark);
        }
        self.desired = desired;
        self.services.set_desired(&self.desired);
        if data_changed {
            for entry in self.pods.values() {
                entry.handle.refresh();
            }
        }
        // Ports that pods are to have of the machine are given up before these start.
        let directory = self.surroundings.directory.clone();
        let forwards = self.forwards.set(&self.desired, &directory).await;
        self.reconcile();
        Applied {
            generation: self.generation,
            changes,
            forwards,
        }
    }

    fn start_cron_jobs(&mut self) {
        for due in self.schedules.due(&self.desired.workloads) {
            let members = |name: &Name| -> Vec<Member> { self.members("Job", name) };
            let active: Vec<usize> = (0..self.started.len())
                .filter(|index| {
                    let job = &self.started[*index];
                    let own = job.name.name.starts_with(&format!("{}-", due.cron));
                    own && matches!(job.controller, Controller::Job(numbers)
                        if controller::job_state(numbers, &members(&job.name), &job.hash) == JobState::Active)
                })
                .collect();
            match due.decide(active.len()) {
                super::cron::Decision::Skip => continue,
                super::cron::Decision::Replace => {
                    for index in active.into_iter().rev() {
                        self.started.remove(index);
                    }
                }
                super::cron::Decision::Start => {}
            }
            self.started.push(due.job);
            super::cron::forget_old(&mut self.started, &due.cron);
        }
    }

    fn members(&self, kind: &str, name: &Name) -> Vec<Member> {
        let own = self.pods.iter();
        let own = own.filter(|(_, entry)| entry.owner.0 == kind && entry.owner.1 == *name);
        own.map(|(uid, entry)| Member {
            uid: *uid,
            name: entry.name.name.clone(),
            hash: entry.hash.clone(),
            phase: entry.latest.phase(),
            ready: entry.latest.ready(),
            stopping: entry.handle.is_stopping(),
        })
        .collect()
    }

    /// Asks every controller, and does what it wants.
    fn reconcile(&mut self) {
        self.look_again = None;
        let wanted: Vec<Workload> = self
            .desired
            .workloads
            .iter()
            .chain(&self.started)
            .cloned()
            .collect();
        for workload in &wanted {
            let members = self.members(&workload.kind, &workload.name);
            let changes = if self.is_late(workload) {
                let active = members
                    .into_iter()
                    .filter(|pod| matches!(pod.phase, Phase::Pending | Phase::Running));
                controller::wind_down(&active.collect::<Vec<_>>())
            } else {
                controller::reconcile(workload, &members)
            };
            for change in changes {
                self.perform(workload, change);
            }
        }
        let orphans: Vec<u64> = self
            .pods
            .iter()
            .filter(|(_, entry)| {
                let owns = |w: &Workload| w.kind == entry.owner.0 && w.name == entry.owner.1;
                !wanted.iter().any(owns) && !entry.handle.is_stopping()
            })
            .map(|(uid, _)| *uid)
            .collect();
        for uid in orphans {
            self.stop(uid);
        }
    }

    /// Whether a job has passed its deadline.
    fn is_late(&mut self, workload: &Workload) -> bool {
        let Controller::Job(Job {
            deadline: Some(seconds),
            ..
        }) = workload.controller
        else {
            return false;
        };
        let own = self
            .pods
            .values()
            .filter(|entry| entry.owner.1 == workload.name);
        let Some(first) = own.map(|entry| entry.born).min() else {
            return false;
        };
        let end = first + Duration::from_secs(seconds);
        if Instant::now() >= end {
            return true;
        }
        self.look_again = Some(self.look_again.map_or(end, |at| at.min(end)));
        false
    }

    fn perform(&mut self, workload: &Workload, change: PodChange) {
        match change {
            PodChange::Stop { uid } => self.stop(uid),
            PodChange::Start { name } => {
                let uid = self.next;
                self.next += 1;
                let name = name.unwrap_or_else(|| generated(workload, uid));
                let name = Name::new(&workload.name.namespace, name);
                let (handle, latest) = pod::start(
                    uid,
                    name.clone(),
                    workload,
                    &self.desired,
                    self.surroundings.clone(),
                );
                let entry = Entry {
                    owner: (workload.kind.clone(), workload.name.clone()),
                    name,
                    hash: workload.hash.clone(),
                    born: Instant::now(),
                    handle,
                    latest,
                };
                self.pods.insert(uid, entry);
            }
        }
    }

    fn stop(&mut self, uid: u64) {
        if let Some(entry) = self.pods.get_mut(&uid) {
            entry.handle.stop(Event::Stop);
        }
    }

    fn publish(&mut self) {
        let pods = self.pods.values();
        self.services
            .set_pods(pods.clone().map(|entry| entry.latest.backend(&entry.name)));
        let views = pods.map(|entry| PodView {
            name: entry.name.clone(),
            owner: entry.owner.clone(),
            ip: entry.latest.ip(),
            phase: entry.latest.phase(),
            ready: entry.latest.ready(),
            stopping: entry.handle.is_stopping(),
            containers: entry.latest.containers().to_vec(),
            age: entry.born.elapsed().as_secs(),
            trouble: entry.latest.trouble().map(str::to_owned),
        });
        let views: Vec<PodView> = views.collect();
        let all = self.desired.workloads.iter().chain(&self.started);
        let workloads = all.map(|workload| {
            let members = self.members(&workload.kind, &workload.name);
            view(workload, &members, &views)
        });
        let workloads: Vec<WorkloadView> = workloads.collect();
        // At rest, for the pod that replaces one of these.
        let is_ready = |view: &WorkloadView| view.state == WorkloadState::Ready;
        if !workloads.is_empty() && workloads.iter().all(is_ready) {
            let Surroundings { maker, spare, .. } = &self.surroundings;
            spare.prepare(self.next, maker);
        }
        let world = World {
            generation: self.generation,
            workloads,
            pods: views,
            remarks: self.remarks.clone(),
            forwards: self.forwards.listening(),
        };
        self.world.send_if_modified(|old| {
            let same = *old == world;
            *old = world;
            !same
        });
    }
}

/// `name-hash-rest`, or `name-rest`.
fn generated(workload: &Workload, uid: u64) -> String {
    let seed = format!("{}{uid}{:?}", workload.name, std::time::SystemTime::now());
    let rest = &blake3::hash(seed.as_bytes()).to_hex()[..5];
    let name = &workload.name.name;
    match workload.kind.as_str() {
        "Deployment" => format!("{name}-{}-{rest}", workload.hash),
        _ => format!("{name}-{rest}"),
    }
}

/// What applying does to each object.
fn changes(before: &Desired, after: &Desired) -> Vec<(String, Name, Change)> {
    let mut changes = Vec::new();
    let word = |known: Option<bool>| match known {
        None => Change::Created,
        Some(true) => Change::Unchanged,
        Some(false) => Change::Configured,
    };
    for workload in &after.workloads {
        let same = |old: &&Workload| old.kind == workload.kind && old.name == workload.name;
        let known = before.workloads.iter().find(same);
        let known = known.map(|old| old == workload);
        changes.push((workload.kind.clone(), workload.name.clone(), word(known)));
    }
    for service in &after.services {
        let known = before.services.iter().find(|old| old.name == service.name);
        let known = known.map(|old| old == service);
        changes.push(("Service".to_owned(), service.name.clone(), word(known)));
    }
    let kept = |kind: &str, name: &Name| {
        let named = |change: &(String, Name, Change)| change.0 == kind && change.1 == *name;
        changes.iter().any(named)
    };
    let workloads = before.workloads.iter().map(|w| (w.kind.as_str(), &w.name));
    let services = before.services.iter().map(|s| ("Service", &s.name));
    let removed: Vec<_> = workloads
        .chain(services)
        .filter(|(kind, name)| !kept(kind, name))
        .map(|(kind, name)| (kind.to_owned(), name.clone(), Change::Removed))
        .collect();
    changes.extend(removed);
    changes
}

/// A workload's state in words.
fn view(workload: &Workload, members: &[Member], pods: &[PodView]) -> WorkloadView {
    let current: Vec<&Member> = members
        .iter()
        .filter(|pod| pod.hash == workload.hash && !pod.stopping)
        .collect();
    let ready = current.iter().filter(|pod| pod.ready).count();
    let old = members
        .iter()
        .filter(|pod| pod.hash != workload.hash)
        .count();
    let (state, message) = match &workload.controller {
        Controller::Cron { suspended, .. } => {
            let word = if *suspended {
                "suspended"
            } else {
                "waits for its time"
            };
            (WorkloadState::Ready, word.to_owned())
        }
        Controller::Job(job) => {
            let done = current
                .iter()
                .filter(|pod| pod.phase == Phase::Succeeded)
                .count();
            let message = format!("{done} of {} complete", job.completions);
            match controller::job_state(*job, members, &workload.hash) {
                JobState::Complete => (WorkloadState::Ready, message),
                JobState::Failed => (WorkloadState::Failed, message),
                JobState::Active => (WorkloadState::InProgress, message),
            }
        }
        Controller::Single if current.iter().any(|pod| pod.phase == Phase::Succeeded) => {
            (WorkloadState::Ready, "succeeded".to_owned())
        }
        Controller::Single if current.iter().any(|pod| pod.phase == Phase::Failed) => {
            (WorkloadState::Failed, "failed".to_owned())
        }
        Controller::Replicas { replicas, .. } | Controller::Ordered { replicas, .. } => {
            progress(ready, *replicas as usize, old)
        }
        Controller::Single | Controller::Daemon => progress(ready, 1, old),
    };
    let trouble = pods
        .iter()
        .filter(|pod| pod.owner.1 == workload.name && pod.owner.0 == workload.kind && !pod.stopping)
        .find_map(|pod| pod.trouble.clone());
    WorkloadView {
        kind: workload.kind.clone(),
        name: workload.name.clone(),
        state,
        message: match trouble {
            Some(trouble) if state != WorkloadState::Ready => format!("{message}: {trouble}"),
            _ => message,
        },
    }
}

fn progress(ready: usize, want: usize, old: usize) -> (WorkloadState, String) {
    let message = format!("{ready} of {want} ready");
    if ready >= want && old == 0 {
        (WorkloadState::Ready, message)
    } else if ready >= want {
        (
            WorkloadState::InProgress,
            format!("{message}, {old} old to stop"),
        )
    } else {
        (WorkloadState::InProgress, message)
    }
}

/// Shared by the tasks of a holder.
pub(super) type Messages = mpsc::UnboundedSender<Message>;

/// A desired state that pods share.
pub(super) type Shared = Arc<Desired>;
