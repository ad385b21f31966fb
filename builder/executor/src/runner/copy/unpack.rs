//! An archive of `ADD`, entry by entry: what moby's unpacking does in a root directory of its own
//! (`chrootarchive` and `archive.Unpack` of go-archive, which BuildKit calls), done to a list.
//!
//! - The destination is the root: no link leads out of it, and absolute ones begin there.
//! - Links of the image and of the archive are followed on the way to an entry, not at its end.
//! - An entry takes the place of what is there, whatever it is; two directories become one.
//! - Directories that are used and not named are root's, with mode 755, whatever `--chown` says.
//! - A further name says once more whose the file is, its mode and its time.
//! - Times of directories are set when all entries are there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::tree::Tree;
use super::{CopyError, SET_GROUP, conflict};
use crate::layer::delta::{CAPABILITY_ATTR, Kind, Meta, Node};
use crate::layer::unpack::PATH_MAX;
use crate::layer::view::{self, MAX_LINKS};

/// Permissions of a link, which nobody asks for.
const LINK_MODE: u32 = 0o777;

/// Unpacks an archive into the directory `root` of the image, of which all that is named gets
/// `owner`, if there is one.
///
/// # Errors
/// When a file is in the way to an entry, or a further name is one of nothing.
pub(super) fn unpack(
    tree: &mut Tree<'_>,
    root: &Path,
    entries: &[(PathBuf, Node)],
    owner: Option<(u32, u32)>,
) -> Result<(), CopyError> {
    // The root of its own is made with pivot_root(2), for which a directory comes and goes there.
    if !root.as_os_str().is_empty() {
        tree.set_time(root, tree.now())?;
    }
    let mut times = Vec::new();
    // Entries come in runs: the directory of the last one, and where it is.
    let mut last_dir: Option<(&Path, PathBuf)> = None;
    for (name, node) in entries {
        let Some(last) = name.file_name() else {
            continue; // the destination itself, which stays as it is
        };
        let mut node = node.clone();
        if let Some((uid, gid)) = owner {
            (node.meta.uid, node.meta.gid) = (uid, gid);
        }
        if matches!(node.kind, Kind::Symlink(_)) {
            node.meta.mode = LINK_MODE;
        }
        let parent = name.parent().unwrap_or(Path::new(""));
        let dir = match last_dir.take() {
            Some((name, dir)) if name == parent => dir,
            _ => follow(tree, root, parent, To::MadeDirectory)?,
        };
        let path = bounded(root, dir.join(last))?;
        if node.is_dir() {
            times.push((name, node.meta.mtime));
        }
        // What goes may have been a part of the way.
        if put(tree, root, &path, node)? == What::IsNew {
            last_dir = Some((parent, dir));
        }
    }
    for (name, time) in times {
        // Whatever is there by now.
        let path = follow(tree, root, name, To::Any)?;
        if path.as_os_str().is_empty() {
            continue; // the root belongs to no layer
        }
        tree.copied_up(&path)?;
        if let Some(file) = tree.get_mut(&path) {
            file.meta.mtime = time;
        }
    }
    Ok(())
}

/// What an entry did to what was at its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Nothing went away for it.
    IsNew,
    /// It took the place of something else.
    Replaced,
}

/// Puts an entry at its path, in the place of what is there.
fn put(tree: &mut Tree<'_>, root: &Path, path: &Path, mut node: Node) -> Result<What, CopyError> {
    let mut what = What::IsNew;
    if let Some(existing) = tree.existing(path)? {
        if existing.is_dir() && node.is_dir() {
            return merge(tree, path, node).map(|()| what);
        }
        tree.remove(path);
        what = What::Replaced;
        // What the image has below is gone.
        node.opaque = node.is_dir();
    }
    if let Kind::Hardlink(of) = &node.kind {
        link(tree, (root, of), path, &node)?;
    } else {
        tree.put(path, node)?;
    }
    Ok(what)
}

/// A directory that is there takes over the metadata of an entry.
fn merge(tree: &mut Tree<'_>, path: &Path, node: Node) -> Result<(), CopyError> {
    tree.copied_up(path)?;
    if let Some(dir) = tree.get_mut(path) {
        dir.meta = node.meta;
        dir.xattrs.extend(node.xattrs);
    }
    Ok(())
}

