//! A container's side: like a step's, but in a network that exists already, signalled while it
//! runs, and entered by further commands.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process, pidfd_open,
    set_parent_process_death_signal, wait, waitpid,
};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags};

use super::{LOST, command, ending, report, take_control, view};
use crate::container::{Confinement, Entry};
use crate::error::Failure;
use crate::idmap::IdMap;
use crate::ladder::Rung;
use crate::step::{Root, Step};
use crate::sys::{self, Fork};
use crate::wire::{self, Order, Report, Word};

/// `A`: joins the network, makes the other namespaces, starts `B` in them, passes signals on.
pub(super) fn start(
    order: &Order,
    confinement: &Confinement,
    control: &UnixStream,
) -> Result<(), Failure> {
    if let Some(network) = &confinement.network {
        join(network)?;
    }
    let flags =
        UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    sys::unshare(flags)
        .map_err(|error| Failure::new("unshare the mount, pid, ipc and uts namespaces", error))?;
    take_input(confinement)?;
    match sys::fork().map_err(|error| Failure::new("fork into the pid namespace", error))? {
        Fork::Child => sys::exit_now(as_init(order, confinement, control)),
        Fork::Parent(init) => {
            tell(
                control,
                &Report::Init(init.as_raw_nonzero().get().cast_unsigned()),
            );
            let status = supervise(init, control)?;
            if let Some(signal) = status.terminating_signal() {
                report(control, &Report::Signaled(signal));
            }
            Ok(())
        }
    }
}

/// A caller that is gone is found by [`supervise`].
fn tell(control: &UnixStream, word: &Report) {
    let _ = wire::send(control, word);
}

fn join(network: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("enter the network {}", network.display()), error);
    let namespace = rustix::fs::openat(
        CWD,
        network,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed)?;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(failed)
}

/// The control socket came as standard input; the command gets its own.
fn take_input(confinement: &Confinement) -> Result<(), Failure> {
    let Some(path) = &confinement.stdin else {
        return Ok(());
    };
    let failed = |error| Failure::new(format!("open {}", path.display()), error);
    let file = File::open(path).map_err(failed)?;
    rustix::stdio::dup2_stdin(file).map_err(|error| failed(error.into()))
}

/// `B`: the container's init.
fn as_init(order: &Order, confinement: &Confinement, control: &UnixStream) -> i32 {
    let prepared = set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Failure::new("tie the container to its parent", error))
        .and_then(|()| view::enter(&order.step, &order.ids))
        .and_then(|()| protect_root(confinement))
        .and_then(|()| executed(order, control));
    let command = match prepared {
        Ok(command) => command,
        Err(failure) => return report(control, &Report::Failed(failure)),
    };
    sys::forward_signals_to(command);
    tell(control, &Report::Running);
    reap_until(command, control)
}

/// Starts the command, and returns once it is executed or has said why not.
fn executed(order: &Order, control: &UnixStream) -> Result<Pid, Failure> {
    let failed = |error| Failure::new("make a pipe", error);
    // Its writing end is closed by a successful exec, and by the end of a process that had none.
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let command = command::start(order, control)?;
    drop(writing);
    while rustix::io::read(&reading, &mut [0; 1]) == Err(rustix::io::Errno::INTR) {}
    Ok(command)
}

fn reap_until(command: Pid, control: &UnixStream) -> i32 {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == command => return report(control, &ending(status)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                let failure = Failure::new("wait for the command", error);
                return report(control, &Report::Failed(failure));
            }
        }
    }
}

fn protect_root(confinement: &Confinement) -> Result<(), Failure> {
    if !confinement.read_only_root {
        return Ok(());
    }
    let failed = |error: std::io::Error| Failure::new("make the root read-only", error);
    let root = rustix::fs::openat(
        CWD,
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| failed(error.into()))?;
    sys::add_attributes_of_one(&root, libc::MOUNT_ATTR_RDONLY).map_err(failed)
}

/// Passes signals on until `child` ends; kills it when the caller closes its side or is gone.
fn supervise(child: Pid, control: &UnixStream) -> Result<WaitStatus, Failure> {
    let failed = |error| Failure::new("watch the container", error);
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
        if !fds[0].revents().is_empty() {
            break;
        }
        let signal = match wire::receive::<Word>(control) {
            Ok(Some(Word::Signal(number))) => Signal::from_named_raw(number),
            _ => {
                let _ = kill_process(child, Signal::KILL);
                break;
            }
        };
        if let Some(signal) = signal {
            // It may just have ended.
            let _ = kill_process(child, signal);
        }
    }
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// The process that enters a running container.
pub(super) fn enter() -> i32 {
    let Ok(control) = take_control() else {
        return LOST;
    };
    let Ok(Some(entry)) = wire::receive::<Entry>(&control) else {
        return LOST;
    };
    match enter_and_run(entry, &control) {
        Ok(()) => 0,
        Err(failure) => report(&control, &Report::Failed(failure)),
    }
}

/// Whether a process is in this one's network.
fn shares_network(pid: u32) -> bool {
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let own = of("self");
    own.is_some() && own == of(&pid.to_string())
}

fn enter_and_run(entry: Entry, control: &UnixStream) -> Result<(), Failure> {
    take_input(&entry.confinement)?;
    let gone = || Failure::new("enter the container", rustix::io::Errno::SRCH);
    let pid = i32::try_from(entry.init).ok().and_then(Pid::from_raw);
    let init = pidfd_open(pid.ok_or_else(gone)?, PidfdFlags::empty()).map_err(|_| gone())?;
    let mut namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
    // One that is the caller's too may be another user namespace's, and not to be entered.
    if !shares_network(entry.init) {
        namespaces |= ThreadNameSpaceType::NETWORK;
    }
    rustix::thread::move_into_thread_name_spaces(init.as_fd(), namespaces)
        .map_err(|error| Failure::new("enter the container", error))?;
    let order = Order {
        rung: Rung::UserNamespacedPod,
        ids: IdMap::present(),
        step: Step::new(Root::InPlace, entry.process),
        rehearse: false,
        confinement: Some(entry.confinement),
    };
    let child = command::start(&order, control)?;
    tell(
        control,
        &Report::Init(child.as_raw_nonzero().get().cast_unsigned()),
    );
    tell(control, &Report::Running);
    let status = supervise(child, control)?;
    report(control, &ending(status));
    Ok(())
}
