//! Performs one build: secrets, pod, context, log, digest, and in the end the
//! pod's deletion, whatever happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event as PodEvent, Pod};
use kiln_schemas::event::{BuildOutcome, Event, Phase};
use kiln_schemas::image::ImageDigest;
use kube::Api;
use kube::api::{ListParams, PostParams, ResourceExt};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch as flag};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::cleanup::Cleanup;
use super::context::{self, ContextError, Receiver};
use super::delivery::{Delivery, Reached};
use super::diagnose::Diagnosis;
use super::error::{ApiError, BuildError};
use super::exec::Target;
use super::listener::Listener;
use super::logs;
use super::lookup::Answer;
use super::pod::{self, CONTAINER, Executor, INIT_CONTAINER, Init, PodRequest};
use super::progress::{Finished, Speech};
use super::secret::{self, Secrets};
use super::state::{self, Roles, Signal, State};
use super::watch::{self, Seen};
use super::{BuildTree, ClusterBackend, supply, sweep};
use crate::cache::Registry;
use crate::order::Order;

/// How often waiting is looked at again without news.
const TICK: Duration = Duration::from_secs(1);
/// How often the pod's events are read while it does not start.
const EVENTS_EVERY: Duration = Duration::from_secs(3);
/// How long a pod's own death may take to show after its connection broke.
const DEATH_GRACE: Duration = Duration::from_secs(4);
/// How long the log's end may take after the container's.
const LOG_GRACE: Duration = Duration::from_secs(3);

/// A finished build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The manifest's digest.
    pub digest: ImageDigest,
    /// Whether there was anything to build ([`Order::reuse`]).
    pub outcome: BuildOutcome,
    /// From the request to the digest.
    pub took: Duration,
}

impl ClusterBackend {
    /// Builds and pushes one image.
    ///
    /// Emits log lines, timings and transfers; that the build started, ended
    /// or failed is for the caller to say, who knows why it was started. When
    /// `cancel` fires, the pod is deleted and [`BuildError::Cancelled`] is the
    /// answer. Dropping the future deletes it too.
    pub async fn build(
        &self,
        order: &Order,
        tree: &BuildTree,
        cancel: &CancellationToken,
    ) -> Result<Built, BuildError> {
        let started = Instant::now();
        let executor = cancel
            .run_until_cancelled(self.executor(order))
            .await
            .ok_or(BuildError::Cancelled)??;
        // From here on nothing is interrupted in the middle of a request:
        // what the server made has to be known to be deleted.
        let mut cleanup = Cleanup::new(self);
        let work = Work {
            order,
            tree,
            look_up: &[],
        };
        let pod = self.create(work, &executor, &mut cleanup).await?;
        let mut build = Running::new(self, work, &executor, &pod);
        let result = build.follow(pod, cancel).await;
        build.stop().await;
        cleanup.now().await;
        let (digest, outcome) = match result? {
            End::Finished(finished) => (finished.digest, finished.outcome),
            End::Message(message) => {
                let digest = self.digest(order, message.as_deref()).await?;
                (digest, BuildOutcome::Built)
            }
        };
        Ok(Built {
            digest,
            outcome,
            took: started.elapsed(),
        })
    }

    /// Makes the secrets and the pod.
    pub(super) async fn create(
        &self,
        work: Work<'_>,
        executor: &supply::Chosen,
        cleanup: &mut Cleanup,
    ) -> Result<Pod, BuildError> {
        let now = Timestamp::now();
        let secrets = Secrets {
            api: cleanup.secrets.clone(),
            namespace: &self.place.namespace,
            session: &self.session,
            now,
            lease: self.build.timeout + Duration::from_mins(10),
        };
        let mut made = Vec::new();
        let prepared = secrets
            .prepare(&self.build, &self.supply.reach, &mut made)
            .await;
        cleanup.made.clone_from(&made);
        let mut prepared = prepared?;
        prepared
            .image_pull
            .extend(work.order.artifact.executor.image_pull_secret.clone());
        let request = pod::pod(&PodRequest {
            order: work.order,
            tree: work.tree,
            look_up: work.look_up,
            build: &self.build,
            session: &self.session,
            executor: &executor.executor,
            secrets: &prepared,
            reach: &self.supply.reach,
            arch: executor.arch.as_deref(),
            now,
        });
        let pod = self.create_pod(&request).await?;
        cleanup.pod = Some(pod.name_any());
        secret::give_to(&cleanup.secrets, &made, &pod).await;
        Ok(pod)
    }

