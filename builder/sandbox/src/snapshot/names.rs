//! By which of its names a file was written to.
//!
//! An overlay gives a file of a lower layer a copy of its own as soon as one of its names is
//! written to; the other names keep what they had. In a plain directory all names change at once,
//! and a snapshot cannot tell which one was meant. The kernel can: a watch on a directory names
//! the entry through which a file was changed (inotify(7)).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::{Difference, Snapshot};

/// What changes a file, its metadata included. Closing counts too: a mapped file is written to
/// without a further event.
const CHANGES: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE);

/// Watches the directories in which files with several names lie.
#[derive(Debug)]
pub struct Names {
    inotify: OwnedFd,
    directories: BTreeMap<i32, PathBuf>,
}

impl Names {
    /// Starts to watch the tree at `root`, of which `before` is a snapshot. `None` where no file
    /// has several names, or where the machine's limit of watches is reached.
    #[must_use]
    pub fn watch(root: &Path, before: &Snapshot) -> Option<Self> {
        let directories: BTreeSet<&Path> = several(before)
            .into_values()
            .flatten()
            .filter_map(|path| path.parent())
            .collect();
        if directories.is_empty() {
            return None;
        }
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let flags = CHANGES | WatchFlags::DONT_FOLLOW | WatchFlags::ONLYDIR;
        let mut watched = BTreeMap::new();
        for path in directories {
            let watch = inotify::add_watch(&inotify, root.join(path), flags).ok()?;
            watched.insert(watch, path.to_owned());
        }
        Some(Self {
            inotify,
            directories: watched,
        })
    }

    /// The paths through which files were changed since then; `None` when some got lost.
    #[must_use]
    pub fn written(self) -> Option<BTreeSet<PathBuf>> {
        let mut written = BTreeSet::new();
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::WOULDBLOCK) => return Some(written),
                Err(Errno::INTR) => continue,
                Err(_) => return None,
            };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                return None;
            }
            if let (Some(directory), Some(name)) = (
                self.directories.get(&event.wd()),
                event
                    .file_name()
                    .map(|name| OsStr::from_bytes(name.to_bytes())),
            ) {
                written.insert(directory.join(name));
            }
        }
    }
}

/// Files with several names within the snapshot.
fn several(snapshot: &Snapshot) -> BTreeMap<(u64, u64), Vec<&Path>> {
    let mut files: BTreeMap<_, Vec<&Path>> = BTreeMap::new();
    for (path, record) in &snapshot.records {
        if record.names > 1 && !record.is_directory() {
            files.entry(record.inode).or_default().push(path);
        }
    }
    files.retain(|_, names| names.len() > 1);
    files
}

/// Takes the names out of a difference that changed only because their file was `written` to by
/// another name, and returns them. Where nobody wrote by a known name, nothing is taken out. Pure.
#[must_use]
pub fn bystanders(
    (before, after): (&Snapshot, &Snapshot),
    difference: &mut Difference,
    written: &BTreeSet<PathBuf>,
) -> Vec<PathBuf> {
    let mut bystanders = Vec::new();
    for (inode, names) in several(before) {
        let is_same_file = |path: &&Path| after.get(path).is_some_and(|now| now.inode == inode);
        let (wrote, others): (Vec<&Path>, Vec<&Path>) = names
            .into_iter()
            .filter(is_same_file)
            .partition(|path| written.contains(*path));
        if !wrote.is_empty() {
            bystanders.extend(others.into_iter().map(Path::to_owned));
        }
    }
    difference.changed.retain(|path| !bystanders.contains(path));
    bystanders
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    /// What a change does to `a`, its further name `dir/b`, and the lone `c`: what stays in the
    /// difference, and the bystanders.
    fn after(change: impl FnOnce(&Path)) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir(root.join("dir")).unwrap();
        fs::write(root.join("a"), "old").unwrap();
        fs::hard_link(root.join("a"), root.join("dir/b")).unwrap();
        fs::write(root.join("c"), "old").unwrap();
        let before = Snapshot::take(root, &[]).unwrap();
        let names = Names::watch(root, &before).unwrap();
        change(root);
        let after = Snapshot::take(root, &[]).unwrap();
        let mut difference = before.difference(&after);
        let written = names.written().unwrap();
        let bystanders = bystanders((&before, &after), &mut difference, &written);
        (difference.changed, bystanders)
    }

    #[test]
    fn only_the_name_that_was_written_to_has_changed() {
        let (changed, others) = after(|root| {
            fs::write(root.join("dir/b"), "new").unwrap();
            fs::write(root.join("c"), "new").unwrap();
        });
        assert_eq!(changed, ["c", "dir/b"].map(PathBuf::from));
        assert_eq!(others, [PathBuf::from("a")]);
    }

    #[test]
    fn a_change_of_the_mode_counts_as_one() {
        let (changed, others) = after(|root| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(root.join("a"), mode).unwrap();
        });
        assert_eq!(changed, [PathBuf::from("a")]);
        assert_eq!(others, [PathBuf::from("dir/b")]);
    }

    #[test]
    fn both_names_can_be_written_to() {
        let (changed, others) = after(|root| {
            for name in ["a", "dir/b"] {
                File::options().append(true).open(root.join(name)).unwrap();
            }
            fs::write(root.join("a"), "new").unwrap();
        });
        assert_eq!(changed, ["a", "dir/b"].map(PathBuf::from));
        assert!(others.is_empty());
    }

    #[test]
    fn a_name_that_got_another_file_is_no_bystander() {
        let (changed, others) = after(|root| {
            fs::write(root.join("new"), "new").unwrap();
            fs::rename(root.join("new"), root.join("a")).unwrap();
            fs::write(root.join("dir/b"), "newer").unwrap();
        });
        assert_eq!(changed, ["a", "dir/b"].map(PathBuf::from));
        assert!(others.is_empty());
    }

    #[test]
    fn files_with_one_name_need_no_watch() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "").unwrap();
        let before = Snapshot::take(root.path(), &[]).unwrap();
        assert!(Names::watch(root.path(), &before).is_none());
    }
}
