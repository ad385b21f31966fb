//! Collects the layer of a copy: what BuildKit's copier does to a mounted snapshot, done to a list.
//!
//! Its rules for metadata: a directory that has to be made gets mode 755 (an octal `--chmod`, if
//! there is one) and the owner of `--chown`, else root, or below a set-group-id directory that bit
//! and the group; the directory that a directory is copied
//! onto takes over its time and nothing else; directories below take over everything. A directory
//! in which a name appears or is replaced is changed now, as in any file system.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kiln_dockerfile::ignore::Patterns;

use super::mode::ModeChange;
use super::tree::{FileId, Tree};
use super::{CopyError, Given, Owner, Place, SET_GROUP, conflict, select, unpack};
use crate::layer::delta::{Kind, Node};
use crate::layer::view::{Found, View};

/// Collects the layer.
pub(super) struct Writer<'a> {
    pub(super) tree: Tree<'a>,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<ModeChange>,
    pub(super) exclude: Patterns,
    /// Files with several names, by device and inode, and what they became. Of one source: two
    /// sources never share a file.
    links: HashMap<(u64, u64), FileId>,
    /// The directories that `--parents` made, which have the mode that was asked for.
    made: HashSet<PathBuf>,
}

/// What becomes of a directory's own metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It is what the source names: only its time counts.
    Top,
    /// It lies below.
    Inside,
    /// It is left out itself and appears because of something in it.
    Late,
}

impl<'a> Writer<'a> {
    pub(super) fn new(image: &'a View, now: i64) -> Self {
        Self {
            tree: Tree::new(image, now),
            owner: None,
            mode: None,
            exclude: Patterns::default(),
            links: HashMap::new(),
            made: HashSet::new(),
        }
    }

    /// Copies one source to the destination as it was written.
    pub(super) fn source(
        &mut self,
        place: Place<'_>,
        source: &select::Selected,
        dest: &str,
    ) -> Result<(), CopyError> {
        self.links.clear();
        let dest = self.destination(dest)?;
        if let Some(parents) = &source.parents {
            return self.with_parents(place, source, (parents, &dest));
        }
        if source.found.node.is_dir() {
            if self.existing(&dest)?.is_none() {
                self.make_directories(&dest)?;
            }
            return self.directory(place, &source.found, (&dest, Role::Top), Path::new(""));
        }
        let target = self.place_of_file(dest, source.found_name())?;
        self.file(&target, &source.found, place.owner)
    }

    /// Puts a file, a tree, or what is in an archive at the destination.
    pub(super) fn given(
        &mut self,
        given: &Given,
        place: Place<'_>,
        dest: &str,
    ) -> Result<(), CopyError> {
        match given {
            Given::File { name, node } => {
                let dest = self.destination(dest)?;
                let target = self.place_of_file(dest, name.as_ref())?;
                let node = self.owned(node.clone(), Owner::Root);
                self.put(&target, node).map(drop)
            }
            Given::Tree { view, owner } => {
                let inside = Place {
                    view,
                    ignore_file: None,
                    name: place.name,
                    owner: *owner,
                };
                let dest = self.directory_at(dest)?;
                self.children(inside, &view.root(), &dest, Path::new(""))
            }
            Given::Archive { name, entries } => {
                self.archive(entries, dest)
                    .map_err(|source| CopyError::Archive {
                        name: name.clone(),
                        source: Box::new(source),
                    })
            }
        }
    }

    /// Unpacks an archive as it is, into a directory as it is made without flags.
    fn archive(&mut self, entries: &[(PathBuf, Node)], dest: &str) -> Result<(), CopyError> {
        let mode = self.mode.take();
        let dest = self.directory_at(dest);
        self.mode = mode;
        unpack::unpack(&mut self.tree, &dest?, entries, self.owner)
    }

    /// Whether a destination as it was written is a file, or a link to none.
    pub(super) fn is_file(&self, dest: &str) -> Result<bool, CopyError> {
        let path = self.tree.resolve_in_image(Path::new(dest))?;
        Ok(self.existing(&path)?.is_some_and(|node| !node.is_dir()))
    }

    /// The destination, a directory.
    pub(super) fn directory_at(&mut self, dest: &str) -> Result<PathBuf, CopyError> {
        let dest = self.destination(dest)?;
        self.make_directories(&dest)?;
        Ok(dest)
    }

