//! Reads a directory in overlay form (an upper directory, or an unpacked layer) as a [`Delta`].
//!
//! Two forms of a whiteout exist (kernel documentation, overlayfs.rst): a character device 0:0,
//! and an empty file with the attribute `user.overlay.whiteout`, which needs no mknod. Overlay
//! hard-links its whiteout devices to each other, so a whiteout is tested for before a hard link.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{lgetxattr, llistxattr, major, minor};
use rustix::io::Errno;

use super::delta::{CAPABILITY_ATTR, Content, Delta, Item, Kind, Meta, Node, is_portable_xattr};

/// `y` on a directory: what lower layers have in it is gone.
pub(super) const OPAQUE_ATTR: &str = "user.overlay.opaque";
/// On an empty file: it is a whiteout.
pub(super) const WHITEOUT_ATTR: &str = "user.overlay.whiteout";

/// Everything in `dir` as a layer; files keep their bytes where they are.
///
/// # Errors
/// When something cannot be read.
pub fn read(dir: &Path) -> io::Result<Delta> {
    let mut walk = Walk {
        delta: Delta::default(),
        links: HashMap::new(),
    };
    walk.dir(dir, Path::new(""))?;
    Ok(walk.delta)
}

struct Walk {
    delta: Delta,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Walk {
    fn dir(&mut self, host: &Path, path: &Path) -> io::Result<()> {
        let mut names: Vec<_> = fs::read_dir(host)?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<_>>()?;
        names.sort();
        for name in names {
            let (host, path) = (host.join(&name), path.join(&name));
            let item = self.item(&host, &path)?;
            let Some(item) = item else { continue };
            let descend = matches!(&item, Item::Put(node) if node.is_dir());
            self.delta.items.insert(path.clone(), item);
            if descend {
                self.dir(&host, &path)?;
            }
        }
        Ok(())
    }

    fn item(&mut self, host: &Path, path: &Path) -> io::Result<Option<Item>> {
        let stat = fs::symlink_metadata(host)?;
        if is_whiteout(host, &stat)? {
            return Ok(Some(Item::Removed));
        }
        let Some(mut node) = node(host, &stat)? else {
            return Ok(None);
        };
        if !node.is_dir() && stat.nlink() > 1 {
            let first = self.links.entry((stat.dev(), stat.ino()));
            let first = first.or_insert_with(|| path.to_owned());
            if first != path {
                node.kind = Kind::Hardlink(first.clone());
                node.content = None;
            }
        }
        Ok(Some(Item::Put(node)))
    }
}

/// The file at `host` as a node; `None` for a socket, which no layer can hold.
///
/// # Errors
/// When something cannot be read.
pub fn node(host: &Path, stat: &Metadata) -> io::Result<Option<Node>> {
    let kind = stat.file_type();
    let device = (major(stat.rdev()), minor(stat.rdev()));
    let kind = if kind.is_file() {
        Kind::File(stat.len())
    } else if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::Symlink(fs::read_link(host)?)
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if kind.is_char_device() {
        Kind::CharDevice(device.0, device.1)
    } else if kind.is_block_device() {
        Kind::BlockDevice(device.0, device.1)
    } else {
        return Ok(None);
    };
    let meta = Meta {
        mode: stat.mode() & 0o7777,
        uid: stat.uid(),
        gid: stat.gid(),
        mtime: stat.mtime(),
    };
    let mut node = Node::new(kind, meta);
    node.opaque = node.is_dir() && is_opaque(host)?;
    node.xattrs = xattrs(host)?;
    if matches!(node.kind, Kind::File(_)) {
        node.content = Some(Content::Host(host.to_owned()));
    }
    Ok(Some(node))
}

/// Whether a file says that nothing is there.
///
/// # Errors
/// When its attributes cannot be read.
pub fn is_whiteout(host: &Path, stat: &Metadata) -> io::Result<bool> {
    let kind = stat.file_type();
    if kind.is_char_device() {
        return Ok(stat.rdev() == 0);
    }
    Ok(kind.is_file() && stat.len() == 0 && attribute(host, WHITEOUT_ATTR)?.is_some())
}

/// Whether a directory hides what lower layers have in it.
///
/// # Errors
/// When its attributes cannot be read.
pub fn is_opaque(host: &Path) -> io::Result<bool> {
    Ok(attribute(host, OPAQUE_ATTR)?.is_some_and(|value| value == b"y"))
}

fn attribute(host: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; 256];
    loop {
        match lgetxattr(host, name, &mut value) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            Err(Errno::RANGE) => value.resize(64 << 10, 0), // XATTR_SIZE_MAX
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn xattrs(host: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut names = vec![0; 1024];
    let length = loop {
        match llistxattr(host, &mut names) {
            Ok(length) => break length,
            Err(Errno::NOTSUP) => return Ok(found),
            Err(Errno::RANGE) if names.len() == 1024 => names.resize(64 << 10, 0), // XATTR_LIST_MAX
            Err(errno) => return Err(errno.into()),
        }
    };
    for name in names[..length].split(|byte| *byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        if is_portable_xattr(name)
            && let Some(mut value) = attribute(host, name)?
        {
            if name == CAPABILITY_ATTR {
                normalise_capability(&mut value);
            }
            found.insert(name.to_owned(), value);
        }
    }
    Ok(found)
}

/// A file capability set inside a user namespace is stored as version 3, with the namespace's
/// root behind it; an image holds version 2, which is the same without that root
/// (capabilities(7), "File capability extended attribute versioning").
fn normalise_capability(value: &mut Vec<u8>) {
    const V3_LENGTH: usize = 24;
    const V2_LENGTH: usize = 20;
    if value.len() == V3_LENGTH && value[3] == 3 {
        value[3] = 2;
        value.truncate(V2_LENGTH);
    }
}
