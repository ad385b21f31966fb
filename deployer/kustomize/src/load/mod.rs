//! Reading files: what a kustomization may read and from where.

mod files;
mod remote;
mod repository;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

pub use files::{DiskFiles, FileSystem, MemoryFiles};
pub use remote::{Checkout, FetchError, GitRemotes, NoRemotes, Remotes};
pub use repository::Repository;

/// The largest file that is read, in bytes.
pub const LARGEST_FILE: u64 = 32 * 1024 * 1024;

/// Why a file or folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not there or cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is a folder.
    #[error("{} is a folder, and a file is expected", .path.display())]
    NotFile {
        /// The folder.
        path: PathBuf,
    },
    /// It is a file.
    #[error("{} is not a folder", .path.display())]
    NotFolder {
        /// The file.
        path: PathBuf,
    },
    /// It lies outside of what a kustomization may read.
    #[error(
        "{} is not in or below {}; move it there, or use --load-restrictor LoadRestrictionsNone",
        .path.display(), .root.display()
    )]
    Outside {
        /// The file.
        path: PathBuf,
        /// The folder of the kustomization.
        root: PathBuf,
    },
    /// A base is given by an absolute path.
    #[error("{} is an absolute path; a base is given relative to its overlay", .path.display())]
    Absolute {
        /// The path.
        path: PathBuf,
    },
    /// A kustomization leads back to itself.
    #[error("cycle: {} contains {}, which was visited", .candidate.display(), .visited.display())]
    Cycle {
        /// The folder that is named.
        candidate: PathBuf,
        /// A folder that led here.
        visited: PathBuf,
    },
    /// A repository leads back to itself.
    #[error("cycle: {0} is a base of itself")]
    RepositoryCycle(String),
    /// A base of a cloned repository lies outside of it.
    #[error("{} is outside of the repository that names it", .path.display())]
    OutsideRepository {
        /// The folder.
        path: PathBuf,
    },
    /// The path is empty.
    #[error("the path is empty")]
    Empty,
    /// It is not text.
    #[error("{} is not UTF-8", .path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A URL is to be rendered that is no repository.
    #[error(
        "{0} is not the address of a git repository; a kustomization is a folder, or a folder of \
         a repository: https://HOST/OWNER/REPO//PATH?ref=TAG"
    )]
    NotRepository(String),
    /// A URL answered with an error.
    #[error("{url} answered with status {status}")]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: u16,
    },
    /// A URL or repository could not be reached.
    #[error("cannot get {url}: {message}")]
    Remote {
        /// The URL.
        url: String,
        /// Why.
        message: String,
    },
}

/// What all loaders of a build share.
pub(crate) struct Access<'a> {
    pub(crate) files: &'a dyn FileSystem,
    pub(crate) remotes: &'a dyn Remotes,
    /// Every file that was asked for, whether it was there or not.
    pub(crate) asked: RefCell<BTreeSet<PathBuf>>,
}

/// Reads files for one kustomization.
pub(crate) struct Loader<'a> {
    access: &'a Access<'a>,
    root: PathBuf,
    restricted: bool,
    referrer: Option<Rc<Loader<'a>>>,
    repository: Option<(Repository, Rc<Checkout>)>,
}

impl<'a> Loader<'a> {
    /// A loader for the kustomization that is built.
    pub(crate) fn open(
        access: &'a Access<'a>,
        target: &str,
        restricted: bool,
    ) -> Result<Rc<Self>, LoadError> {
        if let Some(repository) = Repository::read(target) {
            return Self::clone_repository(access, repository, None);
        }
        if target.contains("://") {
            return Err(LoadError::NotRepository(target.to_owned()));
        }
        let root = folder(access, Path::new(target)).inspect_err(|_| {
            let path = normal(Path::new(target));
            if path.is_absolute() {
                access.asked.borrow_mut().insert(path);
            }
        })?;
        Ok(Rc::new(Self {
            access,
            root,
            restricted,
            referrer: None,
            repository: None,
        }))
    }

    /// The folder of the kustomization.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A loader for a base or component.
    pub(crate) fn enter(self: &Rc<Self>, path: &str) -> Result<Rc<Self>, LoadError> {
        if path.is_empty() {
            return Err(LoadError::Empty);
        }
        if let Some(repository) = Repository::read(path) {
            self.refuse_repository_cycle(&repository)?;
            return Self::clone_repository(self.access, repository, Some(Rc::clone(self)));
        }
        if Path::new(path).is_absolute() {
            return Err(LoadError::Absolute { path: path.into() });
        }
        let full = self.root.join(path);
        let root = folder(self.access, &full).inspect_err(|_| self.asked(&normal(&full)))?;
        if let Some(checkout) = self.containing_checkout()
            && !root.starts_with(checkout)
        {
            return Err(LoadError::OutsideRepository { path: root });
        }
        self.refuse_cycle(&root)?;
        Ok(Rc::new(Self {
            access: self.access,
            root,
            restricted: self.restricted,
            referrer: Some(Rc::clone(self)),
            repository: None,
        }))
    }