fn link(
    tree: &mut Tree<'_>,
    (root, of): (&Path, &Path),
    path: &Path,
    entry: &Node,
) -> Result<(), CopyError> {
    let no_file = || CopyError::Link {
        path: path.to_owned(),
        of: of.to_owned(),
    };
    let name = of.file_name().ok_or_else(no_file)?;
    let parent = of.parent().unwrap_or(Path::new(""));
    let target = match follow(tree, root, parent, To::Directory) {
        Err(CopyError::Conflict { .. }) => return Err(no_file()),
        dir => dir?.join(name),
    };
    let is_dir = |node: Node| node.is_dir();
    if tree.existing(&target)?.is_none_or(is_dir) {
        return Err(no_file());
    }
    let id = tree.copied_up(&target)?.ok_or_else(no_file)?;
    tree.link(path, id)?;
    if let Some(file) = tree.get_mut(path) {
        let meta = entry.meta;
        file.meta = if matches!(file.kind, Kind::Symlink(_)) {
            Meta {
                uid: meta.uid,
                gid: meta.gid,
                ..file.meta
            }
        } else {
            meta
        };
        if matches!(file.kind, Kind::File(_)) {
            // The change of owner takes them away (capabilities(7)).
            file.xattrs.remove(CAPABILITY_ATTR);
        }
        file.xattrs.extend(entry.xattrs.clone());
    }
    Ok(())
}

/// Where a path has to lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// To a directory; what is missing is made.
    MadeDirectory,
    /// To a directory that is there.
    Directory,
    /// To whatever is there.
    Any,
}

/// Where a path below `root` leads, links followed.
fn follow(tree: &mut Tree<'_>, root: &Path, path: &Path, to: To) -> Result<PathBuf, CopyError> {
    let mut here = root.to_owned();
    // The parts that are still to go, the next one last; whether a link says so.
    let mut todo: Vec<(OsString, bool)> = Vec::new();
    push(&mut todo, path, false);
    let (mut links, mut last_link) = (0, PathBuf::new());
    while let Some((part, is_of_link)) = todo.pop() {
        if part == ".." {
            if here != root {
                here.pop();
            }
            continue;
        }
        let next = here.join(part);
        match tree.existing(&next)? {
            Some(Node {
                kind: Kind::Symlink(target),
                ..
            }) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(CopyError::Read(Errno::LOOP.into()));
                }
                if target.is_absolute() {
                    root.clone_into(&mut here);
                }
                push(&mut todo, &target, true);
                last_link = next;
                continue;
            }
            Some(node) if node.is_dir() => {}
            Some(_) if to == To::Any && todo.is_empty() => {}
            Some(_) => return Err(conflict("a directory", &next, "a file")),
            // Directories are made, but not behind a link that leads nowhere.
            None if to == To::MadeDirectory && !is_of_link => {
                let dir = implied(tree, &here)?;
                tree.put(&next, dir)?;
            }
            // For a further name nothing is made at all.
            None => return Err(conflict("a directory", &last_link, "a link to nothing")),
        }
        here = bounded(root, next)?;
    }
    Ok(here)
}

/// Links can lead ever deeper, with few entries of an archive: to where no path leads any more.
fn bounded(root: &Path, path: PathBuf) -> Result<PathBuf, CopyError> {
    let length = path.as_os_str().len() - root.as_os_str().len();
    if length > PATH_MAX {
        return Err(CopyError::Read(Errno::NAMETOOLONG.into()));
    }
    Ok(path)
}

/// A directory that an archive uses and does not name. One in a set-group-id directory gets that
/// bit from the kernel, and then root's group.
fn implied(tree: &Tree<'_>, parent: &Path) -> Result<Node, CopyError> {
    let mut dir = Node::directory(tree.now());
    if let Some(above) = tree.existing(parent)? {
        dir.meta.mode |= above.meta.mode & SET_GROUP;
    }
    Ok(dir)
}

fn push(todo: &mut Vec<(OsString, bool)>, path: &Path, is_of_link: bool) {
    let parts = view::parts_of(path).into_iter().rev();
    todo.extend(parts.map(|part| (part, is_of_link)));
}
