//! A root filesystem as a value: whatever a path says, it stays inside.
//!
//! Paths are given as an image gives them, with or without a leading slash, and are resolved by
//! the kernel (openat2(2), `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`): an absolute link starts
//! again at the root, `..` stops there. Directories on the way are followed through links, the
//! last name is not, unless a method says so.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;

mod directory;
mod mount_point;

pub use directory::{Directory, Name, Special};
pub use mount_point::MountPoint;

/// How many links a path may lead through, as for the kernel (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// A refused operation on a path of a root filesystem.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", .path.display())]
pub struct RootfsError {
    /// What was to be done, for example `create the directory`.
    pub operation: &'static str,
    /// The path inside the root.
    pub path: PathBuf,
    /// The kernel's answer.
    pub source: io::Error,
}

impl RootfsError {
    pub(crate) fn new(operation: &'static str, path: &Path, error: impl Into<io::Error>) -> Self {
        Self {
            operation,
            path: path.to_path_buf(),
            source: error.into(),
        }
    }

    /// Whether the path, or a directory on its way, does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// The kernel's answer on its own.
    pub(crate) fn errno(&self) -> io::Error {
        io::Error::from_raw_os_error(self.source.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// The result of an operation on a root filesystem.
pub type Result<T, E = RootfsError> = std::result::Result<T, E>;

/// An open root filesystem.
#[derive(Debug)]
pub struct Rootfs {
    root: OwnedFd,
}

impl Rootfs {
    /// Opens the directory at a host path.
    ///
    /// # Errors
    /// When it is not a directory that can be opened.
    pub fn open(directory: &Path) -> Result<Self> {
        rustix::fs::openat(
            CWD,
            directory,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map(Self::from_fd)
        .map_err(|error| RootfsError::new("open the root", directory, error))
    }

    /// Takes an open directory, or a mount, as a root.
    #[must_use]
    pub fn from_fd(root: OwnedFd) -> Self {
        Self { root }
    }

    /// Opens a directory, following links, for many operations at once.
    ///
    /// # Errors
    /// When there is no directory at the path.
    pub fn directory(&self, path: &Path) -> Result<Directory> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY)
            .map(|fd| Directory::new(fd, path))
            .map_err(|error| RootfsError::new("open the directory", path, error))
    }

    /// Opens a file for reading, following links.
    ///
    /// # Errors
    /// When there is no file at the path, or it may not be read.
    pub fn open_file(&self, path: &Path) -> Result<File> {
        // Not to wait for the writer of a fifo.
        self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK)
            .map(File::from)
            .map_err(|error| RootfsError::new("open", path, error))
    }

    /// The metadata of what is at the path; of a link itself when it is one.
    ///
    /// # Errors
    /// When nothing is there.
    pub fn stat(&self, path: &Path) -> Result<Stat> {
        self.stat_with(path, OFlags::NOFOLLOW)
    }

    /// The metadata of what the path leads to.
    ///
    /// # Errors
    /// When nothing is there, a dangling link included.
    pub fn stat_following(&self, path: &Path) -> Result<Stat> {
        self.stat_with(path, OFlags::empty())
    }

    fn stat_with(&self, path: &Path, flags: OFlags) -> Result<Stat> {
        self.resolve(path, OFlags::PATH | flags)
            .and_then(|fd| rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH))
            .map_err(|error| RootfsError::new("look at", path, error))
    }

    /// Where a link points, as it is written.
    ///
    /// # Errors
    /// When there is no link at the path.
    pub fn read_link(&self, path: &Path) -> Result<PathBuf> {
        let (directory, name) = self.parent(path)?;
        directory.read_link(name)
    }

    /// The real place of a path inside the root: absolute, without links and dots.
    ///
    /// # Errors
    /// When nothing is there.
    pub fn canonicalize(&self, path: &Path) -> Result<PathBuf> {
        let steps = self.walk(path, |_, _| Err(Errno::NOENT));
        steps.map_err(|error| RootfsError::new("resolve", path, error))
    }

