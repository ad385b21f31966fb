//! Looking at what was deployed: its pods, their logs, a command in one of them.

use std::collections::BTreeSet;

use futures_util::{AsyncBufReadExt, SinkExt, Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kiln_schemas::event::ObjectName;
use kube::Api;
use kube::api::{AttachParams, ListParams, LogParams, TerminalSize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Cluster;

/// Why nothing can be seen.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The API server.
    #[error("the cluster refuses {what}")]
    Request {
        /// What was asked for.
        what: String,
        /// Its answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// A stream of a container.
    #[error("the stream of {what} broke")]
    Stream {
        /// Whose.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A command that ended without a code.
    #[error("the command did not run: {0}")]
    NoCode(String),
}

fn refused(what: impl Into<String>) -> impl FnOnce(kube::Error) -> LookError {
    let what = what.into();
    move |source| LookError::Request {
        what,
        source: Box::new(source),
    }
}

/// A pod as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Containers that are ready, and all.
    pub ready: (usize, usize),
    /// Its phase, or why it waits.
    pub status: String,
    /// How often containers were started again.
    pub restarts: u64,
    /// Seconds since it was made.
    pub age: u64,
    /// Its containers, its own first.
    pub containers: Vec<String>,
}

/// The pods of these workloads.
///
/// # Errors
/// [`LookError`]
pub async fn pods(cluster: &Cluster, workloads: &[ObjectName]) -> Result<Vec<Seen>, LookError> {
    let namespaces: BTreeSet<String> = workloads
        .iter()
        .filter_map(|workload| workload.namespace.clone())
        .collect();
    let mut seen = Vec::new();
    for namespace in namespaces {
        let api: Api<Pod> = Api::namespaced(cluster.client().clone(), &namespace);
        let list = api.list(&ListParams::default()).await;
        let list = list.map_err(refused(format!("the pods of {namespace}")))?;
        let own = list.items.iter().filter(|pod| {
            let mut workloads = workloads.iter();
            workloads.any(|workload| is_of(pod, &namespace, workload))
        });
        seen.extend(own.map(|pod| one(pod, &namespace)));
    }
    Ok(seen)
}

/// Whether a pod is a workload's: its own object, or owned by something that the workload owns.
/// The names of those start with the workload's.
fn is_of(pod: &Pod, namespace: &str, workload: &ObjectName) -> bool {
    if workload.namespace.as_deref() != Some(namespace) {
        return false;
    }
    if workload.kind == "Pod" {
        return pod.metadata.name.as_ref() == Some(&workload.name);
    }
    let between: &[&str] = match workload.kind.as_str() {
        "Deployment" => &["ReplicaSet"],
        "CronJob" => &["Job"],
        "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" => &[],
        _ => return false,
    };
    pod.metadata.owner_references.iter().flatten().any(|owner| {
        let same = owner.kind == workload.kind && owner.name == workload.name;
        let prefix = owner.name.strip_prefix(&format!("{}-", workload.name));
        // What stands between has one word behind the name: a hash or a time.
        let made = between.contains(&owner.kind.as_str());
        same || (made && prefix.is_some_and(|rest| !rest.contains('-')))
    })
}

fn one(pod: &Pod, namespace: &str) -> Seen {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let waits = containers
        .iter()
        .find_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let phase = status.phase.unwrap_or_default();
    let made = pod.metadata.creation_timestamp.as_ref();
    let age = made.map_or(0, |made| Timestamp::now().as_second() - made.0.as_second());
    let spec = pod.spec.clone().unwrap_or_default();
    Seen {
        namespace: namespace.to_owned(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        ready: (
            containers
                .iter()
                .filter(|container| container.ready)
                .count(),
            spec.containers.len(),
        ),
        status: match (&pod.metadata.deletion_timestamp, waits) {
            (Some(_), _) => "Terminating".to_owned(),
            (None, Some(waits)) => waits,
            (None, None) if phase == "Succeeded" => "Completed".to_owned(),
            (None, None) if phase == "Failed" => "Error".to_owned(),
            (None, None) => phase,
        },
        restarts: containers
            .iter()
            .map(|container| u64::try_from(container.restart_count).unwrap_or(0))
            .sum(),
        age: u64::try_from(age).unwrap_or(0),
        containers: spec
            .containers
            .into_iter()
            .map(|container| container.name)
            .collect(),
    }
}

/// Hands over the lines of a container.
///
/// # Errors
/// [`LookError`]
pub async fn logs(
    cluster: &Cluster,
    (pod, container): (&Seen, &str),
    follow: bool,
    mut show: impl FnMut(&str),
) -> Result<(), LookError> {
    let api: Api<Pod> = Api::namespaced(cluster.client().clone(), &pod.namespace);
    let what = format!("the log of {container} of {}", pod.name);
    let params = LogParams {
        container: Some(container.to_owned()),
        follow,
        ..LogParams::default()
    };
    let stream = api.log_stream(&pod.name, &params).await;
    let mut lines = stream.map_err(refused(what.clone()))?.lines();
    let broken = |source| LookError::Stream { what, source };
    while let Some(line) = lines.try_next().await.map_err(broken.clone())? {
        show(&line);
    }
    Ok(())
}

/// Runs a command in a container on these streams; its code.
///
/// # Errors
/// [`LookError`]
pub async fn exec(
    cluster: &Cluster,
    (pod, container): (&Seen, &str),
    command: &[String],
    mut streams: (
        impl AsyncRead + Send + Unpin + 'static,
        impl AsyncWrite + Unpin,
        impl AsyncWrite + Unpin,
    ),
) -> Result<i32, LookError> {
    let api: Api<Pod> = Api::namespaced(cluster.client().clone(), &pod.namespace);
    let what = format!("a command in {container} of {}", pod.name);
    let params = AttachParams::default()
        .container(container)
        .stdin(true)
        .stdout(true)
        .stderr(true);
    let process = api.exec(&pod.name, command.to_vec(), &params).await;
    let mut process = process.map_err(refused(what.clone()))?;
    let status = process.take_status();
    let (stdin, stdout, stderr) = (process.stdin(), process.stdout(), process.stderr());
    // Input may never end; the command's end is what counts.
    let input = tokio::spawn(async move { pass(Some(streams.0), stdin).await });
    let (out, err) = tokio::join!(
        pass(stdout, Some(&mut streams.1)),
        pass(stderr, Some(&mut streams.2))
    );
    input.abort();
    let broken = |source| LookError::Stream { what, source };
    out.and(err).map_err(broken)?;
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    code(status)
}

/// Copies to the end, where both sides are there.
async fn pass(
    from: Option<impl AsyncRead + Unpin>,
    to: Option<impl AsyncWrite + Unpin>,
) -> std::io::Result<u64> {
    match (from, to) {
        (Some(mut from), Some(mut to)) => tokio::io::copy(&mut from, &mut to).await,
        _ => Ok(0),
    }
}

/// Runs a command in a container that has a terminal, whose size `sizes` tells in columns and
/// rows; its code.
///
/// # Errors
/// [`LookError`]
pub async fn exec_on_terminal(
    cluster: &Cluster,
    (pod, container): (&Seen, &str),
    command: &[String],
    mut streams: (
        impl AsyncRead + Send + Unpin + 'static,
        impl AsyncWrite + Unpin,
    ),
    mut sizes: impl Stream<Item = (u16, u16)> + Send + Unpin + 'static,
) -> Result<i32, LookError> {
    let api: Api<Pod> = Api::namespaced(cluster.client().clone(), &pod.namespace);
    let what = format!("a command in {container} of {}", pod.name);
    let params = AttachParams::interactive_tty().container(container);
    let process = api.exec(&pod.name, command.to_vec(), &params).await;
    let mut process = process.map_err(refused(what.clone()))?;
    let status = process.take_status();
    let (stdin, stdout, resized) = (process.stdin(), process.stdout(), process.terminal_size());
    // Neither may ever end; the command's end is what counts.
    let input = tokio::spawn(async move { pass(Some(streams.0), stdin).await });
    let resizing = tokio::spawn(async move {
        let Some(mut resized) = resized else { return };
        while let Some((width, height)) = sizes.next().await {
            if resized.send(TerminalSize { width, height }).await.is_err() {
                return;
            }
        }
    });
    let out = pass(stdout, Some(&mut streams.1)).await;
    input.abort();
    resizing.abort();
    out.map_err(|source| LookError::Stream { what, source })?;
    match status {
        Some(status) => code(status.await),
        None => code(None),
    }
}

fn code(
    status: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Status>,
) -> Result<i32, LookError> {
    let status = status.unwrap_or_default();
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status
        .details
        .and_then(|details| details.causes)
        .unwrap_or_default();
    let code = causes
        .iter()
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = code.and_then(|cause| cause.message.as_ref()?.parse().ok());
    code.ok_or_else(|| LookError::NoCode(status.message.unwrap_or_default()))
}
