//! An ordinary user becomes root of a user namespace, with the ids that belong to that user: what
//! builds and unpacks images on this machine has to give files to others.
//!
//! The program starts itself anew, in the same process, and there leaves its user namespace before
//! any thread exists. Its maps are written by a child that stays outside.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use kiln_sandbox::namespace;

/// The name under which the program starts itself anew.
const MARKER: &str = "kiln-local: users";
/// The name of the child that writes the maps.
const MAPPER: &str = "kiln-local: map";

/// Whether the process has to [`start_anew`] before it can build and run things here.
#[must_use]
pub fn is_ordinary() -> bool {
    !rustix::process::geteuid().is_root()
}

/// Starts the program anew with the same arguments, as root of a user namespace. Returns only with
/// the reason why not.
#[must_use]
pub fn start_anew() -> io::Error {
    let words = std::env::args_os().skip(1);
    Command::new("/proc/self/exe")
        .arg0(MARKER)
        .args(words)
        .exec()
}

/// The other half of [`start_anew`], first in `main`. Does nothing in any other process.
#[allow(
    clippy::exit,
    reason = "the process cannot go on, or was started for this alone"
)]
pub fn init() {
    let mut words = std::env::args_os();
    let name = words.next();
    let result = match name.as_deref() {
        Some(name) if name == OsStr::new(MARKER) => become_root(),
        Some(name) if name == OsStr::new(MAPPER) => {
            let pid = words.next().and_then(|word| word.to_str()?.parse().ok());
            let mapped = pid.map_or_else(|| Err(io::ErrorKind::InvalidInput.into()), map);
            std::process::exit(i32::from(mapped.is_err()));
        }
        _ => return,
    };
    if let Err(error) = result {
        let text = format!("error: cannot make a user namespace: {error}\n");
        drop(io::Write::write_all(&mut io::stderr(), text.as_bytes()));
        std::process::exit(1);
    }
}

fn become_root() -> io::Result<()> {
    let (control, theirs) = UnixStream::pair()?;
    let mut mapper = Command::new("/proc/self/exe")
        .arg0(MAPPER)
        .arg(std::process::id().to_string())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    let result = namespace::own_users(&control).map_err(io::Error::other);
    drop(control);
    mapper.wait()?;
    result
}

fn map(pid: u32) -> io::Result<()> {
    use std::os::fd::AsFd;
    let control: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let ids = namespace::best_ids()?;
    namespace::map_process(pid, &UnixStream::from(control), &ids).map_err(io::Error::other)
}
