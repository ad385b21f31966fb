//! One pod at work: its folder and network, and a task that performs what the pod's state wants.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::PodSpec;
use kiln_sandbox::container::Signals;
use tokio::sync::mpsc;

use super::core::{Message, Messages, Shared};
use super::egress::Egress;
use super::host::Host;
use super::layers::Layers;
use super::logs::Logs;
use super::services::Directory;
use super::spare::{Maker, Spare};
use super::volumes::PodFolder;
use super::{ask, container};
use crate::desired::{Desired, Labels, Name, Workload};
use crate::launch::Facts;
use crate::network::addresses::{self, BRIDGE};
use crate::network::endpoints::{Backend, host_ports, named_ports};
use crate::network::links::PodNetwork;
use crate::network::reach::ON_MACHINE;
use crate::pod::{Action, ContainerView, Event, Exit, Phase, Pod, ProbeKind, Rules};

/// Between attempts to set a pod up.
const AGAIN: Duration = Duration::from_secs(1);

/// What every pod of a holder uses.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub pods: PathBuf,
    pub claims: PathBuf,
    pub logs: Logs,
    pub host: Host,
    pub messages: Messages,
    pub directory: Directory,
    /// Kept from collection as long as a pod has them.
    pub layers: Arc<Layers>,
    pub maker: Maker,
    pub spare: Spare,
}

/// What a pod tells.
#[derive(Debug, Clone)]
pub(super) enum Update {
    /// How it is.
    Is(Box<State>),
    /// It is over, and nothing of it is left.
    Gone,
}

/// How a pod is.
#[derive(Debug, Clone)]
pub(super) struct State {
    phase: Phase,
    ready: bool,
    ip: Ipv4Addr,
    containers: Vec<ContainerView>,
    trouble: Option<String>,
    labels: Arc<Labels>,
    host: (String, Option<String>),
    ports: Arc<Vec<(String, crate::desired::Protocol, u16)>>,
}

impl State {
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn ready(&self) -> bool {
        self.ready
    }

    pub(super) fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    pub(super) fn containers(&self) -> &[ContainerView] {
        &self.containers
    }

    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The pod as services see it.
    pub(super) fn backend(&self, name: &Name) -> Backend {
        Backend {
            name: name.clone(),
            labels: Labels::clone(&self.labels),
            ip: self.ip,
            ready: self.ready,
            host: self.host.clone(),
            ports: self.ports.to_vec(),
        }
    }
}

/// What a pod's task is told.
#[derive(Debug)]
pub(super) enum Input {
    Event(Event),
    /// A probe was answered; why it failed, if it did.
    Probed(usize, ProbeKind, Result<(), String>),
    /// A container's init has this process id.
    Init(usize, u32),
    /// What it reads has changed.
    Refresh,
}

/// The way to a pod's task.
pub(super) struct PodHandle {
    inputs: mpsc::UnboundedSender<Input>,
    stopping: AtomicBool,
}

impl PodHandle {
    pub(super) fn stop(&self, event: Event) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.inputs.send(Input::Event(event)));
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(super) fn refresh(&self) {
        drop(self.inputs.send(Input::Refresh));
    }
}

/// Starts a pod of a workload; also returns how it is before it begins.
pub(super) fn start(
    uid: u64,
    name: Name,
    workload: &Workload,
    desired: &Desired,
    surroundings: Surroundings,
) -> (PodHandle, Box<State>) {
    let (inputs, inbox) = mpsc::unbounded_channel();
    let metadata = workload.template.metadata.clone().unwrap_or_default();
    let spec = workload.template.spec.clone().unwrap_or_default();
    let mut labels = metadata.labels.unwrap_or_default();
    if workload.kind == "StatefulSet" {
        let label = "statefulset.kubernetes.io/pod-name".to_owned();
        labels.insert(label, name.name.clone());
    }
    let task = Task {
        uid,
        folder: PodFolder {
            own: surroundings.pods.join(uid.to_string()),
            claims: surroundings.claims.clone(),
        },
        ip: match spec.host_network {
            Some(true) => ON_MACHINE,
            _ => addresses::of_pod(uid),
        },
        labels: Arc::new(labels),
        annotations: Arc::new(metadata.annotations.unwrap_or_default()),
        ports: Arc::new(named_ports(&spec)),
        desired: Arc::new(desired.clone()),
        pod: Pod::new(Rules::of(&spec)),
        spec: Arc::new(spec),
        name,
        network: None,
        egress: None,
        running: BTreeMap::new(),
        attempts: 0,
        trouble: None,
        why: BTreeMap::new(),
        born: Instant::now(),
        inputs: inputs.clone(),
        surroundings,
    };
    let state = Box::new(task.state());
    tokio::spawn(task.run(inbox));
    let handle = PodHandle {
        inputs,
        stopping: AtomicBool::new(false),
    };
    (handle, state)
}