    /// Gives a directory a time; without one it is changed now.
    pub(super) fn set_time(&mut self, dir: &Path, time: Option<i64>) -> Result<(), CopyError> {
        self.tree.set_time(dir, time.unwrap_or(self.tree.now()))
    }

    /// The destination with links resolved; what is above it (and it, where a slash follows) is
    /// made.
    fn destination(&mut self, dest: &str) -> Result<PathBuf, CopyError> {
        let path = self.tree.resolve_in_image(Path::new(dest))?;
        if dest.ends_with('/') {
            self.make_directories(&path)?;
        } else if let Some(parent) = path.parent() {
            self.make_directories(parent)?;
        }
        Ok(path)
    }

    /// A file goes into a directory that is there, else in the place of what is there.
    fn place_of_file(&mut self, dest: PathBuf, name: &OsStr) -> Result<PathBuf, CopyError> {
        let is_dir = self.existing(&dest)?.is_some_and(|node| node.is_dir());
        Ok(if is_dir { dest.join(name) } else { dest })
    }

    /// `--parents`: the directories above the source are made as they are there.
    fn with_parents(
        &mut self,
        place: Place<'_>,
        source: &select::Selected,
        (parents, dest): (&select::Parents, &Path),
    ) -> Result<(), CopyError> {
        self.make_directories(dest)?;
        self.below_parents(place, source, (parents, dest))?;
        self.set_time(dest, parents.top.as_ref().map(|top| top.meta.mtime))
    }

    fn below_parents(
        &mut self,
        place: Place<'_>,
        source: &select::Selected,
        (parents, dest): (&select::Parents, &Path),
    ) -> Result<(), CopyError> {
        let name = source.found_name();
        let above: PathBuf = parents.dirs.iter().map(|(name, _)| name).collect();
        let (target, relative) = (dest.join(&above).join(name), above.join(name));
        let is_dir = source.found.node.is_dir();
        let is_excluded = self.exclude.ignored(&relative.to_string_lossy());
        if is_excluded
            && !(is_dir && select::has_wanted(place, &source.found, &relative, &self.exclude)?)
        {
            return match source.is_match {
                true => Ok(()),
                false => Err(CopyError::Excluded(source.path.display().to_string())),
            };
        }
        let mut path = dest.to_owned();
        for (name, node) in &parents.dirs {
            path.push(name);
            match self.existing(&path)? {
                Some(existing) if existing.is_dir() => self.set_mode(&path, node.meta.mode)?,
                Some(_) => return Err(conflict("a directory", &path, "a file")),
                None => {
                    self.put(&path, self.owned(node.clone(), place.owner))?;
                    self.made.insert(path.clone());
                }
            }
        }
        if is_dir {
            let role = if is_excluded {
                Role::Late
            } else {
                Role::Inside
            };
            return self.directory(place, &source.found, (&target, role), &relative);
        }
        self.file(&target, &source.found, place.owner)
    }

    /// Copies a directory to `target`; `relative` is the way from the source's top.
    fn directory(
        &mut self,
        place: Place<'_>,
        dir: &Found,
        (target, role): (&Path, Role),
        relative: &Path,
    ) -> Result<(), CopyError> {
        let node = Node {
            opaque: false,
            ..dir.node.clone()
        };
        let made = match self.existing(target)? {
            Some(existing) if !existing.is_dir() => {
                return Err(conflict("a directory", target, "a file"));
            }
            Some(_) => false,
            None => {
                let node = self.owned(node.clone(), place.owner);
                self.put(target, node)?;
                true
            }
        };
        self.children(place, dir, target, relative)?;
        match role {
            Role::Top => {
                // The time of a context's or stage's root is nobody's business.
                let is_root = dir.path.as_os_str().is_empty();
                let time = if is_root {
                    self.tree.now()
                } else {
                    node.meta.mtime
                };
                self.tree.set_time(target, time)
            }
            Role::Inside => {
                self.tree.copy_up(target)?;
                let node = self.owned(node, place.owner);
                self.tree.set(target, node);
                Ok(())
            }
            Role::Late if made => self.tree.set_time(target, self.tree.now()),
            Role::Late => Ok(()),
        }
    }

