//! Finds what a command changed where no overlay is possible: by looking at everything before
//! and after.
//!
//! What counts is the change time, which no program can set: together with the inode and the
//! rest of the metadata it tells every change without reading a byte of content. The kernel's
//! clock for it moves in ticks (up to 10 ms before Linux 6.13), so a scan ends only when the clock
//! has moved on: whatever happens afterwards has a later time.

mod names;

pub use names::{Names, bystanders};

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

/// What is remembered of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Device and inode.
    pub inode: (u64, u64),
    /// File type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Last change of content or metadata: seconds and nanoseconds.
    pub changed: (i64, i64),
    /// How many names the file has, wherever they are.
    pub names: u64,
    /// The device's numbers, for a device node.
    pub device: u64,
}

impl Record {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Directory
    }

    /// A directory's size and change time move with every entry in it. Only what an archive
    /// would hold of it counts.
    fn same(&self, other: &Self) -> bool {
        if self.is_directory() && other.is_directory() {
            return (self.inode, self.mode, self.uid, self.gid)
                == (other.inode, other.mode, other.uid, other.gid);
        }
        // A name more or less is a change of another path.
        let names = other.names;
        Self { names, ..*self } == *other
    }
}

/// Everything below a directory at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    records: BTreeMap<PathBuf, Record>,
}

/// How a tree changed between two snapshots, each list in the order of paths; all relative.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Paths that were not there.
    pub added: Vec<PathBuf>,
    /// Paths whose content or metadata is another.
    pub changed: Vec<PathBuf>,
    /// Paths that are gone; of a directory only itself, not what was in it.
    pub deleted: Vec<PathBuf>,
}

/// Why a tree could not be scanned.
#[derive(Debug, thiserror::Error)]
#[error("cannot scan {}", .path.display())]
pub struct ScanError {
    /// The path below the root.
    pub path: PathBuf,
    /// The kernel's answer.
    pub source: io::Error,
}

impl Snapshot {
    /// Looks at everything below `root`, not following links, except at or below a path of
    /// `skip`: absolute paths as seen from inside the root, such as mount points and the
    /// caller's own directories. Takes as many threads as there are processors.
    ///
    /// # Errors
    /// When a directory cannot be read. What disappears meanwhile is no error.
    pub fn take(root: &Path, skip: &[PathBuf]) -> Result<Self, ScanError> {
        let skip: Vec<PathBuf> = skip
            .iter()
            .map(|path| path.strip_prefix("/").unwrap_or(path).to_path_buf())
            .collect();
        let queue = Queue::starting_with(PathBuf::new());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let parts: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|_| scope.spawn(|| work(root, &skip, &queue)))
                .collect();
            workers
                .into_iter()
                .map(std::thread::ScopedJoinHandle::join)
                .collect()
        });
        let mut records = BTreeMap::new();
        for part in parts {
            match part {
                Ok(part) => records.extend(part?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        wait_for_next_tick();
        Ok(Self { records })
    }

    /// What is remembered of a relative path.
    #[must_use]
    pub fn get(&self, path: &Path) -> Option<&Record> {
        self.records.get(path)
    }

    /// How many paths there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What changed from this snapshot to a later one of the same tree. Pure.
    #[must_use]
    pub fn difference(&self, after: &Self) -> Difference {
        let mut difference = Difference::default();
        for (path, now) in &after.records {
            match self.records.get(path) {
                None => difference.added.push(path.clone()),
                Some(then) if !then.same(now) => difference.changed.push(path.clone()),
                Some(_) => {}
            }
        }
        for path in self.records.keys() {
            if after.records.contains_key(path) {
                continue;
            }
            // Nothing can be below what is gone, or became something else than a directory.
            let parent_is_gone = path.parent().is_some_and(|parent| {
                self.records.contains_key(parent)
                    && !after.get(parent).is_some_and(Record::is_directory)
            });
            if !parent_is_gone {
                difference.deleted.push(path.clone());
            }
        }
        difference
    }
}

/// Directories to be read, shared by the workers.
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: Vec<PathBuf>,
    /// Directories that a worker is reading, each of which may add more.
    busy: usize,
}