/// A container that runs.
struct Running {
    signals: Signals,
    init: Option<u32>,
}

/// A pod's task.
pub(super) struct Task {
    uid: u64,
    pub(super) name: Name,
    pub(super) spec: Arc<PodSpec>,
    pub(super) labels: Arc<Labels>,
    annotations: Arc<Labels>,
    ports: Arc<Vec<(String, crate::desired::Protocol, u16)>>,
    pub(super) desired: Shared,
    pub(super) folder: PodFolder,
    pub(super) ip: Ipv4Addr,
    pod: Pod,
    pub(super) network: Option<PodNetwork>,
    egress: Option<Egress>,
    running: BTreeMap<usize, Running>,
    /// Counts starts of containers: each has folders of its own.
    pub(super) attempts: u32,
    trouble: Option<String>,
    /// The last answers of probes: what is wrong, or nothing.
    why: BTreeMap<(usize, ProbeKind), String>,
    born: Instant,
    inputs: mpsc::UnboundedSender<Input>,
    pub(super) surroundings: Surroundings,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Input>) {
        if self.set_up(&mut inbox).await {
            self.step(Event::Begin);
            while !(self.pod.is_stopping() && self.pod.is_still()) {
                let tick = self.pod.next_tick().map(|tick| self.born + tick);
                let far = Instant::now() + Duration::from_hours(1);
                tokio::select! {
                    input = inbox.recv() => match input {
                        Some(input) => self.take(input),
                        None => break,
                    },
                    () = tokio::time::sleep_until(tick.unwrap_or(far).into()) => self.step(Event::Tick),
                }
            }
        }
        self.forget_inits();
        drop(self.egress.take());
        drop(self.network.take());
        let folder = self.folder.own.clone();
        // Large folders take their time; nobody has to wait for it.
        drop(tokio::task::spawn_blocking(move || {
            std::fs::remove_dir_all(folder)
        }));
        drop(
            self.surroundings
                .messages
                .send(Message::Pod(self.uid, Update::Gone)),
        );
    }

    /// Makes folders and network, again and again until it works; false when the pod was told to
    /// stop first.
    async fn set_up(&mut self, inbox: &mut mpsc::UnboundedReceiver<Input>) -> bool {
        loop {
            match self.try_set_up().await {
                Ok(()) => {
                    self.trouble = None;
                    return true;
                }
                Err(trouble) => {
                    let message = format!("{}: {trouble}", self.name.name);
                    if self.trouble.as_ref() != Some(&trouble) {
                        drop(self.surroundings.messages.send(Message::Remark(message)));
                    }
                    self.trouble = Some(trouble);
                    self.tell();
                }
            }
            let again = tokio::time::sleep(AGAIN);
            tokio::pin!(again);
            loop {
                tokio::select! {
                    () = &mut again => break,
                    input = inbox.recv() => match input {
                        Some(Input::Event(Event::Stop)) | None => return false,
                        Some(_) => {}
                    },
                }
            }
        }
    }

    async fn try_set_up(&mut self) -> Result<(), String> {
        std::fs::create_dir_all(&self.folder.own)
            .map_err(|error| format!("cannot make the pod's folder: {error}"))?;
        if self.network.is_none() && !self.on_host_network() {
            let Surroundings { maker, spare, .. } = &self.surroundings;
            let made = spare.take(self.uid, maker).await;
            let made = made.map_err(|error| chain(&error))?;
            self.network = Some(made.network);
            self.egress = made.egress;
            if let Some(trouble) = made.trouble {
                let message = format!("{}: {trouble}", self.name.name);
                drop(self.surroundings.messages.send(Message::Remark(message)));
            }
        }
        if self.on_host_network() {
            self.say_low_ports().await;
        }
        let prepared = self.with_facts(|facts| self.folder.prepare(&self.spec, facts));
        prepared.map_err(|error| chain(&error))?;
        container::network_files(self).map_err(|error| format!("cannot write /etc: {error}"))
    }

    /// Low ports of the machine are for its root alone, which nobody is in a user namespace.
    async fn say_low_ports(&self) {
        const FIRST: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
        let read = || std::fs::read_to_string(FIRST);
        let text = self.surroundings.host.run(read).await.unwrap_or_default();
        let first: u16 = text.trim().parse().unwrap_or(0);
        for port in host_ports(&self.spec).filter(|port| *port < first) {
            let message = format!(
                "{}: port {port} of this machine is not for a pod with hostNetwork: allow it with `sysctl net.ipv4.ip_unprivileged_port_start={port}` (as root), or listen on one from {first} on",
                self.name.name
            );
            drop(self.surroundings.messages.send(Message::Remark(message)));
        }
    }

    pub(super) fn on_host_network(&self) -> bool {
        self.spec.host_network == Some(true)
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Event(event) => self.step(event),
            Input::Probed(index, kind, result) => {
                let ok = result.is_ok();
                self.why
                    .insert((index, kind), result.err().unwrap_or_default());
                self.step(Event::Probed(index, kind, ok));
            }
            Input::Init(index, pid) => {
                if let Some(running) = self.running.get_mut(&index) {
                    running.init = Some(pid);
                    self.note_init(index, pid);
                }
                self.step(Event::Started(index));
            }
            Input::Refresh => {
                let desired = self
                    .surroundings
                    .directory
                    .read(|contents| contents.desired.clone());
                self.desired = desired;
                let prepared = self.with_facts(|facts| self.folder.prepare(&self.spec, facts));
                if let Err(error) = prepared {
                    let message = format!("{}: {}", self.name.name, chain(&error));
                    drop(self.surroundings.messages.send(Message::Remark(message)));
                }
            }
        }
    }

    fn step(&mut self, event: Event) {
        if let Event::Ended(index, exit) = &event {
            self.running.remove(index);
            let index = *index;
            self.forget_init(index);
            if let Some(message) = &exit.message {
                self.say(index, message);
            }
        }
        let actions = self.pod.step(event, self.born.elapsed());
        for action in actions {
            self.perform(action);
        }
        self.tell();
    }

    fn say(&self, index: usize, text: &str) {
        let message = format!("{}: {}: {text}", self.name.name, self.container_name(index));
        drop(self.surroundings.messages.send(Message::Remark(message)));
    }

    fn say_failing(&self, index: usize, kind: ProbeKind) {
        let what = match kind {
            ProbeKind::Startup => "the startup probe failed, the container is restarted",
            ProbeKind::Liveness => "the liveness probe failed, the container is restarted",
            ProbeKind::Readiness => "the readiness probe fails, the container gets no requests",
        };
        let why = self.why.get(&(index, kind)).map_or("", String::as_str);
        self.say(index, &format!("{what}: {why}"));
    }

    fn container_name(&self, index: usize) -> &str {
        &self.pod.rules().containers[index].name
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Start(index) => self.start(index),
            Action::Terminate(index) => {
                if let Some(running) = self.running.get(&index) {
                    running.signals.send(container::stop_signal(self, index));
                }
            }
            Action::Kill(index) => {
                if let Some(running) = self.running.get(&index) {
                    running.signals.kill();
                }
            }
            Action::PostStart(index) => {
                let hook = container::of(&self.spec, index).lifecycle.clone();
                let hook = hook.and_then(|hooks| hooks.post_start);
                let work = ask::hook(hook, self.target(index));
                self.answer(work, move |result| Event::PostStarted(index, result));
            }
            Action::PreStop(index) => {
                let hook = container::of(&self.spec, index).lifecycle.clone();
                let hook = hook.and_then(|hooks| hooks.pre_stop);
                let work = ask::hook(hook, self.target(index));
                self.answer(work, move |_| Event::PreStopped(index));
            }
            Action::Probe(index, kind) => {
                let probe = container::probe(&self.spec, index, kind);
                let work = ask::probe(probe, self.target(index));
                let inputs = self.inputs.clone();
                tokio::spawn(async move {
                    let result = work.await;
                    drop(inputs.send(Input::Probed(index, kind, result)));
                });
            }
            Action::SayFailing(index, kind) => self.say_failing(index, kind),
            Action::Say(index, text) => self.say(index, &text),
        }
    }

    fn answer<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        event: impl FnOnce(T) -> Event + Send + 'static,
    ) {
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            let event = event(work.await);
            drop(inputs.send(Input::Event(event)));
        });
    }

    /// Whom probes and hooks of a container ask.
    fn target(&self, index: usize) -> ask::Asked {
        let container = container::of(&self.spec, index);
        ask::Asked {
            ip: self.ip,
            init: self.running.get(&index).and_then(|running| running.init),
            ports: container.ports.clone().unwrap_or_default(),
            process: container::process(self, index).ok(),
            host: self.surroundings.host.clone(),
        }
    }

    fn start(&mut self, index: usize) {
        self.attempts += 1;
        let log = self
            .surroundings
            .logs
            .open(&self.name, self.container_name(index));
        let inputs = self.inputs.clone();
        let failed = |message: String| {
            let exit = Exit {
                code: 128,
                message: Some(message),
            };
            drop(inputs.send(Input::Event(Event::Ended(index, exit))));
        };
        let prepared = match container::prepare(self, index) {
            Ok(prepared) => prepared,
            Err(error) => return failed(chain(&*error)),
        };
        let host = self
            .on_host_network()
            .then(|| self.surroundings.host.clone());
        match container::launch(prepared, &log, index, (inputs.clone(), host)) {
            Ok(signals) => {
                let running = Running {
                    signals,
                    init: None,
                };
                self.running.insert(index, running);
            }
            Err(error) => failed(chain(&error)),
        }
    }

    fn note_init(&self, index: usize, pid: u32) {
        let container = self.container_name(index).to_owned();
        let process = container::process(self, index).ok();
        self.surroundings.directory.write(|contents| {
            if let Some(process) = process {
                let key = (self.name.clone(), container.clone());
                contents.processes.insert(key, process);
            }
            contents.inits.push((self.name.clone(), container, pid));
        });
    }

    fn forget_init(&self, index: usize) {
        let name = self.container_name(index);
        self.surroundings.directory.write(|contents| {
            contents
                .inits
                .retain(|(pod, container, _)| *pod != self.name || container != name);
        });
    }

    fn forget_inits(&self) {
        self.surroundings.directory.write(|contents| {
            contents.inits.retain(|(pod, _, _)| *pod != self.name);
            contents.processes.retain(|(pod, _), _| *pod != self.name);
        });
    }

    fn state(&self) -> State {
        State {
            phase: self.pod.phase(),
            ready: self.pod.is_ready(),
            ip: self.ip,
            containers: self.pod.views(),
            trouble: self.trouble.clone(),
            labels: Arc::clone(&self.labels),
            host: (
                self.spec
                    .hostname
                    .clone()
                    .unwrap_or_else(|| self.name.name.clone()),
                self.spec.subdomain.clone(),
            ),
            ports: Arc::clone(&self.ports),
        }
    }

    fn tell(&self) {
        let update = Update::Is(Box::new(self.state()));
        drop(
            self.surroundings
                .messages
                .send(Message::Pod(self.uid, update)),
        );
    }

    /// Calls with what the pod knows of itself.
    pub(super) fn with_facts<T>(&self, use_them: impl FnOnce(&Facts<'_>) -> T) -> T {
        let services: Vec<_> = self.surroundings.directory.read(|contents| {
            let own = contents.services.iter();
            // Services have no addresses on the machine's network.
            let own = own.filter(|service| {
                service.name.namespace == self.name.namespace && !self.on_host_network()
            });
            own.filter_map(|service| {
                let ip = *contents.addresses.get(&service.name)?;
                let ports = service.ports.iter();
                let ports = ports.map(|port| (port.name.clone(), port.protocol, port.port));
                Some((service.name.name.clone(), ip, ports.collect()))
            })
            .collect()
        });
        let account = self
            .spec
            .service_account_name
            .as_deref()
            .unwrap_or("default");
        use_them(&Facts {
            name: &self.name,
            uid: format!("local-{}-{}", std::process::id(), self.uid),
            ip: self.ip,
            host_ip: if self.on_host_network() {
                ON_MACHINE
            } else {
                BRIDGE
            },
            labels: &self.labels,
            annotations: &self.annotations,
            service_account: account,
            services: &services,
            data: &self.desired.data,
        })
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
