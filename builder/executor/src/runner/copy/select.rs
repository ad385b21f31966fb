//! Which files the sources of a copy name, and which of them are left out.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use kiln_dockerfile::glob::Glob;
use kiln_dockerfile::ignore::Patterns;

use super::{CopyError, Place};
use crate::layer::delta::Node;
use crate::layer::view::Found;
use crate::plan;

/// What makes a pattern of a path.
const PATTERN: [char; 4] = ['*', '?', '[', '\\'];

/// A source that is there.
#[derive(Debug, Clone)]
pub(super) struct Selected {
    /// Its path as it was written or matched, relative to the root; links are not resolved.
    pub(super) path: PathBuf,
    /// What it is; a link at the end is followed.
    pub(super) found: Found,
    /// It was found by a pattern.
    pub(super) is_match: bool,
    /// With `--parents`: what has to be there first.
    pub(super) parents: Option<Parents>,
}

/// What `--parents` puts above a source.
#[derive(Debug, Clone)]
pub(super) struct Parents {
    /// The directory that stands for the destination: the root, or what is before `/./`. `None`
    /// is the root.
    pub(super) top: Option<Node>,
    /// The directories below it.
    pub(super) dirs: Vec<(OsString, Node)>,
}

impl Selected {
    /// The name that a file gets in a directory.
    pub(super) fn found_name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }
}

/// Finds what a source names, a path or a pattern; the matches of a pattern are sorted.
/// `has_parents` is `--parents`.
pub(super) fn select(
    written: &str,
    has_parents: bool,
    place: Place<'_>,
) -> Result<Vec<Selected>, CopyError> {
    let mut selected = Vec::new();
    for path in paths(written, has_parents, place)? {
        // With `--parents` a source is an entry of a tree, and links stay links.
        let found = if has_parents {
            place.view.find_link(&path)
        } else {
            place.view.find(&path)
        };
        // What matches and is not there is a link to nothing.
        let Some(found) = found.map_err(CopyError::Read)? else {
            return Err(missing(&path, &path.to_string_lossy(), place));
        };
        let parents = if has_parents {
            Some(parents(written, &path, place)?)
        } else {
            None
        };
        selected.push(Selected {
            path,
            found,
            is_match: written.contains(PATTERN),
            parents,
        });
    }
    Ok(selected)
}

/// What is at a path, which is no pattern. `written` names it in messages.
pub(super) fn exactly(path: &Path, written: &str, place: Place<'_>) -> Result<Selected, CopyError> {
    let found = place.view.find(path).map_err(CopyError::Read)?;
    let Some(found) = found else {
        return Err(missing(path, written, place));
    };
    Ok(Selected {
        path: path.to_owned(),
        found,
        is_match: false,
        parents: None,
    })
}

/// Nothing is there, or what is there is left out.
fn missing(path: &Path, written: &str, place: Place<'_>) -> CopyError {
    let all = place.view.with_ignored();
    if let Some(file) = place.ignore_file
        && let Ok(Some(found)) = all.find(path)
    {
        let found = found.path.display();
        return CopyError::Ignored {
            source_path: written.to_owned(),
            leads: match found.to_string() == path.to_string_lossy() {
                true => String::new(),
                false => format!(" and leads to {found}"),
            },
            ignore_file: file.to_owned(),
        };
    }
    CopyError::Missing {
        source_path: written.to_owned(),
        place: place.name.to_owned(),
    }
}

/// The paths that a source names: one, or the matches of a pattern, of which there may be none.
fn paths(written: &str, deep: bool, place: Place<'_>) -> Result<Vec<PathBuf>, CopyError> {
    let clean = plan::absolute(written, "/");
    let clean = clean.trim_matches('/');
    if !clean.contains(PATTERN) {
        // What is not there, or left out, is said where it is looked at; a link may lead nowhere.
        return Ok(match deep {
            true => vec![PathBuf::from(clean)],
            false => vec![exactly(Path::new(clean), written, place)?.path],
        });
    }
    if Glob::parse(clean).is_err() {
        return Err(CopyError::Pattern(written.to_owned()));
    }
    // `**` is a pattern of `--parents` alone, behind `/./`; elsewhere it is Go's, where it is one `*`.
    let skip = if deep { before_pivot(written) } else { 0 };
    let part = |(index, part): (usize, &&str)| match deep && index >= skip && *part == "**" {
        true => Part::Any,
        false => Part::One(Glob::parse(part).ok()),
    };
    // Links are followed before the first pattern only (fsutil's `ResolveWildcards`); with `--parents`
    // before `/./`.
    let all: Vec<&str> = clean.split('/').collect();
    let is_plain = |part: &&str| !deep && !part.contains(PATTERN);
    let (plain, parts) = all.split_at(all.iter().take_while(|part| is_plain(part)).count());
    let dir = match plain {
        [] => place.view.root(),
        plain => exactly(Path::new(&plain.join("/")), written, place)?.found,
    };
    if !dir.node.is_dir() {
        return Err(CopyError::Missing {
            source_path: written.to_owned(),
            place: place.name.to_owned(),
        });
    }
    let parts: Vec<Part> = parts.iter().enumerate().map(part).collect();
    let mut found = Vec::new();
    matches((&parts, skip), &dir, &dir.path, place, &mut found)?;
    found.sort();
    found.dedup();
    if deep {
        without_insides(&mut found);
    }
    Ok(found)
}