    /// Sends the pod as it is, so that fields newer than this client's types
    /// arrive.
    async fn create_pod(&self, pod: &Value) -> Result<Pod, ApiError> {
        let action = "create the build pod";
        let namespace = &self.place.namespace;
        let url = <Pod as kube::Resource>::url_path(&(), Some(namespace));
        let request = kube::core::Request::new(url)
            .create(&PostParams::default(), pod.to_string().into_bytes())
            .map_err(|error| ApiError::new(action, namespace, kube::Error::BuildRequest(error)))?;
        self.place
            .client
            .request::<Pod>(request)
            .await
            .map_err(|error| ApiError::creating(action, namespace, error))
    }

    /// The digest from the termination message, or else from the registry.
    async fn digest(
        &self,
        order: &Order,
        message: Option<&str>,
    ) -> Result<ImageDigest, BuildError> {
        let message = message.unwrap_or_default().trim();
        if let Ok(digest) = ImageDigest::parse(message) {
            return Ok(digest);
        }
        match self.supply.registry.digest(&order.reference).await {
            Ok(Some(digest)) => Ok(digest),
            Ok(None) | Err(_) => Err(BuildError::NoDigest {
                reference: order.reference.clone(),
                message: message.to_owned(),
            }),
        }
    }
}

/// What a pod is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) order: &'a Order,
    pub(super) tree: &'a BuildTree,
    /// Images to ask for instead of building.
    pub(super) look_up: &'a [String],
}

/// A pod that runs, and what is done alongside.
pub(super) struct Running<'a> {
    backend: &'a ClusterBackend,
    order: &'a Order,
    /// What is sent; nothing where images are asked for.
    tree: Option<Arc<BuildTree>>,
    pods: Api<Pod>,
    name: String,
    receiver: Receiver,
    context_container: &'static str,
    /// The executor's own archive, where no registry has its image.
    archive: Option<supply::Archive>,
    created: Instant,
    delivery: Option<JoinHandle<Result<(), ContextError>>>,
    /// How far the delivery is.
    reached: (
        mpsc::UnboundedSender<Reached>,
        mpsc::UnboundedReceiver<Reached>,
    ),
    /// Tells the delivery that the container runs.
    runs: flag::Sender<bool>,
    /// The pod's log, where the delivery does not bring the build's.
    log: Option<JoinHandle<()>>,
    listener: Listener,
    alive: JoinHandle<()>,
    pod_events: Vec<PodEvent>,
    /// The result from the log, which is there before the container's end is.
    finished: Option<oneshot::Receiver<Finished>>,
}

impl<'a> Running<'a> {
    pub(super) fn new(
        backend: &'a ClusterBackend,
        work: Work<'a>,
        executor: &supply::Chosen,
        pod: &Pod,
    ) -> Self {
        let pods: Api<Pod> =
            Api::namespaced(backend.place.client.clone(), &backend.place.namespace);
        let name = pod.name_any();
        let (receiver, context_container) = match &executor.executor {
            Executor::Kiln { .. } | Executor::Streamed { .. } => (Receiver::Executor, CONTAINER),
            Executor::AsWritten {
                init: Init::Shell { .. },
                ..
            } => (Receiver::Shell, INIT_CONTAINER),
            Executor::AsWritten {
                init: Init::Kiln { .. },
                ..
            } => (Receiver::Init, INIT_CONTAINER),
        };
        let (listener, finished) = Listener::new(
            Speech::of(&executor.executor),
            backend.events.clone(),
            work.order.artifact.image.clone(),
        );
        Self {
            backend,
            order: work.order,
            tree: work.look_up.is_empty().then(|| Arc::new(work.tree.clone())),
            receiver,
            context_container,
            archive: executor.archive.clone(),
            created: Instant::now(),
            delivery: None,
            reached: mpsc::unbounded_channel(),
            runs: flag::Sender::new(false),
            log: None,
            listener,
            alive: tokio::spawn(sweep::keep_alive(pods.clone(), name.clone())),
            pod_events: Vec::new(),
            finished: Some(finished),
            pods,
            name,
        }
    }

    /// Follows the pod until the build has ended.
    pub(super) async fn follow(
        &mut self,
        pod: Pod,
        cancel: &CancellationToken,
    ) -> Result<End, BuildError> {
        let namespace = self.backend.place.namespace.clone();
        let mut seen = watch::follow(self.pods.clone(), namespace, pod.clone());
        let mut clock = Clock {
            state: State::NEW,
            pod,
            broken: None,
            deadline: None,
        };
        let mut tick = tokio::time::interval(TICK);
        loop {
            let limit = clock.limit();
            let news = tokio::select! {
                () = cancel.cancelled() => return Err(BuildError::Cancelled),
                news = seen.recv() => News::Seen(news),
                Some(reached) = self.reached.1.recv() => News::Reached(reached),
                over = joined(&mut self.delivery) => News::Delivered(over),
                finished = received(&mut self.finished) => News::Finished(finished),
                _ = tick.tick() => News::Tick,
                () = sleep_until(limit) => News::Late,
            };
            if let Some(end) = self.take(news, &mut clock).await? {
                return Ok(end);
            }
        }
    }

