//! Reads the upper directory of an overlay as what it is: a list of changes.
//!
//! The forms are those of the kernel's `Documentation/filesystems/overlayfs.rst` with `userxattr`.
//! Metadata is as the caller sees it; [`crate::IdMap`] tells the owners inside where they differ.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// One changed path.
#[derive(Clone, Debug)]
pub struct Change {
    /// Relative to the root of the filesystem, without a leading slash.
    pub path: PathBuf,
    /// What there is now.
    pub kind: Kind,
    /// Its metadata, of a link itself; meaningless for a whiteout.
    pub stat: Stat,
    /// Its extended attributes by name, without those of the overlay itself, sorted. File
    /// capabilities are in the form without a namespace (`VFS_CAP_REVISION_2`).
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

/// What a path has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: what lower layers have there is gone.
    Whiteout,
    /// A directory.
    Directory {
        /// Whether what lower layers have in it is gone.
        opaque: bool,
    },
    /// A regular file, or the first name of one with several.
    File,
    /// A further name of a file (of any kind) that the list has already.
    HardLink {
        /// The first name, a path of an earlier change.
        first: PathBuf,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: PathBuf,
    },
    /// A named pipe.
    Fifo,
    /// A character device, by the numbers of `stat`.
    CharacterDevice,
    /// A block device, by the numbers of `stat`.
    BlockDevice,
    /// A socket, which no archive can hold.
    Socket,
}

/// Why an upper directory could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", .path.display())]
pub struct UpperError {
    /// What was to be done.
    pub operation: &'static str,
    /// The path below the upper directory.
    pub path: PathBuf,
    /// The kernel's answer.
    pub source: io::Error,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(Errno) -> UpperError {
    move |error| UpperError {
        operation,
        path: path.to_path_buf(),
        source: error.into(),
    }
}

/// All changes below `upper`, each directory before what is in it, entries in byte order. The
/// upper directory itself, the root, is not listed.
///
/// # Errors
/// When something in it cannot be read.
pub fn changes(upper: &Path) -> Result<Vec<Change>, UpperError> {
    let root = rustix::fs::openat(
        CWD,
        upper,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed("open", upper))?;
    let mut walk = Walk::default();
    walk.directory(root.as_fd(), Path::new(""))?;
    Ok(walk.changes)
}

#[derive(Default)]
struct Walk {
    changes: Vec<Change>,
    /// The first names of files that have several, by device and inode.
    first_names: HashMap<(u64, u64), PathBuf>,
}

impl Walk {
    fn directory(&mut self, directory: BorrowedFd<'_>, path: &Path) -> Result<(), UpperError> {
        let names = names_in(directory).map_err(failed("list the directory", path))?;
        for name in names {
            self.entry(directory, &name, path.join(&name))?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: PathBuf,
    ) -> Result<(), UpperError> {
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("look at", &path))?;
        // Before the test for hard links: whiteouts are links to one and the same inode.
        if is_whiteout(&stat) {
            self.changes.push(Change {
                path,
                kind: Kind::Whiteout,
                stat,
                xattrs: Vec::new(),
            });
            return Ok(());
        }
        let mut xattrs =
            read_xattrs(directory, name).map_err(failed("read the attributes of", &path))?;
        let opaque = xattrs
            .iter()
            .any(|(name, value)| name == "user.overlay.opaque" && value == b"y");
        xattrs.retain(|(name, _)| !is_overlays_own(name));
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let kind = match self.first_name(&stat, file_type, &path) {
            Some(first) => Kind::HardLink { first },
            None => kind_of(directory, name, file_type, opaque)
                .map_err(failed("read the link", &path))?,
        };
        self.changes.push(Change {
            path: path.clone(),
            kind,
            stat,
            xattrs,
        });
        if file_type == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = rustix::fs::openat(directory, name, flags, Mode::empty())
                .map_err(failed("open the directory", &path))?;
            self.directory(inner.as_fd(), &path)?;
        }
        Ok(())
    }

    /// The name under which the file is known already; remembers it when it has several.
    fn first_name(&mut self, stat: &Stat, kind: FileType, path: &Path) -> Option<PathBuf> {
        if kind == FileType::Directory || stat.st_nlink < 2 {
            return None;
        }
        let inode = (stat.st_dev, stat.st_ino);
        let first = self.first_names.get(&inode).cloned();
        if first.is_none() {
            self.first_names.insert(inode, path.to_path_buf());
        }
        first
    }
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// `origin`, `impure`, `uuid`, `opaque` and whatever later kernels add. A step that itself uses
/// an overlay has its attributes escaped by the kernel as `user.overlay.overlay.`.
fn is_overlays_own(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"user.overlay.")
}

