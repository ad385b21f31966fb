//! `C`: takes on the user's identity and becomes the command.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::{Pid, Signal, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, Gid, Uid};

use crate::error::{ExecProblem, Failure};
use crate::ladder::Rung;
use crate::observe;
use crate::step::{Process, Root};
use crate::sys::{self, Fork};
use crate::users::MORE_IDS;
use crate::wire::{Order, Report};

/// The code of a command that never became one; the report tells why.
const NOT_STARTED: i32 = 127;

/// `PATH` where the environment has none, as runc and Docker have it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What Docker leaves a container's root, plus nothing: above all, no SYS_ADMIN, by which the
/// command could take away what covers the hidden paths.
const KEPT_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// In a chroot also without the one by which root leaves it. Who holds fewer capabilities than the
/// caller cannot trace it either, and so read its memory (ptrace(2), "access mode checking").
const KEPT_IN_CHROOT: CapabilitySet = KEPT_CAPABILITIES.difference(CapabilitySet::SYS_CHROOT);

/// What it takes to become another user; gone with the exec that follows.
const SWITCHING: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);

/// Forks the command. A problem on its way is reported over `control` by the fork itself.
pub(crate) fn start(order: &Order, control: &UnixStream) -> Result<Pid, Failure> {
    match sys::fork().map_err(|error| Failure::new("fork the command", error))? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => {
            super::report(control, &become_command(order));
            sys::exit_now(NOT_STARTED)
        }
    }
}

/// Returns only with the reason why the command did not start.
fn become_command(order: &Order) -> Report {
    let process = &order.step.process;
    if let Err(failure) = prepare(order) {
        return Report::Failed(failure);
    }
    // As root first, then as the user: either may be the one who can enter it (runc does so too).
    let entered = enter(&process.cwd);
    if let Err(failure) = take_identity(order) {
        return Report::Failed(failure);
    }
    let entered = entered.or_else(|_| rustix::process::chdir(&process.cwd));
    if let Err(error) = entered {
        return Report::WorkingDirectory {
            path: process.cwd.clone(),
            errno: error.raw_os_error(),
        };
    }
    let problem = execute(process);
    Report::Exec {
        program: process.argv[0].to_string_lossy().into_owned(),
        problem,
    }
}

/// Makes a directory the working directory. One that is not there is made, as runc does: an earlier
/// command may have removed it.
fn enter(directory: &Path) -> rustix::io::Result<()> {
    match rustix::process::chdir(directory) {
        Err(rustix::io::Errno::NOENT) => {
            let mut builder = std::fs::DirBuilder::new();
            // Where it cannot be made, it is still what is missing.
            let made = builder.recursive(true).mode(0o755).create(directory);
            made.map_err(|_| rustix::io::Errno::NOENT)?;
            rustix::process::chdir(directory)
        }
        result => result,
    }
}

fn prepare(order: &Order) -> Result<(), Failure> {
    let failed =
        |operation: &'static str| move |error: rustix::io::Errno| Failure::new(operation, error);
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(failed("tie the command to the sandbox"))?;
    if let (Rung::Chroot, Root::Directory(root)) = (order.rung, &order.step.root) {
        rustix::process::chroot(root)
            .and_then(|()| rustix::process::chdir("/"))
            .map_err(|error| Failure::new(format!("chroot to {}", root.display()), error))?;
    }
    rustix::process::setsid().map_err(failed("start a session"))?;
    let confinement = order.confinement.as_ref();
    if confinement.is_some_and(|confinement| confinement.terminal) {
        rustix::process::ioctl_tiocsctty(std::io::stdin()).map_err(failed("take the terminal"))?;
    }
    rustix::process::umask(Mode::from_raw_mode(order.step.process.umask & 0o777));
    sys::default_signals();
    sys::close_the_rest_on_exec().map_err(|error| Failure::new("close inherited files", error))
}

fn take_identity(order: &Order) -> Result<(), Failure> {
    let user = &order.step.process.user;
    let mut gains_nothing = order
        .confinement
        .as_ref()
        .is_some_and(|confinement| confinement.no_new_privileges);
    if order.rung == Rung::Chroot {
        let dropped = drop_capabilities(KEPT_IN_CHROOT);
        // Without SETPCAP an exec would give them back, unless it gives nothing.
        gains_nothing |= dropped == Err(rustix::io::Errno::PERM);
        dropped
            .or_else(|error| match error {
                rustix::io::Errno::PERM => limit_capabilities(KEPT_IN_CHROOT),
                error => Err(error),
            })
            .map_err(|error| Failure::new("drop capabilities", error))?;
    } else if order.rung.has_mounts() {
        let kept = order
            .confinement
            .as_ref()
            .and_then(|confinement| confinement.capabilities)
            .map_or(KEPT_CAPABILITIES, CapabilitySet::from_bits_retain);
        drop_capabilities(kept).map_err(|error| Failure::new("drop capabilities", error))?;
    }
    if order.ids.allows_groups() && may_set_groups(order.rung) {
        let groups: Vec<_> = user.groups.iter().copied().map(Gid::from_raw).collect();
        rustix::thread::set_thread_groups(&groups)
            .map_err(|error| Failure::new(format!("set the groups {:?}", user.groups), error))?;
    }
    set_ids(user.uid, user.gid).map_err(|error| {
        let mut operation = format!("become user {}:{}", user.uid, user.gid);
        if !order.ids.allows_groups() {
            operation = format!("{operation} (there is a single user id: {MORE_IDS})");
        }
        Failure::new(operation, error)
    })?;
    if gains_nothing {
        rustix::thread::set_no_new_privs(true)
            .map_err(|error| Failure::new("give up new privileges", error))?;
    }
    // Changing ids has cleared it.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Failure::new("tie the command to the sandbox", error))
}

