//! Watches pods and reads the logs of their selected containers.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{AsyncBufReadExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kiln_schemas::event::{Event, Events};
use kiln_schemas::model::LogPrefix;
use kube::Api;
use kube::api::LogParams;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::format::{prefix, reduce};
use super::position::{Position, split};
use super::selection::{Selection, containers};
use crate::cluster::Cluster;

/// How long to wait before a log that broke is read again.
const RETRY: Duration = Duration::from_millis(500);

/// Where lines go.
#[derive(Clone)]
pub(super) struct Lines {
    pub events: Events,
    pub fields: Arc<[String]>,
    pub prefix: LogPrefix,
}

/// One run of a container: its log is read by one task, once.
#[derive(Debug, Clone)]
struct Run {
    namespace: String,
    pod: String,
    container: String,
    /// The runtime's id, which differs from restart to restart.
    id: String,
    image: Option<String>,
    /// Whether it has ended and another run of the container followed.
    previous: bool,
}

type Watched = (String, watcher::Result<watcher::Event<Pod>>);

/// Follows the selected logs for ever.
pub(super) async fn run(
    cluster: Cluster,
    mut selection: watch::Receiver<Selection>,
    lines: Lines,
    began: Timestamp,
) {
    let mut follower = Follower {
        cluster,
        lines,
        began,
        pods: HashMap::new(),
        old: HashSet::new(),
        known: HashSet::new(),
        readers: JoinSet::new(),
        warned: false,
    };
    let mut watches: SelectAll<BoxStream<'static, Watched>> = SelectAll::new();
    let mut watched: BTreeSet<String> = BTreeSet::new();
    loop {
        let wanted = selection.borrow_and_update().clone();
        for namespace in wanted.namespaces.difference(&watched.clone()) {
            watches.push(follower.watch(namespace));
            watched.insert(namespace.clone());
        }
        follower.follow_all(&wanted);
        loop {
            tokio::select! {
                changed = selection.changed() => match changed {
                    Ok(()) => break,
                    // The owner is gone, and this task is about to be.
                    Err(_) => return,
                },
                Some((namespace, event)) = watches.next() => follower.observe(&namespace, event, &wanted),
                // Ended readers are let go of, so that they do not pile up.
                Some(_) = follower.readers.join_next() => {}
            }
        }
    }
}

struct Follower {
    cluster: Cluster,
    lines: Lines,
    began: Timestamp,
    /// By uid.
    pods: HashMap<String, Pod>,
    /// Uids of pods that were there before following began.
    old: HashSet<String>,
    /// Ids of runs that are or were read.
    known: HashSet<String>,
    readers: JoinSet<()>,
    warned: bool,
}

impl Follower {
    fn watch(&self, namespace: &str) -> BoxStream<'static, Watched> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client().clone(), namespace);
        let namespace = namespace.to_owned();
        watcher(pods, watcher::Config::default())
            .default_backoff()
            .map(move |event| (namespace.clone(), event))
            .boxed()
    }

    fn observe(
        &mut self,
        namespace: &str,
        event: watcher::Result<watcher::Event<Pod>>,
        wanted: &Selection,
    ) {
        match event {
            Ok(watcher::Event::InitApply(pod)) => {
                let created = pod
                    .metadata
                    .creation_timestamp
                    .as_ref()
                    .map(|time| time.0.as_second());
                // Creation is known to the second; one in doubt is shown whole.
                if created.is_some_and(|created| created < self.began.as_second()) {
                    self.old.extend(pod.metadata.uid.clone());
                }
                self.take_in(pod, wanted);
            }
            Ok(watcher::Event::Apply(pod)) => self.take_in(pod, wanted),
            Ok(watcher::Event::Delete(pod)) => {
                if let Some(uid) = &pod.metadata.uid {
                    self.pods.remove(uid);
                    self.old.remove(uid);
                }
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(error) => self.warn(namespace, &error),
        }
    }

    /// A watch that breaks is started again by itself; one that is refused
    /// will stay so.
    fn warn(&mut self, namespace: &str, error: &watcher::Error) {
        let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else {
            return;
        };
        if !self.warned && status.is_forbidden() {
            self.warned = true;
            self.lines.events.emit(Event::Warning {
                message: format!("no logs from namespace {namespace}: {}", status.message),
                hint: Some(
                    "Following logs needs get, list and watch on pods and get on pods/log.".into(),
                ),
            });
        }
    }

    fn take_in(&mut self, pod: Pod, wanted: &Selection) {
        self.follow(&pod, wanted);
        if let Some(uid) = pod.metadata.uid.clone() {
            self.pods.insert(uid, pod);
        }
    }

    fn follow_all(&mut self, wanted: &Selection) {
        let pods: Vec<Pod> = self.pods.values().cloned().collect();
        pods.iter().for_each(|pod| self.follow(pod, wanted));
    }

    fn follow(&mut self, pod: &Pod, wanted: &Selection) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        if !wanted.namespaces.contains(namespace) {
            return;
        }
        let is_old = pod
            .metadata
            .uid
            .as_ref()
            .is_some_and(|uid| self.old.contains(uid));
        for run in runs(pod, wanted) {
            if self.known.insert(run.id.clone()) {
                let not_before = is_old.then_some(self.began);
                let pods = Api::namespaced(self.cluster.client().clone(), namespace);
                self.readers
                    .spawn(read(pods, run, not_before, self.lines.clone()));
            }
        }
    }
}