fn kind_of(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    file_type: FileType,
    opaque: bool,
) -> Result<Kind, Errno> {
    Ok(match file_type {
        FileType::Directory => Kind::Directory { opaque },
        FileType::Symlink => Kind::Symlink {
            target: PathBuf::from(OsString::from_vec(
                rustix::fs::readlinkat(directory, name, Vec::new())?.into_bytes(),
            )),
        },
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::CharacterDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Socket => Kind::Socket,
        FileType::RegularFile | FileType::Unknown => Kind::File,
    })
}

fn names_in(directory: BorrowedFd<'_>) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort();
    Ok(names)
}

/// The kernel's limits for a list of names and for a value (xattr(7)): what fits always suffices.
const LARGEST_XATTR: usize = 64 << 10;

/// The extended attributes of an entry, of a link itself, sorted; file capabilities normalised.
fn read_xattrs(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Vec<(OsString, Vec<u8>)>, Errno> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    let length = match rustix::fs::llistxattr_query(&path) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        result => result?,
    };
    let mut list = Vec::with_capacity(length);
    rustix::fs::llistxattr(&path, spare_capacity(&mut list))?;
    let mut xattrs = Vec::new();
    for name in list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = Vec::with_capacity(LARGEST_XATTR);
        match rustix::fs::lgetxattr(&path, OsStr::from_bytes(name), spare_capacity(&mut value)) {
            Ok(_) => {}
            // The kernel lists names (trusted.*) that this process may not read.
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error),
        }
        if name == b"security.capability" {
            normalise_capability(&mut value);
        } else {
            value.shrink_to_fit();
        }
        xattrs.push((OsString::from_vec(name.to_vec()), value));
    }
    xattrs.sort();
    Ok(xattrs)
}

/// `VFS_CAP_REVISION_3` is revision 2 and the root of the user namespace at its end
/// (linux/capability.h). That root is ours alone; every other reader wants revision 2.
fn normalise_capability(value: &mut Vec<u8>) {
    const REVISION_2: u8 = 2;
    const REVISION_3: u8 = 3;
    const LENGTH_3: usize = 24;
    // Little-endian `magic_etc`: the revision is its top byte.
    if value.len() == LENGTH_3 && value[3] == REVISION_3 {
        value[3] = REVISION_2;
        value.truncate(LENGTH_3 - 4);
    }
    value.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_of_a_namespace_becomes_a_plain_one() {
        // cap_net_raw=ep set by the root 100000 of a user namespace, as getfattr prints it.
        let mut v3 = vec![
            1, 0, 0, 3, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0x86, 1, 0,
        ];
        // 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA=: the same as setcap(8) writes it for a plain root.
        let v2 = [
            1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        normalise_capability(&mut v3);
        assert_eq!(v3, v2);
        normalise_capability(&mut v3);
        assert_eq!(v3, v2);
    }

    #[test]
    fn hard_links_and_attributes_of_a_plain_directory() {
        let upper = tempfile::tempdir().expect("temporary directory");
        let path = |name: &str| upper.path().join(name);
        std::fs::write(path("b"), "x").expect("write");
        std::fs::hard_link(path("b"), path("a")).expect("link");
        std::os::unix::fs::symlink("a", path("link")).expect("symlink");
        std::fs::create_dir(path("dir")).expect("mkdir");
        std::fs::write(path("dir/inner"), "").expect("write");
        let set = |name: &str, value: &[u8]| {
            rustix::fs::setxattr(path("dir"), name, value, rustix::fs::XattrFlags::empty())
        };
        set("user.overlay.opaque", b"y").expect("setxattr");
        set("user.colour", b"red").expect("setxattr");
        let found: Vec<_> = changes(upper.path())
            .expect("changes")
            .into_iter()
            .map(|change| {
                (
                    change.path.display().to_string(),
                    change.kind,
                    change.xattrs,
                )
            })
            .collect();
        let none = Vec::new;
        assert_eq!(
            found,
            [
                ("a".to_owned(), Kind::File, none()),
                ("b".to_owned(), Kind::HardLink { first: "a".into() }, none()),
                (
                    "dir".to_owned(),
                    Kind::Directory { opaque: true },
                    vec![("user.colour".into(), b"red".to_vec())]
                ),
                ("dir/inner".to_owned(), Kind::File, none()),
                (
                    "link".to_owned(),
                    Kind::Symlink { target: "a".into() },
                    none()
                ),
            ]
        );
    }
}
