//! Which paths changed: the kernel's notifications, gathered until they pause.
//!
//! Only folders are watched, each by itself: a watch on a file is lost when an
//! editor replaces the file, and a recursive watch would cover `node_modules`
//! and `.git`. Which folders matter comes from the sources of the artifacts;
//! after a folder has appeared the driver lists the sources again and calls
//! [`Watch::follow`] with what it found.
//!
//! A notification says only that something may have changed. Whether bytes
//! did is decided by hashing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{EventKindMask, Flag};
use notify::{Config, PathOp, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// A steady writer must not postpone work for ever: a batch is closed after
/// this many quiet times, whatever still comes in.
const LONGEST_BATCH: u32 = 20;

/// Why watching does not work.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The watcher could not be made.
    #[error("cannot watch for changes")]
    Start(#[source] notify::Error),
    /// A folder cannot be watched.
    #[error("cannot watch {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: notify::Error,
    },
    /// The kernel's limit on watches is reached.
    #[error("cannot watch {}: the kernel's limit on watches is reached", path.display())]
    Limit {
        /// The folder.
        path: PathBuf,
    },
}

/// What has changed since the last batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Paths that were named, absolute.
    pub paths: BTreeSet<PathBuf>,
    /// Notifications were lost, or folders appeared: list everything again.
    pub rescan: bool,
}

/// Watches folders.
pub struct Watch {
    watcher: Box<dyn Watcher + Send>,
    followed: BTreeSet<PathBuf>,
    signals: mpsc::UnboundedReceiver<notify::Result<notify::Event>>,
    quiet: Duration,
    /// What was noticed since the last batch, and when it is closed at the
    /// latest.
    gathered: Batch,
    close_at: Instant,
}

impl Watch {
    /// Starts watching nothing. `quiet` is the pause that ends a batch; with
    /// `poll` the folders are read that often instead of waiting for the
    /// kernel (network file systems do not notify).
    pub fn new(quiet: Duration, poll: Option<Duration>) -> Result<Self, WatchError> {
        let (send, signals) = mpsc::unbounded_channel();
        // A closed channel means that the loop is ending.
        let handler = move |signal| drop(send.send(signal));
        // Without the mask every read of a file is a notification, and our own
        // hashing would wake us up again.
        let config = Config::default().with_event_kinds(EventKindMask::CORE);
        let watcher: Box<dyn Watcher + Send> = match poll {
            Some(interval) => Box::new(
                PollWatcher::new(handler, config.with_poll_interval(interval))
                    .map_err(WatchError::Start)?,
            ),
            None => Box::new(RecommendedWatcher::new(handler, config).map_err(WatchError::Start)?),
        };
        Ok(Self {
            watcher,
            followed: BTreeSet::new(),
            signals,
            quiet,
            gathered: Batch::default(),
            close_at: Instant::now(),
        })
    }

    /// Watches exactly these folders. Returns whether folders were added:
    /// what happened in them before is not notified, so list them again.
    pub fn follow(&mut self, folders: &BTreeSet<PathBuf>) -> Result<bool, WatchError> {
        for gone in self
            .followed
            .difference(folders)
            .cloned()
            .collect::<Vec<_>>()
        {
            // A folder that was deleted is no longer watched anyway.
            drop(self.watcher.update_paths(vec![PathOp::unwatch(&gone)]));
            self.followed.remove(&gone);
        }
        let mut added = false;
        for new in folders
            .difference(&self.followed)
            .cloned()
            .collect::<Vec<_>>()
        {
            match self.watcher.watch(&new, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    added = true;
                    self.followed.insert(new);
                }
                Err(error) if is_gone(&error) => {}
                Err(error) if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => {
                    return Err(WatchError::Limit { path: new });
                }
                Err(source) => return Err(WatchError::Folder { path: new, source }),
            }
        }
        Ok(added)
    }

    /// Waits for a change and then for a pause. Pending forever when nothing
    /// changes. Cancel-safe: what was gathered stays here for the next call.
    pub async fn next(&mut self) -> Batch {
        while self.gathered == Batch::default() {
            let Some(signal) = self.signals.recv().await else {
                std::future::pending::<()>().await;
                continue;
            };
            self.note(signal);
            self.close_at = Instant::now() + self.quiet * LONGEST_BATCH;
        }
        loop {
            let pause = self.close_at.min(Instant::now() + self.quiet);
            match timeout_at(pause, self.signals.recv()).await {
                Ok(Some(signal)) if Instant::now() < self.close_at => self.note(signal),
                Ok(Some(signal)) => {
                    self.note(signal);
                    break;
                }
                Ok(None) | Err(_) => break,
            }
        }
        std::mem::take(&mut self.gathered)
    }

    /// Adds one notification to the batch.
    fn note(&mut self, signal: notify::Result<notify::Event>) {
        let batch = &mut self.gathered;
        let Ok(event) = signal else {
            batch.rescan = true;
            return;
        };
        if event.flag() == Some(Flag::Rescan) {
            batch.rescan = true;
            return;
        }
        if event.kind.is_access() {
            return;
        }
        for path in event.paths {
            // The inode behind a path that was watched is gone, or a new
            // folder came: what is watched has to be found again.
            if self.followed.remove(&path) || is_new_folder(event.kind, &path) {
                batch.rescan = true;
            }
            batch.paths.insert(path);
        }
    }
}

fn is_new_folder(kind: notify::EventKind, path: &Path) -> bool {
    (kind.is_create() || kind.is_modify()) && path.is_dir()
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(io) => io.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folders(paths: &[&Path]) -> BTreeSet<PathBuf> {
        paths.iter().map(|p| p.to_path_buf()).collect()
    }

    #[tokio::test]
    async fn saves_that_come_together_are_one_batch_and_reads_are_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "1").unwrap();
        let mut watch = Watch::new(Duration::from_millis(50), None).unwrap();
        assert!(watch.follow(&folders(&[dir.path()])).unwrap());

        fs::read(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("b"), "2").unwrap();
        fs::rename(dir.path().join("b"), dir.path().join("c")).unwrap();
        let batch = watch.next().await;
        assert!(!batch.paths.contains(&dir.path().join("a")));
        assert!(batch.paths.contains(&dir.path().join("b")));
        assert!(batch.paths.contains(&dir.path().join("c")));
    }

    #[tokio::test]
    async fn a_folder_that_is_deleted_and_made_again_is_followed_again() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let both = folders(&[dir.path(), &inner]);
        let mut watch = Watch::new(Duration::from_millis(20), None).unwrap();
        watch.follow(&both).unwrap();

        fs::remove_dir(&inner).unwrap();
        fs::create_dir(&inner).unwrap();
        while !watch.next().await.rescan {}
        assert!(
            watch.follow(&both).unwrap(),
            "the new folder was not watched"
        );

        fs::write(inner.join("file"), "x").unwrap();
        while !watch.next().await.paths.contains(&inner.join("file")) {}
    }
}
