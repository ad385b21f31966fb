//! Writes nodes into a directory in overlay form. Whatever paths and links say, nothing outside
//! of the directory is touched: every path is opened by the kernel within it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use kiln_sandbox::Rootfs;
use kiln_sandbox::rootfs::{Directory, Special};
use rustix::fs::{AtFlags, Gid, Timespec, Timestamps, Uid};

use super::delta::{Delta, Item, Kind, Meta, Node};
use super::upper::{OPAQUE_ATTR, WHITEOUT_ATTR};

/// A directory that is being filled.
#[derive(Debug)]
pub struct LayerDir {
    root: Rootfs,
    /// The directory that was written to last; entries come in runs.
    current: Option<(PathBuf, Directory)>,
    /// Writing into a directory changes its time, so these are set at the end.
    times: Vec<(PathBuf, i64)>,
    form: Form,
}

/// What the directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An overlay's lower directory: what is removed is marked.
    Overlay,
    /// A root filesystem that changes are applied to: what is removed is removed.
    Applied,
}

impl LayerDir {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(dir: &Path, form: Form) -> io::Result<Self> {
        let root = Rootfs::open(dir).map_err(io::Error::other)?;
        Ok(Self {
            root,
            current: None,
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
        let dir = self.parent(path)?;
        match &node.kind {
            Kind::File(_) => {
                let file = dir.create_file(name, 0o600).map_err(plain)?;
                return self.fill(file, path, node, content);
            }
            Kind::Directory => {
                dir.create_directory(name, 0o700).map_err(plain)?;
            }
            Kind::Symlink(target) => dir.symlink(target, name).map_err(plain)?,
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
        let dir = self.parent(path)?;
        if dir.create_special(name, whiteout, 0).is_ok() {
            return Ok(());
        }
        // A store on an overlay, or without mknod: the form that needs only attributes.
        dir.create_file(name, 0).map_err(plain)?;
        self.set_xattr(path, WHITEOUT_ATTR, b"y")
    }

    /// Hides what lower layers have in a directory.
    ///
    /// # Errors
    /// When it cannot be marked.
    pub fn opaque(&mut self, path: &Path) -> io::Result<()> {
        match self.form {
            Form::Overlay => {
                self.root.create_directories(path, 0o755).map_err(plain)?;
                self.set_xattr(path, OPAQUE_ATTR, b"y")
            }
            Form::Applied => {
                let dir = self.root.directory(path).map_err(plain)?;
                for name in dir.names().map_err(plain)? {
                    dir.remove(&name).map_err(plain)?;
                }
                Ok(())
            }
        }
    }

    /// Sets the times of directories; nothing is written after that.
    ///
    /// # Errors
    /// When a time cannot be set.
    pub fn finish(self) -> io::Result<()> {
        for (path, mtime) in self.times.iter().rev() {
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
        owner(&root, node.meta.uid, node.meta.gid)?;
        self.root
            .chmod(Path::new("/"), node.meta.mode)
            .map_err(plain)?;
        self.times.push((PathBuf::from("/"), node.meta.mtime));
        Ok(())
    }

    fn fill(
        &self,
        mut file: File,
        path: &Path,
        node: &Node,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        io::copy(content, &mut file)?;
        let Meta {
            mode,
            uid,
            gid,
            mtime,
        } = node.meta;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        may_refuse(rustix::fs::fchown(&file, Some(uid), Some(gid)).map_err(io::Error::from))?;
        rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(mode))?;
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
        may_refuse(self.root.chown(path, uid, gid).map_err(plain))?;
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

    fn parent(&mut self, path: &Path) -> io::Result<&Directory> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let is_current = self
            .current
            .as_ref()
            .is_some_and(|(known, _)| known == parent);
        if !is_current {
            let dir = match self.root.directory(parent) {
                Ok(dir) => dir,
                Err(error) if error.is_not_found() => {
                    self.root.create_directories(parent, 0o755).map_err(plain)?
                }
                Err(error) => return Err(plain(error)),
            };
            self.current = Some((parent.to_owned(), dir));
        }
        match &self.current {
            Some((_, dir)) => Ok(dir),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// The kernel's answer with the operation and path in front.
fn plain(error: kiln_sandbox::rootfs::RootfsError) -> io::Error {
    match error.source.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error),
    }
}

fn owner(dir: &Directory, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let result = rustix::fs::chownat(dir, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
    may_refuse(result.map_err(io::Error::from))
}

/// Without root nothing can be given away; the owner in the layer's tar is not affected.
fn may_refuse(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied
                && !rustix::process::geteuid().is_root() =>
        {
            Ok(())
        }
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
