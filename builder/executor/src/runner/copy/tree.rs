//! The layer of a copy while it grows: names over an image, and the files that they are names of.
//!
//! A directory in which a name appears, goes or is replaced is changed now, as in any file system.
//! The directories above what changes are part of the layer, as they are.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::{CopyError, conflict};
use crate::layer::delta::{Delta, Item, Kind, Node};
use crate::layer::view::View;

/// What was put over an image so far.
pub(super) struct Tree<'a> {
    image: &'a View,
    now: i64,
    /// With each name the directories above it are here.
    names: BTreeMap<PathBuf, FileId>,
    files: Vec<Put>,
    /// What was taken away and is not yet replaced.
    gone: Option<PathBuf>,
}

/// A file of the layer.
struct Put {
    node: Node,
    /// It was made here: the image has nothing below it that shows.
    is_new: bool,
}

/// A file of the layer, whatever its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileId(usize);

impl<'a> Tree<'a> {
    /// Nothing over `image`; what is made or changed gets the time `now`.
    pub(super) fn new(image: &'a View, now: i64) -> Self {
        Self {
            image,
            now,
            names: BTreeMap::new(),
            files: Vec::new(),
            gone: None,
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.now
    }

    /// Where a path leads in the image, links followed.
    pub(super) fn resolve_in_image(&self, path: &Path) -> Result<PathBuf, CopyError> {
        self.image.resolve(path).map_err(CopyError::Read)
    }

    /// What is at a path (without links on the way).
    pub(super) fn existing(&self, path: &Path) -> Result<Option<Node>, CopyError> {
        if let Some(put) = self.put_at(path) {
            return Ok(Some(put.node.clone()));
        }
        if path.as_os_str().is_empty() {
            return Ok(Some(Node::directory(0)));
        }
        if self
            .gone
            .as_ref()
            .is_some_and(|gone| path.starts_with(gone))
        {
            return Ok(None);
        }
        // The nearest tells: what is below something new is new.
        let above = path
            .ancestors()
            .skip(1)
            .find_map(|above| self.put_at(above));
        if above.is_some_and(|above| above.is_new || !above.node.is_dir()) {
            return Ok(None);
        }
        // Behind a link of the image lies something else: the layer has a directory in its place.
        let found = self.image.at(path).map_err(CopyError::Read)?;
        Ok(found.map(|found| found.node))
    }

    fn put_at(&self, path: &Path) -> Option<&Put> {
        let id = self.names.get(path)?;
        self.files.get(id.0)
    }

    /// What the layer itself has at a path, to be changed.
    pub(super) fn get_mut(&mut self, path: &Path) -> Option<&mut Node> {
        let id = self.names.get(path)?;
        self.files.get_mut(id.0).map(|put| &mut put.node)
    }

    /// Puts a file or directory at a path, in the place of what is there.
    pub(super) fn put(&mut self, path: &Path, node: Node) -> Result<FileId, CopyError> {
        self.touch_parent(path)?;
        self.gone = None;
        let is_new = true;
        Ok(self.add(path, Put { node, is_new }))
    }

    /// Gives a directory of the layer other metadata.
    pub(super) fn set(&mut self, dir: &Path, node: Node) {
        if let Some(old) = self.get_mut(dir) {
            *old = Node {
                opaque: old.opaque || node.opaque,
                ..node
            };
        }
    }

    /// Gives a file of the layer a further name.
    pub(super) fn link(&mut self, path: &Path, id: FileId) -> Result<(), CopyError> {
        self.touch_parent(path)?;
        self.gone = None;
        self.names.insert(path.to_owned(), id);
        Ok(())
    }

    /// The file at a path, which becomes part of the layer where it is one of the image.
    pub(super) fn copied_up(&mut self, path: &Path) -> Result<Option<FileId>, CopyError> {
        if let Some(id) = self.names.get(path) {
            return Ok(Some(*id));
        }
        let Some(node) = self.existing(path)? else {
            return Ok(None);
        };
        if let Some(parent) = path.parent() {
            self.copy_up(parent)?;
        }
        // Nothing is hidden that the image shows.
        let opaque = false;
        let put = Put {
            node: Node { opaque, ..node },
            is_new: false,
        };
        Ok(Some(self.add(path, put)))
    }

    fn add(&mut self, path: &Path, put: Put) -> FileId {
        let id = FileId(self.files.len());
        self.files.push(put);
        self.names.insert(path.to_owned(), id);
        id
    }

    /// Names a directory of the image, and those above it, in the layer as they are. The root
    /// belongs to no layer.
    pub(super) fn copy_up(&mut self, dir: &Path) -> Result<(), CopyError> {
        if dir.as_os_str().is_empty() || self.names.contains_key(dir) {
            return Ok(());
        }
        let is_dir = self.existing(dir)?.is_some_and(|node| node.is_dir());
        if !is_dir {
            return Err(conflict("a directory", dir, "a file"));
        }
        self.copied_up(dir).map(drop)
    }

    /// Takes away what is at a path, and all that is below, for something else to be put there, which
    /// then hides what the image has below.
    pub(super) fn remove(&mut self, path: &Path) {
        let below: Vec<PathBuf> = self
            .names
            .range::<Path, _>((Bound::Included(path), Bound::Unbounded))
            .map(|(name, _)| name)
            .take_while(|name| name.starts_with(path))
            .cloned()
            .collect();
        for name in below {
            self.names.remove(&name);
        }
        self.gone = Some(path.to_owned());
    }

    pub(super) fn set_time(&mut self, dir: &Path, time: i64) -> Result<(), CopyError> {
        self.copy_up(dir)?;
        if let Some(node) = self.get_mut(dir) {
            node.meta.mtime = time;
        }
        Ok(())
    }

    fn touch_parent(&mut self, path: &Path) -> Result<(), CopyError> {
        match path.parent() {
            Some(parent) => self.set_time(parent, self.now),
            None => Ok(()),
        }
    }

    /// The layer. The first of a file's names, in their order, stands for it.
    pub(super) fn into_delta(self) -> Delta {
        let mut first: HashMap<FileId, PathBuf> = HashMap::new();
        let mut delta = Delta::default();
        for (path, id) in self.names {
            let Some(Put { node, .. }) = self.files.get(id.0) else {
                continue;
            };
            let node = match first.get(&id) {
                Some(first) => Node::new(Kind::Hardlink(first.clone()), node.meta),
                None => {
                    first.insert(id, path.clone());
                    node.clone()
                }
            };
            delta.items.insert(path, Item::Put(node));
        }
        delta
    }
}