    async fn take(&mut self, news: News, clock: &mut Clock) -> Result<Option<End>, BuildError> {
        match news {
            News::Seen(Some(Seen::Pod(pod))) => clock.pod = *pod,
            News::Seen(Some(Seen::Gone)) => return Err(BuildError::Pod(Diagnosis::Deleted)),
            News::Seen(Some(Seen::Lost(error))) => return Err(error.into()),
            // The watch ends only after one of the two above.
            News::Seen(None) => return Err(BuildError::Pod(Diagnosis::Deleted)),
            News::Reached(Reached::Complete) => {
                clock.deadline = Some(Instant::now() + self.backend.build.timeout);
                return Ok(None);
            }
            News::Reached(Reached::Receiver) => {
                self.timing(Phase::PodStart, self.created.elapsed());
                return Ok(None);
            }
            News::Reached(Reached::Nothing) => return Ok(None),
            News::Delivered(Ok(())) => {
                // What the connection did not bring is in the pod's log.
                if clock.state == State::Building || self.carries_log() {
                    self.follow_log();
                }
                return Ok(None);
            }
            News::Delivered(Err(error)) => {
                // A pod that died under the connection is the better reason;
                // it shows in a moment.
                clock.broken = Some((error, Instant::now() + DEATH_GRACE));
                return Ok(None);
            }
            News::Finished(finished) => return Ok(Some(End::Finished(finished))),
            News::Tick if clock.state == State::Building => return Ok(None),
            News::Tick => self.read_events().await,
            News::Late => return Err(self.late(clock)),
        }
        self.advance(clock).await
    }

    async fn advance(&mut self, clock: &mut Clock) -> Result<Option<End>, BuildError> {
        let roles = Roles {
            context: self.context_container,
            build: CONTAINER,
        };
        let state = std::mem::replace(&mut clock.state, State::Over);
        let (signals, state) = state::step(
            state,
            (&clock.pod, &self.pod_events),
            roles,
            self.created.elapsed(),
            &self.backend.patience,
        );
        clock.state = state;
        for signal in signals {
            match signal {
                Signal::Placed => self.deliver(),
                Signal::Runs => {
                    self.runs.send_replace(true);
                }
                Signal::Building if self.carries_log() && self.delivery.is_some() => {}
                Signal::Building => self.follow_log(),
                Signal::Held(why) => self.backend.events.emit(Event::Held {
                    what: self.order.artifact.image.clone(),
                    why,
                }),
                Signal::Succeeded(message) => {
                    self.finish_log().await;
                    // The log has more to say, where there is one.
                    let finished = self.finished.as_mut().and_then(|said| said.try_recv().ok());
                    return Ok(Some(finished.map_or(End::Message(message), End::Finished)));
                }
                Signal::Failed(diagnosis) => {
                    if matches!(
                        diagnosis,
                        Diagnosis::Exit { .. } | Diagnosis::OutOfMemory { .. }
                    ) {
                        self.finish_log().await;
                    }
                    return Err(BuildError::Pod(diagnosis.with_log(self.tail())));
                }
                Signal::NotStarted => {
                    let events = self
                        .pod_events
                        .iter()
                        .filter_map(|event| event.message.clone());
                    return Err(BuildError::NotStarted {
                        after: self.backend.patience.start,
                        events: events.collect(),
                    });
                }
            }
        }
        Ok(None)
    }

    fn late(&self, clock: &mut Clock) -> BuildError {
        match clock.broken.take() {
            Some((error, _)) => error.into(),
            None => BuildError::Timeout {
                after: self.backend.build.timeout,
                log: self.tail(),
            },
        }
    }

    fn deliver(&mut self) {
        if self.tree.is_none() && self.archive.is_none() {
            return;
        }
        let delivery = Delivery {
            target: self.target(self.context_container),
            receiver: self.receiver,
            archive: self.archive.clone(),
            tree: self.tree.clone(),
            limits: self.order.artifact.upload.clone(),
            progress: context::Progress {
                events: self.backend.events.clone(),
                image: self.order.artifact.image.clone(),
            },
            listener: self.listener.clone(),
            runs: self.runs.subscribe(),
            told: self.reached.0.clone(),
        };
        self.delivery = Some(tokio::spawn(delivery.run()));
    }

