//! Repositories of git as contexts and for ADD, fetched with the `git` program.
//!
//! What an address means is decided by [`Address::parse`] without I/O; [`Git::fetch`] brings its files into a
//! directory. Credentials go to git in its environment and only for the address' own host: neither a process list
//! nor the repository's configuration shows them.

mod address;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub use address::{Address, AddressError};
use base64::Engine as _;

/// Variables that would make git work on another repository than the one that is meant.
const LEFT_OUT: [&str; 6] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
];

/// Why a repository could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no `git`.
    #[error(
        "git is not installed where the executor runs, and {url} cannot be fetched without: use an image that has it, or a directory or archive as context"
    )]
    Missing {
        /// What was to be fetched.
        url: String,
    },
    /// It cannot be started.
    #[error("git cannot be run")]
    Run(#[source] io::Error),
    /// It failed.
    #[error("git {verb} of {url} failed: {message}")]
    Failed {
        /// Its sub-command.
        verb: String,
        /// The repository.
        url: String,
        /// What it said.
        message: String,
    },
    /// The commit is another one than the one that is required.
    #[error("{url} is at commit {found}, not at {expected}")]
    Checksum {
        /// The repository.
        url: String,
        /// What was required.
        expected: String,
        /// What came.
        found: String,
    },
    /// The directory within the repository.
    #[error("{url} has no directory {subdir}")]
    Subdirectory {
        /// The repository.
        url: String,
        /// The directory.
        subdir: String,
    },
    /// The files could not be put in place.
    #[error("cannot write {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// User and password of a repository.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({}, …)", self.username)
    }
}

/// How much of a repository is fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extent {
    /// How many commits; all of them without.
    pub depth: Option<u32>,
    /// Whether submodules are fetched as well.
    pub submodules: Submodules,
    /// Whether other branches and tags are fetched as well.
    pub branches: Branches,
    /// Whether `.git` stays.
    pub history: History,
    /// Whether the server's certificate counts.
    pub certificate: Certificate,
}

/// See [`Extent::submodules`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Submodules {
    /// They stay empty directories.
    #[default]
    Empty,
    /// They are fetched, and theirs.
    Recursive,
}

/// See [`Extent::branches`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Branches {
    /// Only what is checked out.
    #[default]
    One,
    /// All, with their tags.
    All,
}

/// See [`Extent::history`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum History {
    /// Files only.
    #[default]
    Removed,
    /// `.git` is there.
    Kept,
}

/// See [`Extent::certificate`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Certificate {
    /// It is checked.
    #[default]
    Checked,
    /// Any is taken.
    Any,
}

/// Runs git with these variables and this login.
#[derive(Debug, Clone)]
pub struct Git {
    env: BTreeMap<String, String>,
    login: Option<Login>,
}

impl Git {
    /// Git with the variables of the process (`PATH`, proxies, `SSH_AUTH_SOCK`, `GIT_SSH_COMMAND`, …).
    #[must_use]
    pub fn new(env: &BTreeMap<String, String>) -> Self {
        let mut env = env.clone();
        env.retain(|name, _| !LEFT_OUT.contains(&name.as_str()) && !name.starts_with("GIT_CONFIG"));
        Self { env, login: None }
    }

    /// Logs in at the host of the address that is fetched.
    #[must_use]
    pub fn with_login(mut self, login: Login) -> Self {
        self.login = Some(login);
        self
    }

    /// `git` in the given `PATH`.
    fn program(&self, url: &str) -> Result<PathBuf, GitError> {
        let path = self.env.get("PATH").map_or("", String::as_str);
        path.split(':')
            .filter(|folder| !folder.is_empty())
            .map(|folder| Path::new(folder).join("git"))
            .find(|program| program.is_file())
            .ok_or_else(|| GitError::Missing {
                url: url.to_owned(),
            })
    }