/// Takes out what lies in a directory that is among them: a directory comes with all that is in it,
/// and its time is set when that is there.
fn without_insides(sorted: &mut Vec<PathBuf>) {
    let mut last: Option<PathBuf> = None;
    sorted.retain(|path| {
        if last.as_ref().is_some_and(|last| path.starts_with(last)) {
            return false;
        }
        last = Some(path.clone());
        true
    });
}

/// A part of a pattern of paths.
enum Part {
    /// `**`: any number of parts.
    Any,
    /// One part. A class that holds a slash was cut through, and matches nothing.
    One(Option<Glob>),
}

/// Walks the parts of a pattern; what the first `follow` of them match may be a link.
fn matches(
    (parts, follow): (&[Part], usize),
    dir: &Found,
    path: &Path,
    place: Place<'_>,
    matched: &mut Vec<PathBuf>,
) -> Result<(), CopyError> {
    let Some((first, rest)) = parts.split_first() else {
        return Ok(());
    };
    let is_any = matches!(first, Part::Any);
    if is_any {
        matches((rest, 0), dir, path, place, matched)?;
    }
    for name in place.view.names(dir).map_err(CopyError::Read)? {
        let text = name.to_string_lossy();
        let below = path.join(&name);
        let deeper = if is_any { parts } else { rest };
        if let Part::One(glob) = first
            && !glob.as_ref().is_some_and(|glob| glob.matches(&text))
        {
            continue;
        }
        let found = match follow {
            0 => place.view.child(dir, &name),
            _ => place.view.find(&below),
        };
        let Some(found) = found.map_err(CopyError::Read)? else {
            continue;
        };
        if deeper.is_empty() || (is_any && rest.is_empty()) {
            matched.push(below.clone());
        }
        if !deeper.is_empty() && found.node.is_dir() {
            let follow = follow.saturating_sub(1);
            matches((deeper, follow), &found, &below, place, matched)?;
        }
    }
    Ok(())
}

/// With `--parents`: how many parts of a path stand before `/./`.
fn before_pivot(written: &str) -> usize {
    written.find("/./").map_or(0, |at| {
        let parts = written[..at].split('/');
        parts.filter(|part| !matches!(*part, "" | ".")).count()
    })
}

/// With `--parents`: the time of the directory before `/./`. `None` without one.
pub(super) fn time_of_start(written: &str, place: Place<'_>) -> Result<Option<i64>, CopyError> {
    let Some(start) = start(written, true) else {
        return Ok(None);
    };
    let found = place.view.find(&start).map_err(CopyError::Read)?;
    Ok(found.map(|found| found.node.meta.mtime))
}

/// A source up to its first pattern, and whether there is one.
pub(super) fn plain_part(written: &str) -> (PathBuf, bool) {
    let clean = plan::absolute(written, "/");
    let parts = clean.trim_matches('/').split('/');
    let plain = parts.take_while(|part| !part.contains(PATTERN)).collect();
    (plain, clean.contains(PATTERN))
}

/// Whether what stands before `/./` is a pattern: where it matches no directory, nothing is made.
pub(super) fn has_pattern_before_pivot(written: &str) -> bool {
    let before = written.split_once("/./").map(|(before, _)| before);
    before.is_some_and(|before| before.contains(PATTERN))
}

/// The directory that a pattern starts in, as it is written: its parts before the first pattern, or
/// with `--parents` those before `/./` if they are none. `None` is the root, or no pattern.
pub(super) fn start(written: &str, has_parents: bool) -> Option<PathBuf> {
    let (plain, is_pattern) = plain_part(written);
    let start = match has_parents {
        true => {
            let depth = before_pivot(written);
            let parts: Vec<&OsStr> = plain.iter().take(depth).collect();
            (parts.len() == depth).then(|| parts.into_iter().collect())?
        }
        false => plain,
    };
    Some(start).filter(|start| is_pattern && !start.as_os_str().is_empty())
}

/// The directories above a source, from the one behind `/./` where that was written.
fn parents(written: &str, path: &Path, place: Place<'_>) -> Result<Parents, CopyError> {
    let skip = before_pivot(written);
    let (mut top, mut dirs) = (None, Vec::new());
    let mut above = PathBuf::new();
    for (depth, part) in path.parent().unwrap_or(Path::new("")).iter().enumerate() {
        above.push(part);
        let Some(found) = place.view.find(&above).map_err(CopyError::Read)? else {
            continue;
        };
        let node = Node {
            opaque: false,
            ..found.node
        };
        if depth < skip {
            top = Some(node);
        } else {
            dirs.push((part.to_owned(), node));
        }
    }
    Ok(Parents { top, dirs })
}

/// Whether an entry of a copied directory has to be looked at: it is copied, or something in it may
/// be.
pub(super) fn wanted(found: &Found, relative: &Path, exclude: &Patterns) -> bool {
    let path = relative.to_string_lossy();
    !exclude.ignored(&path) || (found.node.is_dir() && exclude.may_reinclude_below(&path))
}

/// Whether anything below a directory is copied.
pub(super) fn has_wanted(
    place: Place<'_>,
    dir: &Found,
    relative: &Path,
    exclude: &Patterns,
) -> Result<bool, CopyError> {
    for name in place.view.names(dir).map_err(CopyError::Read)? {
        let Some(child) = place.view.child(dir, &name).map_err(CopyError::Read)? else {
            continue;
        };
        let relative = relative.join(&name);
        if !wanted(&child, &relative, exclude) {
            continue;
        }
        if !exclude.ignored(&relative.to_string_lossy())
            || (child.node.is_dir() && has_wanted(place, &child, &relative, exclude)?)
        {
            return Ok(true);
        }
    }
    Ok(false)
}
