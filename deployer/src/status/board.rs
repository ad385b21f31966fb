//! The state of a wait: what is known of every object that is waited for, and
//! what one more observation makes of it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use kiln_schemas::event::{Event, ObjectName, Readiness};
use serde_json::Value;

use super::{Related, Status, of};

/// Kind, namespace and name; enough to tell objects of one wait apart.
pub(super) type Key = (String, Option<String>, String);

/// What one watch covers: a kind, in a namespace or everywhere.
pub(super) type Place = (String, Option<String>);

/// One observation.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    /// An object as it is now.
    Live(Value),
    /// An object as it was before it went.
    Gone(Value),
    /// Objects of a kind are listed anew: those that are not seen until
    /// [`Seen::Listed`] are gone.
    Restart(Place),
    /// A list is complete, or given up.
    Listed(Place),
    /// Time has passed.
    Tick,
}

/// When something was observed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// By the clock that the cluster's timestamps are compared with.
    pub now: Timestamp,
    /// Since the wait began.
    pub waited: Duration,
}

/// An object that is waited for.
#[derive(Debug, Clone)]
pub(super) struct Waited {
    pub name: ObjectName,
    /// How long.
    pub deadline: Duration,
    status: Option<Status>,
}

/// Everything that is known.
#[derive(Debug)]
pub(super) struct Board {
    waited: Vec<Waited>,
    live: BTreeMap<Key, Value>,
    listing: BTreeSet<Place>,
    tolerate_failures: bool,
}

/// Where a wait is.
#[derive(Debug)]
pub(super) enum State {
    /// Not there yet.
    Waiting(Board),
    /// Everything is ready.
    Ready,
    /// An object failed beyond repair.
    Failed(ObjectName, Status),
    /// A deadline has passed; what is not ready.
    Late(Vec<(ObjectName, Status)>, Duration),
}

impl Waited {
    pub(super) fn new(name: ObjectName, deadline: Duration) -> Self {
        Self {
            name,
            deadline,
            status: None,
        }
    }

    fn key(&self) -> Key {
        (
            self.name.kind.clone(),
            self.name.namespace.clone(),
            self.name.name.clone(),
        )
    }
}

impl Board {
    /// A wait for `waited`, which the server returned as `live` when they were
    /// applied.
    pub(super) fn new(waited: Vec<Waited>, live: Vec<Value>, tolerate_failures: bool) -> Self {
        let live = live
            .into_iter()
            .map(|object| (key(&object), object))
            .collect();
        Self {
            waited,
            live,
            listing: BTreeSet::new(),
            tolerate_failures,
        }
    }

    /// Takes one observation in: what to say, and where that leaves the wait.
    pub(super) fn step(mut self, seen: Seen, moment: Moment) -> (Vec<Event>, State) {
        match seen {
            Seen::Live(object) => drop(self.live.insert(key(&object), object)),
            Seen::Gone(object) => drop(self.live.remove(&key(&object))),
            Seen::Restart(place) => {
                let (kind, namespace) = &place;
                self.live.retain(|key, _| {
                    key.0 != *kind || (namespace.is_some() && key.1 != *namespace)
                });
                self.listing.insert(place);
            }
            Seen::Listed(place) => drop(self.listing.remove(&place)),
            Seen::Tick => {}
        }
        if !self.listing.is_empty() {
            return (Vec::new(), State::Waiting(self));
        }
        self.judge(moment)
    }

    fn judge(mut self, moment: Moment) -> (Vec<Event>, State) {
        let mut events = Vec::new();
        let mut waited = std::mem::take(&mut self.waited);
        for one in &mut waited {
            let status = self.status(one, moment.now);
            if one.status.as_ref().is_none_or(|old| {
                (old.readiness, &old.message) != (status.readiness, &status.message)
            }) {
                events.push(Event::Status {
                    object: one.name.clone(),
                    readiness: status.readiness,
                    message: status.message.clone(),
                });
            }
            one.status = Some(status);
        }
        self.waited = waited;
        (events, self.state(moment.waited))
    }

