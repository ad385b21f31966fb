//! An ordinary user becomes root of a user namespace, with the ids that belong to that user: what
//! unpacks images and runs their commands has to give files to others.
//!
//! The program starts itself anew, in the same process, and there leaves its user namespace before
//! any thread exists. Its maps are written by a child that stays outside.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::thread::UnshareFlags;

use crate::child::command::set_ids;
use crate::error::Failure;
use crate::idmap::IdMap;
use crate::wire::{self, Mapped, Report};
use crate::{namespace, sys};

/// The variable that asks for the namespace. Its value is the id of the process that it is meant
/// for, which stays the same through an exec; children inherit the variable and not the id.
const VARIABLE: &str = "KILN_OWN_USERS";
/// The name of the child that writes the maps.
const MAPPER: &str = "kiln-sandbox: map";

/// What to do where files and processes can belong to one user alone.
pub const MORE_IDS: &str =
    "install newuidmap (package uidmap) and give this user ids in /etc/subuid and /etc/subgid";

/// What became of [`start_anew`].
static MADE: OnceLock<Result<(), Failure>> = OnceLock::new();

/// Whose files this process can own on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Root's, and everybody's that the machine or pod knows.
    Everyone,
    /// An ordinary user's, who is root inside, and those of subordinate ids from the second
    /// number on.
    Subordinate(u32, u32),
    /// One user's alone; all files belong to that one.
    One(u32),
}

impl Owners {
    /// Those of the calling process, which do not change once `main` has begun: it is asked for
    /// every file that is unpacked.
    #[must_use]
    pub fn present() -> Self {
        static PRESENT: OnceLock<Owners> = OnceLock::new();
        *PRESENT.get_or_init(Self::look)
    }

    fn look() -> Self {
        let euid = rustix::process::geteuid();
        if !euid.is_root() {
            return Self::One(euid.as_raw());
        }
        let outside = || fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        if IdMap::present() == IdMap::Single {
            return Self::One(first_outside(&outside()).0);
        }
        match started_anew() {
            true => match first_outside(&outside()) {
                (own, Some(subordinate)) => Self::Subordinate(own, subordinate),
                (own, None) => Self::One(own),
            },
            false => Self::Everyone,
        }
    }

    /// Whether files can belong to others than the one who made them.
    #[must_use]
    pub fn are_many(self) -> bool {
        !matches!(self, Self::One(_))
    }

    /// The part of a shared directory where files have these owners: what others unpacked there
    /// would look as if it belonged to somebody else.
    #[must_use]
    pub fn part(self) -> Option<PathBuf> {
        match self {
            Self::Everyone => None,
            Self::Subordinate(own, first) => Some(format!("of-{own}-and-{first}").into()),
            Self::One(own) => Some(format!("of-{own}").into()),
        }
    }
}

/// The outer ids of the first range, and of the second, of a `uid_map`.
fn first_outside(map: &str) -> (u32, Option<u32>) {
    let mut outside = map
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse().ok());
    (outside.next().unwrap_or_default(), outside.next())
}

/// Whether the process has to [`start_anew`] before it can give files to others.
#[must_use]
pub fn is_ordinary() -> bool {
    !rustix::process::geteuid().is_root()
}

/// Whether the process is root of a namespace that it made for itself.
#[must_use]
pub fn started_anew() -> bool {
    matches!(MADE.get(), Some(Ok(())))
}

/// Why the process, although started anew, is still in its old namespace.
#[must_use]
pub fn refusal() -> Option<&'static Failure> {
    MADE.get().and_then(|made| made.as_ref().err())
}

/// Starts the program anew with the same name and arguments, as root of a user namespace. Returns
/// only with the reason why not. What the kernel refuses shows afterwards, in [`refusal`].
#[must_use]
pub fn start_anew() -> io::Error {
    let mut words = std::env::args_os();
    Command::new("/proc/self/exe")
        .arg0(words.next().unwrap_or_default())
        .args(words)
        .env(VARIABLE, std::process::id().to_string())
        .exec()
}

/// The other half of [`start_anew`], first in `main`. Does nothing in any other process.
pub(crate) fn init() {
    let mut words = std::env::args_os();
    if words.next().as_deref() == Some(OsStr::new(MAPPER)) {
        let pid = words.next().and_then(|word| word.to_str()?.parse().ok());
        let mapped = pid.is_some_and(|pid| map(pid).is_ok());
        sys::exit_now(i32::from(!mapped));
    }
    let own = std::process::id().to_string();
    #[allow(clippy::disallowed_methods, reason = "the program speaks to itself")]
    let meant = std::env::var_os(VARIABLE).is_some_and(|pid| pid == *own);
    if is_ordinary() && meant {
        let _ = MADE.set(become_root());
    }
}

fn become_root() -> Result<(), Failure> {
    let failed = |operation: &'static str| move |error: io::Error| Failure::new(operation, error);
    let (control, theirs) = UnixStream::pair().map_err(failed("make a socket"))?;
    let mut mapper = Command::new("/proc/self/exe")
        .arg0(MAPPER)
        .arg(std::process::id().to_string())
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .map_err(failed("start what writes the id maps"))?;
    let result = leave(&control);
    drop(control);
    let ended = mapper.wait();
    result.and(ended.map(drop).map_err(failed("wait for the id maps")))
}

/// Groups are kept: the context may be readable by them alone. A command gets its own.
fn leave(control: &UnixStream) -> Result<(), Failure> {
    sys::unshare(UnshareFlags::NEWUSER)
        .map_err(|error| Failure::new("unshare the user namespace", error))?;
    namespace::await_maps(control)?;
    set_ids(0, 0).map_err(|error| Failure::new("become root of the namespace", error))
}

fn map(pid: u32) -> io::Result<()> {
    let control: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let control = UnixStream::from(control);
    if !matches!(wire::receive(&control)?, Some(Report::Unshared)) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // With one id more works than with none: newuidmap may be there and not be allowed to.
    namespace::best_ids()?
        .write(pid)
        .or_else(|_| IdMap::Single.write(pid))
        .map_err(io::Error::other)?;
    wire::send(&control, &Mapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_tells_whose_ids_it_has() {
        let rootless = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(first_outside(rootless), (1000, Some(100_000)));
        assert_eq!(
            first_outside("         0       1000          1\n"),
            (1000, None)
        );
    }

    #[test]
    fn each_map_has_a_part_of_its_own() {
        assert_eq!(Owners::Everyone.part(), None);
        let parts = [
            Owners::Subordinate(1000, 100_000),
            Owners::Subordinate(1000, 200_000),
            Owners::One(1000),
        ];
        let mut parts: Vec<_> = parts.into_iter().map(Owners::part).collect();
        parts.dedup();
        assert_eq!(parts.len(), 3);
    }
}