/// The runs of a pod's selected containers that have a log.
fn runs(pod: &Pod, wanted: &Selection) -> Vec<Run> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut runs = Vec::new();
    for (container, image) in containers(wanted, pod) {
        let Some(status) = status_of(pod, &container) else {
            continue;
        };
        let (previous, current) = ids(status);
        let found = previous
            .map(|id| (id, true))
            .into_iter()
            .chain(current.map(|id| (id, false)));
        runs.extend(found.map(|(id, previous)| Run {
            namespace: text(&pod.metadata.namespace),
            pod: text(&pod.metadata.name),
            container: container.clone(),
            id,
            image: image.clone(),
            previous,
        }));
    }
    runs
}

fn status_of<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ]
    .into_iter()
    .flatten()
    .flatten()
    .find(|status| status.name == container)
}

/// The ids of the last run and of the one before it, where they have logs.
fn ids(status: &ContainerStatus) -> (Option<String>, Option<String>) {
    let ended = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref()?.terminated.as_ref()?.container_id.clone()
    };
    let state = status.state.as_ref();
    let current = match state {
        Some(state) if state.running.is_some() => status.container_id.clone(),
        _ => ended(&status.state),
    };
    let last = ended(&status.last_state);
    // While a restart is waited for, the run that ended is still the one that
    // the log belongs to.
    let waits = state.is_some_and(|state| state.waiting.is_some());
    if waits {
        (None, current.or(last))
    } else {
        (last, current)
    }
}

/// Reads one run's log to its end.
async fn read(pods: Api<Pod>, run: Run, not_before: Option<Timestamp>, lines: Lines) {
    let mut position = Position::new(not_before);
    loop {
        let params = LogParams {
            container: Some(run.container.clone()),
            follow: !run.previous,
            previous: run.previous,
            since_time: position.resume(),
            timestamps: true,
            ..LogParams::default()
        };
        let end = match pods.log_stream(&run.pod, &params).await {
            Ok(stream) => read_stream(stream, &run, &mut position, &lines).await,
            Err(kube::Error::Api(status)) if status.code < 500 => return,
            Err(_) => End::Broken,
        };
        // A log that is followed ends with its run, or because something in
        // between lost the connection.
        let ended = match pods.get_opt(&run.pod).await {
            Ok(None) => true,
            Ok(Some(pod)) => run.previous || !is_running(&pod, &run),
            Err(_) => false,
        };
        match end {
            End::Whole if ended => return,
            End::HalfLine(line) if ended => return hand_on(&line, &run, &mut position, &lines),
            // What is missing comes when the log is taken up again.
            End::Whole | End::HalfLine(_) | End::Broken => tokio::time::sleep(RETRY).await,
        }
    }
}

/// How a stream ended.
enum End {
    /// After a line.
    Whole,
    /// Within a line: the last one of the run, or a connection that was cut.
    HalfLine(String),
    /// With an error.
    Broken,
}

fn is_running(pod: &Pod, run: &Run) -> bool {
    status_of(pod, &run.container).is_some_and(|status| {
        status.container_id.as_deref() == Some(&run.id)
            && status
                .state
                .as_ref()
                .is_some_and(|state| state.running.is_some())
    })
}

/// Hands on every line of a stream.
async fn read_stream(
    stream: impl futures_util::AsyncBufRead,
    run: &Run,
    position: &mut Position,
    lines: &Lines,
) -> End {
    let mut stream = std::pin::pin!(stream);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match stream.read_until(b'\n', &mut buffer).await {
            Ok(0) => return End::Whole,
            Err(_) => return End::Broken,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&buffer);
        if !line.ends_with('\n') {
            return End::HalfLine(line.into_owned());
        }
        hand_on(&line, run, position, lines);
    }
}

fn hand_on(line: &str, run: &Run, position: &mut Position, lines: &Lines) {
    // Without a timestamp it is the kubelet that speaks, not the container.
    let Some((written, text)) = split(line.trim_end_matches(['\n', '\r'])) else {
        return;
    };
    if position.accept(written) {
        lines.events.emit(Event::Log {
            namespace: run.namespace.clone(),
            pod: run.pod.clone(),
            container: run.container.clone(),
            image: run.image.clone(),
            prefix: prefix(lines.prefix, &run.pod, &run.container),
            line: reduce(text.to_owned(), &lines.fields),
        });
    }
}