    fn state(self, waited: Duration) -> State {
        let status = |one: &Waited| one.status.clone().map(|status| (one.name.clone(), status));
        let unready = |(_, status): &(ObjectName, Status)| status.readiness != Readiness::Ready;
        let unfinished: Vec<_> = self
            .waited
            .iter()
            .filter_map(status)
            .filter(unready)
            .collect();
        if unfinished.is_empty() {
            return State::Ready;
        }
        let failed = unfinished
            .iter()
            .find(|(_, status)| status.readiness == Readiness::Failed);
        if let Some((object, status)) = failed.filter(|_| !self.tolerate_failures) {
            return State::Failed(object.clone(), status.clone());
        }
        let late = |one: &&Waited| {
            one.deadline <= waited && unfinished.iter().any(|(name, _)| *name == one.name)
        };
        match self.waited.iter().find(late).map(|one| one.deadline) {
            Some(deadline) => State::Late(unfinished, deadline),
            None => State::Waiting(self),
        }
    }

    fn status(&self, waited: &Waited, now: Timestamp) -> Status {
        let Some(object) = self.live.get(&waited.key()) else {
            return Status::failed("was deleted by someone");
        };
        let of_kind = |kind: &str| -> Vec<&Value> {
            let here = |key: &Key| key.0 == kind && key.1 == waited.name.namespace;
            self.live
                .iter()
                .filter(|(key, _)| here(key))
                .map(|(_, object)| object)
                .collect()
        };
        let (pods, replica_sets) = (of_kind("Pod"), of_kind("ReplicaSet"));
        of(
            object,
            &Related {
                pods: &pods,
                replica_sets: &replica_sets,
                now,
            },
        )
    }
}

fn key(object: &Value) -> Key {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let metadata = &object["metadata"];
    (
        text(&object["kind"]).unwrap_or_default(),
        text(&metadata["namespace"]),
        text(&metadata["name"]).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(condition: Option<&str>) -> Value {
        let conditions =
            condition.map(|kind| json!({"type": kind, "status": "True", "message": "words"}));
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "m", "namespace": "shop"},
            "status": {"conditions": conditions.into_iter().collect::<Vec<_>>()}})
    }

    fn board(tolerate_failures: bool) -> Board {
        let name = ObjectName {
            kind: "Job".into(),
            namespace: Some("shop".into()),
            name: "m".into(),
        };
        let waited = vec![Waited::new(name, Duration::from_secs(60))];
        Board::new(waited, vec![job(None)], tolerate_failures)
    }

    fn after(seconds: u64) -> Moment {
        Moment {
            now: Timestamp::UNIX_EPOCH,
            waited: Duration::from_secs(seconds),
        }
    }

    fn waiting(state: State) -> Board {
        match state {
            State::Waiting(board) => board,
            other => panic!("not waiting but {other:?}"),
        }
    }

    #[test]
    fn a_state_is_said_once_and_the_end_is_ready() {
        let (events, state) = board(false).step(Seen::Tick, after(0));
        assert_eq!(events.len(), 1);
        let (events, state) = waiting(state).step(Seen::Live(job(None)), after(1));
        assert_eq!(events, []);
        let (events, state) = waiting(state).step(Seen::Live(job(Some("Complete"))), after(2));
        assert!(matches!(
            &events[..],
            [Event::Status {
                readiness: Readiness::Ready,
                ..
            }]
        ));
        assert!(matches!(state, State::Ready));
    }

    #[test]
    fn a_failure_ends_the_wait_unless_it_is_tolerated_until_the_deadline() {
        let failed = || Seen::Live(job(Some("Failed")));
        let (_, state) = board(false).step(failed(), after(1));
        assert!(matches!(state, State::Failed(object, _) if object.name == "m"));
        let (_, state) = board(true).step(failed(), after(1));
        let (_, state) = waiting(state).step(Seen::Tick, after(60));
        assert!(matches!(state, State::Late(unfinished, _) if unfinished.len() == 1));
    }

    #[test]
    fn an_object_that_is_missing_from_a_complete_list_was_deleted() {
        let place = ("Job".to_owned(), Some("shop".to_owned()));
        let (events, state) = board(false).step(Seen::Restart(place.clone()), after(1));
        assert_eq!(events, []);
        let (_, state) = waiting(state).step(Seen::Listed(place), after(1));
        assert!(
            matches!(state, State::Failed(_, status) if status.message == "was deleted by someone")
        );
    }
}