/// In place as an ordinary user, one can only stay who one is.
fn may_set_groups(rung: Rung) -> bool {
    rung.has_mounts()
        || observe::effective_capabilities().is_ok_and(|held| held & observe::SETGID != 0)
}

/// Sets all three of the user and the group ids, the group first, while it is still allowed.
pub(crate) fn set_ids(uid: u32, gid: u32) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

/// Takes everything but the kept capabilities away, for good: out of the bounding set, too, or
/// the exec would give them back.
fn drop_capabilities(kept: CapabilitySet) -> rustix::io::Result<()> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if kept.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Past the last one that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    limit_capabilities(kept)
}

/// Takes everything but the kept capabilities away, until an exec.
fn limit_capabilities(kept: CapabilitySet) -> rustix::io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    let mut sets = rustix::thread::capabilities(None)?;
    sets.permitted &= kept | SWITCHING;
    sets.effective &= kept | SWITCHING;
    sets.inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, sets)
}

/// Executes the command; returns only with the reason why not.
fn execute(process: &Process) -> ExecProblem {
    let invalid = ExecProblem::Other {
        errno: libc::EINVAL,
    };
    let strings = |words: Vec<OsString>| -> Option<Vec<CString>> {
        words
            .into_iter()
            .map(|word| CString::new(word.into_vec()).ok())
            .collect()
    };
    let env = process.env.iter().map(|(name, value)| {
        let mut pair = name.clone();
        pair.push("=");
        pair.push(value);
        pair
    });
    let (Some(argv), Some(env)) = (strings(process.argv.clone()), strings(env.collect())) else {
        return invalid;
    };
    let mut denied = false;
    for candidate in candidates(process) {
        let Ok(program) = CString::new(candidate.into_vec()) else {
            return invalid;
        };
        let error = sys::execve(&program, &argv, &env);
        // As execvp(3): a refusal is only final when no other directory has the program.
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) if !exists(&program) => {}
            Some(libc::ENOENT | libc::ENOTDIR) => return ExecProblem::InterpreterNotFound,
            Some(libc::EACCES | libc::EPERM) => denied = true,
            Some(libc::ENOEXEC) => return not_executable(&program),
            errno => {
                return ExecProblem::Other {
                    errno: errno.unwrap_or(libc::EIO),
                };
            }
        }
    }
    if denied {
        ExecProblem::PermissionDenied
    } else {
        ExecProblem::NotFound
    }
}

/// The paths to try: the program itself when it holds a slash, else it in each of `PATH`.
fn candidates(process: &Process) -> Vec<OsString> {
    let program = &process.argv[0];
    if program.as_bytes().contains(&b'/') {
        return vec![program.clone()];
    }
    let path = process
        .env
        .iter()
        .rev()
        .find(|(name, _)| name == "PATH")
        .map_or_else(|| OsStr::new(DEFAULT_PATH), |(_, path)| path.as_os_str());
    path.as_bytes()
        .split(|byte| *byte == b':')
        .map(|directory| {
            let directory: &[u8] = if directory.is_empty() {
                b"."
            } else {
                directory
            };
            OsString::from_vec([directory, b"/", program.as_bytes()].concat())
        })
        .collect()
}

fn exists(program: &CString) -> bool {
    rustix::fs::stat(program.as_c_str()).is_ok()
}

/// ELF machines by number (the gABI's e_machine), as Docker names platforms.
const MACHINES: [(u16, &str); 8] = [
    (0x03, "386"),
    (0x08, "mips"),
    (0x15, "ppc64le"),
    (0x16, "s390x"),
    (0x28, "arm"),
    (0x3e, "amd64"),
    (0xb7, "arm64"),
    (0xf3, "riscv64"),
];

fn not_executable(program: &CString) -> ExecProblem {
    let mut header = [0; 20];
    let path = OsStr::from_bytes(program.as_bytes());
    let read = File::open(path)
        .and_then(|mut file: File| -> io::Result<()> { file.read_exact(&mut header) });
    if read.is_err() || !header.starts_with(b"\x7fELF") {
        return ExecProblem::NotExecutable;
    }
    // EI_DATA: 1 is little-endian, 2 big-endian; e_machine is at 18 in either class.
    let bytes = [header[18], header[19]];
    let number = if header[5] == 2 {
        u16::from_be_bytes(bytes)
    } else {
        u16::from_le_bytes(bytes)
    };
    let machine = MACHINES
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(
            || format!("ELF machine {number}"),
            |(_, name)| (*name).to_owned(),
        );
    ExecProblem::WrongArchitecture { machine }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environments_path_is_searched() {
        let mut process = Process::new(["sh"]);
        assert_eq!(candidates(&process)[5], "/bin/sh");
        process.env = vec![("PATH".into(), "/a::/b".into())];
        assert_eq!(candidates(&process), ["/a/sh", "./sh", "/b/sh"]);
        process.argv[0] = "dir/sh".into();
        assert_eq!(candidates(&process), ["dir/sh"]);
    }
}