    /// Puts the files of `address` into the empty directory `into`, and returns the commit's full name. Files get
    /// mode 644 or 755, directories 755.
    ///
    /// # Errors
    /// [`GitError`]
    pub fn fetch(
        &self,
        address: &Address,
        extent: &Extent,
        into: &Path,
    ) -> Result<String, GitError> {
        let work = Work {
            git: self,
            address,
            extent,
            dir: into,
        };
        let commit = work.checkout()?;
        if let Some(expected) = &address.checksum
            && !commit.starts_with(expected.as_str())
        {
            return Err(GitError::Checksum {
                url: address.url.clone(),
                expected: expected.clone(),
                found: commit,
            });
        }
        if extent.history == History::Removed && address.subdir.is_none() {
            remove_metadata(into)?;
        }
        if let Some(subdir) = &address.subdir {
            work.only(subdir)?;
        }
        settle_modes(into)?;
        Ok(commit)
    }
}

/// One fetch.
struct Work<'w> {
    git: &'w Git,
    address: &'w Address,
    extent: &'w Extent,
    dir: &'w Path,
}

impl Work<'_> {
    fn checkout(&self) -> Result<String, GitError> {
        self.run(&["init", "--quiet", "--template=", "."])?;
        self.run(&["remote", "add", "origin", &self.address.url])?;
        let wanted = self.address.reference.as_deref().unwrap_or("HEAD");
        let commit = match &self.address.commit {
            Some(commit) => self.commit(wanted, commit)?,
            None if is_commit(wanted) => self.commit("HEAD", wanted)?,
            None => {
                self.fetch(wanted)?;
                "FETCH_HEAD^{commit}".to_owned()
            }
        };
        self.run(&["checkout", "--quiet", "--detach", &commit])?;
        if self.extent.submodules == Submodules::Recursive {
            let mut arguments = vec!["submodule", "--quiet", "update", "--init", "--recursive"];
            if self.extent.depth.is_some() {
                arguments.push("--depth=1");
            }
            self.run(&arguments)?;
        }
        let name = self.run(&["rev-parse", "HEAD"])?;
        Ok(String::from_utf8_lossy(&name.stdout).trim().to_owned())
    }

    /// Fetches a commit by its name. Servers that do not hand out commits, and names that are not whole, need the
    /// history that leads there.
    fn commit(&self, reference: &str, commit: &str) -> Result<String, GitError> {
        if commit.len() >= 40 && self.fetch(commit).is_ok() {
            return Ok(commit.to_owned());
        }
        let whole = [
            "fetch",
            "--quiet",
            "--tags",
            "origin",
            reference,
            "+refs/heads/*:refs/remotes/origin/*",
        ];
        self.run(&whole)?;
        Ok(format!("{commit}^{{commit}}"))
    }

    fn fetch(&self, reference: &str) -> Result<(), GitError> {
        let depth = self.extent.depth.map(|depth| format!("--depth={depth}"));
        let mut arguments = vec!["fetch", "--quiet"];
        arguments.push(match self.extent.branches {
            Branches::One => "--no-tags",
            Branches::All => "--tags",
        });
        let everything = match self.extent.branches {
            Branches::One => None,
            Branches::All => Some("+refs/heads/*:refs/remotes/origin/*"),
        };
        let rest: Vec<&str> = ["origin", reference]
            .into_iter()
            .chain(everything)
            .collect();
        if let Some(depth) = &depth {
            let shallow: Vec<&str> = [&arguments[..], &[depth.as_str()], &rest].concat();
            if self.run(&shallow).is_ok() {
                return Ok(());
            }
            // A server that only serves files knows no depth.
        }
        arguments.extend(rest);
        self.run(&arguments).map(drop)
    }

    fn run(&self, arguments: &[&str]) -> Result<Output, GitError> {
        let mut command = Command::new(self.git.program(&self.address.url)?);
        command
            .env_clear()
            .envs(&self.git.env)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("LC_ALL", "C");
        for (number, (key, value)) in self.configuration().iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{number}"), key)
                .env(format!("GIT_CONFIG_VALUE_{number}"), value)
                .env("GIT_CONFIG_COUNT", (number + 1).to_string());
        }
        let output = command
            .arg("-C")
            .arg(self.dir)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(GitError::Run)?;
        if output.status.success() {
            return Ok(output);
        }
        Err(GitError::Failed {
            verb: arguments[0].to_owned(),
            url: self.address.url.clone(),
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// Settings for each call: no hooks, the owner of the directory does not count, credentials for this host.
    fn configuration(&self) -> Vec<(String, String)> {
        let mut settings = vec![
            ("core.hooksPath".to_owned(), "/dev/null".to_owned()),
            ("safe.directory".to_owned(), "*".to_owned()),
            ("advice.detachedHead".to_owned(), "false".to_owned()),
            ("protocol.ext.allow".to_owned(), "never".to_owned()),
        ];
        if self.extent.certificate == Certificate::Any {
            settings.push(("http.sslVerify".to_owned(), "false".to_owned()));
        }
        if let (Some(login), Some(origin)) = (&self.git.login, self.address.web_origin()) {
            let text = format!("{}:{}", login.username, login.password);
            let text = base64::engine::general_purpose::STANDARD.encode(text);
            settings.push((
                format!("http.{origin}.extraHeader"),
                format!("Authorization: Basic {text}"),
            ));
        }
        settings
    }

    /// Leaves the content of one directory of the checkout, in the place of the whole.
    fn only(&self, subdir: &str) -> Result<(), GitError> {
        let missing = || GitError::Subdirectory {
            url: self.address.url.clone(),
            subdir: subdir.to_owned(),
        };
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| GitError::File { path, source }
        };
        let root = self.dir.canonicalize().map_err(file(self.dir))?;
        let wanted = root
            .join(subdir.trim_matches('/'))
            .canonicalize()
            .map_err(|_| missing())?;
        if !wanted.starts_with(&root) || !wanted.is_dir() {
            return Err(missing());
        }
        if wanted == root {
            return match self.extent.history {
                History::Removed => remove_metadata(&root),
                History::Kept => Ok(()),
            };
        }
        let aside = tempfile::Builder::new()
            .prefix(".checkout")
            .tempdir_in(&root)
            .map_err(file(&root))?;
        let kept = aside.path().join("kept");
        fs::rename(&wanted, &kept).map_err(file(&wanted))?;
        for entry in fs::read_dir(&root).map_err(file(&root))? {
            let path = entry.map_err(file(&root))?.path();
            let is_metadata = path.file_name().is_some_and(|name| name == ".git");
            let stays = is_metadata && self.extent.history == History::Kept;
            if path == aside.path() || stays {
                continue;
            }
            remove(&path).map_err(file(&path))?;
        }
        for entry in fs::read_dir(&kept).map_err(file(&kept))? {
            let entry = entry.map_err(file(&kept))?;
            let place = root.join(entry.file_name());
            fs::rename(entry.path(), &place).map_err(file(&place))?;
        }
        Ok(())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

/// `.git` of the repository; submodules have a file of that name.
fn remove_metadata(dir: &Path) -> Result<(), GitError> {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |source| GitError::File {
            path: folder.clone(),
            source,
        };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if entry.file_name() == ".git" {
                remove(&path).map_err(|source| GitError::File { path, source })?;
            } else if entry.file_type().map_err(failed)?.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(())
}

/// Git makes files as the umask says; an image must not depend on it.
fn settle_modes(dir: &Path) -> Result<(), GitError> {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |source| GitError::File {
            path: folder.clone(),
            source,
        };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let metadata = entry.metadata().map_err(failed)?;
            let mode = match metadata.permissions().mode() {
                _ if metadata.is_symlink() => continue,
                _ if metadata.is_dir() => 0o755,
                mode if mode & 0o100 != 0 => 0o755,
                _ => 0o644,
            };
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode)).map_err(failed)?;
        }
    }
    Ok(())
}

/// Whether a text can only be the (perhaps shortened) name of a commit.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 7..=40 | 64)
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        && text.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
