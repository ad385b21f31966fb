//! What explains a failure: the last lines of a container's log and the
//! warnings that the cluster wrote about a pod.

use k8s_openapi::api::core::v1::{Event as Warning, Pod};
use kube::Api;
use kube::api::{ListParams, LogParams};

use super::Culprit;
use crate::cluster::Cluster;

/// How many lines of a log are shown.
const LINES: i64 = 20;

/// How many warnings are shown.
const WARNINGS: usize = 3;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    pub log: Vec<String>,
    pub warnings: Vec<String>,
}

/// Gathers what there is; what cannot be read is left out, as it must not
/// hide the failure itself.
pub(super) async fn gather(cluster: &Cluster, namespace: &str, culprit: &Culprit) -> Evidence {
    let (log, warnings) = tokio::join!(
        log(cluster, namespace, culprit),
        warnings(cluster, namespace, &culprit.pod)
    );
    Evidence { log, warnings }
}

async fn log(cluster: &Cluster, namespace: &str, culprit: &Culprit) -> Vec<String> {
    let Some(container) = &culprit.container else {
        return Vec::new();
    };
    let pods: Api<Pod> = Api::namespaced(cluster.client().clone(), namespace);
    let mut params = LogParams {
        container: Some(container.clone()),
        previous: culprit.previous,
        tail_lines: Some(LINES),
        ..LogParams::default()
    };
    let mut text = pods.logs(&culprit.pod, &params).await;
    if text.is_err() && params.previous {
        params.previous = false;
        text = pods.logs(&culprit.pod, &params).await;
    }
    text.map_or(Vec::new(), |text| text.lines().map(str::to_owned).collect())
}

async fn warnings(cluster: &Cluster, namespace: &str, pod: &str) -> Vec<String> {
    let events: Api<Warning> = Api::namespaced(cluster.client().clone(), namespace);
    let params = ListParams::default().fields(&format!("involvedObject.name={pod},type=Warning"));
    let Ok(list) = events.list(&params).await else {
        return Vec::new();
    };
    let mut found = list.items;
    found.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    let words = |event: Warning| {
        format!(
            "{}: {}",
            event.reason.unwrap_or_default(),
            event.message.unwrap_or_default().trim()
        )
    };
    let mut words: Vec<_> = found.into_iter().rev().map(words).collect();
    let mut seen = std::collections::BTreeSet::new();
    words.retain(|line| seen.insert(line.clone()));
    words.truncate(WARNINGS);
    words.reverse();
    words
}
