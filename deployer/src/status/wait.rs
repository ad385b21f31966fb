//! Waits until what was applied is ready: watches feed [`Board`], which
//! decides.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kiln_schemas::event::{Event, Events, Failure, ObjectName};
use kiln_schemas::model::StatusCheck;

use super::board::{Board, Moment, Seen, State, Waited};
use super::evidence::{Evidence, gather};
use super::watches::Watches;
use super::{Status, takes_time};
use crate::apply::{Applied, AppliedObject};
use crate::cluster::{Cluster, RequestError};

/// Kubernetes' own default of `progressDeadlineSeconds`; a Deployment that
/// says something else means it.
const DEFAULT_PROGRESS_DEADLINE: u64 = 600;

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
            State::Failed(object, status) => return Err(failed(cluster, object, status).await),
            State::Late(unfinished, deadline) => {
                return Err(late(cluster, unfinished, deadline).await);
            }
        }
    }
}

async fn failed(cluster: &Cluster, object: ObjectName, status: Status) -> NotReady {
    let Evidence { log, warnings } = evidence(cluster, &object, &status).await;
    NotReady::Failed {
        object,
        message: status.message,
        log,
        warnings,
    }
}

async fn late(
    cluster: &Cluster,
    unfinished: Vec<(ObjectName, Status)>,
    deadline: Duration,
) -> NotReady {
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
    NotReady::Late {
        unfinished: unfinished.collect(),
        deadline,
        log,
        warnings,
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

fn deadline(object: &AppliedObject, check: &StatusCheck) -> Duration {
    let own = object.live.value()["spec"]["progressDeadlineSeconds"].as_u64();
    match own {
        Some(own) if object.live.kind() == "Deployment" && own != DEFAULT_PROGRESS_DEADLINE => {
            Duration::from_secs(own)
        }
        _ => check.deadline,
    }
}
