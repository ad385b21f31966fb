//! What commands and the holder say to each other: one JSON value a line over a Unix socket. A
//! request opens the connection; answers follow until either side closes it.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::desired::{Desired, Name};
use crate::pod::{ContainerView, Phase};

/// In a remark about a pod: pasta is there, and nothing leads to the outside all the same.
pub const NO_EGRESS: &str = "no way to the outside";

/// Command to holder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one value per connection")]
pub enum Request {
    /// Run this from now on. Answered by one [`Answer::Applied`].
    Apply(Box<Desired>),
    /// Tell how everything is, and again whenever it changes. [`Answer::World`]s follow.
    Watch,
    /// Tell the lines of containers. [`Answer::Line`]s follow.
    Logs(LogWish),
    /// Run a command in a container; standard input, output and error come with the request as
    /// descriptors. Answered by one [`Answer::Exited`].
    Exec(ExecWish),
    /// Stop everything and leave. The connection ends with the holder.
    Leave,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LogWish {
    /// Only pods whose name is this or starts with it and a dash.
    pub pod: Option<String>,
    /// Only this container.
    pub container: Option<String>,
    /// Whether to stay for what is written later.
    pub follow: bool,
    /// Whether what was written before is wanted.
    pub past: bool,
}

/// What to run where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecWish {
    /// The pod's name, or a workload's, with or without its kind (`deployment/web`).
    pub pod: String,
    /// The container; the pod's first when absent.
    pub container: Option<String>,
    /// The command.
    pub command: Vec<String>,
    /// Whether the streams are a terminal that is to be the command's own.
    #[serde(default)]
    pub terminal: bool,
}

/// Holder to command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// What applying did.
    Applied(Applied),
    /// How everything is.
    World(World),
    /// A line of a container.
    Line(Line),
    /// The code that a command ended with.
    Exited(i32),
    /// Why a request came to nothing, outermost cause first.
    Failed(Vec<String>),
}

/// What applying did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Applied {
    /// Which number the state has that follows from it ([`World::generation`]).
    pub generation: u64,
    /// Workloads and services by what happened to them.
    pub changes: Vec<(String, Name, Change)>,
    /// Ports of this machine.
    pub forwards: Vec<Listening>,
}

/// What applying did to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It is new.
    Created,
    /// It differs now.
    Configured,
    /// It is as it was.
    Unchanged,
    /// It is no longer wanted.
    Removed,
}

/// A port of this machine that leads to a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// The kind of what it leads to.
    pub kind: String,
    /// Its name.
    pub name: Name,
    /// Its port, as a number or name.
    pub port: String,
    /// Where this machine listens, `127.0.0.1:8080`, or why it does not.
    pub local: Result<String, String>,
}

/// How everything is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct World {
    /// Counts the applies.
    pub generation: u64,
    /// The workloads.
    pub workloads: Vec<WorkloadView>,
    /// The pods.
    pub pods: Vec<PodView>,
    /// What is worth telling, newest last.
    pub remarks: Vec<String>,
    /// Ports of this machine.
    pub forwards: Vec<Listening>,
}

/// How a workload is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadView {
    /// `Deployment`, ….
    pub kind: String,
    /// Its name.
    pub name: Name,
    /// Whether it is as wanted.
    pub state: WorkloadState,
    /// In words.
    pub message: String,
}

/// Whether a workload is as wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkloadState {
    /// On its way.
    InProgress,
    /// As wanted.
    Ready,
    /// It will not get there without a change.
    Failed,
}

/// How a pod is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodView {
    /// Its name.
    pub name: Name,
    /// The workload that it belongs to: kind and name.
    pub owner: (String, Name),
    /// Its address.
    pub ip: Ipv4Addr,
    /// How far it is.
    pub phase: Phase,
    /// Whether it takes requests.
    pub ready: bool,
    /// Whether it was told to stop.
    pub stopping: bool,
    /// Its containers.
    pub containers: Vec<ContainerView>,
    /// Seconds since it was made.
    pub age: u64,
    /// Why it has not begun.
    pub trouble: Option<String>,
}

/// A line of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The pod.
    pub pod: Name,
    /// The container.
    pub container: String,
    /// Whether it came from standard error.
    pub is_error: bool,
    /// The line, without its end.
    pub text: String,
}
