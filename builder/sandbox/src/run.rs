//! The caller's side of a step: starts the helper, passes output on, waits, cancels.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::child::MARKER;
use crate::error::{Error, Failure};
use crate::idmap::IdMap;
use crate::ladder::Rung;
use crate::observe;
use crate::rootfs::{Rootfs, RootfsError};
use crate::step::{Network, Root, Step};
use crate::wire::{self, Mapped, Order, Report};

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal of this number.
    Signal(i32),
}

impl Exit {
    /// Whether it ended with code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// The code that a shell would report: 128 and the signal's number for a signal.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Where a piece of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Ends a running step from another thread. Clones are handles to the same step or steps.
#[derive(Clone, Debug)]
pub struct Cancel {
    own: Arc<OwnedFd>,
    /// The events of the handles that it is a part of.
    wholes: Vec<Arc<OwnedFd>>,
}

impl Cancel {
    /// A handle that has not been used.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            own: Arc::new(event),
            wholes: Vec::new(),
        })
    }

    /// A handle for a part of what this one ends: it counts as used when this one is, and when it
    /// is used itself, the rest goes on.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn part(&self) -> io::Result<Self> {
        let mut part = Self::new()?;
        part.wholes.clone_from(&self.wholes);
        part.wholes.push(Arc::clone(&self.own));
        Ok(part)
    }

    /// Ends every step that runs, or will run, with this handle: all its processes are killed
    /// and [`run`] returns [`Error::Cancelled`]. May be called any number of times.
    pub fn cancel(&self) {
        // It fails only when the counter is full, which means that it was cancelled before.
        let _ = rustix::io::write(&self.own, &1_u64.to_ne_bytes());
    }

    /// Whether it was used.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let mut fds: Vec<PollFd<'_>> = self.fds().collect();
        let now = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    fn fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let events = self.wholes.iter().chain([&self.own]);
        events.map(|event| PollFd::new(&**event, PollFlags::IN))
    }
}

