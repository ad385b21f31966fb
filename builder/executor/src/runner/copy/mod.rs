//! `COPY` and `ADD`: sources of a view become a layer over another view.
//!
//! Nothing is copied here: the layer refers to the files where they are, with the owner and mode
//! that they get. The rules are those of BuildKit's file operation (`solver/llbsolver/file` and
//! fsutil's `copy`).

mod glob;
mod mode;
mod select;

use std::io;
use std::path::{Path, PathBuf};

use kiln_dockerfile::ignore::Patterns;

use super::identity::{self, IdentityError};
use crate::layer::delta::{Content, Delta, Item, Kind, Meta, Node};
use crate::layer::view::{Found, View};
use crate::plan;
use mode::ModeChange;

/// Why a copy fails.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source that is not there.
    #[error("{source_path} is not in {place}")]
    Missing {
        /// As written.
        source_path: String,
        /// Where it was looked for.
        place: String,
    },
    /// A source that a `.dockerignore` leaves out.
    #[error("{source_path} is in the context, but {ignore_file} excludes it")]
    Ignored {
        /// As written.
        source_path: String,
        /// The file that says so.
        ignore_file: String,
    },
    /// Several sources and a destination that is no directory.
    #[error("the destination {dest} gets several sources, so it has to end with a slash")]
    SeveralToOne {
        /// As written.
        dest: String,
    },
    /// A file cannot replace a directory or the other way round.
    #[error("cannot put {what} at {}, where the image has {found}", path.display())]
    Conflict {
        /// What is copied.
        what: &'static str,
        /// Where to.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// `--chmod` with something else than a mode.
    #[error("--chmod={0} is no mode: write an octal number (755) or letters (u+x,go-w)")]
    Mode(String),
    /// `--chown` with unknown names.
    #[error("--chown={spec}")]
    Owner {
        /// As written.
        spec: String,
        /// Why.
        #[source]
        source: IdentityError,
    },
    /// A pattern of `--exclude` or `.dockerignore`.
    #[error("--exclude: {0}")]
    Exclude(String),
    /// A file that cannot be read.
    #[error("cannot read the files to copy")]
    Read(#[source] io::Error),
}

/// Where sources come from.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The files.
    pub view: &'a View,
    /// What is left out of a context, and the file that says so.
    pub ignore: Option<(&'a Patterns, &'a str)>,
    /// For messages: `the context`, `stage build`, `image node:18`.
    pub name: &'a str,
    /// Files of a context belong to root; those of a stage keep their owner.
    pub owner: Owner,
}

/// Who owns copied files without `--chown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// root:root.
    Root,
    /// As in the source.
    Kept,
}

/// A source that is at hand as a file of the machine: a download, or a tree from an archive.
#[derive(Debug, Clone)]
pub enum Given {
    /// One file under this name.
    File {
        /// Its name in a directory.
        name: String,
        /// The file.
        node: Node,
    },
    /// An unpacked archive.
    Tree(View),
}

/// The layer that a copy makes over `image`. `given` are the sources that are no paths; `now` is
/// the time of directories that have to be made.
///
/// # Errors
/// [`CopyError`]
pub fn copy(
    op: &plan::Copy,
    place: Place<'_>,
    given: &[Given],
    image: &View,
    now: i64,
) -> Result<Delta, CopyError> {
    let owner = match &op.chown {
        Some(spec) => Some(
            identity::owner(image, spec).map_err(|source| CopyError::Owner {
                spec: spec.clone(),
                source,
            })?,
        ),
        None => None,
    };
    let mode = match &op.chmod {
        Some(text) => Some(ModeChange::parse(text).ok_or_else(|| CopyError::Mode(text.clone()))?),
        None => None,
    };
    let exclude = Patterns::from_list(op.exclude.iter().map(String::as_str))
        .map_err(|error| CopyError::Exclude(error.to_string()))?;
    let mut writer = Writer {
        image,
        delta: Delta::default(),
        owner,
        mode,
        now,
        exclude,
    };
    let selected = select::select(op, place)?;
    let count = selected.len() + given.len();
    let dest = writer.destination(&op.dest, count)?;
    for source in &selected {
        let target = writer.target(&dest, source)?;
        writer.source(place, source, &target)?;
    }
    for given in given {
        match given {
            Given::File { name, node } => {
                let target = dest.for_file(name);
                writer.file(&target, node.clone(), Owner::Root)?;
            }
            Given::Tree(view) => {
                let inside = Place {
                    view,
                    ignore: None,
                    name: place.name,
                    owner: Owner::Kept,
                };
                writer.directory(inside, &view.root(), &dest.path, Path::new(""))?;
            }
        }
    }
    Ok(writer.delta)
}

