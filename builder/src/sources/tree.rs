//! The context on disk, seen through its ignore file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kiln_dockerfile::glob::{Glob, has_wildcard};
use kiln_dockerfile::ignore::{Patterns, Verdict};

use super::error::io_error;
use super::wanted::Selection;
use super::{FileKind, SourceFile, SourcesError, WatchRoot, Why};

/// As many links as the kernel follows in one path (`ELOOP`, path_resolution(7)).
const MAX_LINKS: usize = 40;

/// A context and what was taken from it so far.
pub(super) struct Tree {
    root: PathBuf,
    ignore: Patterns,
    ignore_file: Option<PathBuf>,
    /// By path relative to the root.
    pub files: BTreeMap<PathBuf, SourceFile>,
    pub dropped: BTreeMap<PathBuf, Why>,
    pub watch: BTreeSet<WatchRoot>,
}

/// What a walk takes from a folder.
#[derive(Default)]
struct Filter<'s> {
    /// Only what these match, or lies below what they match.
    include: Option<&'s Patterns>,
    /// Where everything that `include` matches lies, relative to the folder.
    within: &'s str,
    /// Not what these match; paths are relative to the folder.
    exclude: Option<&'s Patterns>,
}

/// A folder on the way down.
struct Folder {
    /// Relative to the root of the context.
    path: PathBuf,
    /// Relative to where the walk began.
    below: String,
    ignored: Option<Verdict>,
    included: Option<Verdict>,
    excluded: Option<Verdict>,
}

