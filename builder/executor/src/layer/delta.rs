//! What a layer says about each path.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Prefix of the name that hides an entry of a lower layer (OCI image specification, layer.md).
pub const WHITEOUT: &str = ".wh.";
/// Name that hides everything that lower layers have in the same directory.
pub const OPAQUE: &str = ".wh..wh..opq";

/// The extended attribute that holds the capabilities of a file (capabilities(7)).
pub const CAPABILITY_ATTR: &str = "security.capability";

/// A layer: for each path, relative to the root, what it becomes. Parents come before children.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The empty path is the root directory itself.
    pub items: BTreeMap<PathBuf, Item>,
}

/// What a path becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// This is there.
    Put(Node),
    /// Nothing is there, whatever lower layers have.
    Removed,
}

/// A file of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Owner, permissions and time. Not flattened: that makes reading a list three times as slow.
    pub meta: Meta,
    /// Extended attributes that belong in a layer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Of a directory: what lower layers have in it is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
    /// Where the bytes of a file are; unknown in an index of headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
}

/// What kind of file a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A symbolic link and where it points.
    Symlink(PathBuf),
    /// A further name of the file at this path, relative to the root.
    Hardlink(PathBuf),
    /// A named pipe.
    Fifo,
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// In this file of the machine.
    Host(PathBuf),
    /// Here.
    Inline(Vec<u8>),
}

/// Owner, permissions and time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Permission bits, setuid, setgid and sticky (0o7777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content, in seconds since 1970.
    pub mtime: i64,
}

impl Node {
    /// A directory of root's with mode 0755.
    #[must_use]
    pub fn directory(mtime: i64) -> Self {
        Self::new(
            Kind::Directory,
            Meta {
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime,
            },
        )
    }

    /// A node without extended attributes and content.
    #[must_use]
    pub fn new(kind: Kind, meta: Meta) -> Self {
        Self {
            kind,
            meta,
            xattrs: BTreeMap::new(),
            opaque: false,
            content: None,
        }
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Opens the content of a file; of anything else there is none.
    ///
    /// # Errors
    /// When the file cannot be opened, or the content is not known.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        match (&self.kind, &self.content) {
            (Kind::File(0), _) => Ok(Box::new(io::empty())),
            (Kind::File(_), Some(Content::Host(path))) => Ok(Box::new(File::open(path)?)),
            (Kind::File(_), Some(Content::Inline(bytes))) => {
                Ok(Box::new(io::Cursor::new(bytes.clone())))
            }
            (Kind::File(_), None) => Err(io::Error::other("only the header of this file is known")),
            _ => Ok(Box::new(io::empty())),
        }
    }
}

impl Delta {
    /// Whether the layer changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether the bytes of every file are known.
    #[must_use]
    pub fn has_all_bytes(&self) -> bool {
        self.items.values().all(|item| match item {
            Item::Put(node) => !matches!(node.kind, Kind::File(1..)) || node.content.is_some(),
            Item::Removed => true,
        })
    }

    /// What the layer says about a path, if anything.
    #[must_use]
    pub fn get(&self, path: &Path) -> Option<&Item> {
        self.items.get(path)
    }

    /// Puts a node in the place of what this layer had at the path.
    pub fn put(&mut self, path: PathBuf, mut node: Node) {
        match self.items.get(&path) {
            Some(Item::Put(old)) if old.is_dir() && node.is_dir() => node.opaque |= old.opaque,
            Some(Item::Put(old)) if old.is_dir() => self.remove_below(&path),
            // Nor does a directory in the place of something else show what that hid.
            Some(_) if node.is_dir() => node.opaque = true,
            _ => {}
        }
        self.items.insert(path, Item::Put(node));
    }

    /// The names that this layer has directly in a directory.
    pub fn names_in<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = &'a OsStr> + 'a {
        self.below(dir).filter_map(move |path| {
            let rest = path.strip_prefix(dir).ok()?;
            let mut parts = rest.components();
            match (parts.next(), parts.next()) {
                (Some(Component::Normal(name)), None) => Some(name),
                _ => None,
            }
        })
    }

    /// Whether the layer has something strictly below a path.
    #[must_use]
    pub fn has_below(&self, dir: &Path) -> bool {
        self.below(dir).next().is_some()
    }

    fn below<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = &'a Path> + 'a {
        self.items
            .range::<Path, _>((std::ops::Bound::Excluded(dir), std::ops::Bound::Unbounded))
            .map(|(path, _)| path.as_path())
            .take_while(move |path| path.starts_with(dir))
    }

    pub(super) fn remove_below(&mut self, dir: &Path) {
        let gone: Vec<PathBuf> = self.below(dir).map(Path::to_path_buf).collect();
        for path in gone {
            self.items.remove(&path);
        }
    }

    /// Shows further names of a file as files of their own: where layers are merged, the name that
    /// they refer to may go.
    pub fn resolve_hardlinks(&mut self) {
        let links: Vec<(PathBuf, PathBuf)> = self
            .items
            .iter()
            .filter_map(|(path, item)| match item {
                Item::Put(node) => match &node.kind {
                    Kind::Hardlink(target) => Some((path.clone(), target.clone())),
                    _ => None,
                },
                Item::Removed => None,
            })
            .collect();
        for (path, target) in links {
            if let Some(Item::Put(node)) = self.items.get(&target)
                && !matches!(node.kind, Kind::Hardlink(_))
            {
                let item = Item::Put(node.clone());
                self.items.insert(path, item);
            }
        }
    }
}

/// Whether a layer keeps an extended attribute: file capabilities and the user's own. Those of an
/// overlay, of SELinux and of IMA belong to the machine.
#[must_use]
pub fn is_portable_xattr(name: &str) -> bool {
    name == CAPABILITY_ATTR || (name.starts_with("user.") && !name.starts_with("user.overlay."))
}
