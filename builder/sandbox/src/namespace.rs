//! Namespaces for a process that holds workloads: users of its own, networks it owns.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use crate::child::command::set_ids;
use crate::error::{Error, Failure};
use crate::idmap::IdMap;
use crate::observe;
use crate::sys;
use crate::wire::{self, Mapped, Report};

/// The ids that a child of this process can be given.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn best_ids() -> io::Result<IdMap> {
    IdMap::best(observe::effective_capabilities()?)
}

/// The child's part: leaves the caller's user namespace for one of its own, in which it is root.
/// The parent answers with [`map_child`] on the other end of `control`. The process has to be
/// single-threaded.
///
/// # Errors
/// When the kernel refuses, or the parent is gone.
pub fn own_users(control: &UnixStream) -> Result<(), Failure> {
    sys::unshare(UnshareFlags::NEWUSER)
        .map_err(|error| Failure::new("unshare the user namespace", error))?;
    await_maps(control)?;
    if IdMap::present().allows_groups() {
        rustix::thread::set_thread_groups(&[])
            .map_err(|error| Failure::new("leave the supplementary groups", error))?;
    }
    set_ids(0, 0).map_err(|error| Failure::new("become root of the namespace", error))
}

/// Says that the namespace is made, and waits for its maps.
pub(crate) fn await_maps(control: &UnixStream) -> Result<(), Failure> {
    let channel = |error: io::Error| Failure::new("wait for the id maps", error);
    wire::send(control, &Report::Unshared).map_err(channel)?;
    match wire::receive::<Mapped>(control).map_err(channel)? {
        Some(_) => Ok(()),
        None => Err(channel(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// The parent's part of [`own_users`]: waits for the child's namespace and writes its maps.
///
/// # Errors
/// When the child ended early or the maps are refused.
pub fn map_child(child: &Child, control: &UnixStream, ids: &IdMap) -> Result<(), Error> {
    match wire::receive(control).map_err(Error::Channel)? {
        Some(Report::Unshared) => {}
        Some(Report::Failed(failure)) => return Err(Error::Setup(failure)),
        _ => {
            return Err(Error::Channel(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    ids.write(child.id()).map_err(Error::Setup)?;
    wire::send(control, &Mapped).map_err(Error::Channel)
}

/// Says over `control` why [`own_users`] failed.
pub fn give_up(control: &UnixStream, failure: Failure) {
    // The parent sees the end of the socket otherwise.
    let _ = wire::send(control, &Report::Failed(failure));
}

/// Puts the calling thread, and the threads it starts from now on, into a new network namespace
/// whose loopback device is up. Returns a handle that keeps the namespace alive.
///
/// # Errors
/// When the kernel refuses.
pub fn own_network() -> io::Result<OwnedFd> {
    sys::unshare_thread(UnshareFlags::NEWNET)?;
    sys::loopback_up()?;
    present_network()
}

/// A handle on the calling thread's network namespace.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn present_network() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Enters a network namespace with the calling thread.
///
/// # Errors
/// When the kernel refuses.
pub fn join_network(network: impl AsFd) -> io::Result<()> {
    rustix::thread::move_into_link_name_space(
        network.as_fd(),
        Some(rustix::thread::LinkNameSpaceType::Network),
    )
    .map_err(Into::into)
}

/// Puts the calling thread into a mount namespace of its own, from which nothing gets out.
///
/// # Errors
/// When the kernel refuses.
pub fn own_mounts() -> io::Result<()> {
    sys::unshare_thread(UnshareFlags::NEWNS)?;
    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )
    .map_err(Into::into)
}
