//! What is to run: workloads, services and the data that pods refer to, out of manifests.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde::{Deserialize, Serialize};

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// A namespace and a name in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Name {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Name {
    /// `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        let (namespace, name) = text.split_once('/').unwrap_or(("", &text));
        Self::new(namespace, name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.to_string()
    }
}

/// Everything that one project wants to run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// What starts pods, in the order of the manifests.
    pub workloads: Vec<Workload>,
    /// What gives pods a name and an address.
    pub services: Vec<Service>,
    /// What pods read.
    pub data: Data,
    /// The unpacked images by the references that containers use.
    pub images: BTreeMap<String, Image>,
    /// The store that holds layers of images, where there is one: what runs keeps its layers
    /// from being collected.
    #[serde(default)]
    pub store: Option<PathBuf>,
    /// The program `pasta`, through which pods reach the outside; without it they do not.
    #[serde(default)]
    pub egress: Option<PathBuf>,
    /// Ports of this machine.
    pub forwards: Vec<Forward>,
}

/// ConfigMaps, Secrets and claims.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// Keys and bytes of ConfigMaps.
    pub configs: BTreeMap<Name, BTreeMap<String, Vec<u8>>>,
    /// Keys and bytes of Secrets.
    pub secrets: BTreeMap<Name, BTreeMap<String, Vec<u8>>>,
    /// PersistentVolumeClaims; each is a kept directory.
    pub claims: Vec<Name>,
}

/// What starts pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// `Deployment`, `Pod`, …
    pub kind: String,
    /// Its name.
    pub name: Name,
    /// How many pods, and how they are replaced.
    pub controller: Controller,
    /// What a pod is.
    pub template: PodTemplateSpec,
    /// Digest of the template, ten hexadecimal digits: a pod with another one is outdated.
    pub hash: String,
}

/// How a workload's pods come and go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Controller {
    /// Exactly one pod of that name.
    Single,
    /// Deployment, ReplicaSet.
    Replicas {
        /// How many.
        replicas: u32,
        /// Further pods while replacing; absent for `Recreate`.
        surge: Option<u32>,
        /// Missing pods while replacing.
        unavailable: u32,
    },
    /// StatefulSet: numbered pods.
    Ordered {
        /// How many.
        replicas: u32,
        /// One after the other (`OrderedReady`), or all at once.
        one_by_one: bool,
    },
    /// DaemonSet: one pod, as this machine is the only node.
    Daemon,
    /// Until so many pods have succeeded.
    Job(Job),
    /// A job at times.
    Cron {
        /// Five fields, or `@daily` and its like.
        schedule: String,
        /// IANA name; the local zone when absent.
        time_zone: Option<String>,
        /// What happens when the last job still runs.
        concurrency: Concurrency,
        /// Whether nothing is started.
        suspended: bool,
        /// The job.
        job: Job,
    },
}

/// A job's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Successes wanted.
    pub completions: u32,
    /// Pods at once.
    pub parallelism: u32,
    /// Failures accepted.
    pub backoff_limit: u32,
    /// Seconds until it fails.
    pub deadline: Option<u64>,
}

/// `concurrencyPolicy` of a CronJob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Concurrency {
    /// Both run.
    Allow,
    /// The new one is left out.
    Forbid,
    /// The old one is stopped.
    Replace,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: Name,
    /// Labels of its pods; without one it has none.
    pub selector: Labels,
    /// Without an address of its own: its name leads to the pods.
    pub headless: bool,
    /// Whether pods count that are not ready.
    pub not_ready_too: bool,
    /// Another name that its name stands for (`ExternalName`).
    pub external: Option<String>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// Its name.
    pub name: Option<String>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where the service listens.
    pub port: u16,
    /// Where the pods listen.
    pub target: Target,
}

/// Where the pods of a service listen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// By number.
    Number(u16),
    /// By the name of a container's port.
    Name(String),
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// An unpacked image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Directories in overlay form, the topmost first.
    pub layers: Vec<PathBuf>,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
    /// `ENV`, `NAME=value`.
    pub env: Vec<String>,
    /// `WORKDIR`.
    pub working_dir: String,
    /// `USER`.
    pub user: String,
    /// `STOPSIGNAL`.
    pub stop_signal: Option<String>,
}

/// A port of this machine that leads to a service or a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// `Service`, `Deployment`, `Pod`, ….
    pub kind: String,
    /// Of what.
    pub name: Name,
    /// Which of its ports.
    pub port: Target,
    /// Where to listen.
    pub address: String,
    /// Where exactly; absent means the port's own number, or the next free one.
    pub local_port: Option<u16>,
}
