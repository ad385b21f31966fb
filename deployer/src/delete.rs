//! Takes down what a module deployed.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use kiln_schemas::event::{Change, Event, Events, Failure, ObjectName};
use kube::api::{DeleteParams, PropagationPolicy};
use kube::runtime::wait::{await_condition, conditions};

use crate::apply::prune::{Member, Verdict, members, verdict};
use crate::apply::set::{Contents, PART_OF};
use crate::apply::{ApplyError, Prune, SetError, SetName};
use crate::cluster::{Cluster, RequestError};
use crate::object::Object;
use crate::rbac::{self, Right};

/// How many requests are under way at once.
const PARALLEL: usize = 8;

/// How dependents of a deleted object go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cascade {
    /// After the object, by the garbage collector.
    #[default]
    Background,
    /// Before the object.
    Foreground,
}

/// How to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeleteSettings {
    /// What may be deleted; [`Prune::Off`] deletes nothing.
    pub reach: Prune,
    /// How dependents go.
    pub cascade: Cascade,
    /// Wait until everything is gone, at most this long.
    pub wait: Option<Duration>,
}

/// Why deleting failed.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The set's parent.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The members of the set are not known.
    #[error("cannot list what was deployed")]
    Members(#[source] ApplyError),
    /// The server does not say what it serves.
    #[error("cannot ask the API server which kinds it serves")]
    Discovery(#[source] RequestError),
    /// An object; others may have been deleted.
    #[error("cannot delete {object}")]
    Request {
        /// Which.
        object: ObjectName,
        /// Why.
        source: RequestError,
    },
    /// Rights are missing.
    #[error("not allowed to {}", .missing.join(", "))]
    Forbidden {
        /// `delete deployments.apps in namespace shop`, one per right.
        missing: Vec<String>,
        /// YAML of the smallest Role (and ClusterRole) that would do.
        role: String,
    },
    /// Objects that were asked to go are still there.
    #[error("still there after {} s: {}", .waited.as_secs(), .objects.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    StillThere {
        /// Which.
        objects: Vec<ObjectName>,
        /// How long it was waited for.
        waited: Duration,
    },
}

impl DeleteError {
    /// The error in the shape that every renderer shows.
    pub fn failure(&self) -> Failure {
        let failure = Failure::from_error(self);
        match self {
            Self::StillThere { .. } => failure.hint(
                "Look at their finalizers with kubectl get -o yaml; the server goes on deleting.",
            ),
            Self::Forbidden { role, .. } => failure.hint(format!(
                "This is the smallest role that would allow it; bind it to your user:\n{role}"
            )),
            _ => failure,
        }
    }

    fn is_forbidden(&self) -> bool {
        match self {
            Self::Set(error) => error.is_forbidden(),
            Self::Members(error) => error.is_forbidden(),
            Self::Discovery(source) | Self::Request { source, .. } => source.is_forbidden(),
            Self::Forbidden { .. } | Self::StillThere { .. } => false,
        }
    }
}

/// What the set contains on the server now, in any order.
///
/// # Errors
/// When it cannot be listed.
pub async fn members_of(cluster: &Cluster, set: &SetName) -> Result<Vec<ObjectName>, DeleteError> {
    let Some(contents) = set.read(cluster).await? else {
        return Ok(Vec::new());
    };
    let found = members(cluster, &set.id(), &contents).await;
    let found = found.map_err(DeleteError::Members)?;
    Ok(found.into_iter().map(|member| member.name).collect())
}

/// Deletes every member of the set, and those of `rendered` that are in no
/// set (as when an older tool deployed them); then the set itself. Namespaces,
/// PersistentVolumeClaims and CustomResourceDefinitions stay unless the
/// settings reach them, and so does the set's memory of them.
///
/// # Errors
/// Everything is tried; the first error is returned.
pub async fn delete(
    cluster: &Cluster,
    set: &SetName,
    rendered: &[Object],
    settings: &DeleteSettings,
    events: &Events,
) -> Result<(), DeleteError> {
    if settings.reach == Prune::Off {
        return Ok(());
    }
    let contents = match set.read(cluster).await {
        Ok(contents) => contents,
        Err(error) => return Err(explain(cluster, set, None, error.into()).await),
    };
    match take_down(
        cluster,
        set,
        contents.as_ref(),
        (rendered, settings),
        events,
    )
    .await
    {
        Err(error) if error.is_forbidden() => {
            Err(explain(cluster, set, contents.as_ref(), error).await)
        }
        outcome => outcome,
    }
}

async fn take_down(
    cluster: &Cluster,
    set: &SetName,
    contents: Option<&Contents>,
    (rendered, settings): (&[Object], &DeleteSettings),
    events: &Events,
) -> Result<(), DeleteError> {
    let mut found = match contents {
        Some(contents) => members(cluster, &set.id(), contents)
            .await
            .map_err(DeleteError::Members)?,
        None => Vec::new(),
    };
    let known: BTreeSet<_> = found.iter().map(|member| member.uid.clone()).collect();
    let strays = strays(cluster, rendered).await?;
    found.extend(
        strays
            .into_iter()
            .filter(|member| !known.contains(&member.uid)),
    );

    let (doomed, kept): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|member| verdict(&member.group_kind, settings.reach) == Some(Verdict::Delete));
    for member in &kept {
        events.emit(Event::Applied {
            object: member.name.clone(),
            change: Change::Kept,
        });
    }
    delete_all(cluster, &doomed, settings.cascade, events).await?;
    if let Some(patience) = settings.wait {
        wait_until_gone(cluster, &doomed, patience).await?;
    }
    forget(cluster, set, contents, &kept).await
}