impl Tree {
    /// Opens a context. `<Dockerfile>.dockerignore` is in force where it exists, else the
    /// `.dockerignore` of the context.
    pub fn open(root: &Path, dockerfile: &Path) -> Result<Self, SourcesError> {
        let mut own: OsString = dockerfile.as_os_str().to_owned();
        own.push(".dockerignore");
        let mut tree = Self {
            root: root.to_owned(),
            ignore: Patterns::default(),
            ignore_file: None,
            files: BTreeMap::new(),
            dropped: BTreeMap::new(),
            watch: BTreeSet::new(),
        };
        for file in [PathBuf::from(own), root.join(".dockerignore")] {
            let text = match fs::read(&file) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(io_error(&file)(error)),
            };
            tree.ignore = Patterns::parse(&text).map_err(|source| SourcesError::IgnoreFile {
                file: file.clone(),
                source,
            })?;
            tree.ignore_file = Some(file);
            break;
        }
        Ok(tree)
    }

    /// The ignore file in force.
    pub fn ignore_file(&self) -> Option<&Path> {
        self.ignore_file.as_deref()
    }

    /// Takes everything that is not ignored.
    pub fn everything(&mut self) -> Result<(), SourcesError> {
        self.watch_folder(Path::new(""), true);
        self.walk(Path::new(""), &Filter::default())
    }

    /// Takes a file whatever the ignore file says, when it lies in the context.
    pub fn always(&mut self, file: &Path) -> Result<(), SourcesError> {
        if let Ok(path) = file.strip_prefix(&self.root)
            && let Some(metadata) = self.metadata(path)?
        {
            self.take(path, &metadata)?;
        }
        Ok(())
    }

    /// Takes what an instruction asks for.
    pub fn select(&mut self, selection: &Selection) -> Result<(), SourcesError> {
        let line = selection.line;
        if !(selection.wildcards && has_wildcard(&selection.path)) {
            let path = if selection.wildcards {
                unescaped(&selection.path)
            } else {
                selection.path.clone()
            };
            let found = self.resolve(Path::new(&path))?;
            let taken = match found {
                Some(path) => self.take_source(&path, selection)?,
                None => false,
            };
            let below = unescaped(selection.below.as_deref().unwrap_or_default());
            let path = if path.is_empty() {
                below
            } else {
                joined(&path, &below)
            };
            let path = path.trim_end_matches('/');
            return if taken {
                Ok(())
            } else {
                Err(self.missing(line, path))
            };
        }
        let (fixed, pattern) = split_wildcards(&selection.path);
        let glob = Glob::parse(&pattern).map_err(|source| SourcesError::Glob { line, source })?;
        let Some(folder) = self.resolve(Path::new(&fixed))? else {
            return Ok(());
        };
        self.watch_folder(&folder, pattern.contains('/'));
        for path in self.matches(&folder, &glob, pattern.matches('/').count())? {
            if let Some(path) = self.resolve(&path)? {
                self.take_source(&path, selection)?;
            }
        }
        Ok(())
    }

    /// Takes a file, or a folder with what is below it. False when there is nothing to take.
    fn take_source(&mut self, path: &Path, selection: &Selection) -> Result<bool, SourcesError> {
        let Some(metadata) = self.metadata(path)? else {
            return Ok(false);
        };
        let verdict = self.ignore.explain(&path.to_string_lossy());
        if !metadata.is_dir() {
            self.watch_folder(path.parent().unwrap_or(Path::new("")), false);
            if verdict.ignored {
                self.drop_ignored(path, &verdict);
                return Ok(false);
            }
            return self.take(path, &metadata);
        }
        let below = selection.below.as_deref().unwrap_or_default();
        let (within, _) = split_wildcards(below);
        self.watch_within(path, &within)?;
        let include = match &selection.below {
            None => None,
            Some(pattern) => Some(Patterns::from_list([pattern.as_str()]).map_err(|source| {
                SourcesError::Pattern {
                    line: selection.line,
                    source,
                }
            })?),
        };
        let before = self.files.len();
        let exclude = Some(&selection.exclude).filter(|exclude| !exclude.is_empty());
        self.walk(
            path,
            &Filter {
                include: include.as_ref(),
                within: &within,
                exclude,
            },
        )?;
        if selection.below.is_some() {
            // Without wildcards the path itself has to be there (`RequiredPaths` of BuildKit).
            let required = path.join(&within);
            return Ok(
                has_wildcard(below) || self.files.keys().any(|file| file.starts_with(&required))
            );
        }
        let exists = path.as_os_str().is_empty() || !verdict.ignored;
        Ok(exists || self.files.len() > before)
    }

    fn missing(&self, line: u32, path: &str) -> SourcesError {
        let verdict = self.ignore.explain(path);
        let exists = self.root.join(path).symlink_metadata().is_ok();
        match (self.ignore.rule(&verdict), &self.ignore_file) {
            (Some(rule), Some(file)) if verdict.ignored && exists => SourcesError::Ignored {
                line,
                path: path.to_owned(),
                rule,
                file: file.clone(),
            },
            _ => SourcesError::NotFound {
                line,
                path: path.to_owned(),
                context: self.root.clone(),
            },
        }
    }

    /// Follows links inside the context, as BuildKit does for a source: the links are sources
    /// too, and a target that begins with `/` counts from the root of the context. `None` when
    /// nothing is there.
    fn resolve(&mut self, path: &Path) -> Result<Option<PathBuf>, SourcesError> {
        let mut rest: VecDeque<OsString> = path.iter().map(OsString::from).collect();
        let mut resolved = PathBuf::new();
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            match part.to_str() {
                Some("" | "." | "/") => continue,
                Some("..") => {
                    resolved.pop();
                    continue;
                }
                _ => resolved.push(&part),
            }
            let Some(metadata) = self.metadata(&resolved)? else {
                return Ok(None);
            };
            if !metadata.is_symlink() {
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(SourcesError::LinkLoop(self.root.join(path)));
            }
            if self.ignore.ignored(&resolved.to_string_lossy()) {
                return Ok(None);
            }
            self.take(&resolved, &metadata)?;
            self.watch_folder(resolved.parent().unwrap_or(Path::new("")), false);
            let full = self.root.join(&resolved);
            let target = fs::read_link(&full).map_err(io_error(&full))?;
            if target.is_absolute() {
                resolved.clear();
            } else {
                resolved.pop();
            }
            target
                .iter()
                .rev()
                .for_each(|part| rest.push_front(part.to_owned()));
        }
        Ok(Some(resolved))
    }

    /// The paths below `folder` that a pattern of `depth` slashes matches, sorted.
    fn matches(
        &self,
        folder: &Path,
        glob: &Glob,
        depth: usize,
    ) -> Result<Vec<PathBuf>, SourcesError> {
        let mut found = Vec::new();
        let mut open = vec![(folder.to_owned(), String::new(), 0)];
        while let Some((folder, below, level)) = open.pop() {
            for name in self.names(&folder)? {
                let path = folder.join(&name);
                let below = joined(&below, &name.to_string_lossy());
                if glob.matches(&below) {
                    found.push(path);
                } else if level < depth
                    && self
                        .metadata(&path)?
                        .is_some_and(|metadata| metadata.is_dir())
                {
                    open.push((path, below, level + 1));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Takes what is below a folder, and the folder itself unless it is the root.
    fn walk(&mut self, top: &Path, filter: &Filter<'_>) -> Result<(), SourcesError> {
        let ignored =
            (!top.as_os_str().is_empty()).then(|| self.ignore.explain(&top.to_string_lossy()));
        if let Some(verdict) = &ignored {
            if verdict.ignored && !self.ignore.may_reinclude_below(&top.to_string_lossy()) {
                self.drop_ignored(top, verdict);
                return Ok(());
            }
            if !verdict.ignored && filter.include.is_none() {
                self.take_again(top)?;
            }
        }
        let mut open = vec![Folder {
            path: top.to_owned(),
            below: String::new(),
            ignored,
            included: None,
            excluded: None,
        }];
        while let Some(folder) = open.pop() {
            let mut folders = Vec::new();
            for name in self.names(&folder.path)? {
                folders.extend(self.visit(top, &folder, &name, filter)?);
            }
            open.extend(folders.into_iter().rev());
        }
        Ok(())
    }

    /// One entry of a folder; the result is the folder to go on with.
    fn visit(
        &mut self,
        top: &Path,
        folder: &Folder,
        name: &OsString,
        filter: &Filter<'_>,
    ) -> Result<Option<Folder>, SourcesError> {
        let path = folder.path.join(name);
        let text = path.to_string_lossy().into_owned();
        let below = joined(&folder.below, &name.to_string_lossy());
        // Removed since the folder was read: then it is not a source any more.
        let Some(metadata) = self.metadata(&path)? else {
            return Ok(None);
        };
        let ignored = self.ignore.verdict(&text, folder.ignored.as_ref());
        let included = filter
            .include
            .map(|include| include.verdict(&below, folder.included.as_ref()));
        let excluded = filter
            .exclude
            .map(|exclude| exclude.verdict(&below, folder.excluded.as_ref()));
        let is_wanted = included.as_ref().is_none_or(|verdict| verdict.ignored)
            && !excluded.as_ref().is_some_and(|verdict| verdict.ignored);
        if ignored.ignored {
            if is_wanted {
                self.drop_ignored(&path, &ignored);
            }
        } else if is_wanted {
            self.take_parents(top, &path)?;
            self.take(&path, &metadata)?;
        }
        if !metadata.is_dir() {
            return Ok(None);
        }
        let prune_ignored = ignored.ignored && !self.ignore.may_reinclude_below(&text);
        let prune_excluded = excluded.as_ref().is_some_and(|verdict| verdict.ignored)
            && filter
                .exclude
                .is_some_and(|exclude| !exclude.may_reinclude_below(&below));
        let prune_outside = !lies_on(&below, filter.within);
        if prune_ignored || prune_excluded || prune_outside {
            return Ok(None);
        }
        Ok(Some(Folder {
            path,
            below,
            ignored: Some(ignored),
            included,
            excluded,
        }))
    }

    /// The folders between `top` and a path that is taken: they come with it even where they are
    /// ignored themselves.
    fn take_parents(&mut self, top: &Path, path: &Path) -> Result<(), SourcesError> {
        let parents: Vec<PathBuf> = path
            .ancestors()
            .skip(1)
            .take_while(|parent| *parent != top && !parent.as_os_str().is_empty())
            .filter(|parent| !self.files.contains_key(*parent))
            .map(Path::to_path_buf)
            .collect();
        parents
            .iter()
            .try_for_each(|parent| self.take_again(parent))
    }

    fn take_again(&mut self, path: &Path) -> Result<(), SourcesError> {
        if let Some(metadata) = self.metadata(path)? {
            self.take(path, &metadata)?;
        }
        Ok(())
    }

    /// Adds an entry; false for what is neither file, folder nor link.
    fn take(&mut self, path: &Path, metadata: &Metadata) -> Result<bool, SourcesError> {
        let absolute = self.root.join(path);
        let kind = match metadata.file_type() {
            kind if kind.is_file() => FileKind::File,
            kind if kind.is_dir() => FileKind::Folder,
            kind if kind.is_symlink() => {
                FileKind::Link(fs::read_link(&absolute).map_err(io_error(&absolute))?)
            }
            _ => {
                self.dropped.insert(path.to_owned(), Why::Special);
                return Ok(false);
            }
        };
        let size = if kind == FileKind::File {
            metadata.len()
        } else {
            0
        };
        let mode = metadata.permissions().mode() & 0o7777;
        let file = SourceFile {
            path: path.to_owned(),
            absolute,
            mode,
            size,
            kind,
        };
        self.files.insert(path.to_owned(), file);
        Ok(true)
    }

    fn drop_ignored(&mut self, path: &Path, verdict: &Verdict) {
        if let Some(rule) = self.ignore.rule(verdict) {
            self.dropped.insert(path.to_owned(), Why::Ignored(rule));
        }
    }

    /// Watches the part `within` of a folder: all of it where it is a folder itself, else the
    /// folder that it would be in.
    fn watch_within(&mut self, folder: &Path, within: &str) -> Result<(), SourcesError> {
        let mut path = folder.join(within);
        let is_folder = |metadata: Option<Metadata>| metadata.is_some_and(|found| found.is_dir());
        let whole = is_folder(self.metadata(&path)?);
        while path != folder && !is_folder(self.metadata(&path)?) {
            path.pop();
        }
        self.watch_folder(&path, whole);
        Ok(())
    }

    fn watch_folder(&mut self, folder: &Path, recursive: bool) {
        // `join` of an empty path would add a slash.
        let path = self.root.join(folder).components().collect();
        self.watch.insert(WatchRoot { path, recursive });
    }

    /// The metadata of a path, links not followed; `None` when nothing is there.
    fn metadata(&self, path: &Path) -> Result<Option<Metadata>, SourcesError> {
        let full = self.root.join(path);
        match full.symlink_metadata() {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(io_error(&full)(error)),
        }
    }

    /// The names in a folder, sorted; none when it is no folder (any more).
    fn names(&self, folder: &Path) -> Result<Vec<OsString>, SourcesError> {
        let full = self.root.join(folder);
        let entries = match fs::read_dir(&full) {
            Ok(entries) => entries,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) && !folder.as_os_str().is_empty() =>
            {
                return Ok(Vec::new());
            }
            Err(error) => return Err(io_error(&full)(error)),
        };
        let names: io::Result<Vec<OsString>> = entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect();
        let mut names = names.map_err(io_error(&full))?;
        names.sort();
        Ok(names)
    }
}

/// Whether one of two paths is the other or a folder above it.
fn lies_on(path: &str, other: &str) -> bool {
    Path::new(path).starts_with(other) || Path::new(other).starts_with(path)
}

fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

/// The folders before the first part with a wildcard, and the pattern from there on.
fn split_wildcards(path: &str) -> (String, String) {
    let parts: Vec<&str> = path.split('/').collect();
    let first = parts
        .iter()
        .position(|part| has_wildcard(part))
        .unwrap_or(parts.len());
    (
        unescaped(&parts[..first].join("/")),
        parts[first..].join("/"),
    )
}

/// A path without the backslashes that protect wildcards.
fn unescaped(path: &str) -> String {
    let mut text = String::new();
    let mut chars = path.chars();
    while let Some(ch) = chars.next() {
        text.extend(if ch == '\\' { chars.next() } else { Some(ch) });
    }
    text
}