    fn clone_repository(
        access: &'a Access<'a>,
        repository: Repository,
        referrer: Option<Rc<Self>>,
    ) -> Result<Rc<Self>, LoadError> {
        let checkout =
            access
                .remotes
                .checkout(&repository)
                .map_err(|message| LoadError::Remote {
                    url: repository.url().to_owned(),
                    message,
                })?;
        let top = folder(access, checkout.path())?;
        let root = folder(access, &top.join(repository.path()))?;
        if !root.starts_with(&top) {
            return Err(LoadError::OutsideRepository { path: root });
        }
        Ok(Rc::new(Self {
            access,
            root,
            restricted: true,
            referrer,
            repository: Some((repository, Rc::new(checkout))),
        }))
    }

    fn containing_checkout(&self) -> Option<PathBuf> {
        match (&self.repository, &self.referrer) {
            (Some((_, checkout)), _) => {
                let path = checkout.path();
                Some(
                    self.access
                        .files
                        .canonical(path)
                        .unwrap_or_else(|_| path.to_owned()),
                )
            }
            (None, Some(referrer)) => referrer.containing_checkout(),
            (None, None) => None,
        }
    }

    fn refuse_cycle(&self, candidate: &Path) -> Result<(), LoadError> {
        if self.root.starts_with(candidate) {
            return Err(LoadError::Cycle {
                candidate: candidate.to_owned(),
                visited: self.root.clone(),
            });
        }
        self.referrer
            .as_ref()
            .map_or(Ok(()), |referrer| referrer.refuse_cycle(candidate))
    }

    fn refuse_repository_cycle(&self, next: &Repository) -> Result<(), LoadError> {
        if let Some((known, _)) = &self.repository
            && known.raw().starts_with(next.raw())
        {
            return Err(LoadError::RepositoryCycle(next.raw().to_owned()));
        }
        self.referrer
            .as_ref()
            .map_or(Ok(()), |referrer| referrer.refuse_repository_cycle(next))
    }

    /// Reads a file or URL.
    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>, LoadError> {
        if is_url(path) {
            return self
                .access
                .remotes
                .fetch(path)
                .map_err(|error| match error {
                    FetchError::Status(status) if Repository::read(path).is_none() => {
                        LoadError::Status {
                            url: path.to_owned(),
                            status,
                        }
                    }
                    FetchError::Status(status) => LoadError::Remote {
                        url: path.to_owned(),
                        message: format!("status {status}"),
                    },
                    FetchError::Other(message) => LoadError::Remote {
                        url: path.to_owned(),
                        message,
                    },
                });
        }
        let full = normal(&self.root.join(path));
        let read = |source| LoadError::Read {
            path: full.clone(),
            source,
        };
        let canonical = self.access.files.canonical(&full).map_err(|error| {
            if Repository::read(path).is_none() {
                self.asked(&full);
            }
            read(error)
        })?;
        if self.access.files.is_folder(&canonical) {
            return Err(LoadError::NotFile { path: full });
        }
        self.asked(&full);
        let folder = canonical.parent().unwrap_or(&canonical);
        if self.restricted && !folder.starts_with(&self.root) {
            return Err(LoadError::Outside {
                path: full,
                root: self.root.clone(),
            });
        }
        self.access
            .files
            .read(&canonical, LARGEST_FILE)
            .map_err(read)
    }

    /// As [`Self::read`], as text.
    pub(crate) fn text(&self, path: &str) -> Result<String, LoadError> {
        let bytes = self.read(path)?;
        String::from_utf8(bytes).map_err(|_| LoadError::NotText {
            path: normal(&self.root.join(path)),
        })
    }

    /// Notes a file whose appearance or change would matter.
    pub(crate) fn asked(&self, path: &Path) {
        if self.containing_checkout().is_none() {
            self.access.asked.borrow_mut().insert(path.to_owned());
        }
    }

    /// Whether a file is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        let full = self.root.join(name);
        self.access
            .files
            .canonical(&full)
            .is_ok_and(|path| !self.access.files.is_folder(&path))
    }
}

fn folder(access: &Access<'_>, path: &Path) -> Result<PathBuf, LoadError> {
    if path.as_os_str().is_empty() {
        return Err(LoadError::Empty);
    }
    let clean = normal(path);
    let canonical = access
        .files
        .canonical(&clean)
        .map_err(|source| LoadError::Read {
            path: clean.clone(),
            source,
        })?;
    if access.files.is_folder(&canonical) {
        Ok(canonical)
    } else {
        Err(LoadError::NotFolder { path: clean })
    }
}

/// Whether a path is fetched instead of read.
pub(crate) fn is_url(path: &str) -> bool {
    let lower = path.get(..8).unwrap_or(path).to_ascii_lowercase();
    lower.starts_with("http://") || lower.starts_with("https://")
}

/// Without `.` and `..`, by name alone.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => match normal.components().next_back() {
                Some(Component::Normal(_)) => {
                    normal.pop();
                }
                Some(Component::RootDir) => {}
                _ => normal.push(".."),
            },
            other => normal.push(other),
        }
    }
    if normal.as_os_str().is_empty() {
        normal.push(".");
    }
    normal
}
