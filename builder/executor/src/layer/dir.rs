//! Writes nodes into a directory in overlay form. Whatever paths and links say, nothing outside
//! of the directory is touched: every path is opened by the kernel within it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use kiln_sandbox::Rootfs;
use kiln_sandbox::rootfs::{Directory, Special};
use kiln_sandbox::users::Owners;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};

use super::delta::{Delta, Item, Kind, Meta, Node};
use super::upper::{OPAQUE_ATTR, WHITEOUT_ATTR};

/// Bits that creating a file does not set, or that a change of owner clears.
const SPECIAL_BITS: u32 = 0o7000;
/// On a directory: new files get its group.
const SET_GROUP: u32 = 0o2000;
/// Bytes that are written at once.
const BUFFER: usize = 1 << 18;

/// A directory that is being filled. Most files need three calls: they are created with the right
/// mode and owner, and get their time.
#[derive(Debug)]
pub struct LayerDir {
    root: Rootfs,
    /// The directory that was written to last; entries come in runs.
    current: Option<Current>,
    /// Who new files belong to by themselves.
    myself: (u32, u32),
    /// Bits that new files do not get by themselves.
    umask: u32,
    /// Between a source and a file.
    buffer: Vec<u8>,
    /// Writing into a directory changes its time, so these are set at the end.
    times: Vec<(PathBuf, i64)>,
    form: Form,
}

/// The directory that is being written to.
#[derive(Debug)]
struct Current {
    path: PathBuf,
    dir: Directory,
    /// New files get its group.
    gives_group: bool,
}

/// What the directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An overlay's lower directory: what is removed is marked.
    Overlay,
    /// A root filesystem that changes are applied to: what is removed is removed. What an archive
    /// other than a layer is unpacked into.
    Applied,
}

impl LayerDir {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(dir: &Path, form: Form) -> io::Result<Self> {
        let root = Rootfs::open(dir).map_err(io::Error::other)?;
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Ok(Self {
            root,
            current: None,
            myself: (uid.as_raw(), gid.as_raw()),
            umask: umask(),
            buffer: vec![0; BUFFER],
            times: Vec::new(),
            form,
        })
    }

    /// Writes a whole layer whose contents are known.
    ///
    /// # Errors
    /// When something cannot be read or written.
    pub fn write(&mut self, delta: &Delta) -> io::Result<()> {
        for (path, item) in &delta.items {
            let result = match item {
                Item::Put(node) => node
                    .open()
                    .and_then(|mut bytes| self.put(path, node, &mut bytes)),
                Item::Removed => self.remove(path),
            };
            result.map_err(|error| {
                io::Error::new(error.kind(), format!("/{}: {error}", path.display()))
            })?;
        }
        Ok(())
    }

