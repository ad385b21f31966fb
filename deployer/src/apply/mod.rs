//! Objects become what the manifests say: server-side apply, in order, as one
//! ApplySet (KEP-3659) per module, and what has gone is pruned.

mod conflict;
mod error;
mod field_managers;
mod one;
mod order;
pub(crate) mod prune;
mod replace;
pub mod set;
mod unknown_fields;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use kiln_schemas::event::{Change, Events, ObjectName};

use crate::cluster::{Cluster, Served};
use crate::object::Object;
use crate::rbac::{self, Right};
pub use conflict::FieldConflict;
pub use error::{ApplyError, ObjectError};
use one::Applier;
use order::Tier;
pub use set::{SetError, SetName};

/// The field manager of everything that Kiln applies.
pub const FIELD_MANAGER: &str = "kiln";

/// How many objects are applied at once.
const PARALLEL: usize = 8;

/// How long a kind may take to be served after its definition is established.
const DISCOVERABLE: Duration = Duration::from_secs(10);

/// What may be deleted when it is gone from the manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prune {
    /// Nothing.
    Off,
    /// Everything but Namespaces, PersistentVolumeClaims and
    /// CustomResourceDefinitions.
    #[default]
    SparingData,
    /// Everything: the user said so.
    Everything,
}

/// What to do with a field that another manager owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conflicts {
    /// An error that lists the fields.
    #[default]
    Refuse,
    /// Take the field: the user said so.
    TakeOver,
}

/// What to do with an object whose immutable fields differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replace {
    /// Delete and create where that loses no data: Jobs, Pods, Deployments, …
    #[default]
    WhereSafe,
    /// Also custom resources and StatefulSets (`force`). A Namespace,
    /// PersistentVolumeClaim, PersistentVolume or CustomResourceDefinition is
    /// never replaced.
    Force,
}

/// What the API server does with fields that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validation {
    /// It refuses the object.
    #[default]
    Strict,
    /// It drops them.
    Ignore,
}

/// How to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ApplySettings {
    /// What may be deleted.
    pub prune: Prune,
    /// Fields of other managers.
    pub conflicts: Conflicts,
    /// Immutable fields.
    pub replace: Replace,
    /// Unknown fields.
    pub validation: Validation,
}

/// What was applied; what waiting, logs and forwards go by.
#[derive(Debug, Clone)]
pub struct Applied {
    /// In the order of the manifests.
    pub objects: Vec<AppliedObject>,
    /// The id of the ApplySet, the value of every member's `part-of` label.
    pub set_id: String,
    /// When applying began.
    pub began: Instant,
}

/// One object as the server has it now.
#[derive(Debug, Clone)]
pub struct AppliedObject {
    /// How events name it, with its effective namespace.
    pub name: ObjectName,
    /// Its kind as served.
    pub served: Served,
    /// What applying did.
    pub change: Change,
    /// `metadata.uid`.
    pub uid: String,
    /// The object as the server returned it.
    pub live: Object,
}

/// Applies `objects` as the set `set`, prunes what has gone from it, and says
/// what happened to each object.
///
/// # Errors
/// Objects that do not depend on each other are all tried; the error lists
/// every one that failed. Nothing is pruned after a failure.
pub async fn apply(
    cluster: &Cluster,
    objects: &[Object],
    set: &SetName,
    settings: &ApplySettings,
    events: &Events,
) -> Result<Applied, ApplyError> {
    let set_id = set.id();
    let applier = Applier {
        cluster,
        set_id: &set_id,
        settings,
        events,
    };
    match run(&applier, objects, set).await {
        Err(error) if error.is_forbidden() => Err(explain(cluster, objects, set, error).await),
        outcome => outcome,
    }
}

async fn run(
    applier: &Applier<'_>,
    objects: &[Object],
    set: &SetName,
) -> Result<Applied, ApplyError> {
    let Applier { cluster, .. } = *applier;
    let began = Instant::now();
    check(objects, cluster.namespace()).map_err(ApplyError::Objects)?;
    let before = set.read(cluster).await?;
    let wanted = contents(objects, cluster.namespace(), &set.namespace);
    let during = wanted.union(&before.clone().unwrap_or_default());
    // The parent comes first, unless the namespace that it lives in is among
    // the objects and may not be there yet.
    let homeless = before.is_none() && objects.iter().any(|object| is_home(object, set));
    if !homeless && before.as_ref() != Some(&during) {
        set.write(cluster, &during).await?;
    }
    let mut applied: BTreeMap<usize, AppliedObject> = BTreeMap::new();
    for tier in Tier::ALL {
        applied.extend(apply_tier(applier, objects, tier).await?);
        if homeless && tier == Tier::Foundations {
            set.write(cluster, &during).await?;
        }
    }
    let kept = prune_gone(applier, set, &during, applied.values()).await?;
    let after = wanted.union(&kept);
    if after != during {
        set.write(cluster, &after).await?;
    }
    Ok(Applied {
        objects: applied.into_values().collect(),
        set_id: applier.set_id.to_owned(),
        began,
    })
}

