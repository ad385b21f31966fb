//! `ps`, `logs` and `exec`: the same on a cluster and on this machine.

use std::os::fd::{AsFd, OwnedFd};

use kiln_deployer::look::{self, Seen};
use kiln_schemas::event::Failure;

use super::Engine;
use crate::terminal::{self, Raw, Sizes};

/// A pod as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLine {
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
}

/// Whose logs, or where a command runs.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// A pod's name, or a workload's, with or without its kind.
    pub pod: Option<String>,
    /// A container.
    pub container: Option<String>,
    /// Whether to stay for what is written later.
    pub follow: bool,
    /// Whether a command gets a terminal of its own.
    pub terminal: bool,
}

impl Wish {
    fn means(&self, pod: &str) -> bool {
        let Some(wish) = &self.pod else { return true };
        let name = wish
            .rsplit_once('/')
            .map_or(wish.as_str(), |(_, name)| name);
        let rest = pod.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    fn containers<'a>(&'a self, pod: &'a Seen) -> impl Iterator<Item = &'a String> {
        let wanted = |name: &&String| self.container.as_ref().is_none_or(|c| c == *name);
        pod.containers.iter().filter(wanted)
    }
}

impl Engine {
    /// The pods of what was deployed.
    pub async fn pods(&self) -> Result<Vec<PodLine>, Failure> {
        if let Some(local) = &self.local {
            return local.pods().await;
        }
        let pods = self.seen().await?.into_iter().map(|pod| PodLine {
            name: pod.name,
            ready: pod.ready,
            status: pod.status,
            restarts: pod.restarts,
            age: pod.age,
        });
        Ok(pods.collect())
    }

    async fn seen(&self) -> Result<Vec<Seen>, Failure> {
        let cluster = self.cluster().await?;
        let workloads = self.deployed().await?;
        look::pods(&cluster, &workloads).await.map_err(failure)
    }

    /// Shows the lines of containers: pod, container, line.
    pub async fn lines(
        &self,
        wish: &Wish,
        show: &mut (dyn FnMut(&str, &str, &str) + Send),
    ) -> Result<(), Failure> {
        if let Some(local) = &self.local {
            return local.lines(wish, show).await;
        }
        let cluster = self.cluster().await?;
        let (lines, mut shown) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = tokio::task::JoinSet::new();
        for pod in self
            .seen()
            .await?
            .into_iter()
            .filter(|pod| wish.means(&pod.name))
        {
            for container in wish.containers(&pod) {
                let (cluster, pod, container) = (cluster.clone(), pod.clone(), container.clone());
                let (lines, follow) = (lines.clone(), wish.follow);
                tasks.spawn(async move {
                    let pass = |line: &str| {
                        let line = (pod.name.clone(), container.clone(), line.to_owned());
                        drop(lines.send(line));
                    };
                    look::logs(&cluster, (&pod, &container), follow, pass).await
                });
            }
        }
        drop(lines);
        while let Some((pod, container, line)) = shown.recv().await {
            show(&pod, &container, &line);
        }
        for result in tasks.join_all().await {
            result.map_err(failure)?;
        }
        Ok(())
    }

    /// Runs a command on this process's streams; its code.
    pub async fn execute(&self, wish: &Wish, command: &[String]) -> Result<i32, Failure> {
        if let Some(local) = &self.local {
            return local.execute(wish, command).await;
        }
        let cluster = self.cluster().await?;
        let pods = self.seen().await?;
        let mut pods = pods.iter().filter(|pod| wish.means(&pod.name));
        let missing = || {
            let name = wish.pod.clone().unwrap_or_default();
            Failure::new(format!("there is no pod {name}"))
        };
        let pod = pods.next().ok_or_else(missing)?;
        let container = wish.containers(pod).next();
        let container = container.ok_or_else(|| Failure::new("there is no such container"))?;
        if wish.terminal {
            return on_terminal(&cluster, (pod, container), command).await;
        }
        let own = |fd: std::io::Result<OwnedFd>| {
            let file = fd.map(|fd| tokio::fs::File::from_std(fd.into()));
            file.map_err(failure)
        };
        let streams = (
            own(std::io::stdin().as_fd().try_clone_to_owned())?,
            own(std::io::stdout().as_fd().try_clone_to_owned())?,
            own(std::io::stderr().as_fd().try_clone_to_owned())?,
        );
        look::exec(&cluster, (pod, container), command, streams)
            .await
            .map_err(failure)
    }
}

/// The command has the user's terminal.
async fn on_terminal(
    cluster: &kiln_deployer::Cluster,
    place: (&Seen, &str),
    command: &[String],
) -> Result<i32, Failure> {
    let sizes = Sizes::watch().map_err(failure)?;
    let sizes = futures_util::stream::unfold(sizes, async |mut sizes| {
        let size = sizes.next().await?;
        Some(((size.columns, size.rows), sizes))
    });
    let streams = (
        tokio::fs::File::from_std(terminal::input().map_err(failure)?),
        tokio::fs::File::from_std(terminal::output().map_err(failure)?),
    );
    let raw = Raw::begin().map_err(failure)?;
    let code = look::exec_on_terminal(cluster, place, command, streams, Box::pin(sizes)).await;
    drop(raw);
    code.map_err(failure)
}

fn failure(error: impl std::error::Error + 'static) -> Failure {
    Failure::from_error(&error)
}
