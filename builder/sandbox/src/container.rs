//! A command that goes on: started in a root filesystem and a given network, signalled, entered
//! by further commands, and waited for. What [`run`](crate::run()) does for a step of a build, this
//! does for a container of a workload.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::child::{ENTER, MARKER};
use crate::error::Error;
use crate::idmap::IdMap;
use crate::ladder::Rung;
use crate::run::{Exit, conclude};
use crate::step::{Process, Step};
use crate::wire::{self, Order, Report, Word};

/// How a container differs from a step of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// A network namespace to live in: a path that opens as one. The caller's when absent.
    pub network: Option<PathBuf>,
    /// Capabilities, one bit each as in `/proc/self/status`; Docker's default set when absent.
    pub capabilities: Option<u64>,
    /// Whether the root cannot be written to, apart from what is mounted in it.
    pub read_only_root: bool,
    /// Whether set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// Where standard input comes from; `/dev/null` when absent.
    pub stdin: Option<PathBuf>,
    /// Whether standard input is a terminal that the command is to have as its own: its keys then
    /// signal whoever is in front in the container.
    #[serde(default)]
    pub terminal: bool,
}

/// Where a command's output goes.
#[derive(Debug)]
pub struct Output {
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// A command in an existing container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The container's init, as [`Container::wait`] told it.
    pub init: u32,
    /// The command.
    pub process: Process,
    /// Capabilities, privileges and input; network and root are the container's.
    pub confinement: Confinement,
}

/// A started command.
#[derive(Debug)]
pub struct Container {
    process: Child,
    control: Arc<UnixStream>,
}

/// Sends signals to a container from any thread.
#[derive(Clone, Debug)]
pub struct Signals(Arc<UnixStream>);

impl Signals {
    /// Sends a signal to the container's command. One that is gone already is no error.
    pub fn send(&self, signal: i32) {
        // The other side is gone with its command.
        let _ = wire::send(&*self.0, &Word::Signal(signal));
    }

    /// Kills every process of the container.
    pub fn kill(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }
}

impl Container {
    /// Starts a container. The caller has to be root in a user namespace that owns its network
    /// ([`crate::namespace::own_users`]). All of its processes die with the caller.
    ///
    /// # Errors
    /// When the helper cannot be started. What the container itself meets is told by
    /// [`Container::wait`].
    pub fn start(step: Step, confinement: Confinement, output: Output) -> Result<Self, Error> {
        let order = Order {
            rung: Rung::UserNamespacedPod,
            ids: IdMap::present(),
            step,
            rehearse: false,
            confinement: Some(confinement),
        };
        Self::launch(MARKER, &order, output)
    }

    /// Starts a further command in a running container. For one whose network is the caller's
    /// ([`Confinement::network`] absent) the caller has to be in that network.
    ///
    /// # Errors
    /// As [`Container::start`].
    pub fn enter(entry: &Entry, output: Output) -> Result<Self, Error> {
        Self::launch(ENTER, entry, output)
    }

    fn launch(marker: &str, order: &impl Serialize, output: Output) -> Result<Self, Error> {
        let (control, theirs) = UnixStream::pair().map_err(Error::Spawn)?;
        let process = Command::new("/proc/self/exe")
            .arg0(marker)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(output.stdout))
            .stderr(Stdio::from(output.stderr))
            .spawn()
            .map_err(Error::Spawn)?;
        // A helper that is gone already is found by `wait`.
        let _ = wire::send(&control, order);
        Ok(Self {
            process,
            control: Arc::new(control),
        })
    }

    /// The way to send it signals.
    #[must_use]
    pub fn signals(&self) -> Signals {
        Signals(Arc::clone(&self.control))
    }

    /// Waits for its end. `running` is told the process id of the container's init (of the
    /// entered command, for an entry) once its file system is there and its command is executed.
    /// Blocks; when it returns, no process of the container is left.
    ///
    /// # Errors
    /// When the container could not be prepared or its command could not be executed.
    pub fn wait(mut self, running: impl FnOnce(u32)) -> Result<Exit, Error> {
        let mut running = Some(running);
        let mut init = 0;
        let mut result = None;
        loop {
            match wire::receive(&*self.control) {
                Ok(None) => break,
                Ok(Some(Report::Init(pid))) => init = pid,
                // One that could not be executed has said so before.
                Ok(Some(Report::Running)) if result.is_none() => {
                    if let Some(running) = running.take() {
                        running(init);
                    }
                }
                Ok(Some(Report::Running)) => {}
                Ok(Some(report)) => {
                    result.get_or_insert(report);
                }
                // Killed with words of ours unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(Error::Channel(error)),
            }
        }
        self.signals().kill();
        let status = self.process.wait().map_err(Error::Channel)?;
        match result {
            Some(report) => conclude(report),
            None => Err(Error::HelperLost {
                status: status.to_string(),
            }),
        }
    }
}
