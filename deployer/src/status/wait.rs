//! Waits until what was applied is ready: watches feed [`Board`], which
//! decides.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use kiln_schemas::event::{Event, Events, Failure, ObjectName};
use kiln_schemas::model::StatusCheck;
use kube::api::DynamicObject;
use kube::core::gvk::GroupVersionKind;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;

use super::board::{Board, Moment, Place, Seen, State, Waited};
use super::evidence::{Evidence, gather};
use super::{Status, takes_time};
use crate::apply::{Applied, AppliedObject, set::PART_OF};
use crate::cluster::{Cluster, RequestError, Served};

/// How often states that depend on the time alone are looked at again.
const TICK: Duration = Duration::from_secs(3);

/// Kubernetes' own default of `progressDeadlineSeconds`; a Deployment that
/// says something else means it.
const DEFAULT_PROGRESS_DEADLINE: u64 = 600;

/// Group and kind of what explains the state of other objects.
const EXPLAIN: [(&str, &str); 2] = [("", "Pod"), ("apps", "ReplicaSet")];

/// Everything became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// How many objects were waited for.
    pub objects: usize,
    /// Since applying began.
    pub took: Duration,
}

/// Why waiting ended without success.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// An object failed beyond repair.
    #[error("{object} failed")]
    Failed {
        /// Which.
        object: ObjectName,
        /// In words.
        message: String,
        /// Last lines of the log that explains it.
        log: Vec<String>,
        /// Warnings of the cluster about the pod.
        warnings: Vec<String>,
    },
    /// The deadline passed.
    #[error("{} not ready after {} s", several(.unfinished), .deadline.as_secs())]
    Late {
        /// What is not ready, each with its state in words. Never empty.
        unfinished: Vec<(ObjectName, String)>,
        /// How long it was waited for.
        deadline: Duration,
        /// Last lines of the log that explains it.
        log: Vec<String>,
        /// Warnings of the cluster about the first pod.
        warnings: Vec<String>,
    },
    /// A kind that is waited for cannot be watched.
    #[error("cannot watch {what}")]
    Watch {
        /// The plural of the kind.
        what: String,
        /// Why.
        source: RequestError,
    },
}

impl NotReady {
    /// The error in the shape that every renderer shows.
    pub fn failure(&self) -> Failure {
        let failure = Failure::from_error(self);
        match self {
            Self::Failed {
                message,
                log,
                warnings,
                ..
            } => Failure {
                causes: std::iter::once(message.clone())
                    .chain(warnings.iter().cloned())
                    .collect(),
                log: log.clone(),
                ..failure
            },
            Self::Late {
                unfinished,
                log,
                warnings,
                ..
            } => Failure {
                causes: unfinished
                    .iter()
                    .map(|(object, message)| format!("{object}: {message}"))
                    .chain(warnings.iter().cloned())
                    .collect(),
                log: log.clone(),
                ..failure
            },
            Self::Watch { .. } => failure,
        }
    }
}

fn several(unfinished: &[(ObjectName, String)]) -> String {
    match unfinished {
        [(object, _)] => format!("{object} is"),
        many => format!("{} objects are", many.len()),
    }
}

/// Watches what was applied until all of it is ready, one object fails beyond
/// repair (unless failures are tolerated) or the deadline passes. Says each
/// change of state with [`Event::Status`] and the end with `DeployReady`.
pub async fn wait_ready(
    cluster: &Cluster,
    applied: &Applied,
    check: &StatusCheck,
    events: &Events,
) -> Result<Ready, NotReady> {
    let waited: Vec<_> = applied
        .objects
        .iter()
        .filter(|object| takes_time(object.live.value()))
        .collect();
    let objects = waited.len();
    let live = waited
        .iter()
        .map(|object| object.live.value().clone())
        .collect();
    let board = waited
        .iter()
        .map(|object| Waited::new(object.name.clone(), deadline(object, check)))
        .collect();
    let mut state = State::Waiting(Board::new(board, live, check.tolerate_failures));
    let mut seen = Some(Seen::Tick);
    let began = Instant::now();
    let mut watches: Option<Watches> = None;
    loop {
        match state {
            State::Waiting(board) => {
                let observation = match seen.take() {
                    Some(first) => first,
                    // Nothing is watched when everything is ready already.
                    None => {
                        let watches = match &mut watches {
                            Some(watches) => watches,
                            none => {
                                none.insert(Watches::open(cluster, applied, &waited, events).await?)
                            }
                        };
                        watches.next().await?
                    }
                };
                let moment = Moment {
                    now: Timestamp::now(),
                    waited: began.elapsed(),
                };
                let (said, next) = board.step(observation, moment);
                said.into_iter().for_each(|event| events.emit(event));
                state = next;
            }
            State::Ready => {
                let took = applied.began.elapsed();
                let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                events.emit(Event::DeployReady { objects, ms });
                return Ok(Ready { objects, took });
            }
            State::Failed(object, status) => {
                let Evidence { log, warnings } = evidence(cluster, &object, &status).await;
                return Err(NotReady::Failed {
                    object,
                    message: status.message,
                    log,
                    warnings,
                });
            }
            State::Late(unfinished, deadline) => {
                let blamed = unfinished
                    .iter()
                    .find(|(_, status)| status.culprit.is_some());
                let Evidence { log, warnings } = match blamed {
                    Some((object, status)) => evidence(cluster, object, status).await,
                    None => Evidence::default(),
                };
                let unfinished = unfinished
                    .into_iter()
                    .map(|(object, status)| (object, status.message));
                return Err(NotReady::Late {
                    unfinished: unfinished.collect(),
                    deadline,
                    log,
                    warnings,
                });
            }
        }
    }
}