/// What is rendered, exists and is in no set.
async fn strays(cluster: &Cluster, rendered: &[Object]) -> Result<Vec<Member>, DeleteError> {
    let mut found = Vec::new();
    for object in rendered.iter().filter(|object| !object.name().is_empty()) {
        let served = cluster
            .find(&Cluster::kind_of(object))
            .await
            .map_err(DeleteError::Discovery)?;
        let Some(served) = served else { continue };
        let api = cluster.api(&served, object.namespace());
        let live =
            api.get_metadata_opt(object.name())
                .await
                .map_err(|error| DeleteError::Request {
                    object: object.object_name(),
                    source: error.into(),
                })?;
        let Some(metadata) = live.map(|live| live.metadata) else {
            continue;
        };
        if metadata
            .labels
            .is_some_and(|labels| labels.contains_key(PART_OF))
        {
            continue;
        }
        found.push(Member {
            group_kind: object.group_kind(),
            name: ObjectName {
                namespace: metadata.namespace,
                ..object.object_name()
            },
            uid: metadata.uid.unwrap_or_default(),
            terminating: metadata.deletion_timestamp.is_some(),
            served,
        });
    }
    Ok(found)
}

async fn delete_all(
    cluster: &Cluster,
    doomed: &[Member],
    cascade: Cascade,
    events: &Events,
) -> Result<(), DeleteError> {
    let policy = match cascade {
        Cascade::Background => PropagationPolicy::Background,
        Cascade::Foreground => PropagationPolicy::Foreground,
    };
    let params = DeleteParams {
        propagation_policy: Some(policy),
        ..DeleteParams::default()
    };
    let deletions = doomed
        .iter()
        .filter(|member| !member.terminating)
        .map(|member| {
            let params = params.clone();
            async move {
                let deleted = member.delete(cluster, params).await;
                deleted.map_err(|source| DeleteError::Request {
                    object: member.name.clone(),
                    source,
                })?;
                events.emit(Event::Applied {
                    object: member.name.clone(),
                    change: Change::Deleted,
                });
                Ok(())
            }
        });
    let outcomes: Vec<Result<(), DeleteError>> = stream::iter(deletions)
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    outcomes.into_iter().collect()
}

async fn wait_until_gone(
    cluster: &Cluster,
    doomed: &[Member],
    patience: Duration,
) -> Result<(), DeleteError> {
    let until = tokio::time::Instant::now() + patience;
    let waits = doomed.iter().map(|member| async move {
        let api = cluster.api(&member.served, member.name.namespace.as_deref());
        let gone = await_condition(api, &member.name.name, conditions::is_deleted(&member.uid));
        match tokio::time::timeout_at(until, gone).await {
            Ok(Ok(_)) => None,
            Ok(Err(_)) | Err(_) => Some(member.name.clone()),
        }
    });
    let left: Vec<_> = stream::iter(waits)
        .buffered(PARALLEL)
        .filter_map(std::future::ready)
        .collect()
        .await;
    if left.is_empty() {
        Ok(())
    } else {
        Err(DeleteError::StillThere {
            objects: left,
            waited: patience,
        })
    }
}

/// Turns a refusal for want of rights into the list of missing rights and a
/// Role that grants them; any other error stays as it is.
async fn explain(
    cluster: &Cluster,
    set: &SetName,
    contents: Option<&Contents>,
    error: DeleteError,
) -> DeleteError {
    if !error.is_forbidden() {
        return error;
    }
    let mut rights = BTreeSet::new();
    let mut need =
        |namespace: Option<&str>, group: &str, resource: &str, verbs: &[&'static str]| {
            rights.extend(verbs.iter().map(|verb| Right {
                namespace: namespace.map(str::to_owned),
                group: group.to_owned(),
                resource: resource.to_owned(),
                verb,
            }));
        };
    need(
        Some(&set.namespace),
        "",
        "configmaps",
        &["get", "delete", "patch"],
    );
    for group_kind in contents.iter().flat_map(|contents| &contents.group_kinds) {
        let (kind, group) = group_kind.split_once('.').unwrap_or((group_kind, ""));
        let Ok(Some(served)) = cluster.find_group_kind(group, kind).await else {
            continue;
        };
        let resource = &served.resource.plural;
        if served.is_namespaced() {
            for namespace in contents.iter().flat_map(|contents| &contents.namespaces) {
                need(Some(namespace), group, resource, &["get", "list", "delete"]);
            }
        } else {
            need(None, group, resource, &["get", "list", "delete"]);
        }
    }
    let missing = rbac::missing(cluster.client(), &rights).await;
    if missing.is_empty() {
        return error;
    }
    let role = rbac::smallest_role("kiln-delete", &missing);
    DeleteError::Forbidden {
        missing: missing.iter().map(ToString::to_string).collect(),
        role,
    }
}

/// Deletes the parent, unless something of the set was kept.
async fn forget(
    cluster: &Cluster,
    set: &SetName,
    contents: Option<&Contents>,
    kept: &[Member],
) -> Result<(), DeleteError> {
    if contents.is_none() {
        return Ok(());
    }
    if kept.is_empty() {
        return Ok(set.forget(cluster).await?);
    }
    let namespaces = kept
        .iter()
        .filter_map(|member| member.name.namespace.clone());
    let left = Contents {
        group_kinds: kept
            .iter()
            .map(|member| member.group_kind.clone())
            .collect(),
        namespaces: namespaces.chain([set.namespace.clone()]).collect(),
    };
    Ok(set.write(cluster, &left).await?)
}
