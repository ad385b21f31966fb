//! The system calls that rustix leaves out: the crate's only `unsafe` code.
#![allow(unsafe_code, reason = "each block states why it is sound")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Which side of a fork this is.
pub(crate) enum Fork {
    Child,
    Parent(Pid),
}

/// Forks the sandbox process, which is single-threaded: the child may do whatever it likes.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: only called from the re-executed helper, which never starts a thread, so no lock
    // (the allocator's included) can be held by a thread that does not exist in the child.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        -1 => Err(io::Error::last_os_error()),
        pid => Pid::from_raw(pid).map_or_else(
            || Err(io::Error::from_raw_os_error(libc::EINVAL)),
            |pid| Ok(Fork::Parent(pid)),
        ),
    }
}

/// Leaves the namespaces named by `flags` for new ones.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the caller is single-threaded and passes no flag (CLONE_FILES) by which file
    // descriptors would stop being shared with anyone who relies on it.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

/// Moves the calling thread alone into new namespaces: network and mount are per thread.
pub(crate) fn unshare_thread(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!((UnshareFlags::NEWNET | UnshareFlags::NEWNS).contains(flags));
    // SAFETY: neither flag changes what threads share in memory or in file descriptors; a new
    // mount namespace gives the thread a root and working directory of its own, which is meant.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

/// Where [`forward_signals_to`] sends them.
static FORWARD_TO: AtomicI32 = AtomicI32::new(0);

extern "C" fn forward(signal: libc::c_int) {
    let pid = FORWARD_TO.load(Ordering::Relaxed);
    if pid > 0 {
        // SAFETY: kill(2) is async-signal-safe and has no memory operands.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Passes every signal that this process gets on to `pid`. The init of a pid namespace only gets
/// signals that it has a handler for.
pub(crate) fn forward_signals_to(pid: Pid) {
    FORWARD_TO.store(pid.as_raw_nonzero().get(), Ordering::Relaxed);
    let own = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGCHLD,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
    ];
    for signal in (1..=64).filter(|signal| !own.contains(signal)) {
        let handler: extern "C" fn(libc::c_int) = forward;
        // SAFETY: the structure is plain data, zeroed and then filled in; the handler only does
        // what is async-signal-safe. Numbers that libc keeps for itself are refused harmlessly.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Replaces the program; returns only on failure.
pub(crate) fn execve(program: &CString, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        pointers
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: the strings are NUL-terminated and outlive the call, both arrays end with null.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends the process at once: no destructors, no buffered output of a forked parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Gives every signal its default action and unblocks all, as a new program expects: the Rust
/// runtime ignores SIGPIPE, and what is ignored or blocked would survive the exec.
pub(crate) fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no handler; the numbers that may not be changed fail harmlessly.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: the set is initialised by sigemptyset before use and is a plain value.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Lets SIGINT and SIGTERM end the process, with 128 and the signal's number as its code. For the
/// first process of a container the kernel ignores them otherwise (pid_namespaces(7)).
pub(crate) fn end_on_signals() {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: _exit may be called in a signal handler (signal-safety(7)).
        unsafe { libc::_exit(128 + signal) }
    }
    let handler: extern "C" fn(libc::c_int) = end;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only ends the process.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// Marks every descriptor above standard error close-on-exec, whoever opened it.
pub(crate) fn close_the_rest_on_exec() -> io::Result<()> {
    // SAFETY: the call only sets a flag on descriptors; it closes none.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // Kernels before 5.11: our own descriptors are close-on-exec anyway.
    if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) {
        return Ok(());
    }
    Err(error)
}

/// Adds `attributes` (`MOUNT_ATTR_*`) to a mount and everything mounted below it.
pub(crate) fn add_mount_attributes(mount: impl AsFd, attributes: u64) -> io::Result<()> {
    set_mount_attributes(mount, attributes, libc::AT_RECURSIVE)
}

/// Adds `attributes` to a mount alone.
pub(crate) fn add_attributes_of_one(mount: impl AsFd, attributes: u64) -> io::Result<()> {
    set_mount_attributes(mount, attributes, 0)
}

fn set_mount_attributes(mount: impl AsFd, attributes: u64, how: libc::c_int) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is an empty NUL-terminated string, the structure is valid for the size
    // that is passed, and both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | how,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Brings the loopback device of the present network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a valid ifreq that outlives the call, as SIOCSIFFLAGS wants.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