/// The paths that the sources of a copy name, patterns matched, with what each is; links are
/// followed.
///
/// # Errors
/// [`CopyError`] of a source that is not there.
pub fn sources(op: &plan::Copy, place: Place<'_>) -> Result<Vec<(PathBuf, Found)>, CopyError> {
    let selected = select::select(op, place)?;
    Ok(selected
        .into_iter()
        .map(|source| (source.path, source.found))
        .collect())
}

/// `WORKDIR`: the directory and its missing parents.
///
/// # Errors
/// [`CopyError::Conflict`] when something else is in the way.
pub fn workdir(path: &str, image: &View, now: i64) -> Result<Delta, CopyError> {
    let exclude = Patterns::from_list([]).map_err(|error| CopyError::Exclude(error.to_string()))?;
    let mut writer = Writer {
        image,
        delta: Delta::default(),
        owner: None,
        mode: None,
        now,
        exclude,
    };
    let path = image.resolve(Path::new(path)).map_err(CopyError::Read)?;
    match writer.existing(&path)? {
        Some(node) if node.is_dir() => return Ok(Delta::default()),
        Some(_) => return Err(conflict("a directory", &path, "a file")),
        None => {}
    }
    writer.parents(&path)?;
    writer.delta.put(path, Node::directory(now));
    Ok(writer.delta)
}

/// The destination, links resolved.
struct Destination {
    path: PathBuf,
    is_dir: bool,
}

impl Destination {
    fn for_file(&self, name: &str) -> PathBuf {
        if self.is_dir {
            self.path.join(name)
        } else {
            self.path.clone()
        }
    }
}

/// Collects the layer.
struct Writer<'a> {
    image: &'a View,
    delta: Delta,
    owner: Option<(u32, u32)>,
    mode: Option<ModeChange>,
    now: i64,
    exclude: Patterns,
}

