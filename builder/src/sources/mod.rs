//! Which files belong to an artifact: everything that its Dockerfile can read from the context,
//! and nothing else.
//!
//! No network and no daemon: what the Dockerfile asks for is decided from its text alone
//! ([`wanted`], pure), then looked up in the context ([`find`]) under its `.dockerignore`. Where the
//! text cannot tell ([`Reason`]), the whole context belongs to the artifact.

mod digest;
mod error;
mod hash_cache;
mod tree;
pub mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kiln_dockerfile::Dockerfile;
use kiln_dockerfile::ignore::Rule;
use kiln_dockerfile::scope::BuildFor;

pub use error::SourcesError;
pub use hash_cache::HashCache;
pub use wanted::Reason;

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The context, an absolute path to a folder.
    pub context: &'a Path,
    /// The Dockerfile, an absolute path; it may lie outside the context.
    pub dockerfile_path: &'a Path,
    /// The same, parsed.
    pub dockerfile: &'a Dockerfile,
    /// `--build-arg`.
    pub build_args: &'a BTreeMap<String, String>,
    /// The platforms, and the target stage.
    pub build: &'a BuildFor,
    /// Where the context lies in the build pod, for example `/kaniko/buildcontext`.
    pub pod_context: &'a str,
}

/// What is known about the `ONBUILD` triggers of a base image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnbuildKnowledge {
    /// Nothing: it was never asked for.
    Unknown,
    /// It has none.
    None,
    /// It has these, as its config holds them.
    Triggers(Vec<String>),
}

/// The sources of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The files, folders and links of the context, sorted by path. The Dockerfile and the ignore
    /// file in force are among them where they lie in the context.
    pub files: Vec<SourceFile>,
    /// The Dockerfile.
    pub dockerfile: PathBuf,
    /// The folders in which a change can matter, sorted; none lies in a recursive other one.
    pub watch: Vec<WatchRoot>,
    /// Why everything belongs to the artifact, when it does.
    pub whole_context: Option<Reason>,
    /// What was asked for and left out, sorted by path. A folder that was not entered stands for
    /// everything below it.
    pub dropped: Vec<Dropped>,
    /// The ignore file in force.
    pub ignore_file: Option<PathBuf>,
}

/// One entry of the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative to the context.
    pub path: PathBuf,
    /// Where it is on this host.
    pub absolute: PathBuf,
    /// The permission bits, `0o7777`.
    pub mode: u32,
    /// In bytes; zero for folders and links.
    pub size: u64,
    /// What it is.
    pub kind: FileKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link with this target.
    Link(PathBuf),
}

/// A folder to watch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchRoot {
    /// An absolute path.
    pub path: PathBuf,
    /// Whether what lies below its folders matters too.
    pub recursive: bool,
}

/// An entry that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Relative to the context.
    pub path: PathBuf,
    /// Why.
    pub why: Why,
}

/// Why an entry was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// A rule of the ignore file.
    Ignored(Rule),
    /// A socket, a pipe or a device: Docker does not send those.
    Special,
}

/// Finds the sources. `onbuild` is asked about the base image of each stage that the target
/// needs, after its variables were expanded; `scratch` is not asked for.
///
/// # Errors
///
/// Stages that do not fit together, a variable that cannot be expanded, an ignore file that
/// cannot be read, a `COPY` or `ADD` of a path that is not there (with the line of the
/// Dockerfile), and I/O errors with their path. As in BuildKit, a pattern may match nothing.
pub fn find(
    request: &Request<'_>,
    onbuild: &dyn Fn(&str) -> OnbuildKnowledge,
) -> Result<Sources, SourcesError> {
    let wanted = wanted::wanted(request, onbuild)?;
    let mut tree = tree::Tree::open(request.context, request.dockerfile_path)?;
    match wanted.whole {
        Some(_) => tree.everything()?,
        None => {
            for selection in &wanted.selections {
                tree.select(selection)?;
            }
        }
    }
    tree.always(request.dockerfile_path)?;
    let ignore_file = tree.ignore_file().map(Path::to_path_buf);
    if let Some(file) = &ignore_file {
        tree.always(file)?;
    }
    let mut watch = tree.watch;
    for file in [
        Some(request.dockerfile_path),
        Some(&request.context.join(".dockerignore")),
    ] {
        if let Some(folder) = file.and_then(Path::parent) {
            watch.insert(WatchRoot {
                path: folder.to_owned(),
                recursive: false,
            });
        }
    }
    let mut dropped = tree.dropped;
    dropped.retain(|path, _| !tree.files.contains_key(path));
    Ok(Sources {
        files: tree.files.into_values().collect(),
        dockerfile: request.dockerfile_path.to_owned(),
        watch: outermost(&watch),
        whole_context: wanted.whole,
        dropped: dropped
            .into_iter()
            .map(|(path, why)| Dropped { path, why })
            .collect(),
        ignore_file,
    })
}

/// Leaves out what a recursive root covers.
fn outermost(roots: &BTreeSet<WatchRoot>) -> Vec<WatchRoot> {
    let covered = |root: &WatchRoot| {
        roots
            .iter()
            .any(|other| other.recursive && other != root && root.path.starts_with(&other.path))
    };
    roots
        .iter()
        .filter(|root| !covered(root))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests;
