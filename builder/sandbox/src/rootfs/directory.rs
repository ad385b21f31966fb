//! One open directory of a root filesystem, and operations on single names in it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{Result, RootfsError, proc_fd};

/// A single name in a directory: no slash, not empty, not `.` or `..`.
pub type Name = OsStr;

/// A file that is neither regular, nor a directory, nor a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// A named pipe.
    Fifo,
    /// A character device.
    Character {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// An open directory. It stays the same directory when its path is renamed or replaced; whoever
/// keeps one while unpacking something untrusted has to open it again after such a change.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    /// For messages only.
    path: PathBuf,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Directory {
    pub(super) fn new(fd: OwnedFd, path: &Path) -> Self {
        Self {
            fd,
            path: path.to_path_buf(),
        }
    }

    /// The metadata of an entry; of a link itself when it is one.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn stat(&self, name: &Name) -> Result<Stat> {
        self.check(name)
            .and_then(|()| rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW))
            .map_err(self.failed("look at", name))
    }

    /// The names of all entries, sorted.
    ///
    /// # Errors
    /// When the directory may not be read.
    pub fn names(&self) -> Result<Vec<OsString>> {
        names_in(self.fd.as_fd())
            .map_err(|error| RootfsError::new("list the directory", &self.path, error))
    }

    /// Where a link points, as it is written.
    ///
    /// # Errors
    /// When it is not a link.
    pub fn read_link(&self, name: &Name) -> Result<PathBuf> {
        self.check(name)
            .and_then(|()| rustix::fs::readlinkat(&self.fd, name, Vec::new()))
            .map(|target| PathBuf::from(OsString::from_vec(target.into_bytes())))
            .map_err(self.failed("read the link", name))
    }

    /// Creates a directory, or leaves one as it is; anything else in its place is removed first.
    /// True when it is new.
    ///
    /// # Errors
    /// When the caller may not write here.
    pub fn create_directory(&self, name: &Name, mode: u32) -> Result<bool> {
        let create = || {
            self.check(name)?;
            let make = || rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o700));
            match make() {
                Err(Errno::EXIST) => {
                    let found = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                        return Ok(false);
                    }
                    rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?;
                    make()?;
                }
                result => result?,
            }
            chmod_at(self.fd.as_fd(), name, mode).map(|()| true)
        };
        create().map_err(self.failed("create the directory", name))
    }

    /// Creates an empty regular file for writing; whatever was there is removed first.
    ///
    /// # Errors
    /// When the caller may not write here.
    pub fn create_file(&self, name: &Name, mode: u32) -> Result<File> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode & 0o7777);
        let fd = self.replacing("create the file", name, || {
            let fd = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))?;
            rustix::fs::fchmod(&fd, mode).map(|()| fd)
        })?;
        Ok(File::from(fd))
    }

    /// Creates a symbolic link; whatever was there is removed first. Its target is only text.
    ///
    /// # Errors
    /// When the caller may not write here, or the target is empty.
    pub fn symlink(&self, target: &Path, name: &Name) -> Result<()> {
        self.replacing("create the link", name, || {
            rustix::fs::symlinkat(target, &self.fd, name)
        })
    }

    /// Gives a file of `from` (a link itself when it is one) a second name here; whatever was
    /// there is removed first, unless it is already the same file.
    ///
    /// # Errors
    /// When the file does not exist or is a directory.
    pub fn hard_link(&self, from: &Self, existing: &Name, name: &Name) -> Result<()> {
        let source = from.stat(existing)?;
        if let Ok(found) = self.stat(name)
            && (found.st_dev, found.st_ino) == (source.st_dev, source.st_ino)
        {
            return Ok(());
        }
        self.replacing("link", name, || {
            rustix::fs::linkat(&from.fd, existing, &self.fd, name, AtFlags::empty())
        })
    }

    /// Creates a device node or a fifo; whatever was there is removed first.
    ///
    /// # Errors
    /// When the kernel does not allow the device.
    pub fn create_special(&self, name: &Name, special: Special, mode: u32) -> Result<()> {
        let (kind, device) = match special {
            Special::Fifo => (FileType::Fifo, 0),
            Special::Character { major, minor } => {
                (FileType::CharacterDevice, rustix::fs::makedev(major, minor))
            }
            Special::Block { major, minor } => {
                (FileType::BlockDevice, rustix::fs::makedev(major, minor))
            }
        };
        self.replacing("create the special file", name, || {
            rustix::fs::mknodat(&self.fd, name, kind, Mode::from_raw_mode(0o600), device)?;
            chmod_at(self.fd.as_fd(), name, mode)
        })
    }

    /// Removes an entry with everything below it; a link is removed, not followed. Nothing there
    /// is no error.
    ///
    /// # Errors
    /// When something may not be removed.
    pub fn remove(&self, name: &Name) -> Result<()> {
        self.check(name)
            .and_then(|()| remove_at(self.fd.as_fd(), name))
            .map_err(self.failed("remove", name))
    }

    /// A path for calls that take no descriptor. Its last name is not followed by the `l` calls.
    pub(super) fn proc_path(&self, name: &Name) -> PathBuf {
        proc_fd(self.fd.as_fd()).join(name)
    }

    /// Creates something in the place of what is there.
    fn replacing<T>(
        &self,
        operation: &'static str,
        name: &Name,
        create: impl Fn() -> Result<T, Errno>,
    ) -> Result<T> {
        let attempt = || {
            self.check(name)?;
            match create() {
                Err(Errno::EXIST) => {
                    remove_at(self.fd.as_fd(), name)?;
                    create()
                }
                result => result,
            }
        };
        attempt().map_err(self.failed(operation, name))
    }

    /// A name with a slash would be a path, and be followed out of the directory.
    fn check(&self, name: &Name) -> Result<(), Errno> {
        let bytes = name.as_bytes();
        if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') {
            return Err(Errno::INVAL);
        }
        Ok(())
    }

    fn failed(&self, operation: &'static str, name: &Name) -> impl Fn(Errno) -> RootfsError {
        let path = self.path.join(name);
        move |error| RootfsError::new(operation, &path, error)
    }
}

/// Sets the mode of an entry that is not a link; fchmodat(2) would follow one.
pub(super) fn chmod_at(directory: BorrowedFd<'_>, name: &Name, mode: u32) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    chmod_opened(fd.as_fd(), mode)
}

/// Sets the mode of what was opened with `O_PATH`, which fchmod(2) refuses.
pub(super) fn chmod_opened(fd: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(fd)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Err(Errno::OPNOTSUPP);
    }
    rustix::fs::chmod(proc_fd(fd), Mode::from_raw_mode(mode & 0o7777))
}

fn names_in(directory: BorrowedFd<'_>) -> Result<Vec<OsString>, Errno> {
    // The directory may be held by a descriptor that only names it (O_PATH).
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(readable)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort();
    Ok(names)
}

/// Removes an entry of any kind. Deep trees need a descriptor per level, but no stack of ours
/// grows with the number of entries.
fn remove_at(directory: BorrowedFd<'_>, name: &Name) -> Result<(), Errno> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // EISDIR by Linux, EPERM by POSIX.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let inner = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        // An overlay leaves a work directory of mode 000, and not every root may pass over modes.
        Err(Errno::ACCESS) => {
            chmod_at(directory, name, 0o700)?;
            rustix::fs::openat(directory, name, flags, Mode::empty())?
        }
        result => result?,
    };
    for entry in names_in(inner.as_fd())? {
        remove_at(inner.as_fd(), &entry)?;
    }
    match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}
