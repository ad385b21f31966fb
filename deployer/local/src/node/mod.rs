//! The process that holds everything that runs: started by a command, in namespaces of its own,
//! and left behind when the command ends. All containers are its descendants and die with it.

mod ask;
mod container;
mod core;
mod cron;
mod egress;
mod forwards;
pub mod host;
mod layers;
mod logs;
mod pod;
mod serve;
mod services;
mod spare;
mod volumes;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use kiln_sandbox::namespace;
use rustix::fs::{FlockOperation, flock};

use self::host::Host;

/// The name under which the program is started as the holder.
pub(crate) const MARKER: &str = "kiln-local: node";

/// Names below the state directory.
pub(crate) mod paths {
    /// Where the holder listens.
    pub(crate) const SOCKET: &str = "socket";
    /// Held while it lives.
    pub(crate) const LOCK: &str = "lock";
    /// What it says of itself.
    pub(crate) const LOG: &str = "node.log";
    /// Pods' folders; nothing in it outlives the holder.
    pub(crate) const PODS: &str = "pods";
    /// Logs of containers.
    pub(crate) const LOGS: &str = "logs";
    /// Claims; kept.
    pub(crate) const CLAIMS: &str = "claims";
}

/// Becomes the holder when the process was started as one, and then never returns; does nothing
/// otherwise. Call it first in `main`, after `kiln_sandbox::init()`.
#[allow(clippy::exit, reason = "the process is the holder's alone")]
pub fn init() {
    let mut words = std::env::args_os();
    let name = words.next();
    if name.as_deref() == Some(OsStr::new(egress::MARKER)) {
        let error = egress::init(words);
        // Standard error is the holder's log file.
        drop(io::Write::write_all(
            &mut io::stderr(),
            format!("cannot start pasta: {error}\n").as_bytes(),
        ));
        std::process::exit(1);
    }
    if name.as_deref() != Some(OsStr::new(MARKER)) {
        return;
    }
    let Some(state) = words.next().map(PathBuf::from) else {
        std::process::exit(2);
    };
    let code = match hold(&state) {
        Ok(()) => 0,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            // Standard error is the holder's log file.
            drop(io::Write::write_all(
                &mut io::stderr(),
                format!("{text}\n").as_bytes(),
            ));
            1
        }
    };
    std::process::exit(code);
}

/// Why the holder ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// The user namespace.
    #[error("cannot make a user namespace")]
    Users(#[source] kiln_sandbox::Failure),
    /// Another namespace.
    #[error("cannot make {what}")]
    Namespace {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The state directory.
    #[error("cannot use {}", path.display())]
    State {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The network.
    #[error(transparent)]
    Links(#[from] crate::network::links::LinkError),
}

fn hold(state: &Path) -> Result<(), NodeError> {
    let channel = |source| NodeError::Namespace {
        what: "a channel to the command",
        source,
    };
    let control: OwnedFd = io::stdin().as_fd().try_clone_to_owned().map_err(channel)?;
    let control = UnixStream::from(control);
    let null = File::open("/dev/null").map_err(channel)?;
    rustix::stdio::dup2_stdin(null).map_err(|error| channel(error.into()))?;
    // A terminal that closes, or Ctrl-C in it, is not meant for the holder.
    let _ = rustix::process::setsid();
    if let Err(failure) = namespace::own_users(&control) {
        namespace::give_up(&control, failure.clone());
        return Err(NodeError::Users(failure));
    }
    let lock_path = state.join(paths::LOCK);
    let at = |source| NodeError::State {
        path: lock_path.clone(),
        source,
    };
    let lock = File::create(&lock_path).map_err(at)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| at(error.into()))?;
    let made = |what| move |source| NodeError::Namespace { what, source };
    let host = Host::start().map_err(made("a thread"))?;
    namespace::own_network().map_err(made("a network namespace"))?;
    namespace::own_mounts().map_err(made("a mount namespace"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(made("threads"))?;
    let result = runtime.block_on(core::run(state, host, control));
    // The lock goes last: whoever gets it finds everything gone.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    drop(lock);
    result
}
