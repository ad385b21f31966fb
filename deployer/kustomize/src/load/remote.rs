//! Files and repositories on other machines.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Repository;

/// Why a URL gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchError {
    /// The server answered with this status.
    Status(u16),
    /// It could not be asked, or is not to be asked.
    Other(String),
}

/// A repository on disk; it goes when this goes.
#[derive(Debug)]
pub struct Checkout {
    path: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

impl Checkout {
    /// A folder that stays.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            _folder: None,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// How URLs and repositories are reached.
pub trait Remotes {
    /// The content behind an `http` or `https` URL.
    ///
    /// # Errors
    /// If there is none.
    fn fetch(&self, url: &str) -> Result<Vec<u8>, FetchError>;

    /// A repository at its commit, without history.
    ///
    /// # Errors
    /// A text for people.
    fn checkout(&self, repository: &Repository) -> Result<Checkout, String>;
}

/// Reaches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRemotes;

impl Remotes for NoRemotes {
    fn fetch(&self, _: &str) -> Result<Vec<u8>, FetchError> {
        Err(FetchError::Other(
            "remote files are not allowed here".to_owned(),
        ))
    }

    fn checkout(&self, _: &Repository) -> Result<Checkout, String> {
        Err("remote bases are not allowed here".to_owned())
    }
}

/// Clones with the `git` program; fetches no URLs.
#[derive(Debug, Clone)]
pub struct GitRemotes {
    program: PathBuf,
}

impl Default for GitRemotes {
    fn default() -> Self {
        Self {
            program: PathBuf::from("git"),
        }
    }
}

impl GitRemotes {
    /// With a certain program.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }

    fn run(&self, folder: &Path, timeout: Duration, args: &[&str]) -> Result<(), String> {
        let log = tempfile::tempfile().map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let mut child = Command::new(&self.program)
            .args(args)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .env("GIT_TERMINAL_PROMPT", "0")
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", self.program.display()))?;
        let started = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status,
                None if started.elapsed() > timeout => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!(
                        "git {} took longer than {} seconds; add ?timeout= to the address",
                        args.first().unwrap_or(&""),
                        timeout.as_secs()
                    ));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if status.success() {
            return Ok(());
        }
        Err(said(log, args))
    }
}

fn said(mut log: std::fs::File, args: &[&str]) -> String {
    use std::io::{Read as _, Seek as _};
    let mut text = String::new();
    let read = log.rewind().and_then(|()| log.read_to_string(&mut text));
    let text = text.trim();
    if read.is_err() || text.is_empty() {
        return format!("git {} failed", args.first().unwrap_or(&""));
    }
    text.to_owned()
}

impl Remotes for GitRemotes {
    fn fetch(&self, _: &str) -> Result<Vec<u8>, FetchError> {
        Err(FetchError::Other("files are not fetched here".to_owned()))
    }

    fn checkout(&self, repository: &Repository) -> Result<Checkout, String> {
        let url = repository.url();
        let reference = repository.reference().unwrap_or("HEAD");
        // Neither may be taken for a flag.
        if url.starts_with('-') || reference.starts_with('-') {
            return Err("an address or reference must not start with `-`".to_owned());
        }
        let folder = tempfile::Builder::new()
            .prefix("kustomize-")
            .tempdir()
            .map_err(|error| error.to_string())?;
        let path = folder.path();
        let run = |args: &[&str]| self.run(path, repository.timeout(), args);
        run(&["init", "--quiet"])?;
        run(&["remote", "add", "origin", url])?;
        run(&["fetch", "--quiet", "--depth=1", url, reference])?;
        run(&["checkout", "--quiet", "FETCH_HEAD"])?;
        if repository.submodules() {
            run(&["submodule", "--quiet", "update", "--init", "--recursive"])?;
        }
        Ok(Checkout {
            path: path.to_owned(),
            _folder: Some(folder),
        })
    }
}
