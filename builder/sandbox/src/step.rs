//! What to run, and what it is to see.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One command in one root filesystem.
///
/// Host paths are absolute paths as the calling process sees them; the others are absolute paths
/// inside the root, resolved there, so that an image's own links (`/var/run` to `/run`) are
/// followed and can never lead outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What becomes `/`.
    pub root: Root,
    /// The command.
    pub process: Process,
    /// Host paths that appear inside at the same path, writable, with everything mounted below
    /// them: the pod's volumes ([`crate::mounts::volumes`]) and the build context.
    /// One that is, or lies below, a [hidden](Step::hidden) path is left out.
    pub volumes: Vec<PathBuf>,
    /// Further host paths, each at a place of its own. Applied in order, after the volumes, so a
    /// later one covers an earlier one.
    pub binds: Vec<Bind>,
    /// Empty file systems in memory, mounted before the binds; one that lies within a bind after
    /// them.
    pub tmpfs: Vec<Tmpfs>,
    /// Host paths that the command must not see, wherever a volume or a bind would show them:
    /// service account tokens, registry credentials. A hidden path covers what is below it.
    /// Needs a mount namespace; on rungs without one the caller keeps such things elsewhere.
    pub hidden: Vec<PathBuf>,
    /// The host name inside; the caller's when absent.
    pub hostname: Option<String>,
    /// Which network the command sees.
    pub network: Network,
}

impl Step {
    /// A step with nothing mounted and the pod's network.
    #[must_use]
    pub fn new(root: Root, process: Process) -> Self {
        Self {
            root,
            process,
            volumes: Vec::new(),
            binds: Vec::new(),
            tmpfs: Vec::new(),
            hidden: Vec::new(),
            hostname: None,
            network: Network::Host,
        }
    }
}

/// What the command sees as `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// An overlay. Needs a mount namespace.
    Overlay {
        /// Read-only directories, the topmost first; at least one.
        lowers: Vec<PathBuf>,
        /// Where changes go: an empty directory, not on an overlay. When the step has ended it may
        /// be a lower of the next.
        upper: PathBuf,
        /// An empty directory on the file system of `upper`.
        work: PathBuf,
        /// A directory on the file system of `upper` that the sandbox may fill; emptied again
        /// when the step ends. One per concurrent step.
        scratch: PathBuf,
    },
    /// A directory, changed directly.
    Directory(PathBuf),
    /// The root that the caller itself lives in. Only on [`crate::Rung::InPlace`].
    InPlace,
}

/// A command and the state it starts with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The program and its arguments; a name without a slash is looked up in `env`'s `PATH`.
    pub argv: Vec<OsString>,
    /// The whole environment: nothing of the caller's is added.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory, which must exist.
    pub cwd: PathBuf,
    /// Who runs it.
    pub user: User,
    /// The file mode creation mask, for example 0o022.
    pub umask: u32,
}

impl Process {
    /// A command run by root in `/` with an empty environment and umask 022.
    pub fn new<I, S>(argv: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: User::default(),
            umask: 0o022,
        }
    }
}

/// Numeric identity inside the root. The default is root with no supplementary groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// A host path shown at a place inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The host path: a directory (with everything mounted below it) or a file.
    pub source: PathBuf,
    /// Where it appears. Missing directories and files are made for the time of the step only.
    pub target: PathBuf,
    /// Whether the command may write to it.
    pub access: Access,
}

impl Bind {
    /// A bind that the command may write to.
    pub fn writable(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            target: target.into(),
            access: Access::ReadWrite,
        }
    }

    /// A bind that the command may only read.
    pub fn read_only(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            target: target.into(),
            access: Access::ReadOnly,
        }
    }

    /// The files by which a container finds the network, of those that exist on the host:
    /// `resolv.conf`, `hosts` and `hostname` of `/etc`, each at its own path. They are copies in
    /// `dir`: a command that writes to one must not lead its caller astray.
    ///
    /// # Errors
    /// When a file cannot be copied.
    pub fn network_files(dir: &Path) -> io::Result<Vec<Self>> {
        let mut binds = Vec::new();
        for path in crate::mounts::NETWORK_FILES.map(Path::new) {
            let Some(name) = path.file_name().filter(|_| path.exists()) else {
                continue;
            };
            let copy = dir.join(name);
            fs::write(&copy, fs::read(path)?)?;
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o644))?;
            binds.push(Self::writable(copy, path));
        }
        Ok(binds)
    }
}

/// Whether a bind may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Read only, with everything mounted below.
    ReadOnly,
    /// As the host path itself allows.
    ReadWrite,
}

/// An empty file system in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Where it appears.
    pub target: PathBuf,
    /// Its limit in bytes; the kernel's default, half of the memory, when absent.
    pub size: Option<u64>,
    /// Whether the command may write to it.
    pub access: Access,
    /// The mode of its root where the target is not there yet, for example 0o1777; a directory that
    /// is there lends it its own.
    pub mode: u32,
}

/// Which network a command sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The caller's.
    Host,
    /// A new one with only a loopback device. Needs namespaces.
    None,
}
