//! The watches of one wait: what is waited for, and the pods and ReplicaSets
//! that explain it.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{StreamExt, TryStreamExt};
use kiln_schemas::event::{Event, Events};
use kube::api::DynamicObject;
use kube::core::gvk::GroupVersionKind;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;

use super::board::{Place, Seen};
use super::wait::NotReady;
use crate::apply::{Applied, AppliedObject, set::PART_OF};
use crate::cluster::{Cluster, RequestError, Served};

/// How often states that depend on the time alone are looked at again.
const TICK: Duration = Duration::from_secs(3);

/// Group and kind of what explains the state of other objects.
const EXPLAIN: [(&str, &str); 2] = [("", "Pod"), ("apps", "ReplicaSet")];

/// The watches of one wait.
pub(super) struct Watches {
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
    pub(super) async fn open(
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

    pub(super) async fn next(&mut self) -> Result<Seen, NotReady> {
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
        let (watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = &self.source
        else {
            return None;
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

fn explains(object: &AppliedObject) -> bool {
    EXPLAIN.contains(&(object.live.group(), object.live.kind()))
}
