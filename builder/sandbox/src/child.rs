//! The sandbox's side of a step: a process of its own, single-threaded, that is this same binary.
//!
//! `A`, the process started by the caller, makes the namespaces and stays outside of the pid
//! namespace as the one that can kill it. `B`, its child, is the namespace's init: it builds the
//! view of the file system, starts the command `C`, reaps, and reports. Without namespaces there
//! is only `A`, which adopts what the command leaves behind and kills it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, set_child_subreaper,
    set_parent_process_death_signal, wait, waitpid,
};
use rustix::thread::UnshareFlags;

use crate::error::Failure;
use crate::ladder::Rung;
use crate::step::Network;
use crate::sys::{self, Fork};
use crate::wire::{self, Mapped, Order, Report};

pub(crate) mod command;
mod container;
mod leftovers;
mod overlay;
mod view;

/// The name under which the binary is started as a sandbox. No shell or kubelet starts a program
/// by it, and without a socket on standard input it does nothing.
pub(crate) const MARKER: &str = "kiln-sandbox: step";

/// The name under which it enters a container that runs.
pub(crate) const ENTER: &str = "kiln-sandbox: enter";

/// The code with which the helper ends when it could not even report.
const LOST: i32 = 125;

/// Becomes the sandbox when the process was started as one, and then never returns; becomes root of
/// a namespace where [`users::start_anew`](crate::users::start_anew) asked for that; does nothing
/// otherwise.
///
/// Call it first in `main`: before threads, before arguments are read.
pub fn init() {
    let Some(name) = std::env::args_os().next() else {
        return;
    };
    if name.as_bytes() == MARKER.as_bytes() {
        sys::exit_now(helper());
    } else if name.as_bytes() == ENTER.as_bytes() {
        sys::exit_now(container::enter());
    }
    crate::users::init();
}

/// Makes the first process of a container end when it is asked to, which the kernel leaves to it.
/// Its container ends with it.
pub fn end_when_asked() {
    if std::process::id() == 1 {
        sys::end_on_signals();
    }
}

fn helper() -> i32 {
    let Ok(control) = take_control() else {
        return LOST;
    };
    let Ok(Some(order)) = wire::receive::<Order>(&control) else {
        return LOST;
    };
    let result = if let Some(confinement) = &order.confinement {
        container::start(&order, confinement, &control)
    } else if order.rung.has_mounts() {
        in_namespaces(&order, &control)
    } else {
        without_namespaces(&order, &control)
    };
    match result {
        Ok(()) => 0,
        Err(failure) => report(&control, &Report::Failed(failure)),
    }
}

/// Sends a report; the exit code is for the case that nobody listens any more.
fn report(control: &UnixStream, report: &Report) -> i32 {
    wire::send(control, report).map_or(LOST, |()| 0)
}

/// The socket arrives as standard input; the command gets `/dev/null` there.
fn take_control() -> io::Result<UnixStream> {
    let control: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::net::sockopt::socket_type(&control)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(UnixStream::from(control))
}

/// `A` with namespaces: makes them, starts `B` in them, and waits.
fn in_namespaces(order: &Order, control: &UnixStream) -> Result<(), Failure> {
    let mut flags =
        UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if order.step.network == Network::None {
        flags |= UnshareFlags::NEWNET;
    }
    let own_users = order.rung == Rung::UserNamespace;
    if own_users {
        flags |= UnshareFlags::NEWUSER;
    }
    let operation = if own_users {
        "unshare the user, mount, pid, ipc and uts namespaces"
    } else {
        "unshare the mount, pid, ipc and uts namespaces"
    };
    sys::unshare(flags).map_err(|error| Failure::new(operation, error))?;
    if own_users {
        become_mapped_root(order, control)?;
    }
    match sys::fork().map_err(|error| Failure::new("fork into the pid namespace", error))? {
        Fork::Child => sys::exit_now(as_init(order, control)),
        Fork::Parent(init) => {
            let status = wait_or_kill(init, control, |init| {
                let _ = rustix::process::kill_process(init, Signal::KILL);
            })?;
            if let Some(signal) = status.terminating_signal() {
                report(control, &Report::Signaled(signal));
            }
            Ok(())
        }
    }
}

/// Waits for the caller to write the id maps, then takes id 0, without which an exec would lose
/// every capability.
fn become_mapped_root(order: &Order, control: &UnixStream) -> Result<(), Failure> {
    let channel = |error: io::Error| Failure::new("wait for the id maps", error);
    wire::send(control, &Report::Unshared).map_err(channel)?;
    if wire::receive::<Mapped>(control).map_err(channel)?.is_none() {
        // The caller gave up; it knows why.
        sys::exit_now(0);
    }
    if order.ids.allows_groups() {
        rustix::thread::set_thread_groups(&[])
            .map_err(|error| Failure::new("leave the supplementary groups", error))?;
    }
    command::set_ids(0, 0).map_err(|error| Failure::new("become root of the namespace", error))
}

/// `B`: the init of the pid namespace. What still runs when it ends is killed by the kernel.
fn as_init(order: &Order, control: &UnixStream) -> i32 {
    let prepared = set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Failure::new("tie the sandbox to its parent", error))
        .and_then(|()| view::enter(&order.step, &order.ids));
    if let Err(failure) = prepared {
        return report(control, &Report::Failed(failure));
    }
    if order.rehearse {
        return report(control, &Report::Exited(0));
    }
    let command = match command::start(order, control) {
        Ok(command) => command,
        Err(failure) => return report(control, &Report::Failed(failure)),
    };
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == command => return report(control, &ending(status)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return report(
                    control,
                    &Report::Failed(Failure::new("wait for the command", error)),
                );
            }
        }
    }
}

fn ending(status: WaitStatus) -> Report {
    status.terminating_signal().map_or_else(
        || Report::Exited(status.exit_status().unwrap_or(LOST)),
        Report::Signaled,
    )
}

/// `A` without namespaces: orphans come to it as their subreaper, and are killed.
fn without_namespaces(order: &Order, control: &UnixStream) -> Result<(), Failure> {
    set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| Failure::new("become the subreaper", error))?;
    let command = command::start(order, control)?;
    let status = wait_or_kill(command, control, |_| {
        leftovers::kill_descendants();
    })?;
    leftovers::kill_all_and_reap();
    report(control, &ending(status));
    Ok(())
}

/// Waits for `child`; when the caller closes its side, or is gone, calls `kill` first.
fn wait_or_kill(
    child: Pid,
    control: &UnixStream,
    kill: impl Fn(Pid),
) -> Result<WaitStatus, Failure> {
    let failed = |error| Failure::new("watch the sandbox", error);
    let pidfd = pidfd_open(child, PidfdFlags::empty()).map_err(failed)?;
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN | PollFlags::RDHUP),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(failed(error)),
        }
        if !fds[1].revents().is_empty() {
            kill(child);
        }
        break;
    }
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
