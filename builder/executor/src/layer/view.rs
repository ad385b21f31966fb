//! What a path means over all layers of a stage, as an overlay would show it.
//!
//! Nothing is mounted: directories are merged while they are read. Links are resolved inside the
//! view and can never lead out of it, whatever the layers hold.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_dockerfile::ignore::Patterns;

use super::delta::{Content, Delta, Item, Kind, Node};
use super::upper;

/// How many links a path may go through (Linux: 40).
pub const MAX_LINKS: usize = 40;

/// One layer of a view.
#[derive(Debug, Clone)]
pub enum Tree {
    /// A directory in overlay form.
    Layer(PathBuf),
    /// An ordinary directory, in which nothing has a special meaning: a context, a volume.
    Plain(PathBuf),
    /// A list; the bytes of its files may be unknown.
    Delta(Arc<Delta>),
}

/// Layers on top of each other.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The topmost first.
    trees: Vec<Tree>,
    /// Directories that cover a path: volumes and the context.
    grafts: Vec<(PathBuf, Tree)>,
    /// What is left out, as if it were not there.
    ignore: Option<Arc<Ignored>>,
}

/// What is left out of a context.
#[derive(Debug)]
struct Ignored {
    patterns: Patterns,
    /// Whether directories that are left out come back with something in them, as far as it was
    /// asked.
    come_back: Mutex<HashMap<PathBuf, bool>>,
}

/// A file of a view.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is, relative to the root, with no link on the way.
    pub path: PathBuf,
    /// What it is. [`Kind::Hardlink`] does not occur: the file itself is shown.
    pub node: Node,
    /// It is a further name of a file of the same layer.
    pub is_further_name: bool,
    /// Of a directory: the trees that make it up, the topmost first.
    parts: Vec<Tree>,
}

impl View {
    /// A view of these layers, the topmost first.
    #[must_use]
    pub fn new(trees: Vec<Tree>) -> Self {
        Self {
            trees,
            ..Self::default()
        }
    }

    /// An ordinary directory as a view.
    #[must_use]
    pub fn plain(dir: PathBuf) -> Self {
        Self::new(vec![Tree::Plain(dir)])
    }

    /// A context: an ordinary directory without what a `.dockerignore` leaves out, which no path
    /// and no link leads to.
    #[must_use]
    pub fn context(dir: PathBuf, ignore: Option<&Patterns>) -> Self {
        Self {
            ignore: ignore.map(|patterns| {
                Arc::new(Ignored {
                    patterns: patterns.clone(),
                    come_back: Mutex::default(),
                })
            }),
            ..Self::plain(dir)
        }
    }

    /// The same files with all that is left out.
    #[must_use]
    pub fn with_ignored(&self) -> Self {
        Self {
            ignore: None,
            ..self.clone()
        }
    }

