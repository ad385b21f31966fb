//! The holder's side of the protocol.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use kiln_sandbox::container::Output;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, oneshot, watch};

use super::core::{Message, Messages};
use super::host::Host;
use super::logs::{Logs, is_wanted};
use super::pod::chain;
use super::services::Directory;
use super::{ask, container, paths};
use crate::desired::Name;
use crate::network::reach;
use crate::protocol::{Answer, ExecWish, Line, LogWish, Request, World};

/// What requests are about.
#[derive(Clone)]
pub(super) struct Rooms {
    pub messages: Messages,
    pub world: watch::Sender<World>,
    pub logs: Logs,
    pub directory: Directory,
    pub host: Host,
}

/// Listens in the state directory.
pub(super) fn listen(state: &Path) -> io::Result<UnixListener> {
    let path = state.join(paths::SOCKET);
    drop(std::fs::remove_file(&path));
    // The name of a socket may have 107 bytes; a descriptor's name is short.
    let folder = std::fs::File::open(state)?;
    let short = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), paths::SOCKET);
    UnixListener::bind(short)
}

/// Answers requests until it is dropped.
pub(super) async fn serve(listener: UnixListener, rooms: Rooms) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let rooms = rooms.clone();
            tokio::spawn(async move {
                if let Err(error) = converse(stream, &rooms).await {
                    tracing::debug!(%error, "a command is gone");
                }
            });
        }
    }
}

async fn converse(mut stream: UnixStream, rooms: &Rooms) -> io::Result<()> {
    let (request, descriptors) = receive(&mut stream).await?;
    match request {
        Request::Apply(desired) => {
            let (done, applied) = oneshot::channel();
            drop(rooms.messages.send(Message::Apply(desired, done)));
            match applied.await {
                Ok(applied) => send(&mut stream, &Answer::Applied(applied)).await,
                Err(_) => Ok(()),
            }
        }
        Request::Watch => watch_world(&mut stream, rooms).await,
        Request::Logs(wish) => logs(&mut stream, rooms, &wish).await,
        Request::Exec(wish) => {
            let answer = match exec(&mut stream, rooms, &wish, descriptors).await {
                Ok(code) => Answer::Exited(code),
                Err(why) => Answer::Failed(vec![why]),
            };
            send(&mut stream, &answer).await
        }
        Request::Leave => {
            let (done, left) = oneshot::channel();
            drop(rooms.messages.send(Message::Leave(done)));
            drop(left.await);
            // The holder's end closes the connection.
            std::future::pending().await
        }
    }
}

/// One request: four bytes of length, JSON, and descriptors with the first byte.
async fn receive(stream: &mut UnixStream) -> io::Result<(Request, Vec<OwnedFd>)> {
    let mut descriptors = Vec::new();
    let mut length = [0; 4];
    let mut have = 0;
    while have < length.len() {
        stream.readable().await?;
        let got = stream.try_io(Interest::READABLE, || {
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [io::IoSliceMut::new(&mut length[have..])];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let message = recvmsg(&*stream, &mut parts, &mut control, flags)?;
            for part in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = part {
                    descriptors.extend(rights);
                }
            }
            Ok(message.bytes)
        });
        match got {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut body).await?;
    Ok((serde_json::from_slice(&body)?, descriptors))
}