    /// Creates a directory and those missing on the way to it, all owned by the caller.
    /// Existing ones stay as they are; a link to a directory counts as one.
    ///
    /// # Errors
    /// When something else than a directory is in the way.
    pub fn create_directories(&self, path: &Path, mode: u32) -> Result<Directory> {
        self.walk(path, |directory, name| {
            match rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o700)) {
                // Another step of the walk, or another unpacker, was faster.
                Err(Errno::EXIST) => Ok(()),
                Err(error) => Err(error),
                // By chmod, as the umask must not have a say.
                Ok(()) => directory::chmod_at(directory, name, mode),
            }
        })
        .map_err(|error| RootfsError::new("create the directory", path, error))?;
        self.directory(path)
    }

    /// Creates an empty regular file for writing; whatever was there is removed first.
    ///
    /// # Errors
    /// When the parent directory is missing.
    pub fn create_file(&self, path: &Path, mode: u32) -> Result<File> {
        let (directory, name) = self.parent(path)?;
        directory.create_file(name, mode)
    }

    /// Creates a symbolic link; whatever was there is removed first. Its target is only text.
    ///
    /// # Errors
    /// When the parent directory is missing.
    pub fn symlink(&self, target: &Path, path: &Path) -> Result<()> {
        let (directory, name) = self.parent(path)?;
        directory.symlink(target, name)
    }

    /// Gives the file at `existing` (a link itself when it is one) a second name; whatever was
    /// there is removed first.
    ///
    /// # Errors
    /// When `existing` is missing or a directory, or the parent directory is missing.
    pub fn hard_link(&self, existing: &Path, path: &Path) -> Result<()> {
        let (from, from_name) = self.parent(existing)?;
        let (to, to_name) = self.parent(path)?;
        to.hard_link(&from, from_name, to_name)
    }

    /// Creates a device node or a fifo; whatever was there is removed first.
    ///
    /// # Errors
    /// When the parent directory is missing, or the kernel does not allow the device.
    pub fn create_special(&self, path: &Path, special: Special, mode: u32) -> Result<()> {
        let (directory, name) = self.parent(path)?;
        directory.create_special(name, special, mode)
    }

    /// Removes what is at the path, with everything below it; a link is removed, not followed.
    /// Nothing there is no error.
    ///
    /// # Errors
    /// When the path is the root, or something may not be removed.
    pub fn remove(&self, path: &Path) -> Result<()> {
        match self.parent(path) {
            Ok((directory, name)) => directory.remove(name),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sets the owner; of a link itself when it is one.
    ///
    /// # Errors
    /// When nothing is there, or the caller may not.
    pub fn chown(&self, path: &Path, uid: u32, gid: u32) -> Result<()> {
        self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW)
            .and_then(|fd| {
                let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                rustix::fs::chownat(fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
            })
            .map_err(|error| RootfsError::new("change the owner of", path, error))
    }

    /// Sets the permissions, 0 to 0o7777. Set them after the owner, whose change clears the
    /// set-id bits.
    ///
    /// # Errors
    /// When nothing is there, or it is a link, which has none.
    pub fn chmod(&self, path: &Path, mode: u32) -> Result<()> {
        self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW)
            .and_then(|fd| directory::chmod_opened(fd.as_fd(), mode))
            .map_err(|error| RootfsError::new("change the mode of", path, error))
    }

    /// Sets the modification time, and the access time with it; of a link itself.
    ///
    /// # Errors
    /// When nothing is there.
    pub fn set_modified(&self, path: &Path, modified: Timespec) -> Result<()> {
        let times = Timestamps {
            last_access: modified,
            last_modification: modified,
        };
        self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW)
            .and_then(|fd| rustix::fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH))
            .map_err(|error| RootfsError::new("set the time of", path, error))
    }

    /// Sets an extended attribute; of a link itself when it is one.
    ///
    /// # Errors
    /// When nothing is there, or the file system refuses the attribute.
    pub fn set_xattr(&self, path: &Path, name: &Name, value: &[u8]) -> Result<()> {
        let (directory, file) = self.parent(path)?;
        rustix::fs::lsetxattr(directory.proc_path(file), name, value, XattrFlags::empty())
            .map_err(|error| RootfsError::new("set an attribute of", path, error))
    }

    /// The directory that holds the path's last name, and that name.
    ///
    /// # Errors
    /// When that directory is missing, or the path has no last name (the root, `..`).
    pub fn parent<'a>(&self, path: &'a Path) -> Result<(Directory, &'a Name)> {
        let bytes = path.as_os_str().as_bytes();
        let name = match path.components().next_back() {
            // `file/.` and `file/..` normalise to a name in std, but mean a directory.
            Some(Component::Normal(name)) if !bytes.ends_with(b"/.") => name,
            _ => return Err(RootfsError::new("find a name in", path, Errno::INVAL)),
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        self.resolve(parent, OFlags::PATH | OFlags::DIRECTORY)
            .map(|fd| (Directory::new(fd, parent), name))
            .map_err(|error| RootfsError::new("open the directory of", path, error))
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        resolve_in(self.root.as_fd(), path, flags, ResolveFlags::empty())
    }

    /// Follows a path name by name, links included, and asks `missing` to create each name that
    /// is not there (the last one included). Returns the real path.
    fn walk(
        &self,
        path: &Path,
        mut missing: impl FnMut(BorrowedFd<'_>, &Name) -> Result<(), Errno>,
    ) -> Result<PathBuf, Errno> {
        let mut ahead: Vec<OsString> = names(path).rev().collect();
        let mut done = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                done.pop();
                continue;
            }
            let directory = resolve_in(
                self.root.as_fd(),
                &done,
                OFlags::PATH | OFlags::DIRECTORY,
                ResolveFlags::NO_SYMLINKS,
            )?;
            let stat = match rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {
                    missing(directory.as_fd(), &name)?;
                    rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)?
                }
                result => result?,
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                done.push(&name);
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::LOOP);
            }
            let target = rustix::fs::readlinkat(&directory, &name, Vec::new())?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                done = PathBuf::from("/");
            }
            ahead.extend(names(&target).rev());
        }
        Ok(done)
    }
}

/// The names of a path with its `..`, without slashes and single dots.
fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

fn resolve_in(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let bytes = path.as_os_str().as_bytes();
    let path: &[u8] = if bytes.is_empty() { b"." } else { bytes };
    let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // A rename elsewhere on the machine made the kernel unsure of a `..` (openat2(2)).
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// The path by which the calls without a descriptor variant reach an open file.
fn proc_fd(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests;
