//! A socket that stands for an SSH agent: the command's user may own it, and it is gone when the
//! command ends.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Hands connections on to an agent until it is dropped.
#[derive(Debug)]
pub(super) struct Forward {
    path: PathBuf,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forward {
    /// Listens at `path` for the agent at `agent`.
    pub(super) fn start(path: &Path, agent: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (ended, agent) = (Arc::clone(&ended), agent.to_owned());
            move || {
                for stream in listener.incoming() {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    // An agent that is gone ends the conversation, as it would without this.
                    if let (Ok(stream), Ok(other)) = (stream, UnixStream::connect(&agent)) {
                        std::thread::spawn(move || drop(converse(&stream, &other)));
                    }
                }
            }
        });
        Ok(Self {
            path: path.to_owned(),
            ended,
            thread: Some(thread),
        })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the listener; when that fails it is gone already.
        if UnixStream::connect(&self.path).is_ok()
            && let Some(thread) = self.thread.take()
        {
            drop(thread.join());
        }
    }
}

/// Copies both ways until both sides are done.
fn converse(one: &UnixStream, other: &UnixStream) -> io::Result<()> {
    let way = |from: &UnixStream, to: &UnixStream| -> io::Result<()> {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        io::copy(&mut from, &mut to)?;
        to.shutdown(Shutdown::Write)
    };
    std::thread::scope(|scope| {
        let back = scope.spawn(|| way(other, one));
        let there = way(one, other);
        let back = back.join().unwrap_or(Ok(()));
        there.and(back)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_is_asked_reaches_the_agent_and_its_answer_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (agent, offered) = (dir.path().join("agent"), dir.path().join("offered"));
        let listener = UnixListener::bind(&agent).unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 4];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(b"yes").unwrap();
            question
        });
        let forward = Forward::start(&offered, &agent).unwrap();
        let mut stream = UnixStream::connect(&offered).unwrap();
        stream.write_all(b"sign").unwrap();
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).unwrap();
        drop(stream);
        drop(forward);
        assert_eq!((answering.join().unwrap(), &answer), (*b"sign", b"yes"));
    }
}
