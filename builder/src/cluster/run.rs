//! Performs one build: secrets, pod, context, log, digest, and in the end the
//! pod's deletion, whatever happened.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event as PodEvent, Pod, Secret};
use kiln_schemas::event::{Event, Phase};
use kiln_schemas::image::ImageDigest;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams, ResourceExt};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::context::{self, ContextError, Receiver};
use super::diagnose::Diagnosis;
use super::error::{ApiError, BuildError};
use super::exec::Target;
use super::logs::{self, Tail};
use super::pod::{self, CONTAINER, Executor, INIT_CONTAINER, Init, PodRequest};
use super::progress::Speech;
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
/// For deleting, each time.
const DELETE_ATTEMPTS: u32 = 3;

/// A finished build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The manifest's digest.
    pub digest: ImageDigest,
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
        let pod = self.create(order, tree, &executor, &mut cleanup).await?;
        let mut build = Running::new(self, order, tree, &executor, &pod);
        let result = build.follow(pod, cancel).await;
        build.stop().await;
        cleanup.now().await;
        let message = result?;
        let digest = self.digest(order, message.as_deref()).await?;
        Ok(Built {
            digest,
            took: started.elapsed(),
        })
    }

    async fn create(
        &self,
        order: &Order,
        tree: &BuildTree,
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
            .extend(order.artifact.executor.image_pull_secret.clone());
        let request = pod::pod(&PodRequest {
            order,
            tree,
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

/// A pod that runs, and what is done alongside.
struct Running<'a> {
    backend: &'a ClusterBackend,
    order: &'a Order,
    tree: Arc<BuildTree>,
    pods: Api<Pod>,
    name: String,
    receiver: Receiver,
    speech: Speech,
    context_container: &'static str,
    /// The executor's own archive, where no registry has its image.
    archive: Option<supply::Archive>,
    created: Instant,
    upload: Option<JoinHandle<Result<(), ContextError>>>,
    log: Option<JoinHandle<()>>,
    tail: Arc<Mutex<Tail>>,
    alive: JoinHandle<()>,
    pod_events: Vec<PodEvent>,
    /// The digest from the log, which is there before the container's end is.
    finished: Option<oneshot::Receiver<ImageDigest>>,
}

impl<'a> Running<'a> {
    fn new(
        backend: &'a ClusterBackend,
        order: &'a Order,
        tree: &BuildTree,
        executor: &supply::Chosen,
        pod: &Pod,
    ) -> Self {
        let pods: Api<Pod> =
            Api::namespaced(backend.place.client.clone(), &backend.place.namespace);
        let name = pod.name_any();
        let (receiver, context_container) = match &executor.executor {
            Executor::Kiln { .. } | Executor::Streamed { .. } => (Receiver::Kiln, CONTAINER),
            Executor::AsWritten {
                init: Init::Shell { .. },
                ..
            } => (Receiver::Shell, INIT_CONTAINER),
            Executor::AsWritten {
                init: Init::Kiln { .. },
                ..
            } => (Receiver::Kiln, INIT_CONTAINER),
        };
        Self {
            backend,
            order,
            tree: Arc::new(tree.clone()),
            receiver,
            speech: Speech::of(&executor.executor),
            context_container,
            archive: executor.archive.clone(),
            created: Instant::now(),
            upload: None,
            log: None,
            tail: Arc::default(),
            alive: tokio::spawn(sweep::keep_alive(pods.clone(), name.clone())),
            pod_events: Vec::new(),
            finished: None,
            pods,
            name,
        }
    }

    /// Follows the pod until the build has ended; the answer is the
    /// termination message.
    async fn follow(
        &mut self,
        pod: Pod,
        cancel: &CancellationToken,
    ) -> Result<Option<String>, BuildError> {
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
                sent = joined(&mut self.upload) => News::Sent(sent),
                digest = received(&mut self.finished) => News::Finished(digest),
                _ = tick.tick() => News::Tick,
                () = sleep_until(limit) => News::Late,
            };
            if let Some(end) = self.take(news, &mut clock).await? {
                return Ok(end.0);
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
            News::Sent(Ok(())) => {
                clock.deadline = Some(Instant::now() + self.backend.build.timeout);
                return Ok(None);
            }
            News::Sent(Err(error)) => {
                // A pod that died under the connection is the better reason;
                // it shows in a moment.
                clock.broken = Some((error, Instant::now() + DEATH_GRACE));
                return Ok(None);
            }
            News::Finished(digest) => return Ok(Some(End(Some(digest.to_string())))),
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
                Signal::SendContext => self.send_context(),
                Signal::Building => self.follow_log(),
                Signal::Held(why) => self.backend.events.emit(Event::Held {
                    what: self.order.artifact.image.clone(),
                    why,
                }),
                Signal::Succeeded(message) => {
                    self.finish_log().await;
                    return Ok(Some(End(message)));
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

    fn send_context(&mut self) {
        self.timing(Phase::PodStart, self.created.elapsed());
        let target = self.target(self.context_container);
        let (tree, receiver) = (self.tree.clone(), self.receiver);
        let limits = self.order.artifact.upload.clone();
        let archive = self.archive.clone();
        let progress = context::Progress {
            events: self.backend.events.clone(),
            image: self.order.artifact.image.clone(),
        };
        self.upload = Some(tokio::spawn(async move {
            let started = Instant::now();
            if let Some(archive) = archive {
                supply::stream(&target, &archive, &limits).await?;
            }
            context::send(&target, receiver, tree, &limits, &progress).await?;
            progress.events.emit(Event::Timing {
                what: progress.image.clone(),
                phase: Phase::Context,
                ms: milliseconds(started.elapsed()),
            });
            Ok(())
        }));
    }

    fn follow_log(&mut self) {
        if self.log.is_some() {
            return;
        }
        let (target, tail) = (self.target(CONTAINER), self.tail.clone());
        let (events, image) = (
            self.backend.events.clone(),
            self.order.artifact.image.clone(),
        );
        let speech = self.speech;
        let (sender, receiver) = oneshot::channel();
        self.finished = Some(receiver);
        let mut sender = Some(sender);
        self.log = Some(tokio::spawn(async move {
            logs::follow(&target, |line| {
                let digest = speech.digest(line);
                for event in speech.events(&image, line) {
                    if let Event::BuildLog { line, .. } = &event {
                        tail.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(line);
                    }
                    events.emit(event);
                }
                if let Some(digest) = digest
                    && let Some(sender) = sender.take()
                {
                    let _ = sender.send(digest);
                }
            })
            .await;
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
        self.tail
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .lines()
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
    async fn stop(&mut self) {
        self.alive.abort();
        for task in [self.log.take().map(|task| task.abort_handle())]
            .into_iter()
            .flatten()
        {
            task.abort();
        }
        if let Some(upload) = self.upload.take() {
            upload.abort();
            let _ = upload.await;
        }
    }
}

/// The end of a build that gave an image; its termination message.
struct End(Option<String>);

enum News {
    Seen(Option<Seen>),
    Sent(Result<(), ContextError>),
    Finished(ImageDigest),
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

/// The digest that the log gave, once; never, where it gives none.
async fn received(finished: &mut Option<oneshot::Receiver<ImageDigest>>) -> ImageDigest {
    if let Some(receiver) = finished {
        let digest = receiver.await;
        *finished = None;
        if let Ok(digest) = digest {
            return digest;
        }
    }
    std::future::pending().await
}

fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

/// Deletes the pod and what was made for it: when told to, or when dropped.
struct Cleanup {
    pods: Api<Pod>,
    secrets: Api<Secret>,
    pod: Option<String>,
    made: Vec<String>,
}

impl Cleanup {
    fn new(backend: &ClusterBackend) -> Self {
        let client = &backend.place.client;
        Self {
            pods: Api::namespaced(client.clone(), &backend.place.namespace),
            secrets: Api::namespaced(client.clone(), &backend.place.namespace),
            pod: None,
            made: Vec::new(),
        }
    }

    async fn now(&mut self) {
        let (pod, made) = (self.pod.take(), std::mem::take(&mut self.made));
        Self::run(self.pods.clone(), self.secrets.clone(), pod, made).await;
    }

    async fn run(pods: Api<Pod>, secrets: Api<Secret>, pod: Option<String>, made: Vec<String>) {
        if let Some(pod) = pod {
            delete_pod(&pods, &pod).await;
        }
        secret::delete(&secrets, &made).await;
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        if self.pod.is_none() && self.made.is_empty() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (pod, made) = (self.pod.take(), std::mem::take(&mut self.made));
        runtime.spawn(Self::run(
            self.pods.clone(),
            self.secrets.clone(),
            pod,
            made,
        ));
    }
}

async fn delete_pod(pods: &Api<Pod>, name: &str) {
    for attempt in 1..=DELETE_ATTEMPTS {
        match pods
            .delete(name, &DeleteParams::default().grace_period(0))
            .await
        {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(error) => {
                tracing::debug!(%error, attempt, pod = name, "cannot delete the build pod");
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
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
