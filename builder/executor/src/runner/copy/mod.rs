//! `COPY` and `ADD`: sources of a view become a layer over another view.
//!
//! Nothing is copied here: the layer refers to the files where they are, with the owner and mode
//! that they get. The rules are those of BuildKit's file operation (`solver/llbsolver/file` and
//! fsutil's `copy`).

mod mode;
mod select;
mod tree;
mod unmatched;
mod unpack;
mod write;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use kiln_dockerfile::ignore::Patterns;

use super::identity::{self, IdentityError};
use crate::layer::delta::{Content, Delta, Kind, Meta, Node};
use crate::layer::view::{Found, View};
use crate::plan::{self, Source};
use mode::ModeChange;
pub use unmatched::refuse_unmatched;
use write::Writer;

/// On a directory: what is made in it gets its group.
const SET_GROUP: u32 = 0o2000;

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
    #[error("{source_path} is in the context{leads}, but {ignore_file} excludes it")]
    Ignored {
        /// As written.
        source_path: String,
        /// Where to, when links lead elsewhere.
        leads: String,
        /// The file that says so.
        ignore_file: String,
    },
    /// With `--parents`: a source that `--exclude` leaves out, though it is named.
    #[error("{0} is named as a source, but --exclude leaves it out")]
    Excluded(String),
    /// A pattern without a match in a directory of which nothing else is read: a build that goes on
    /// without these files is rarely meant.
    #[error("nothing in {place} matches {pattern}")]
    NoMatch {
        /// As written.
        pattern: String,
        /// Where it was looked for.
        place: String,
    },
    /// A source that is no pattern, though it looks like one.
    #[error("{0} is no valid pattern: close its [, or escape it with a backslash")]
    Pattern(String),
    /// A second source for a destination that the first one made a file.
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
    /// An archive that does not fit the image.
    #[error("cannot unpack {name}")]
    Archive {
        /// As written.
        name: String,
        /// Why.
        #[source]
        source: Box<Self>,
    },
    /// An archive with a further name of a file that is not there.
    #[error("cannot make /{} a further name of /{}, which is no file", path.display(), of.display())]
    Link {
        /// The further name, in the image.
        path: PathBuf,
        /// The file, as the archive names it.
        of: PathBuf,
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
    /// The file that says what the view of a context leaves out.
    pub ignore_file: Option<&'a str>,
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

/// A source that is at hand as a file of the machine: a download, or a tree.
#[derive(Debug, Clone)]
pub enum Given {
    /// One file under this name.
    File {
        /// Its name in a directory.
        name: String,
        /// The file.
        node: Node,
    },
    /// What is in an archive.
    Archive {
        /// Its name, for messages.
        name: String,
        /// Its entries, in their order.
        entries: Vec<(PathBuf, Node)>,
    },
    /// All that is in a directory: a checkout.
    Tree {
        /// The directory.
        view: View,
        /// Whose the files are.
        owner: Owner,
    },
}

/// What had to be fetched or read before a copy.
#[derive(Debug, Clone, Default)]
pub struct Prepared {
    /// The sources that are no paths, in their order.
    pub given: Vec<Given>,
    /// Those files among the paths that are unpacked: `ADD` puts there what is in them.
    pub archives: HashMap<PathBuf, Given>,
}

/// The layer that a copy makes over `image`: one source after the other, in their order. `now` is
/// the time of what is made or changed on the way.
///
/// # Errors
/// [`CopyError`]
pub fn copy(
    op: &plan::Copy,
    place: Place<'_>,
    prepared: &Prepared,
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
    let exclude = excluded(op)?;
    let mut writer = Writer::new(image, now);
    (writer.owner, writer.mode, writer.exclude) = (owner, mode, exclude);
    let mut given = prepared.given.iter();
    for (index, source) in op.sources.iter().enumerate() {
        if index > 0 && writer.is_file(&op.dest)? {
            let dest = op.dest.clone();
            return Err(CopyError::SeveralToOne { dest });
        }
        let Source::Path(written) = source else {
            if let Some(given) = given.next() {
                writer.given(given, place, &op.dest)?;
            }
            continue;
        };
        let selected = select::select(written, op.parents, place)?;
        if op.parents && selected.is_empty() && !select::has_pattern_before_pivot(written) {
            // BuildKit copies the directory then, and nothing in it.
            let dest = writer.directory_at(&op.dest)?;
            let time = select::time_of_start(written, place)?;
            writer.set_time(&dest, time)?;
        }
        for selected in &selected {
            match prepared.archives.get(&selected.path) {
                Some(archive) => writer.given(archive, place, &op.dest)?,
                None => writer.source(place, selected, &op.dest)?,
            }
        }
    }
    Ok(writer.tree.into_delta())
}

/// A file, or what is in a directory, with all metadata, as a layer of its own: what a mount shows.
/// The path is no pattern. A directory is the root of the layer, with its own mode; only what is
/// nobody's, the root of a context, has that of any root.
///
/// # Errors
/// [`CopyError`]
pub fn whole(path: &Path, place: Place<'_>) -> Result<Delta, CopyError> {
    Ok(shown(path, place)?.delta)
}

/// [`whole`], and what it is that is shown.
///
/// # Errors
/// [`CopyError`]
pub fn shown(path: &Path, place: Place<'_>) -> Result<Part, CopyError> {
    let image = View::default();
    let mut writer = Writer::new(&image, 0);
    let source = select::exactly(path, &path.to_string_lossy(), place)?;
    writer.source(place, &source, "/")?;
    let mut delta = writer.tree.into_delta();
    let is_dir = source.found.node.is_dir();
    if is_dir && !source.found.path.as_os_str().is_empty() {
        let mut root = Writer::new(&image, 0).owned(source.found.node, place.owner);
        root.opaque = false;
        delta.put(PathBuf::new(), root);
    }
    Ok(Part {
        path: path.to_owned(),
        is_dir,
        delta,
    })
}

/// One source of a copy: all that the copy depends on besides its words.
#[derive(Debug)]
pub struct Part {
    /// Its path.
    pub path: PathBuf,
    /// Whether what is in it is copied, or the file itself.
    pub is_dir: bool,
    /// What it puts into an empty image.
    pub delta: Delta,
}

/// The sources that are paths.
///
/// # Errors
/// [`CopyError`]
pub fn parts(op: &plan::Copy, place: Place<'_>) -> Result<Vec<Part>, CopyError> {
    let image = View::default();
    let exclude = excluded(op)?;
    let mut parts = Vec::new();
    for source in &op.sources {
        let Source::Path(written) = source else {
            continue;
        };
        for selected in select::select(written, op.parents, place)? {
            let mut writer = Writer::new(&image, 0);
            writer.exclude = exclude.clone();
            writer.source(place, &selected, "/")?;
            parts.push(Part {
                path: selected.path,
                is_dir: selected.found.node.is_dir(),
                delta: writer.tree.into_delta(),
            });
        }
    }
    Ok(parts)
}

/// What is at a path, which is no pattern; links are followed.
///
/// # Errors
/// [`CopyError`] when nothing is there.
pub fn find(path: &str, place: Place<'_>) -> Result<Found, CopyError> {
    let clean = plan::absolute(path, "/");
    let clean = Path::new(clean.trim_matches('/'));
    Ok(select::exactly(clean, path, place)?.found)
}

/// Where the sources that are paths lie in a view, links followed: of a pattern the directory that it
/// starts in. Those that cannot be followed are left out.
#[must_use]
pub fn places(op: &plan::Copy, view: &View) -> Vec<PathBuf> {
    let paths = op.sources.iter().filter_map(|source| match source {
        Source::Path(written) => Some(select::plain_part(written).0),
        _ => None,
    });
    paths.filter_map(|path| view.resolve(&path).ok()).collect()
}

fn excluded(op: &plan::Copy) -> Result<Patterns, CopyError> {
    Patterns::from_list(op.exclude.iter().map(String::as_str))
        .map_err(|error| CopyError::Exclude(error.to_string()))
}

/// The paths that the sources of a copy name, patterns matched, with what each is; links are
/// followed.
///
/// # Errors
/// [`CopyError`] of a source that is not there.
pub fn sources(op: &plan::Copy, place: Place<'_>) -> Result<Vec<(PathBuf, Found)>, CopyError> {
    let mut found = Vec::new();
    for source in &op.sources {
        if let Source::Path(written) = source {
            let selected = select::select(written, op.parents, place)?;
            found.extend(selected.into_iter().map(|one| (one.path, one.found)));
        }
    }
    Ok(found)
}

/// `WORKDIR`: the directory and its missing parents, which get `owner`.
///
/// # Errors
/// [`CopyError::Conflict`] when something else is in the way.
pub fn workdir(
    path: &str,
    owner: Option<(u32, u32)>,
    image: &View,
    now: i64,
) -> Result<Delta, CopyError> {
    let mut writer = Writer::new(image, now);
    writer.owner = owner;
    let path = image.resolve(Path::new(path)).map_err(CopyError::Read)?;
    writer.make_directories(&path)?;
    Ok(writer.tree.into_delta())
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