async fn send(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

async fn watch_world(stream: &mut UnixStream, rooms: &Rooms) -> io::Result<()> {
    let mut world = rooms.world.subscribe();
    loop {
        let now = world.borrow_and_update().clone();
        send(stream, &Answer::World(now)).await?;
        let mut nothing = [0];
        tokio::select! {
            changed = world.changed() => if changed.is_err() { return Ok(()) },
            // The command is gone.
            _ = stream.read(&mut nothing) => return Ok(()),
        }
    }
}

async fn logs(stream: &mut UnixStream, rooms: &Rooms, wish: &LogWish) -> io::Result<()> {
    // Followed before the past is read: a line twice is better than none.
    let mut lines = rooms.logs.follow();
    if wish.past {
        let (logs, wish) = (rooms.logs.clone(), wish.clone());
        let past = tokio::task::spawn_blocking(move || logs.past(&wish)).await;
        for line in past.map_err(io::Error::other)? {
            send(stream, &Answer::Line(line)).await?;
        }
    }
    let wanted = |line: &Line| {
        let container = wish
            .container
            .as_ref()
            .is_none_or(|name| *name == line.container);
        container && is_wanted(wish.pod.as_deref(), &line.pod.name)
    };
    if !wish.follow {
        return Ok(());
    }
    loop {
        let mut nothing = [0];
        let line: Arc<Line> = tokio::select! {
            line = lines.recv() => match line {
                Ok(line) => line,
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
            _ = stream.read(&mut nothing) => return Ok(()),
        };
        if wanted(&line) {
            send(stream, &Answer::Line(Line::clone(&line))).await?;
        }
    }
}

/// A container that runs.
struct Found {
    init: u32,
    pod: Name,
    container: String,
    /// Whether it shares the machine's network.
    on_host: bool,
}

/// A running container by its pod's or its workload's name.
fn find(rooms: &Rooms, wish: &ExecWish) -> Result<Found, String> {
    let world = rooms.world.borrow().clone();
    let is_meant = |pod: &Name| is_wanted(Some(&wish.pod), &pod.name);
    let inits = rooms.directory.read(|contents| contents.inits.clone());
    let mut pods = world
        .pods
        .iter()
        .filter(|pod| is_meant(&pod.name) && !pod.stopping);
    let pod = pods
        .next()
        .ok_or_else(|| format!("there is no pod {}", wish.pod))?;
    let of_pod = |(name, container, _): &&(Name, String, u32)| {
        *name == pod.name
            && wish
                .container
                .as_ref()
                .is_none_or(|wanted| wanted == container)
    };
    let mut first: Vec<_> = pod.containers.iter().collect();
    first.sort_by_key(|container| !container.is_main);
    let first = first.into_iter();
    let first = first.map(|container| container.name.clone()).find(|name| {
        inits
            .iter()
            .filter(of_pod)
            .any(|(_, container, _)| container == name)
    });
    let found = inits
        .iter()
        .filter(of_pod)
        .find(|(_, container, _)| wish.container.is_some() || Some(container) == first.as_ref());
    let (name, container, init) =
        found.ok_or_else(|| format!("no such container runs in {}", pod.name.name))?;
    Ok(Found {
        init: *init,
        pod: name.clone(),
        container: container.clone(),
        on_host: reach::is_on_machine(pod.ip.into()),
    })
}

/// Runs a command in a container, on the caller's own streams.
async fn exec(
    stream: &mut UnixStream,
    rooms: &Rooms,
    wish: &ExecWish,
    descriptors: Vec<OwnedFd>,
) -> Result<i32, String> {
    let Found {
        init,
        pod,
        container,
        on_host,
    } = find(rooms, wish)?;
    let wanted = rooms
        .directory
        .read(|contents| contents.processes.get(&(pod, container)).cloned());
    let (process, mut confinement) = wanted.ok_or("the container has just ended")?;
    let mut descriptors = descriptors.into_iter();
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (descriptors.next(), descriptors.next(), descriptors.next())
    else {
        return Err("the command sent no streams".to_owned());
    };
    let path = format!("/proc/{}/fd/{}", std::process::id(), stdin.as_raw_fd());
    confinement.stdin = Some(path.into());
    confinement.network = None;
    confinement.terminal = wish.terminal;
    let command = wish.command.clone();
    let output = Output { stdout, stderr };
    let entry = ask::entry(init, (process, confinement), command);
    let started = container::enter(entry, output, on_host.then_some(&rooms.host));
    let started = started.map_err(|error| chain(&error))?;
    let signals = started.signals();
    let mut ended = tokio::task::spawn_blocking(move || started.wait(|_| ()));
    let mut nothing = [0];
    let result = tokio::select! {
        result = &mut ended => result,
        // The command is gone, and so is whom it was run for.
        _ = stream.read(&mut nothing) => {
            signals.kill();
            ended.await
        }
    };
    drop(stdin);
    match result.map_err(|error| error.to_string())? {
        Ok(exit) => Ok(exit.code()),
        Err(error) => Err(chain(&error)),
    }
}
