//! Patterns that match nothing.

use std::path::{Path, PathBuf};

use kiln_dockerfile::ignore::Patterns;
use kiln_dockerfile::mount::MountKind;

use super::{CopyError, Place, select};
use crate::layer::delta::Kind;
use crate::layer::view::Found;
use crate::plan::{self, From, Op, Plan, Source};

/// As in BuildKit, a pattern of a context may match nothing only in its root, or in a directory from
/// which some instruction of the build takes something: no more is sent to the daemon than is read.
///
/// # Errors
/// [`CopyError::NoMatch`], and those of a directory that is not there.
pub fn refuse_unmatched(plan: &Plan, op: &plan::Copy, place: Place<'_>) -> Result<(), CopyError> {
    if !matches!(op.from, From::Context | From::Named(_)) {
        return Ok(());
    }
    for source in &op.sources {
        let Source::Path(written) = source else {
            continue;
        };
        let Some(start) = select::start(written, op.parents) else {
            continue;
        };
        if !select::select(written, op.parents, place)?.is_empty() {
            continue;
        }
        let start = place.view.resolve(&start).map_err(CopyError::Read)?;
        // Mostly the instruction itself reads something there. Of another context than the first one
        // each instruction is sent its own part.
        let mut steps = plan.stages.iter().flat_map(|stage| &stage.steps);
        let is_read = is_among(&start, &read_by(op, place))
            || (op.from == From::Context
                && steps.any(|step| is_among(&start, &read_of(&step.op, place))));
        if !is_read && !is_matched_deeper(plan, &op.from, &start, place)? {
            return Err(CopyError::NoMatch {
                pattern: written.clone(),
                place: place.name.to_owned(),
            });
        }
    }
    Ok(())
}

/// Whether a directory is sent with what is read: it holds some of it, or is part of it.
fn is_among(start: &Path, read: &[PathBuf]) -> bool {
    read.iter()
        .any(|path| start.starts_with(path) || path.starts_with(start))
}

/// What is sent is found by moby's patterns, in which `**` is any number of directories; what is
/// copied by Go's, in which it is one. Whether some copy from this context has such a pattern, and
/// it matches something below `start`.
fn is_matched_deeper(
    plan: &Plan,
    context: &From,
    start: &Path,
    place: Place<'_>,
) -> Result<bool, CopyError> {
    let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    let sources = steps.flat_map(|step| match &step.op {
        Op::Copy(copy) if copy.from == *context => copy.sources.as_slice(),
        _ => &[],
    });
    let deep: Vec<String> = sources
        .filter_map(|source| match source {
            Source::Path(written) if written.contains("**") => {
                let clean = plan::absolute(written, "/");
                Some(clean.trim_matches('/').to_owned())
            }
            _ => None,
        })
        .collect();
    if deep.is_empty() {
        return Ok(false);
    }
    let patterns = Patterns::from_list(deep.iter().map(String::as_str));
    match (patterns, place.view.at(start).map_err(CopyError::Read)?) {
        (Ok(patterns), Some(dir)) => has_match(&patterns, &dir, place),
        _ => Ok(false),
    }
}

fn has_match(patterns: &Patterns, dir: &Found, place: Place<'_>) -> Result<bool, CopyError> {
    for name in place.view.names(dir).map_err(CopyError::Read)? {
        let Some(found) = place.view.child(dir, &name).map_err(CopyError::Read)? else {
            continue;
        };
        // What a pattern matches counts as ignored where it is one of a `.dockerignore`.
        if patterns.ignored(&found.path.to_string_lossy())
            || (found.node.is_dir() && has_match(patterns, &found, place)?)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The paths that a copy takes files from, and where links lead from there. What cannot be found is
/// said when that step is performed.
fn read_by(copy: &plan::Copy, place: Place<'_>) -> Vec<PathBuf> {
    let found = super::sources(copy, place).unwrap_or_default();
    // Links on the way are read as well.
    let both = found
        .into_iter()
        .flat_map(|(path, found)| [path, found.path]);
    let written = copy.sources.iter().filter_map(|source| match source {
        Source::Path(written) => Some(written.as_str()),
        _ => None,
    });
    both.chain(written.flat_map(|written| with_a_link(written, place)))
        .collect()
}

/// Where a part of a pattern matches a link, all that it matches is read (fsutil's `followlinks`).
fn with_a_link(written: &str, place: Place<'_>) -> Vec<PathBuf> {
    let clean = plan::absolute(written, "/");
    let parts: Vec<&str> = clean.trim_matches('/').split('/').collect();
    let mut read = Vec::new();
    for end in 1..parts.len() {
        let found = select::select(&parts[..end].join("/"), false, place).unwrap_or_default();
        let is_link = |one: &select::Selected| {
            let link = place.view.find_link(&one.path);
            one.is_match
                && link.is_ok_and(|link| {
                    link.is_some_and(|link| matches!(link.node.kind, Kind::Symlink(_)))
                })
        };
        if found.iter().any(is_link) {
            read.extend(found.into_iter().map(|one| one.path));
        }
    }
    read
}

/// The paths of the context that a step takes files from.
fn read_of(op: &Op, place: Place<'_>) -> Vec<PathBuf> {
    match op {
        Op::Copy(copy) if copy.from == From::Context => read_by(copy, place),
        Op::Run(run) => {
            let mounts = run.mounts.iter();
            let binds = mounts.filter(|mount| {
                mount.options.kind == MountKind::Bind && mount.from == From::Context
            });
            binds
                .filter_map(|mount| {
                    let source = mount.options.source.as_deref().unwrap_or("/");
                    place.view.resolve(Path::new(source)).ok()
                })
                .collect()
        }
        _ => Vec::new(),
    }
}
