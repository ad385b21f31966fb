//! Members of a set that have gone from the manifests.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use kiln_schemas::event::{Change, Event, Events, ObjectName};
use kube::api::{DeleteParams, ListParams, Preconditions};

use super::set::{Contents, PART_OF};
use super::{ApplyError, Prune};
use crate::cluster::{Cluster, RequestError, Served};

/// How many requests are under way at once.
const PARALLEL: usize = 8;

/// Kinds whose deletion loses what no manifest brings back.
pub(crate) fn holds_data(group_kind: &str) -> bool {
    matches!(
        group_kind,
        "Namespace" | "PersistentVolumeClaim" | "CustomResourceDefinition.apiextensions.k8s.io"
    )
}

/// What becomes of a member that has gone from the manifests; `None` when it
/// is not spoken of.
pub(crate) fn verdict(group_kind: &str, prune: Prune) -> Option<Verdict> {
    match prune {
        Prune::Off => None,
        Prune::SparingData if holds_data(group_kind) => Some(Verdict::Keep),
        Prune::SparingData | Prune::Everything => Some(Verdict::Delete),
    }
}

/// See [`verdict`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Leave it and say so.
    Keep,
    /// Delete it.
    Delete,
}

/// A member as the server lists it.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub served: Served,
    pub group_kind: String,
    pub name: ObjectName,
    pub uid: String,
    pub terminating: bool,
}

impl Member {
    /// Asks the server to delete this very object.
    pub(crate) async fn delete(
        &self,
        cluster: &Cluster,
        mut params: DeleteParams,
    ) -> Result<(), RequestError> {
        params.preconditions = Some(Preconditions {
            uid: Some(self.uid.clone()),
            ..Preconditions::default()
        });
        let api = cluster.api(&self.served, self.name.namespace.as_deref());
        match api.delete(&self.name.name, &params).await {
            Ok(_) => Ok(()),
            // Gone already, or another object of that name came in its place.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Every member of the set on the server, in any order.
pub(crate) async fn members(
    cluster: &Cluster,
    id: &str,
    contents: &Contents,
) -> Result<Vec<Member>, ApplyError> {
    let mut places = Vec::new();
    for group_kind in &contents.group_kinds {
        let (kind, group) = group_kind.split_once('.').unwrap_or((group_kind, ""));
        // A kind that is served no more has no objects any more.
        let found = cluster
            .find_group_kind(group, kind)
            .await
            .map_err(ApplyError::Discovery)?;
        let Some(served) = found else { continue };
        if served.is_namespaced() {
            let namespaces = contents.namespaces.iter();
            places.extend(
                namespaces.map(|ns| (group_kind.clone(), served.clone(), Some(ns.clone()))),
            );
        } else {
            places.push((group_kind.clone(), served, None));
        }
    }
    let lists = places
        .into_iter()
        .map(|(group_kind, served, namespace)| async move {
            let api = cluster.api(&served, namespace.as_deref());
            let listed = api
                .list_metadata(&ListParams::default().labels(&format!("{PART_OF}={id}")))
                .await;
            let listed = match listed {
                Ok(listed) => listed,
                Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(Vec::new()),
                Err(error) => {
                    let place = namespace.map_or(String::new(), |namespace| {
                        format!(" in namespace {namespace}")
                    });
                    let what = format!("{}{place}", served.resource.plural);
                    return Err(ApplyError::Prune {
                        what,
                        source: error.into(),
                    });
                }
            };
            let member = |metadata: kube::api::ObjectMeta| Member {
                name: ObjectName {
                    kind: served.resource.kind.clone(),
                    namespace: metadata.namespace,
                    name: metadata.name.unwrap_or_default(),
                },
                served: served.clone(),
                group_kind: group_kind.clone(),
                uid: metadata.uid.unwrap_or_default(),
                terminating: metadata.deletion_timestamp.is_some(),
            };
            Ok(listed
                .items
                .into_iter()
                .map(|item| member(item.metadata))
                .collect())
        });
    let lists: Vec<Vec<Member>> = stream::iter(lists)
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    Ok(lists.into_iter().flatten().collect())
}

/// Deletes what is in the set but not among `applied` (uids), as `prune`
/// allows. Returns the members that were kept.
pub(super) async fn prune(
    cluster: &Cluster,
    members: Vec<Member>,
    applied: &BTreeSet<&str>,
    prune: Prune,
    events: &Events,
) -> Result<Vec<Member>, ApplyError> {
    let gone = members
        .into_iter()
        .filter(|member| !applied.contains(member.uid.as_str()) && !member.terminating);
    let judged = gone.map(|member| async move {
        let change = match verdict(&member.group_kind, prune) {
            None => return Ok::<_, ApplyError>(Some(member)),
            Some(Verdict::Keep) => Change::Kept,
            Some(Verdict::Delete) => {
                member
                    .delete(cluster, DeleteParams::background())
                    .await
                    .map_err(|source| ApplyError::Prune {
                        what: member.name.to_string(),
                        source,
                    })?;
                Change::Pruned
            }
        };
        events.emit(Event::Applied {
            object: member.name.clone(),
            change,
        });
        Ok((change == Change::Kept).then_some(member))
    });
    let kept: Vec<Option<Member>> = stream::iter(judged)
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    Ok(kept.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_spared_unless_told_otherwise() {
        for kind in [
            "Namespace",
            "PersistentVolumeClaim",
            "CustomResourceDefinition.apiextensions.k8s.io",
        ] {
            assert_eq!(
                verdict(kind, Prune::SparingData),
                Some(Verdict::Keep),
                "{kind}"
            );
            assert_eq!(
                verdict(kind, Prune::Everything),
                Some(Verdict::Delete),
                "{kind}"
            );
        }
        assert_eq!(
            verdict("Deployment.apps", Prune::SparingData),
            Some(Verdict::Delete)
        );
        assert_eq!(verdict("Deployment.apps", Prune::Off), None);
    }
}