    /// Writes one file in the place of what is there; directories are merged.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&mut self, path: &Path, node: &Node, content: &mut dyn Read) -> io::Result<()> {
        let Some(name) = path.file_name() else {
            return self.put_root(node);
        };
        if let Kind::Hardlink(existing) = &node.kind {
            self.parent(path)?;
            return self.root.hard_link(existing, path).map_err(plain);
        }
        let was_removed = node.is_dir() && self.is_whiteout(path);
        let opaque = node.opaque || was_removed;
        if node.is_dir() && opaque && self.form == Form::Applied {
            self.root.remove(path).map_err(plain)?;
        }
        let (myself, umask) = (self.myself, self.umask);
        let current = self.parent(path)?;
        let dir = &current.dir;
        let owner = (node.meta.uid, node.meta.gid);
        // What the kernel gives to new files is what is wanted.
        let is_owner = owner == myself && !current.gives_group;
        let is_mode = node.meta.mode & (umask | SPECIAL_BITS) == 0;
        match &node.kind {
            Kind::File(_) => {
                let (file, is_exact) =
                    create(dir, name, if is_mode { node.meta.mode } else { 0o600 })?;
                let settled = Settled {
                    owner: is_owner && is_exact,
                    mode: is_mode && is_exact,
                };
                return self.fill(file, settled, (path, node), content);
            }
            Kind::Directory => {
                if is_owner && is_mode && node.xattrs.is_empty() && !opaque {
                    let mode = Mode::from_raw_mode(node.meta.mode);
                    if rustix::fs::mkdirat(dir, name, mode).is_ok() {
                        self.times.push((path.to_owned(), node.meta.mtime));
                        return Ok(());
                    }
                }
                dir.create_directory(name, 0o700).map_err(plain)?;
            }
            Kind::Symlink(target) => {
                dir.symlink(target, name).map_err(plain)?;
                if is_owner && node.xattrs.is_empty() {
                    let times = times(node.meta.mtime);
                    rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
                    return Ok(());
                }
            }
            Kind::Fifo => dir
                .create_special(name, Special::Fifo, 0o600)
                .map_err(plain)?,
            Kind::CharDevice(major, minor) => {
                let special = Special::Character {
                    major: *major,
                    minor: *minor,
                };
                if !device(dir.create_special(name, special, 0o600).map_err(plain))? {
                    return Ok(());
                }
            }
            Kind::BlockDevice(major, minor) => {
                let special = Special::Block {
                    major: *major,
                    minor: *minor,
                };
                if !device(dir.create_special(name, special, 0o600).map_err(plain))? {
                    return Ok(());
                }
            }
            Kind::Hardlink(_) => {} // above
        }
        self.finish_node(path, node)?;
        if node.is_dir() && opaque && self.form == Form::Overlay {
            self.set_xattr(path, OPAQUE_ATTR, b"y")?;
        }
        Ok(())
    }

    /// Marks a path as gone. What this layer itself has there stays.
    ///
    /// # Errors
    /// When it cannot be marked.
    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        if self.form == Form::Applied {
            return self.root.remove(path).map_err(plain);
        }
        if let Ok(stat) = self.root.stat(path) {
            let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode)
                == rustix::fs::FileType::Directory;
            return if is_dir {
                self.set_xattr(path, OPAQUE_ATTR, b"y")
            } else {
                Ok(())
            };
        }
        let Some(name) = path.file_name() else {
            return Ok(());
        };
        let whiteout = Special::Character { major: 0, minor: 0 };
        let dir = &self.parent(path)?.dir;
        if dir.create_special(name, whiteout, 0).is_ok() {
            return Ok(());
        }
        // A store on an overlay, or without mknod: the form that needs only attributes.
        dir.create_file(name, 0).map_err(plain)?;
        self.set_xattr(path, WHITEOUT_ATTR, b"y")
    }

    /// Hides what lower layers have in a directory of an overlay.
    ///
    /// # Errors
    /// When it cannot be marked.
    pub fn opaque(&mut self, path: &Path) -> io::Result<()> {
        self.root.create_directories(path, 0o755).map_err(plain)?;
        self.set_xattr(path, OPAQUE_ATTR, b"y")
    }

    /// Sets the times of directories; nothing is written after that.
    ///
    /// # Errors
    /// When a time cannot be set.
    pub fn finish(self) -> io::Result<()> {
        for (path, mtime) in &self.times {
            match self.root.set_modified(
                path,
                Timespec {
                    tv_sec: *mtime,
                    tv_nsec: 0,
                },
            ) {
                Err(error) if !error.is_not_found() => return Err(plain(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn put_root(&mut self, node: &Node) -> io::Result<()> {
        let root = self.root.directory(Path::new("/")).map_err(plain)?;
        owner(&root, node.meta)?;
        self.root
            .chmod(Path::new("/"), node.meta.mode)
            .map_err(plain)?;
        self.times.push((PathBuf::from("/"), node.meta.mtime));
        Ok(())
    }

    fn fill(
        &mut self,
        mut file: File,
        settled: Settled,
        (path, node): (&Path, &Node),
        content: &mut dyn Read,
    ) -> io::Result<()> {
        loop {
            match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => file.write_all(&self.buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let Meta {
            mode,
            uid,
            gid,
            mtime,
        } = node.meta;
        if !settled.owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            let given = rustix::fs::fchown(&file, Some(uid), Some(gid));
            given_away(given.map_err(io::Error::from), node.meta)?;
        }
        if !settled.mode {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        }
        for (name, value) in &node.xattrs {
            self.set_xattr(path, name, value)?;
        }
        rustix::fs::futimens(&file, &times(mtime))?;
        Ok(())
    }

    /// Owner, mode, attributes and time of anything but a file.
    fn finish_node(&mut self, path: &Path, node: &Node) -> io::Result<()> {
        let Meta {
            mode,
            uid,
            gid,
            mtime,
        } = node.meta;
        given_away(self.root.chown(path, uid, gid).map_err(plain), node.meta)?;
        if !matches!(node.kind, Kind::Symlink(_)) {
            self.root.chmod(path, mode).map_err(plain)?;
        }
        for (name, value) in &node.xattrs {
            self.set_xattr(path, name, value)?;
        }
        if node.is_dir() {
            self.times.push((path.to_owned(), mtime));
            Ok(())
        } else {
            let timespec = Timespec {
                tv_sec: mtime,
                tv_nsec: 0,
            };
            self.root.set_modified(path, timespec).map_err(plain)
        }
    }

    fn set_xattr(&self, path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
        match self
            .root
            .set_xattr(path, name.as_ref(), value)
            .map_err(plain)
        {
            // A file system may have no room for the user's own attributes; overlay needs its.
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::NOTSUP.raw_os_error())
                    && !name.starts_with("user.overlay.") =>
            {
                Ok(())
            }
            // Those of the system only root can give.
            result if !name.starts_with("user.") => may_refuse(result),
            result => result,
        }
    }

    fn is_whiteout(&self, path: &Path) -> bool {
        self.form == Form::Overlay
            && self.root.stat(path).is_ok_and(|stat| {
                let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
                kind == rustix::fs::FileType::CharacterDevice && stat.st_rdev == 0
            })
    }

    fn parent(&mut self, path: &Path) -> io::Result<&Current> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let is_current = self
            .current
            .as_ref()
            .is_some_and(|current| current.path.as_os_str() == parent.as_os_str());
        if !is_current {
            let dir = match self.root.directory(parent) {
                Ok(dir) => dir,
                Err(error) if error.is_not_found() => {
                    self.root.create_directories(parent, 0o755).map_err(plain)?
                }
                Err(error) => return Err(plain(error)),
            };
            let stat = rustix::fs::statat(&dir, "", AtFlags::EMPTY_PATH)?;
            self.current = Some(Current {
                path: parent.to_owned(),
                dir,
                gives_group: stat.st_mode & SET_GROUP != 0,
            });
        }
        match &self.current {
            Some(current) => Ok(current),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// What a new file has already.
#[derive(Debug, Clone, Copy)]
struct Settled {
    owner: bool,
    mode: bool,
}

/// Creates a file; true when it is new and has this mode, but for the umask.
fn create(dir: &Directory, name: &OsStr, mode: u32) -> io::Result<(File, bool)> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode)) {
        Ok(file) => Ok((File::from(file), true)),
        // Something is there, which has to go.
        Err(_) => dir
            .create_file(name, 0o600)
            .map(|file| (file, false))
            .map_err(plain),
    }
}

/// The file mode creation mask of this process; everything when it cannot be known, so that all
/// modes are set.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok())
        .unwrap_or(0o777)
}

/// The kernel's answer with the operation and path in front.
fn plain(error: kiln_sandbox::rootfs::RootfsError) -> io::Error {
    match error.source.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error),
    }
}

