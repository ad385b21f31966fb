//! Calls to the API server, from a thread that has entered the cluster's network.

use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{AtPath, Error};
use crate::network::Network;

/// How long anything is waited for. Not a measure of health: only the end of hope.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs `work` with an administrator's client on a thread in `network`.
///
/// Sockets belong to the namespace of the thread that makes them, so a thread is
/// enough: the calling process stays where it is.
pub(crate) fn with_client<T, Work, Answer>(
    network: &Network,
    kubeconfig: &Path,
    work: Work,
) -> Result<T, Error>
where
    T: Send,
    Work: FnOnce(Client) -> Answer + Send,
    Answer: Future<Output = Result<T, Error>>,
{
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(network)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .at("start a runtime for", kubeconfig)?;
            runtime.block_on(async { work(client(kubeconfig).await?).await })
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

pub(crate) fn enter(network: &Network) -> Result<(), Error> {
    let Some(path) = network.file() else {
        return Ok(());
    };
    let namespace = File::open(&path).at("open", &path)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(
        |source| Error::System {
            action: format!("enter the network namespace {}", path.display()),
            source,
        },
    )
}

async fn client(path: &Path) -> Result<Client, Error> {
    // Fails when the process has chosen a provider before, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let invalid = |source| Error::Kubeconfig {
        path: path.to_owned(),
        source,
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(invalid)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(invalid)?;
    Client::try_from(config).map_err(failed("make a client"))
}

/// Names the attempt that failed.
pub(crate) fn failed(action: &str) -> impl FnOnce(kube::Error) -> Error {
    let action = action.to_owned();
    move |source| Error::Api {
        action,
        source: Box::new(source),
    }
}

/// Asks until the answer is yes. `check` gives what it saw; an error ends the wait.
pub(crate) async fn wait_for<Check, Seen>(what: &str, mut check: Check) -> Result<(), Error>
where
    Check: FnMut() -> Seen,
    Seen: Future<Output = Result<Progress, Error>>,
{
    let start = Instant::now();
    loop {
        let last = match check().await? {
            Progress::Done => return Ok(()),
            Progress::Waiting(seen) => seen,
        };
        if start.elapsed() > PATIENCE {
            return Err(Error::Timeout {
                what: what.to_owned(),
                seconds: PATIENCE.as_secs(),
                last,
            });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// One look at something that is waited for.
pub(crate) enum Progress {
    /// It is there.
    Done,
    /// It is not; this was seen instead.
    Waiting(String),
}

impl Progress {
    /// Done when the condition holds.
    pub(crate) fn when(done: bool, seen: impl Into<String>) -> Self {
        if done {
            Self::Done
        } else {
            Self::Waiting(seen.into())
        }
    }
}
