//! Brings the context into the container, and the build's log back over the
//! same connection.
//!
//! Kiln's own receiver says when it is there, so it is knocked at from the
//! moment on that the pod has a node: the kubelet lists containers once a
//! second, and tells of one that runs up to a second late.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use kiln_schemas::event::{Event, Phase};
use kiln_schemas::model::UploadLimits;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::context::{self, ContextError, Pipe, Progress, Receiver};
use super::exec::{ExecError, Target};
use super::listener::Listener;
use super::run::milliseconds;
use super::supply::{self, Archive};
use super::tree::BuildTree;

/// Between two attempts, as in skaffold.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two progress events.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Between two knocks at first, and at most.
const KNOCK: (Duration, Duration) = (Duration::from_millis(60), Duration::from_secs(2));
/// How long nobody may answer in a container that runs.
const SILENCE: Duration = Duration::from_secs(10);

/// One delivery.
pub(super) struct Delivery {
    pub(super) target: Target,
    pub(super) receiver: Receiver,
    /// The executor's own files, where they have to arrive first.
    pub(super) archive: Option<Archive>,
    /// The context; nothing where no image is built.
    pub(super) tree: Option<Arc<BuildTree>>,
    pub(super) limits: UploadLimits,
    pub(super) progress: Progress,
    pub(super) listener: Listener,
    /// Whether the cluster says that the container runs.
    pub(super) runs: watch::Receiver<bool>,
    /// Learns how far it is.
    pub(super) told: mpsc::UnboundedSender<Reached>,
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reached {
    /// Nobody has answered.
    Nothing,
    /// The receiver is there.
    Receiver,
    /// It has everything.
    Complete,
}

/// Why an attempt failed.
enum Attempt {
    /// The files are at fault; sending again would not help.
    Local(ContextError),
    /// Nobody was there.
    Unanswered(ExecError),
    Broken(ExecError),
    Late,
}

impl Delivery {
    /// Delivers, with the attempts that the limits allow. Returns when the
    /// connection is over: where the receiver follows the build, that is when
    /// the build has ended, or earlier.
    pub(super) async fn run(mut self) -> Result<(), ContextError> {
        if let Some(archive) = self.archive.take() {
            // It goes to a shell, which says nothing.
            self.until_it_runs().await;
            supply::stream(&self.target, &archive, &self.limits).await?;
        }
        let Some(tree) = self.tree.take() else {
            return Ok(());
        };
        if self.receiver == Receiver::Shell {
            self.until_it_runs().await;
        }
        let attempts = self.limits.attempts.max(1);
        let (begun, mut attempt, mut runs_since) = (Instant::now(), 1, None);
        loop {
            let failed = match self.once(&tree).await {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            if *self.runs.borrow() {
                runs_since.get_or_insert_with(Instant::now);
            }
            let error = match failed {
                Attempt::Local(error) => return Err(error),
                Attempt::Unanswered(error)
                    if error.is_early() && runs_since.is_none_or(|at| at.elapsed() < SILENCE) =>
                {
                    tracing::trace!(%error, "knocking");
                    self.wait(pause(begun.elapsed())).await;
                    continue;
                }
                Attempt::Unanswered(source) | Attempt::Broken(source) => ContextError::Send {
                    attempt,
                    attempts,
                    source,
                },
                Attempt::Late => ContextError::Timeout {
                    attempt,
                    attempts,
                    after: self.limits.timeout,
                },
            };
            if attempt == attempts {
                return Err(error);
            }
            tracing::debug!(attempt, %error, "sending the context again");
            attempt += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn until_it_runs(&mut self) {
        // Without a sender the pod is not followed any more, and so is this.
        let _ = self.runs.wait_for(|runs| *runs).await;
    }

    /// Waits, but not longer than until the cluster says that the container runs.
    async fn wait(&mut self, pause: Duration) {
        let said = *self.runs.borrow();
        let news = async {
            if said || self.runs.wait_for(|runs| *runs).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let _ = tokio::time::timeout(pause, news).await;
    }

    async fn once(&self, tree: &Arc<BuildTree>) -> Result<(), Attempt> {
        let sent = Arc::new(AtomicU64::new(0));
        let (pipe, stdin) = Pipe::new(sent.clone());
        // A shell does not say that it is there.
        let first = match self.receiver {
            Receiver::Shell => Reached::Receiver,
            Receiver::Init | Receiver::Executor => Reached::Nothing,
        };
        let (sender, reached) = watch::channel(first);
        let (mut greeted, mut complete) = (reached.clone(), reached.clone());
        let (mut since, counted) = (Instant::now(), sent.clone());
        // It takes the sender with it: when the command is over, nobody waits for more.
        let hear = move |line: &str| {
            let now = match said(line) {
                None => return self.listener.hear(line),
                Some(Reached::Complete) => {
                    self.complete(since, &counted);
                    Reached::Complete
                }
                Some(now) => {
                    since = Instant::now();
                    let _ = self.told.send(now);
                    now
                }
            };
            sender.send_replace(now);
        };
        let command = self.receiver.unpack();
        let began = Instant::now();
        let running = self.reporting(&sent, &reached, self.target.run(&command, stdin, hear));
        let there = |reached: &Reached| *reached >= Reached::Receiver;
        let reading = async {
            greeted.wait_for(there).await.map_err(drop).ok()?;
            let compression = self.receiver.compression(&self.limits);
            let tree = tree.clone();
            let write = move || context::write_stream(pipe, &tree, compression);
            Some(tokio::task::spawn_blocking(write).await)
        };
        let late = async {
            let all = |reached: &Reached| *reached == Reached::Complete;
            if complete.wait_for(there).await.is_ok() {
                let rest = tokio::time::timeout(self.limits.timeout, complete.wait_for(all));
                if rest.await.is_err() {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        let (result, read) = tokio::select! {
            both = async { tokio::join!(running, reading) } => both,
            () = late => return Err(Attempt::Late),
        };
        // A file that cannot be read cuts the stream short, which the other side
        // then complains about: the file is the reason, unless the pipe broke.
        match read {
            Some(Err(error)) => return Err(Attempt::Local(ContextError::Stopped(error))),
            Some(Ok(Err(error))) if !error.is_broken_pipe() => {
                return Err(Attempt::Local(error));
            }
            _ => {}
        }
        let reached = *reached.borrow();
        match (reached, result) {
            (Reached::Complete, Err(error)) => {
                tracing::debug!(%error, "the build's log comes from the pod from here on");
                Ok(())
            }
            (Reached::Complete, Ok(())) => Ok(()),
            (_, Ok(())) => self.release(began, &sent).await,
            (Reached::Receiver, Err(error)) => Err(Attempt::Broken(error)),
            (Reached::Nothing, Err(error)) => Err(Attempt::Unanswered(error)),
        }
    }

    /// Tells how much was sent while it is sent.
    async fn reporting<T>(
        &self,
        sent: &AtomicU64,
        reached: &watch::Receiver<Reached>,
        run: impl Future<Output = T>,
    ) -> T {
        tokio::pin!(run);
        loop {
            tokio::select! {
                result = &mut run => return result,
                () = tokio::time::sleep(PROGRESS_EVERY) => {
                    if *reached.borrow() == Reached::Receiver {
                        self.progress.report(sent);
                    }
                }
            }
        }
    }

    /// Lets the build begin, where unpacking did not.
    async fn release(&self, since: Instant, sent: &AtomicU64) -> Result<(), Attempt> {
        if let Some(release) = self.receiver.release() {
            let (empty, stdin) = mpsc::channel(1);
            drop(empty);
            let run = self.target.run(&release, stdin, |_| {});
            run.await.map_err(Attempt::Broken)?;
        }
        self.complete(since, sent);
        Ok(())
    }

    fn complete(&self, since: Instant, sent: &AtomicU64) {
        self.progress.report(sent);
        self.progress.events.emit(Event::Timing {
            what: self.progress.image.clone(),
            phase: Phase::Context,
            ms: milliseconds(since.elapsed()),
        });
        let _ = self.told.send(Reached::Complete);
    }
}

/// What a line of the receiver says of the delivery itself.
fn said(line: &str) -> Option<Reached> {
    let object: Value = serde_json::from_str(line).ok()?;
    // Lines of the build's log are numbered.
    if object.get("n").is_some() {
        return None;
    }
    match object["event"].as_str()? {
        "ready" => Some(Reached::Receiver),
        "received" => Some(Reached::Complete),
        _ => None,
    }
}

/// Longer and longer: most containers start within a second, some after a
/// minute's pull.
fn pause(waited: Duration) -> Duration {
    (waited / 8).clamp(KNOCK.0, KNOCK.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_without_a_number_are_the_receivers_own() {
        for (line, expected) in [
            (r#"{"event":"ready"}"#, Some(Reached::Receiver)),
            (r#"{"event":"received"}"#, Some(Reached::Complete)),
            (r#"{"event":"ready","n":1}"#, None),
            (r#"{"event":"note","text":"ready","n":2}"#, None),
            ("ready", None),
        ] {
            assert_eq!(said(line), expected, "{line}");
        }
    }

    #[test]
    fn knocks_become_rarer() {
        let at = |ms| pause(Duration::from_millis(ms)).as_millis();
        assert_eq!([at(0), at(800), at(60_000)], [60, 100, 2000]);
    }
}