fn owner(dir: &Directory, meta: Meta) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
    let result = rustix::fs::chownat(dir, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
    given_away(result.map_err(io::Error::from), meta)
}

/// What came of giving something to its owner.
fn given_away(result: io::Result<()>, meta: Meta) -> io::Result<()> {
    may_refuse(result).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => io::Error::other(format!(
            "its owner {}:{} is none of the ids of this user namespace (/proc/self/uid_map, \
             /proc/self/gid_map): it takes a pod or a user with more of them, or a pod with the \
             node's users (`hostUsers: true`)",
            meta.uid, meta.gid
        )),
        _ => error,
    })
}

/// Where there is one user nothing can be given away; the owner in the layer's tar is not
/// affected.
fn may_refuse(result: io::Result<()>) -> io::Result<()> {
    // The second is what a user namespace answers to an id that it does not have.
    let refusals = [io::ErrorKind::PermissionDenied, io::ErrorKind::InvalidInput];
    match result {
        Err(error) if refusals.contains(&error.kind()) && !Owners::present().are_many() => Ok(()),
        result => result,
    }
}

/// Whether a device node was made. Where the kernel does not allow it, RUN sees the usual ones in
/// its own `/dev` anyway, and the base's layer is passed on as it is.
fn device(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(error) => Err(error),
    }
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