async fn evidence(cluster: &Cluster, object: &ObjectName, status: &Status) -> Evidence {
    match &status.culprit {
        Some(culprit) => {
            let namespace = object.namespace.as_deref().unwrap_or(cluster.namespace());
            gather(cluster, namespace, culprit).await
        }
        None => Evidence::default(),
    }
}

fn explains(object: &AppliedObject) -> bool {
    EXPLAIN.contains(&(object.live.group(), object.live.kind()))
}

fn deadline(object: &AppliedObject, check: &StatusCheck) -> Duration {
    let own = object.live.value()["spec"]["progressDeadlineSeconds"].as_u64();
    match own {
        Some(own) if object.live.kind() == "Deployment" && own != DEFAULT_PROGRESS_DEADLINE => {
            Duration::from_secs(own)
        }
        _ => check.deadline,
    }
}

/// The watches of one wait.
struct Watches {
    streams: SelectAll<BoxStream<'static, Result<Seen, Lost>>>,
    tick: tokio::time::Interval,
    events: Events,
    warned: BTreeSet<String>,
}

/// Whether a wait can go on without a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needed {
    Yes,
    No,
}

/// A watch that could not be started, or broke and is started again.
struct Lost {
    what: String,
    place: Place,
    needed: Needed,
    source: watcher::Error,
}

impl Watches {
    async fn open(
        cluster: &Cluster,
        applied: &Applied,
        waited: &[&AppliedObject],
        events: &Events,
    ) -> Result<Self, NotReady> {
        let mut streams = SelectAll::new();
        let mut opened = BTreeSet::new();
        for object in waited.iter().filter(|object| !explains(object)) {
            let namespace = object.name.namespace.as_deref();
            if opened.insert((object.served.resource.plural.as_str(), namespace)) {
                let members =
                    watcher::Config::default().labels(&format!("{PART_OF}={}", applied.set_id));
                streams.push(watch(
                    cluster,
                    &object.served,
                    namespace,
                    members,
                    Needed::Yes,
                ));
            }
        }
        // All pods and ReplicaSets: they explain. Where they may not be read,
        // the wait goes on without explanations, unless it is for them.
        let namespaces: BTreeSet<_> = waited
            .iter()
            .filter_map(|object| object.name.namespace.as_deref())
            .collect();
        for (group, kind) in EXPLAIN {
            let gvk = GroupVersionKind::gvk(group, "v1", kind);
            let found = cluster.find(&gvk).await.map_err(|source| NotReady::Watch {
                what: kind.into(),
                source,
            })?;
            let Some(served) = found else { continue };
            let needed = if waited.iter().any(|object| object.name.kind == kind) {
                Needed::Yes
            } else {
                Needed::No
            };
            for namespace in &namespaces {
                streams.push(watch(
                    cluster,
                    &served,
                    Some(namespace),
                    watcher::Config::default(),
                    needed,
                ));
            }
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Ok(Self {
            streams,
            tick,
            events: events.clone(),
            warned: BTreeSet::new(),
        })
    }

    async fn next(&mut self) -> Result<Seen, NotReady> {
        loop {
            let lost = tokio::select! {
                _ = self.tick.tick() => return Ok(Seen::Tick),
                Some(seen) = self.streams.next() => match seen {
                    Ok(seen) => return Ok(seen),
                    Err(lost) => lost,
                },
            };
            let Some(source) = lost.refusal() else {
                continue;
            };
            if lost.needed == Needed::Yes {
                return Err(NotReady::Watch {
                    what: lost.what,
                    source,
                });
            }
            if self.warned.insert(lost.what.clone()) {
                self.events.emit(Event::Warning {
                    message: format!(
                        "cannot watch {}, so failures are not explained: {source}",
                        lost.what
                    ),
                    hint: None,
                });
            }
            return Ok(Seen::Listed(lost.place));
        }
    }
}

impl Lost {
    /// The server's refusal, if that is why; anything else passes and is
    /// tried again.
    fn refusal(&self) -> Option<RequestError> {
        let status = match &self.source {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status,
            _ => return None,
        };
        (status.is_forbidden() || status.is_not_found())
            .then(|| RequestError::Refused(status.clone()))
    }
}

fn watch(
    cluster: &Cluster,
    served: &Served,
    namespace: Option<&str>,
    config: watcher::Config,
    needed: Needed,
) -> BoxStream<'static, Result<Seen, Lost>> {
    let resource = served.resource.clone();
    let place: Place = (resource.kind.clone(), namespace.map(str::to_owned));
    let lost = place.clone();
    let what = resource.plural.clone();
    watcher(cluster.api(served, namespace), config)
        .default_backoff()
        .map_err(move |source| Lost {
            what: what.clone(),
            place: lost.clone(),
            needed,
            source,
        })
        .map_ok(move |event| {
            let value =
                |object: DynamicObject| typed(object, &resource.api_version, &resource.kind);
            match event {
                watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                    Seen::Live(value(object))
                }
                watcher::Event::Delete(object) => Seen::Gone(value(object)),
                watcher::Event::Init => Seen::Restart(place.clone()),
                watcher::Event::InitDone => Seen::Listed(place.clone()),
            }
        })
        .chain(stream::pending())
        .boxed()
}

/// The items of a list do not say their kind.
fn typed(object: DynamicObject, api_version: &str, kind: &str) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or(Value::Null);
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    value
}