    /// Whether the connection that brings the context also brings the log.
    fn carries_log(&self) -> bool {
        self.receiver == Receiver::Executor && self.tree.is_some()
    }

    fn follow_log(&mut self) {
        if self.log.is_some() {
            return;
        }
        let (target, listener) = (self.target(CONTAINER), self.listener.clone());
        self.log = Some(tokio::spawn(async move {
            logs::follow(&target, |line| listener.hear(line)).await;
        }));
    }

    /// Waits for the log's end; a build that was over at once has not been
    /// followed yet.
    async fn finish_log(&mut self) {
        self.follow_log();
        if let Some(log) = &mut self.log {
            let _ = tokio::time::timeout(LOG_GRACE, log).await;
        }
    }

    async fn read_events(&mut self) {
        if self.created.elapsed() < EVENTS_EVERY {
            return;
        }
        let namespace = &self.backend.place.namespace;
        let api: Api<PodEvent> = Api::namespaced(self.backend.place.client.clone(), namespace);
        let params = ListParams::default().fields(&format!("involvedObject.name={}", self.name));
        // Without the right to read events the pod's own state has to do.
        if let Ok(events) = api.list(&params).await {
            self.pod_events = events.items;
        }
    }

    fn tail(&self) -> Vec<String> {
        self.listener.tail()
    }

    /// What `executor lookup` said.
    pub(super) fn answers(&self) -> BTreeMap<String, Answer> {
        self.listener.answers()
    }

    fn target(&self, container: &str) -> Target {
        Target {
            pods: self.pods.clone(),
            pod: self.name.clone(),
            container: container.to_owned(),
        }
    }

    fn timing(&self, phase: Phase, took: Duration) {
        let what = self.order.artifact.image.clone();
        self.backend.events.emit(Event::Timing {
            what,
            phase,
            ms: milliseconds(took),
        });
    }

    /// Ends everything that runs alongside.
    pub(super) async fn stop(&mut self) {
        self.alive.abort();
        for task in [self.log.take().map(|task| task.abort_handle())]
            .into_iter()
            .flatten()
        {
            task.abort();
        }
        if let Some(delivery) = self.delivery.take() {
            delivery.abort();
            let _ = delivery.await;
        }
    }
}

/// The end of a pod that did its work.
pub(super) enum End {
    /// Said in the log.
    Finished(Finished),
    /// The container ended, with this termination message.
    Message(Option<String>),
}

enum News {
    Seen(Option<Seen>),
    Reached(Reached),
    Delivered(Result<(), ContextError>),
    Finished(Finished),
    Tick,
    Late,
}

/// What changes while a pod is followed.
struct Clock {
    state: State,
    pod: Pod,
    /// Sending broke, and until when the pod may still say why.
    broken: Option<(ContextError, Instant)>,
    /// When the build is too late.
    deadline: Option<Instant>,
}

impl Clock {
    fn limit(&self) -> Option<Instant> {
        self.broken
            .as_ref()
            .map(|(_, until)| *until)
            .or(self.deadline)
    }
}

async fn sleep_until(limit: Option<Instant>) {
    match limit {
        Some(limit) => tokio::time::sleep_until(limit.into()).await,
        None => std::future::pending().await,
    }
}

/// The result of a task, once; never, where there is none.
async fn joined(
    task: &mut Option<JoinHandle<Result<(), ContextError>>>,
) -> Result<(), ContextError> {
    let Some(handle) = task else {
        return std::future::pending().await;
    };
    let result = handle.await;
    *task = None;
    result.map_err(ContextError::Stopped)?
}

/// The result that the log gave, once; never, where it gives none.
async fn received(finished: &mut Option<oneshot::Receiver<Finished>>) -> Finished {
    if let Some(receiver) = finished {
        let result = receiver.await;
        *finished = None;
        if let Ok(result) = result {
            return result;
        }
    }
    std::future::pending().await
}

pub(super) fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loop runs builds as tasks of their own.
    #[test]
    fn a_build_can_be_spawned() {
        fn spawnable<F: Future + Send>(_: impl FnOnce(&'static ClusterBackend) -> F) {}
        spawnable(|backend| async {
            let (order, tree, cancel) = (unreachable(), unreachable(), CancellationToken::new());
            backend.build(&order, &tree, &cancel).await
        });
    }

    fn unreachable<T>() -> T {
        unreachable!("only the type matters")
    }
}