/// Applies the objects of a tier, bounded in parallel; all are tried.
async fn apply_tier(
    applier: &Applier<'_>,
    objects: &[Object],
    tier: Tier,
) -> Result<Vec<(usize, AppliedObject)>, ApplyError> {
    let mut errors = Vec::new();
    let mut resolved = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        if Tier::of(&object.group_kind()) == tier {
            match resolve(applier.cluster, object, objects).await? {
                Some(served) => resolved.push((index, object, served)),
                None => errors.push(ObjectError::UnknownKind {
                    object: object.object_name(),
                    api_version: object.api_version().to_owned(),
                }),
            }
        }
    }
    // Collected first: a lazy map over references hides from the compiler that
    // the future may move between threads (rust-lang/rust#102211).
    let work: Vec<_> = resolved
        .into_iter()
        .map(|(index, object, served)| async move { (index, applier.apply(object, served).await) })
        .collect();
    let mut outcomes: Vec<_> = stream::iter(work)
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    outcomes.sort_by_key(|(index, _)| *index);
    let mut applied = Vec::new();
    for (index, outcome) in outcomes {
        match outcome {
            Ok(object) => applied.push((index, object)),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(applied)
    } else {
        Err(ApplyError::Objects(errors))
    }
}

/// Looks a kind up. A kind whose definition was applied a moment ago may take
/// that moment to be served.
async fn resolve(
    cluster: &Cluster,
    object: &Object,
    objects: &[Object],
) -> Result<Option<Served>, ApplyError> {
    let kind = Cluster::kind_of(object);
    let defined_here = objects.iter().any(|definition| defines(definition, object));
    let patience = tokio::time::Instant::now() + DISCOVERABLE;
    loop {
        let served = cluster.find(&kind).await.map_err(ApplyError::Discovery)?;
        if served.is_some() || !defined_here || tokio::time::Instant::now() > patience {
            return Ok(served);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn defines(definition: &Object, object: &Object) -> bool {
    let spec = &definition.value()["spec"];
    definition.group_kind() == "CustomResourceDefinition.apiextensions.k8s.io"
        && spec["group"] == object.group()
        && spec["names"]["kind"] == object.kind()
}

fn is_home(object: &Object, set: &SetName) -> bool {
    object.group_kind() == "Namespace" && object.name() == set.namespace
}

/// What can be refused without asking the server.
fn check(objects: &[Object], default_namespace: &str) -> Result<(), Vec<ObjectError>> {
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for object in objects {
        let namespace = object.namespace().unwrap_or(default_namespace);
        if object.name().is_empty() {
            errors.push(ObjectError::GeneratedName {
                object: object.object_name(),
            });
        } else if !seen.insert((object.group_kind(), namespace, object.name())) {
            errors.push(ObjectError::Twice {
                object: object.object_name(),
            });
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

/// What the set will contain. A cluster-scoped object adds the default
/// namespace, which is searched in vain and does no harm.
fn contents(objects: &[Object], default_namespace: &str, home: &str) -> set::Contents {
    let namespaces = objects
        .iter()
        .map(|object| object.namespace().unwrap_or(default_namespace));
    set::Contents {
        group_kinds: objects.iter().map(Object::group_kind).collect(),
        namespaces: namespaces.chain([home]).map(str::to_owned).collect(),
    }
}

/// Prunes, and returns what the members that were kept make the set contain.
async fn prune_gone(
    applier: &Applier<'_>,
    set: &SetName,
    during: &set::Contents,
    applied: impl Iterator<Item = &AppliedObject>,
) -> Result<set::Contents, ApplyError> {
    let Applier {
        cluster,
        set_id,
        settings,
        events,
    } = *applier;
    if settings.prune == Prune::Off {
        return Ok(during.clone());
    }
    let members = prune::members(cluster, set_id, during).await?;
    let uids: BTreeSet<&str> = applied.map(|object| object.uid.as_str()).collect();
    let kept = prune::prune(cluster, members, &uids, settings.prune, events).await?;
    let namespaces = kept
        .iter()
        .filter_map(|member| member.name.namespace.clone());
    Ok(set::Contents {
        namespaces: namespaces.chain([set.namespace.clone()]).collect(),
        group_kinds: kept.into_iter().map(|member| member.group_kind).collect(),
    })
}

/// Turns a refusal for want of rights into the list of missing rights and a
/// Role that grants them. What is refused for other reasons (a quota, an
/// admission policy) stays as it is.
async fn explain(
    cluster: &Cluster,
    objects: &[Object],
    set: &SetName,
    error: ApplyError,
) -> ApplyError {
    let mut rights = BTreeSet::new();
    let mut need = |namespace: Option<&str>, group: &str, resource: &str| {
        for verb in ["get", "list", "create", "patch", "delete"] {
            rights.insert(Right {
                namespace: namespace.map(str::to_owned),
                group: group.to_owned(),
                resource: resource.to_owned(),
                verb,
            });
        }
    };
    need(Some(&set.namespace), "", "configmaps");
    for object in objects {
        let Ok(Some(served)) = cluster.find(&Cluster::kind_of(object)).await else {
            continue;
        };
        let namespace = served
            .is_namespaced()
            .then(|| object.namespace().unwrap_or(cluster.namespace()));
        need(namespace, &served.resource.group, &served.resource.plural);
    }
    let missing = rbac::missing(cluster.client(), &rights).await;
    if missing.is_empty() {
        return error;
    }
    let role = rbac::smallest_role("kiln-deploy", &missing);
    ApplyError::Forbidden {
        missing: missing.iter().map(ToString::to_string).collect(),
        role,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_without_a_name_or_described_twice_is_refused_before_anything_is_sent() {
        let object = |metadata: serde_json::Value| {
            Object::new(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})).unwrap()
        };
        let objects = [
            object(json!({"name": "a"})),
            object(json!({"name": "a", "namespace": "shop"})),
            object(json!({"generateName": "b-"})),
            object(json!({"name": "a", "namespace": "other"})),
        ];
        let errors: Vec<_> = check(&objects, "shop")
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            errors,
            [
                "two manifests describe Pod shop/a",
                "Pod b- has a generated name and would be a new object each time"
            ]
        );
    }
}
