//! The files of a context that say how to build it. A context that was fetched is somebody else's: its links are
//! followed within it alone, else it could name files of this machine and have their text in the log.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use kiln_sandbox::Rootfs;
use kiln_store::Scratch;

use super::{CliError, LONGEST_DOCKERFILE};

/// A context that is there.
pub(in crate::cli::settings) struct Opened {
    /// Absolute, without links.
    pub dir: PathBuf,
    /// Where it was unpacked, when it was fetched.
    pub fetched: Option<Fetched>,
}

/// What was fetched.
pub(in crate::cli::settings) struct Fetched {
    /// Absolute, without links; a sub-path lies below it.
    root: PathBuf,
    files: Rootfs,
    /// Goes with the build.
    _scratch: Scratch,
}

impl Opened {
    /// A directory of this machine.
    pub fn local(dir: &Path) -> Result<Self, CliError> {
        Ok(Self {
            dir: real(dir)?,
            fetched: None,
        })
    }

    /// What was unpacked into the scratch directory, or the directory `sub` of it.
    pub fn fetched(scratch: Scratch, sub: &Path) -> Result<Self, CliError> {
        const WHAT: &str = "the context";
        let root = real(scratch.path())?;
        let failed = |error: kiln_sandbox::rootfs::RootfsError| CliError::Read {
            what: WHAT,
            path: sub.to_owned(),
            source: error.source,
        };
        let files = Rootfs::open(&root).map_err(failed)?;
        let fetched = Fetched {
            root,
            files,
            _scratch: scratch,
        };
        let found = fetched.files.canonicalize(sub);
        let found = found.map_err(|error| fetched.refusal(WHAT, sub, error.source))?;
        Ok(Self {
            dir: fetched.root.join(within(&found)),
            fetched: Some(fetched),
        })
    }

    /// The text of a file that the user or the context names; `None` when there is none.
    pub fn text(&self, what: &'static str, path: &Path) -> Result<Option<String>, CliError> {
        let theirs = self.fetched.as_ref().and_then(|fetched| {
            let inner = path.strip_prefix(&fetched.root).ok()?;
            Some((fetched, inner))
        });
        let (read, refusal): (_, &dyn Fn(io::Error) -> CliError) = match theirs {
            Some((fetched, inner)) => (fetched.read(inner), &move |source| {
                fetched.refusal(what, inner, source)
            }),
            None => (fs::read(path), &|source| CliError::Read {
                what,
                path: path.to_owned(),
                source,
            }),
        };
        match read {
            // Comments are in any encoding (BuildKit); what is not UTF-8 is shown as such.
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(source) => match refusal(source) {
                CliError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                    Ok(None)
                }
                error => Err(error),
            },
        }
    }
}

impl Fetched {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.files.open_file(path).map_err(|error| error.source)?;
        // An archive may hold devices, which never end.
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        let length = file.take(LONGEST_DOCKERFILE + 1).read_to_end(&mut bytes)? as u64;
        if length > LONGEST_DOCKERFILE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    /// Why a path of the context cannot be used. Whether a link would have found something on this machine is none of
    /// the context's business.
    fn refusal(&self, what: &'static str, path: &Path, source: io::Error) -> CliError {
        let path = within(path);
        let mut ways = path.ancestors().filter(|way| !way.as_os_str().is_empty());
        if source.kind() == io::ErrorKind::NotFound && ways.any(|way| self.is_link(way)) {
            return CliError::LeadsOut { what, path };
        }
        CliError::Read { what, path, source }
    }

    fn is_link(&self, path: &Path) -> bool {
        self.files.read_link(path).is_ok()
    }
}

/// The path relative to the context.
fn within(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .collect()
}

fn real(dir: &Path) -> Result<PathBuf, CliError> {
    dir.canonicalize().map_err(|source| CliError::Read {
        what: "the context",
        path: dir.to_owned(),
        source,
    })
}