impl Queue {
    fn starting_with(first: PathBuf) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: vec![first],
                busy: 0,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole at every moment: a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next directory; `None` when all are read.
    fn next(&self) -> Option<PathBuf> {
        let mut state = self.lock();
        loop {
            if let Some(path) = state.waiting.pop() {
                state.busy += 1;
                return Some(path);
            }
            if state.busy == 0 {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One directory is read, and these are in it.
    fn done(&self, found: Vec<PathBuf>) {
        let mut state = self.lock();
        state.busy -= 1;
        state.waiting.extend(found);
        drop(state);
        self.changed.notify_all();
    }
}

type Found = Vec<(PathBuf, Record)>;

fn work(root: &Path, skip: &[PathBuf], queue: &Queue) -> Result<Found, ScanError> {
    let mut records = Vec::new();
    let mut failure = None;
    while let Some(path) = queue.next() {
        let mut below = Vec::new();
        // After a failure the queue is only emptied, so that the others come to their end too.
        if failure.is_none()
            && let Err(error) = scan(root, &path, skip, &mut records, &mut below)
        {
            below.clear();
            failure = Some(ScanError {
                path,
                source: error.into(),
            });
        }
        queue.done(below);
    }
    failure.map_or(Ok(records), Err)
}

fn scan(
    root: &Path,
    path: &Path,
    skip: &[PathBuf],
    records: &mut Found,
    below: &mut Vec<PathBuf>,
) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open_flags = if path.as_os_str().is_empty() {
        flags - OFlags::NOFOLLOW
    } else {
        flags
    };
    let directory = match rustix::fs::openat(CWD, root.join(path), open_flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !path.as_os_str().is_empty() => {
            return Ok(());
        }
        result => result?,
    };
    for entry in Dir::read_from(&directory)? {
        let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
        if name == "." || name == ".." {
            continue;
        }
        let path = path.join(&name);
        if skip.contains(&path) {
            continue;
        }
        let Some(record) = look_at(directory.as_fd(), &name)? else {
            continue;
        };
        if record.is_directory() {
            below.push(path.clone());
        }
        records.push((path, record));
    }
    Ok(())
}

fn look_at(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Record>, Errno> {
    let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        result => result?,
    };
    Ok(Some(Record {
        inode: (stat.st_dev, stat.st_ino),
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        // Not negative for anything that exists.
        size: stat.st_size.cast_unsigned(),
        changed: (stat.st_ctime, stat.st_ctime_nsec.cast_signed()),
        names: stat.st_nlink,
        device: stat.st_rdev,
    }))
}

/// The slowest tick of any Linux (CONFIG_HZ=100) is 10 ms; a clock that stands still longer is
/// none that could be waited for.
const LONGEST_TICK: Duration = Duration::from_millis(50);

/// Waits until the clock that file systems take their times from has moved.
fn wait_for_next_tick() {
    let start = clock_gettime(ClockId::RealtimeCoarse);
    let began = Instant::now();
    while clock_gettime(ClockId::RealtimeCoarse) == start && began.elapsed() < LONGEST_TICK {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn list(paths: &[PathBuf]) -> Vec<String> {
        paths
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    #[test]
    fn every_kind_of_change_is_found_and_nothing_else() {
        let root = tempfile::tempdir().expect("temporary directory");
        let path = |name: &str| root.path().join(name);
        for directory in ["kept", "gone/inner", "skipped", "touched"] {
            fs::create_dir_all(path(directory)).expect("mkdir");
        }
        for file in [
            "kept/same",
            "kept/content",
            "kept/mode",
            "gone/inner/file",
            "skipped/x",
        ] {
            fs::write(path(file), "1234").expect("write");
        }
        fs::write(path("replaced"), "file").expect("write");
        let skip = [PathBuf::from("/skipped")];
        let before = Snapshot::take(root.path(), &skip).expect("snapshot");

        // The same length, and the old modification time put back: only the change time tells.
        let old = fs::metadata(path("kept/content"))
            .expect("stat")
            .modified()
            .expect("mtime");
        fs::write(path("kept/content"), "4321").expect("write");
        let file = fs::File::options()
            .write(true)
            .open(path("kept/content"))
            .expect("open");
        file.set_modified(old).expect("utimes");
        let mut mode = fs::metadata(path("kept/mode")).expect("stat").permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o600);
        fs::set_permissions(path("kept/mode"), mode).expect("chmod");
        fs::remove_dir_all(path("gone")).expect("rm");
        fs::write(path("touched/new"), "").expect("write");
        fs::write(path("skipped/y"), "").expect("write");
        fs::remove_file(path("replaced")).expect("rm");
        std::os::unix::fs::symlink("kept", path("replaced")).expect("symlink");

        let after = Snapshot::take(root.path(), &skip).expect("snapshot");
        let difference = before.difference(&after);
        assert_eq!(list(&difference.added), ["touched/new"]);
        assert_eq!(
            list(&difference.changed),
            ["kept/content", "kept/mode", "replaced"]
        );
        assert_eq!(list(&difference.deleted), ["gone"]);
        assert!(before.get(Path::new("skipped")).is_none());
    }

    #[test]
    fn what_was_in_a_directory_goes_with_it_when_a_file_takes_its_place() {
        let root = tempfile::tempdir().expect("temporary directory");
        let dir = root.path().join("dir");
        fs::create_dir_all(dir.join("inner")).expect("mkdir");
        fs::write(dir.join("inner/file"), "").expect("write");
        let before = Snapshot::take(root.path(), &[]).expect("snapshot");
        fs::remove_dir_all(&dir).expect("rm");
        fs::write(&dir, "").expect("write");
        let after = Snapshot::take(root.path(), &[]).expect("snapshot");
        let difference = before.difference(&after);
        assert_eq!(list(&difference.changed), ["dir"]);
        assert!(difference.added.is_empty() && difference.deleted.is_empty());
    }

    #[test]
    fn a_write_right_after_the_snapshot_is_seen() {
        let root = tempfile::tempdir().expect("temporary directory");
        let file = root.path().join("file");
        for round in 0..20 {
            fs::write(&file, format!("{round:04}")).expect("write");
            let before = Snapshot::take(root.path(), &[]).expect("snapshot");
            fs::write(&file, format!("{:04}", round + 1)).expect("write");
            let after = Snapshot::take(root.path(), &[]).expect("snapshot");
            assert_eq!(list(&before.difference(&after).changed), ["file"]);
        }
    }

    #[test]
    fn a_missing_root_is_an_error() {
        let error = Snapshot::take(Path::new("/nonexistent-root"), &[]).expect_err("no root");
        assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
    }
}
