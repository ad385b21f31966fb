//! A command's side: finds the holder of a state directory, starts one where there is none, and
//! talks to it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kiln_sandbox::users::MORE_IDS;
use kiln_sandbox::{IdMap, namespace};
use rustix::fs::{FlockOperation, flock};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UnixStream;

use crate::desired::Desired;
use crate::node::{MARKER, paths};
use crate::protocol::{Answer, Applied, ExecWish, LogWish, Request, World};

/// Why there is no holder, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file of the state directory.
    #[error("cannot use {}", path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The holder's namespaces.
    #[error("cannot make the namespaces that workloads live in")]
    Namespaces(#[source] kiln_sandbox::Error),
    /// The holder ended while it started.
    #[error("the holder of the workloads did not start: {0}")]
    Ended(String),
    /// The conversation.
    #[error("cannot talk to the holder of the workloads")]
    Talk(#[source] io::Error),
    /// What the holder says.
    #[error("{0}")]
    Refused(String),
}

/// The holder of a state directory.
#[derive(Debug, Clone)]
pub struct Holder {
    state: PathBuf,
}

/// How the holder came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It ran already.
    Running,
    /// It was started now.
    Started,
}

impl Holder {
    /// The holder whose state is in this directory; nothing is started.
    #[must_use]
    pub fn of(state: impl Into<PathBuf>) -> Self {
        Self {
            state: state.into(),
        }
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.connect().is_ok()
    }

    fn at(&self, name: &str) -> (PathBuf, impl FnOnce(io::Error) -> ClientError + use<>) {
        let path = self.state.join(name);
        let shown = path.clone();
        (path, move |source| ClientError::State {
            path: shown,
            source,
        })
    }

    /// Makes sure that it runs. Blocks.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn start(&self) -> Result<Found, ClientError> {
        let (_, failed) = self.at("");
        std::fs::create_dir_all(&self.state).map_err(failed)?;
        let (_, failed) = self.at("");
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&self.state, private).map_err(failed)?;
        let (gate, failed) = self.at("start.lock");
        // Two commands at once start one holder.
        let gate = File::create(gate).map_err(failed)?;
        let (_, failed) = self.at("start.lock");
        flock(&gate, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        if self.is_running() {
            return Ok(Found::Running);
        }
        // One that is just leaving is waited for.
        let (lock, failed) = self.at(paths::LOCK);
        let lock = File::create(lock).map_err(failed)?;
        let (_, failed) = self.at(paths::LOCK);
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        drop(lock);
        self.spawn()?;
        Ok(Found::Started)
    }

    fn spawn(&self) -> Result<(), ClientError> {
        let (log, failed) = self.at(paths::LOG);
        let output = File::create(&log).map_err(failed)?;
        let (_, failed) = self.at(paths::LOG);
        let errors = output.try_clone().map_err(failed)?;
        let ids = namespace::best_ids().map_err(ClientError::Talk)?;
        let (control, theirs) = StdUnixStream::pair().map_err(ClientError::Talk)?;
        let child = Command::new("/proc/self/exe")
            .arg0(MARKER)
            .arg(&self.state)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(ClientError::Talk)?;
        namespace::map_child(&child, &control, &ids).map_err(ClientError::Namespaces)?;
        // The end of the channel: it listens, or it is gone.
        let mut rest = Vec::new();
        drop((&control).read_to_end(&mut rest));
        if self.is_running() {
            return Ok(());
        }
        let said = std::fs::read_to_string(log).unwrap_or_default();
        Err(ClientError::Ended(said.trim().to_owned()))
    }

    fn connect(&self) -> io::Result<StdUnixStream> {
        let folder = File::open(&self.state)?;
        let short = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), paths::SOCKET);
        StdUnixStream::connect(short)
    }

    async fn request(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Answers, ClientError> {
        let stream = self.connect().map_err(ClientError::Talk)?;
        send(&stream, request, descriptors).map_err(ClientError::Talk)?;
        stream.set_nonblocking(true).map_err(ClientError::Talk)?;
        let stream = UnixStream::from_std(stream).map_err(ClientError::Talk)?;
        tokio::task::yield_now().await;
        Ok(Answers(BufReader::new(stream).lines()))
    }

    /// Runs this from now on.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn apply(&self, desired: Desired) -> Result<Applied, ClientError> {
        let request = Request::Apply(Box::new(desired));
        match self.request(&request, &[]).await?.next().await? {
            Some(Answer::Applied(applied)) => Ok(applied),
            other => Err(unexpected(other)),
        }
    }

    /// How everything is, again and again.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn watch(&self) -> Result<Answers, ClientError> {
        self.request(&Request::Watch, &[]).await
    }

    /// How everything is.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn world(&self) -> Result<World, ClientError> {
        match self.watch().await?.next().await? {
            Some(Answer::World(world)) => Ok(world),
            other => Err(unexpected(other)),
        }
    }

    /// Lines of containers.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn logs(&self, wish: LogWish) -> Result<Answers, ClientError> {
        self.request(&Request::Logs(wish), &[]).await
    }

    /// Runs a command in a container on these streams: input, output, errors. Returns its code.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn exec(
        &self,
        wish: ExecWish,
        streams: [BorrowedFd<'_>; 3],
    ) -> Result<i32, ClientError> {
        let request = Request::Exec(wish);
        match self.request(&request, &streams).await?.next().await? {
            Some(Answer::Exited(code)) => Ok(code),
            other => Err(unexpected(other)),
        }
    }

    /// Stops everything and the holder itself. One that does not run is no error.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn leave(&self) -> Result<(), ClientError> {
        if !self.is_running() {
            return Ok(());
        }
        let mut answers = self.request(&Request::Leave, &[]).await?;
        // It ends without a word.
        drop(answers.next().await);
        Ok(())
    }

    /// The state directory.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// What the holder's ids cannot do, where that is worth a note.
    #[must_use]
    pub fn id_note() -> Option<String> {
        let alone = match namespace::best_ids() {
            Ok(IdMap::Single) => true,
            // The only id of a namespace that was made before.
            Ok(IdMap::Identity { users, .. }) => users.iter().all(|(_, count)| *count == 1),
            _ => false,
        };
        alone.then(|| {
            format!(
                "containers have a single user id: those that run as another user than root, or \
                 change a file's owner, fail; {MORE_IDS}"
            )
        })
    }
}

fn unexpected(answer: Option<Answer>) -> ClientError {
    match answer {
        Some(Answer::Failed(causes)) => ClientError::Refused(causes.join(": ")),
        Some(_) => ClientError::Talk(io::Error::other("another answer was expected")),
        None => ClientError::Talk(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Sends a request with its length in front, descriptors with the first bytes.
fn send(
    stream: &StdUnixStream,
    request: &Request,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = serde_json::to_vec(request)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let head = length.to_le_bytes();
    sendmsg(
        stream,
        &[io::IoSlice::new(&head)],
        &mut control,
        SendFlags::empty(),
    )?;
    io::Write::write_all(&mut &*stream, &body)
}

/// The answers to a request.
#[derive(Debug)]
pub struct Answers(Lines<BufReader<UnixStream>>);

impl Answers {
    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// [`ClientError::Talk`]
    pub async fn next(&mut self) -> Result<Option<Answer>, ClientError> {
        let line = self.0.next_line().await.map_err(ClientError::Talk)?;
        let Some(line) = line else { return Ok(None) };
        let answer = serde_json::from_str(&line);
        answer
            .map(Some)
            .map_err(|error| ClientError::Talk(error.into()))
    }
}