    /// Whether all files of its directories are there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.ignore.is_none()
    }

    /// Covers a path with an ordinary directory, as a mount would.
    ///
    /// # Errors
    /// When the path cannot be resolved in the view.
    pub fn graft(&mut self, at: &Path, dir: PathBuf) -> io::Result<()> {
        let path = self.resolve(at)?;
        self.grafts.push((path, Tree::Plain(dir)));
        Ok(())
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> Found {
        let path = PathBuf::new();
        Found {
            path,
            node: Node::directory(0),
            is_further_name: false,
            parts: self.trees.clone(),
        }
    }

    /// The file at a path, links followed on the way and at the end. `None` when nothing is there.
    ///
    /// # Errors
    /// When something cannot be read, or links go in a circle.
    pub fn find(&self, path: &Path) -> io::Result<Option<Found>> {
        let resolved = self.resolve(path)?;
        self.at(&resolved)
    }

    /// The file at a path; links are followed on the way, but not at the end.
    ///
    /// # Errors
    /// When something cannot be read, or links go in a circle.
    pub fn find_link(&self, path: &Path) -> io::Result<Option<Found>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return self.find(path);
        };
        let Some(dir) = self.find(parent)? else {
            return Ok(None);
        };
        if dir.node.is_dir() {
            self.child(&dir, name)
        } else {
            Ok(None)
        }
    }

    /// Where a path leads, links followed; parts that do not exist are kept as they are.
    ///
    /// # Errors
    /// When something cannot be read, or links go in a circle.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut todo: Vec<OsString> = parts_of(path).into_iter().rev().collect();
        let mut here = vec![self.root()];
        let mut missing: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == ".." {
                if missing.pop().is_none() && here.len() > 1 {
                    here.pop();
                }
                continue;
            }
            if !missing.is_empty() {
                missing.push(part);
                continue;
            }
            let dir = &here[here.len() - 1];
            match self.child(dir, &part)? {
                None => missing.push(part),
                Some(Found {
                    node:
                        Node {
                            kind: Kind::Symlink(target),
                            ..
                        },
                    ..
                }) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(rustix::io::Errno::LOOP.into());
                    }
                    if target.is_absolute() {
                        here.truncate(1);
                    }
                    todo.extend(parts_of(&target).into_iter().rev());
                }
                Some(found) => here.push(found),
            }
        }
        let mut path = here[here.len() - 1].path.clone();
        path.extend(missing);
        Ok(path)
    }

    /// The names in a directory, sorted; some may be of what is left out.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn names(&self, dir: &Found) -> io::Result<BTreeSet<OsString>> {
        let mut names = BTreeSet::new();
        for part in &dir.parts {
            match part {
                Tree::Layer(host) | Tree::Plain(host) => {
                    for entry in fs::read_dir(host).map_err(named(host))? {
                        names.insert(entry?.file_name());
                    }
                }
                Tree::Delta(delta) => {
                    names.extend(delta.names_in(&dir.path).map(OsStr::to_owned));
                }
            }
        }
        for (at, _) in &self.grafts {
            if let Ok(below) = at.strip_prefix(&dir.path)
                && let Some(Component::Normal(name)) = below.components().next()
            {
                names.insert(name.to_owned());
            }
        }
        Ok(names)
    }

    /// The file of that name in a directory; links are not followed. `None` when it is not there,
    /// was removed, or is left out.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn child(&self, dir: &Found, name: &OsStr) -> io::Result<Option<Found>> {
        let Some(ignore) = &self.ignore else {
            return self.any_child(dir, name);
        };
        let path = dir.path.join(name);
        let text = path.to_string_lossy();
        let is_ignored = ignore.patterns.ignored(&text);
        // Before anything is looked at: what is left out may not be readable.
        if is_ignored && !ignore.patterns.may_reinclude_below(&text) {
            return Ok(None);
        }
        let Some(found) = self.any_child(dir, name)? else {
            return Ok(None);
        };
        Ok((!is_ignored || self.comes_back(ignore, &found)?).then_some(found))
    }

    /// Whether something in a directory that is left out is not: the directory comes back with that,
    /// and only then (moby's `.dockerignore` with `!`).
    fn comes_back(&self, ignore: &Ignored, found: &Found) -> io::Result<bool> {
        if !found.node.is_dir() {
            return Ok(false);
        }
        let known = || {
            ignore
                .come_back
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(comes_back) = known().get(&found.path) {
            return Ok(*comes_back);
        }
        let mut comes_back = false;
        for name in self.names(found)? {
            if self.child(found, &name)?.is_some() {
                comes_back = true;
                break;
            }
        }
        known().insert(found.path.clone(), comes_back);
        Ok(comes_back)
    }

    fn any_child(&self, dir: &Found, name: &OsStr) -> io::Result<Option<Found>> {
        let path = dir.path.join(name);
        if let Some((_, Tree::Plain(host))) = self.grafts.iter().rfind(|(at, _)| *at == path) {
            return plain(host, path);
        }
        let mut found: Option<Found> = None;
        for part in &dir.parts {
            let Some((item, below)) = look(part, &path, name)? else {
                continue;
            };
            let Item::Put(node) = item else { break };
            let (is_dir, opaque) = (node.is_dir(), node.opaque);
            match &mut found {
                // A directory is made up of all directories down to the first thing that is none.
                Some(found) if is_dir => found.parts.push(below),
                Some(_) => break,
                None => {
                    found = Some(Found {
                        path: path.clone(),
                        node,
                        is_further_name: false,
                        parts: vec![below],
                    });
                }
            }
            if !is_dir || opaque {
                break;
            }
        }
        if let Some(found) = &mut found {
            self.follow_hardlink(found)?;
        } else if self.grafts.iter().any(|(at, _)| at.starts_with(&path)) {
            // The way to a mount point exists only while something is mounted there.
            found = Some(Found {
                path,
                node: Node::directory(0),
                is_further_name: false,
                parts: Vec::new(),
            });
        }
        Ok(found)
    }

    /// Reads a whole file of at most `limit` bytes. `None` when there is no such file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(found) = self.find(path)? else {
            return Ok(None);
        };
        if !matches!(found.node.kind, Kind::File(_)) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        found.node.open()?.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Follows a path, relative to the root, without links.
    pub(crate) fn at(&self, path: &Path) -> io::Result<Option<Found>> {
        let mut here = self.root();
        for part in path {
            if !here.node.is_dir() {
                return Ok(None);
            }
            match self.child(&here, part)? {
                Some(found) => here = found,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    /// A further name shows the file itself, which is in the same layer.
    fn follow_hardlink(&self, found: &mut Found) -> io::Result<()> {
        let Kind::Hardlink(target) = &found.node.kind else {
            return Ok(());
        };
        let in_layer = found.parts.iter().find_map(|part| match part {
            Tree::Delta(delta) => match delta.get(target) {
                Some(Item::Put(node)) => Some(node.clone()),
                _ => None,
            },
            _ => None,
        });
        let node = match in_layer {
            Some(node) => Some(node),
            None => self.at(&target.clone())?.map(|found| found.node),
        };
        match node {
            Some(node) if !matches!(node.kind, Kind::Hardlink(_)) => {
                found.node = node;
                found.is_further_name = true;
            }
            _ => {
                let text = format!("{} is a link to nothing", found.path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(())
    }
}

/// An error says which file it is about.
fn named(host: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    |error| io::Error::new(error.kind(), format!("{}: {error}", host.display()))
}

impl Found {
    /// The file on the machine that holds the bytes, when they are in one.
    #[must_use]
    pub fn host(&self) -> Option<&Path> {
        match &self.node.content {
            Some(Content::Host(path)) => Some(path),
            _ => None,
        }
    }

    /// The one directory of the machine that this directory is, when it is not merged.
    #[must_use]
    pub fn host_dir(&self) -> Option<&Path> {
        match self.parts.as_slice() {
            [Tree::Plain(host)] if self.node.is_dir() => Some(host),
            _ => None,
        }
    }
}

/// The parts of a path as they are walked: names and `..`.
pub(crate) fn parts_of(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

fn plain(host: &Path, path: PathBuf) -> io::Result<Option<Found>> {
    let stat = fs::symlink_metadata(host).map_err(named(host))?;
    let Some(node) = upper::node(host, &stat).map_err(named(host))? else {
        return Ok(None);
    };
    Ok(Some(Found {
        path,
        node,
        is_further_name: false,
        parts: vec![Tree::Plain(host.to_owned())],
    }))
}

/// What one part of a directory says about a name in it, and the tree below.
fn look(part: &Tree, path: &Path, name: &OsStr) -> io::Result<Option<(Item, Tree)>> {
    let (host, layer) = match part {
        Tree::Delta(delta) => {
            return Ok(match delta.get(path) {
                Some(item) => Some((item.clone(), part.clone())),
                // A layer may name a file without naming its parents.
                None if delta.has_below(path) => {
                    Some((Item::Put(Node::directory(0)), part.clone()))
                }
                None => None,
            });
        }
        Tree::Layer(dir) => (dir.join(name), true),
        Tree::Plain(dir) => (dir.join(name), false),
    };
    let stat = match fs::symlink_metadata(&host) {
        Ok(stat) => stat,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(named(&host)(error)),
    };
    if layer && upper::is_whiteout(&host, &stat)? {
        return Ok(Some((Item::Removed, part.clone())));
    }
    let Some(node) = upper::node(&host, &stat).map_err(named(&host))? else {
        return Ok(None);
    };
    let below = if layer {
        Tree::Layer(host)
    } else {
        Tree::Plain(host)
    };
    Ok(Some((Item::Put(node), below)))
}