/// Runs one step to its end, or until `cancel` is used. Blocks; output goes to `output` as it
/// comes, in pieces of any size, from the calling thread.
///
/// When it returns, no process of the step is left: background processes die with the command.
/// Should the calling process itself be killed, they die too.
///
/// # Errors
/// When the step could not be prepared, when its command could not be executed, when the rung
/// cannot do what the step asks for, and when it was cancelled. A command that fails is no error.
pub fn run(
    rung: Rung,
    step: &Step,
    cancel: &Cancel,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Exit, Error> {
    execute(rung, step, false, cancel, output)
}

/// Prepares a step and takes it down again without running its command.
pub(crate) fn rehearse(rung: Rung, step: &Step) -> Result<(), Error> {
    let cancel = Cancel::new().map_err(Error::Spawn)?;
    execute(rung, step, true, &cancel, &mut |_, _| {}).map(|_| ())
}

fn execute(
    rung: Rung,
    step: &Step,
    rehearse: bool,
    cancel: &Cancel,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Exit, Error> {
    check(rung, step)?;
    prepare_directories(&step.root)?;
    let step = without_hidden_volumes(step);
    let ids = observe::effective_capabilities()
        .and_then(|capabilities| match rung {
            Rung::UserNamespace => IdMap::best(capabilities),
            _ => Ok(IdMap::present()),
        })
        .map_err(Error::Channel)?;
    let mut helper = Helper::start()?;
    let order = Order {
        rung,
        ids,
        step,
        rehearse,
        confinement: None,
    };
    // A helper that is gone already is found below, by the end of its socket.
    let sent = wire::send(&helper.control, &order);
    let outcome = helper.follow(&order.ids, cancel, output);
    // The end of the socket makes the helper kill what is left; its own end follows.
    drop(helper.control);
    let status = helper.process.wait().map_err(Error::Channel)?;
    // A failure here is found by the next step, which needs the directory empty.
    let _ = empty_scratch(&order.step.root);
    match outcome? {
        Some(report) => conclude(report),
        None => Err(sent.map_or_else(Error::Channel, |()| Error::HelperLost {
            status: status.to_string(),
        })),
    }
}

pub(crate) fn conclude(report: Report) -> Result<Exit, Error> {
    match report {
        Report::Exited(code) => Ok(Exit::Code(code)),
        Report::Signaled(signal) => Ok(Exit::Signal(signal)),
        Report::Failed(failure) => Err(Error::Setup(failure)),
        Report::Exec { program, problem } => Err(Error::Exec { program, problem }),
        Report::WorkingDirectory { path, errno } => Err(Error::WorkingDirectory {
            path,
            source: io::Error::from_raw_os_error(errno),
        }),
        Report::Unshared => Err(Error::Invalid("namespaces announced twice".to_owned())),
        Report::Init(_) | Report::Running => {
            Err(Error::Invalid("a container's words in a step".to_owned()))
        }
    }
}

/// A started helper process and its ends of the pipes.
struct Helper {
    process: Child,
    control: UnixStream,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Helper {
    fn start() -> Result<Self, Error> {
        let (control, theirs) = UnixStream::pair().map_err(Error::Spawn)?;
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| Error::Spawn(error.into()));
        let (stdout, their_stdout) = pipe()?;
        let (stderr, their_stderr) = pipe()?;
        // No environment: /proc/1/environ is readable inside. `Command` closes its copies of the
        // descriptors when it is dropped at the end of the statement.
        let process = Command::new("/proc/self/exe")
            .arg0(MARKER)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(their_stdout))
            .stderr(Stdio::from(their_stderr))
            .spawn()
            .map_err(Error::Spawn)?;
        Ok(Self {
            process,
            control,
            stdout,
            stderr,
        })
    }

    /// Passes output on and answers the helper until it and both pipes are at their end.
    /// The first final report counts: what follows a failed exec is only its echo.
    fn follow(
        &self,
        ids: &IdMap,
        cancel: &Cancel,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Option<Report>, Error> {
        let mut open = [true; 3];
        let mut cancelled = false;
        let mut result = None;
        let mut buffer = vec![0; 64 << 10];
        while open != [false; 3] {
            let ready = self.wait(open, (!cancelled).then_some(cancel))?;
            if ready.cancel {
                cancelled = true;
                // The helper reads the end of our words as the order to kill.
                let _ = self.control.shutdown(std::net::Shutdown::Write);
            }
            if ready.stdout {
                open[0] = pass(&self.stdout, Stream::Stdout, &mut buffer, output)?;
            }
            if ready.stderr {
                open[1] = pass(&self.stderr, Stream::Stderr, &mut buffer, output)?;
            }
            if ready.control {
                match self.hear()? {
                    None => open[2] = false,
                    Some(Report::Unshared) if !cancelled => self.map(ids, &mut result)?,
                    Some(Report::Unshared) => {}
                    Some(report) => {
                        result.get_or_insert(report);
                    }
                }
            }
        }
        if cancelled {
            return Err(Error::Cancelled);
        }
        Ok(result)
    }

    /// Writes the id maps and says so; when that fails, the helper is told to give up.
    fn map(&self, ids: &IdMap, result: &mut Option<Report>) -> Result<(), Error> {
        match ids.write(self.process.id()) {
            Ok(()) => wire::send(&self.control, &Mapped).map_err(Error::Channel),
            Err(failure) => {
                result.get_or_insert(Report::Failed(failure));
                self.control
                    .shutdown(std::net::Shutdown::Write)
                    .map_err(Error::Channel)
            }
        }
    }

    fn hear(&self) -> Result<Option<Report>, Error> {
        match wire::receive(&self.control) {
            Ok(report) => Ok(report),
            // It was killed with words of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(Error::Channel(error)),
        }
    }

    fn wait(&self, open: [bool; 3], cancel: Option<&Cancel>) -> Result<Ready, Error> {
        let sources: [(bool, BorrowedFd<'_>); 3] = [
            (open[0], self.stdout.as_fd()),
            (open[1], self.stderr.as_fd()),
            (open[2], self.control.as_fd()),
        ];
        // A source without events is not looked at, except for its end: leave it out entirely.
        let mut slots = Vec::with_capacity(4);
        let mut fds = Vec::with_capacity(4);
        for (index, (_, fd)) in sources.iter().enumerate().filter(|(_, (open, _))| *open) {
            slots.push(index);
            fds.push(PollFd::from_borrowed_fd(*fd, PollFlags::IN));
        }
        if let Some(cancel) = cancel {
            fds.extend(cancel.fds());
            slots.resize(fds.len(), CANCEL);
        }
        loop {
            match poll(&mut fds, None) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::Channel(error.into())),
            }
        }
        let is_ready = |slot: usize| {
            slots
                .iter()
                .zip(&fds)
                .any(|(index, fd)| *index == slot && !fd.revents().is_empty())
        };
        Ok(Ready {
            stdout: is_ready(0),
            stderr: is_ready(1),
            control: is_ready(2),
            cancel: is_ready(CANCEL),
        })
    }
}

/// The number of what cancels among what [`Helper::wait`] looks at.
const CANCEL: usize = 3;

struct Ready {
    stdout: bool,
    stderr: bool,
    control: bool,
    cancel: bool,
}

/// Passes one piece on; false at the pipe's end.
fn pass(
    from: &OwnedFd,
    stream: Stream,
    buffer: &mut [u8],
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<bool, Error> {
    match rustix::io::read(from, &mut *buffer) {
        Ok(0) => Ok(false),
        Ok(length) => {
            output(stream, &buffer[..length]);
            Ok(true)
        }
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(Error::Channel(error.into())),
    }
}

/// What the rung cannot do is refused before anything is started.
fn check(rung: Rung, step: &Step) -> Result<(), Error> {
    const WITH_MOUNTS: &str = "it needs the isolation `userns`: a pod without a seccomp profile, \
                               or `hostUsers: false` with the capability SYS_ADMIN";
    let unsupported = |what: String| Error::Unsupported {
        what,
        rung,
        hint: WITH_MOUNTS,
    };
    let process = &step.process;
    if process.argv.is_empty() {
        return Err(Error::Invalid("the command is empty".to_owned()));
    }
    if rung == Rung::NoRun {
        return Err(unsupported("running a command".to_owned()));
    }
    let inside = step.tmpfs.iter().map(|tmpfs| &tmpfs.target);
    let inside = inside.chain(step.binds.iter().map(|bind| &bind.target));
    let outside = step.binds.iter().map(|bind| &bind.source);
    let relative = inside
        .chain(outside)
        .chain(&step.volumes)
        .chain(&step.hidden)
        .chain([&process.cwd])
        .find(|path| !path.is_absolute());
    if let Some(path) = relative {
        return Err(Error::Invalid(format!(
            "{} is not absolute",
            path.display()
        )));
    }
    check_root(rung, &step.root)?;
    if rung.has_mounts() {
        return Ok(());
    }
    if let Some(tmpfs) = step.tmpfs.first() {
        return Err(unsupported(format!(
            "a tmpfs on {}",
            tmpfs.target.display()
        )));
    }
    if step.network == Network::None {
        return Err(unsupported("a command without network".to_owned()));
    }
    let stays = |bind: &&crate::step::Bind| rung != Rung::InPlace || bind.source != bind.target;
    if let Some(bind) = step.binds.iter().find(stays) {
        return Err(unsupported(format!(
            "mounting {} on {}",
            bind.source.display(),
            bind.target.display()
        )));
    }
    match step.volumes.first() {
        Some(volume) if rung == Rung::Chroot => Err(unsupported(format!(
            "showing the volume {}",
            volume.display()
        ))),
        _ => Ok(()),
    }
}

fn check_root(rung: Rung, root: &Root) -> Result<(), Error> {
    match (rung.has_mounts(), rung, root) {
        (true, _, Root::Overlay { lowers, .. }) if lowers.is_empty() => Err(Error::Invalid(
            "an overlay needs at least one lower directory".to_owned(),
        )),
        (true, _, Root::Overlay { .. } | Root::Directory(_))
        | (_, Rung::Chroot, Root::Directory(_))
        | (_, Rung::InPlace, Root::InPlace) => Ok(()),
        _ => Err(Error::Invalid(format!(
            "the isolation {rung} does not go with this kind of root"
        ))),
    }
}

/// Leaves out volumes at or below a hidden path, and makes hidden paths canonical, so that one
/// given through a link still covers the file itself.
fn without_hidden_volumes(step: &Step) -> Step {
    let mut step = step.clone();
    let canonical = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    let mut hidden: Vec<PathBuf> = step.hidden.iter().map(canonical).collect();
    hidden.append(&mut step.hidden);
    hidden.sort();
    hidden.dedup();
    let is_hidden = |path: &Path| hidden.iter().any(|hidden| path.starts_with(hidden));
    step.volumes
        .retain(|volume| !is_hidden(volume) && !is_hidden(&canonical(volume)));
    step.volumes.sort();
    step.volumes.dedup();
    // So that what is hidden below a source is found below its target, too.
    for bind in &mut step.binds {
        bind.source = canonical(&bind.source);
    }
    step.hidden = hidden;
    step
}

/// An overlay's upper has to be empty: below what it made opaque, no mount point could be made
/// that is not a change.
fn prepare_directories(root: &Root) -> Result<(), Error> {
    let Root::Overlay { upper, .. } = root else {
        return Ok(());
    };
    let look = |error| Error::Setup(Failure::new(format!("list {}", upper.display()), error));
    if std::fs::read_dir(upper).map_err(look)?.next().is_some() {
        return Err(Error::Invalid(format!(
            "the upper directory {} is not empty; make it a lower and give the step a fresh one",
            upper.display()
        )));
    }
    empty_scratch(root).map_err(|error| {
        Error::Setup(Failure {
            operation: error.to_string(),
            errno: error.source.raw_os_error().unwrap_or(libc::EIO),
        })
    })
}

/// Removes what a step, even one that was killed, left in its scratch directory.
fn empty_scratch(root: &Root) -> Result<(), RootfsError> {
    let Root::Overlay { scratch, .. } = root else {
        return Ok(());
    };
    let directory = Rootfs::open(scratch)?.directory(Path::new("/"))?;
    for name in directory.names()? {
        directory.remove(&name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