impl Writer<'_> {
    fn destination(&self, dest: &str, sources: usize) -> Result<Destination, CopyError> {
        let path = self
            .image
            .resolve(Path::new(dest))
            .map_err(CopyError::Read)?;
        let existing = self.existing(&path)?;
        let is_dir = dest.ends_with('/') || existing.is_some_and(|node| node.is_dir());
        if sources > 1 && !is_dir {
            return Err(CopyError::SeveralToOne {
                dest: dest.to_owned(),
            });
        }
        Ok(Destination { path, is_dir })
    }

    /// Where a source goes. With `--parents` its directories are made first, as in the source.
    fn target(
        &mut self,
        dest: &Destination,
        source: &select::Selected,
    ) -> Result<PathBuf, CopyError> {
        let Some(parents) = &source.parents else {
            let name = source.found_name();
            return Ok(if source.found.node.is_dir() {
                dest.path.clone()
            } else {
                dest.for_file(&name)
            });
        };
        let mut path = dest.path.clone();
        for (name, node) in parents {
            path.push(name);
            if self.existing(&path)?.is_none() {
                self.parents(&path)?;
                let node = self.owned(node.clone(), Owner::Root);
                self.delta.put(path.clone(), node);
            }
        }
        Ok(path.join(source.found_name()))
    }

    fn source(
        &mut self,
        place: Place<'_>,
        source: &select::Selected,
        target: &Path,
    ) -> Result<(), CopyError> {
        if source.found.node.is_dir() {
            return self.directory(place, &source.found, target, Path::new(""));
        }
        if self.exclude.ignored(&source.found_name()) {
            return Ok(());
        }
        self.file(target, source.found.node.clone(), place.owner)
    }

    /// Copies what is in a directory to `target`; `relative` is the way from the source's top.
    fn directory(
        &mut self,
        place: Place<'_>,
        dir: &Found,
        target: &Path,
        relative: &Path,
    ) -> Result<(), CopyError> {
        let is_top = relative.as_os_str().is_empty();
        match self.existing(target)? {
            Some(node) if !node.is_dir() => {
                return Err(conflict("a directory", target, "a file"));
            }
            // The metadata of an existing destination stay; those of directories in it do not.
            Some(_) if is_top => self.parents(&target.join("x"))?,
            _ => {
                self.parents(target)?;
                let node = self.owned(
                    Node {
                        opaque: false,
                        ..dir.node.clone()
                    },
                    place.owner,
                );
                self.delta.put(target.to_owned(), node);
            }
        }
        for name in place.view.names(dir).map_err(CopyError::Read)? {
            let Some(child) = place.view.child(dir, &name).map_err(CopyError::Read)? else {
                continue;
            };
            let relative = relative.join(&name);
            if !select::wanted(
                &child,
                &relative,
                place.ignore.map(|(patterns, _)| patterns),
                &self.exclude,
            ) {
                continue;
            }
            let target = target.join(&name);
            if child.node.is_dir() {
                self.descend(place, &child, &target, &relative)?;
            } else {
                self.file(&target, child.node, place.owner)?;
            }
        }
        Ok(())
    }

    /// A directory that is itself ignored appears only when something in it does not.
    fn descend(
        &mut self,
        place: Place<'_>,
        child: &Found,
        target: &Path,
        relative: &Path,
    ) -> Result<(), CopyError> {
        let only_for_children = select::is_ignored(
            child,
            relative,
            place.ignore.map(|(patterns, _)| patterns),
            &self.exclude,
        );
        if only_for_children && !select::has_wanted(place, child, relative, &self.exclude)? {
            return Ok(());
        }
        self.directory(place, child, target, relative)
    }

    fn file(&mut self, target: &Path, node: Node, owner: Owner) -> Result<(), CopyError> {
        if self.existing(target)?.is_some_and(|node| node.is_dir()) {
            return Err(conflict("a file", target, "a directory"));
        }
        self.parents(target)?;
        let node = self.owned(node, owner);
        self.delta.put(target.to_owned(), node);
        Ok(())
    }

    /// The node with the owner and mode that were asked for.
    fn owned(&self, mut node: Node, owner: Owner) -> Node {
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

    /// Puts the directories above a path into the layer: those of the image as they are, missing
    /// ones as root's, mode 0755 (of the new owner with `--chown`).
    fn parents(&mut self, path: &Path) -> Result<(), CopyError> {
        let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        else {
            return Ok(());
        };
        if self.delta.get(parent).is_some() {
            return Ok(());
        }
        self.parents(parent)?;
        let node = match self.existing(parent)? {
            Some(node) if node.is_dir() => Node {
                opaque: false,
                ..node
            },
            Some(_) => return Err(conflict("a directory", parent, "a file")),
            None => {
                let mut node = Node::directory(self.now);
                (node.meta.uid, node.meta.gid) = self.owner.unwrap_or((0, 0));
                node
            }
        };
        self.delta.put(parent.to_owned(), node);
        Ok(())
    }

    /// What is at a path (without links on the way) after what was copied so far.
    fn existing(&self, path: &Path) -> Result<Option<Node>, CopyError> {
        match self.delta.get(path) {
            Some(Item::Put(node)) => return Ok(Some(node.clone())),
            Some(Item::Removed) => return Ok(None),
            None => {}
        }
        if path.as_os_str().is_empty() {
            return Ok(Some(Node::directory(0)));
        }
        let found = self.image.find_link(path).map_err(CopyError::Read)?;
        Ok(found.map(|found| found.node))
    }
}

fn conflict(what: &'static str, path: &Path, found: &'static str) -> CopyError {
    CopyError::Conflict {
        what,
        path: Path::new("/").join(path),
        found,
    }
}

/// A file given in the Dockerfile.
#[must_use]
pub fn inline(name: &str, content: &str, now: i64) -> Given {
    let meta = Meta {
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: now,
    };
    let mut node = Node::new(Kind::File(content.len() as u64), meta);
    node.content = Some(Content::Inline(content.as_bytes().to_vec()));
    Given::File {
        name: name.to_owned(),
        node,
    }
}