    fn children(
        &mut self,
        place: Place<'_>,
        dir: &Found,
        target: &Path,
        relative: &Path,
    ) -> Result<(), CopyError> {
        for name in place.view.names(dir).map_err(CopyError::Read)? {
            let Some(child) = place.view.child(dir, &name).map_err(CopyError::Read)? else {
                continue;
            };
            let relative = relative.join(&name);
            if !select::wanted(&child, &relative, &self.exclude) {
                continue;
            }
            let target = target.join(&name);
            if !child.node.is_dir() {
                self.file(&target, &child, place.owner)?;
                continue;
            }
            let is_excluded = self.exclude.ignored(&relative.to_string_lossy());
            if is_excluded && !select::has_wanted(place, &child, &relative, &self.exclude)? {
                continue;
            }
            let role = if is_excluded {
                Role::Late
            } else {
                Role::Inside
            };
            self.directory(place, &child, (&target, role), &relative)?;
        }
        Ok(())
    }

    fn file(&mut self, target: &Path, found: &Found, owner: Owner) -> Result<(), CopyError> {
        let key = shared(found);
        if let Some(first) = key.and_then(|key| self.links.get(&key)).copied() {
            self.may_replace(target)?;
            return self.tree.link(target, first);
        }
        let id = self.put(target, self.owned(found.node.clone(), owner))?;
        if let Some(key) = key {
            self.links.insert(key, id);
        }
        Ok(())
    }

    /// The node with the owner and mode that were asked for.
    pub(super) fn owned(&self, mut node: Node, owner: Owner) -> Node {
        match (self.owner, owner) {
            (Some((uid, gid)), _) => (node.meta.uid, node.meta.gid) = (uid, gid),
            (None, Owner::Root) => (node.meta.uid, node.meta.gid) = (0, 0),
            (None, Owner::Kept) => {}
        }
        if let Some(mode) = &self.mode
            && !matches!(node.kind, Kind::Symlink(_))
        {
            node.meta.mode = mode.apply(node.meta.mode, node.is_dir());
        }
        node
    }

    /// Makes a directory and what is missing above it.
    pub(super) fn make_directories(&mut self, path: &Path) -> Result<(), CopyError> {
        match self.existing(path)? {
            Some(node) if node.is_dir() => return Ok(()),
            Some(_) => return Err(conflict("a directory", path, "a file")),
            None => {}
        }
        let mut node = Node::directory(self.tree.now());
        if let Some(ModeChange::Set(mode)) = self.mode {
            node.meta.mode = mode & 0o777;
        }
        if let Some(parent) = path.parent() {
            self.make_directories(parent)?;
            self.inherit(parent, &mut node)?;
        }
        if let Some(owner) = self.owner {
            (node.meta.uid, node.meta.gid) = owner;
        }
        self.put(path, node).map(drop)
    }

    /// What the kernel gives to a new directory in one whose set-group-id bit is set.
    fn inherit(&self, parent: &Path, node: &mut Node) -> Result<(), CopyError> {
        if let Some(above) = self.existing(parent)?
            && above.meta.mode & SET_GROUP != 0
        {
            node.meta.mode |= SET_GROUP;
            node.meta.gid = above.meta.gid;
        }
        Ok(())
    }

    /// Puts something at a path, where no directory becomes a file.
    fn put(&mut self, path: &Path, node: Node) -> Result<FileId, CopyError> {
        if !node.is_dir() {
            self.may_replace(path)?;
        }
        self.tree.put(path, node)
    }

    /// A file takes the place of anything but a directory.
    fn may_replace(&self, path: &Path) -> Result<(), CopyError> {
        if self.existing(path)?.is_some_and(|node| node.is_dir()) {
            return Err(conflict("a file", path, "a directory"));
        }
        Ok(())
    }

    /// A directory that was there has the mode of the source's, whatever `--chmod` says.
    fn set_mode(&mut self, dir: &Path, mode: u32) -> Result<(), CopyError> {
        if self.made.contains(dir) {
            return Ok(());
        }
        self.tree.copy_up(dir)?;
        if let Some(node) = self.tree.get_mut(dir) {
            node.meta.mode = mode;
        }
        Ok(())
    }

    fn existing(&self, path: &Path) -> Result<Option<Node>, CopyError> {
        self.tree.existing(path)
    }
}

/// What identifies a file that has further names.
fn shared(found: &Found) -> Option<(u64, u64)> {
    if !matches!(found.node.kind, Kind::File(_)) {
        return None;
    }
    let stat = fs::metadata(found.host()?).ok()?;
    (stat.nlink() > 1 || found.is_further_name).then(|| (stat.dev(), stat.ino()))
}
