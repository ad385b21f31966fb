//! The few words that the caller and the sandbox process exchange over their socket.
//!
//! Each is a little-endian `u32` length and that many bytes of JSON. The socket's end is itself a
//! word: whichever side sees it knows that the other is gone.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::container::Confinement;
use crate::error::{ExecProblem, Failure};
use crate::idmap::IdMap;
use crate::ladder::Rung;
use crate::step::Step;

/// Caller to sandbox, first word: everything there is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub rung: Rung,
    pub ids: IdMap,
    pub step: Step,
    /// Prepare everything, then leave instead of running the command.
    pub rehearse: bool,
    /// What a container has and a step of a build has not.
    pub confinement: Option<Confinement>,
}

/// Caller to sandbox, second word: the id maps are written (only where a new user namespace was
/// announced).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Mapped;

/// Caller to sandbox, while a container runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// A signal for the command.
    Signal(i32),
}

/// Sandbox to caller.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The namespaces exist; the maps are wanted.
    Unshared,
    /// The process id of a container's init.
    Init(u32),
    /// A container's file system is there, its command is forked.
    Running,
    /// The command ended by itself.
    Exited(i32),
    /// A signal ended the command.
    Signaled(i32),
    /// A call of the preparation was refused.
    Failed(Failure),
    /// The command could not be executed.
    Exec {
        program: String,
        problem: ExecProblem,
    },
    /// The working directory could not be entered.
    WorkingDirectory { path: PathBuf, errno: i32 },
}

/// No honest word is longer: a step is a few kilobytes, its environment at most 2 MiB.
const LONGEST: u32 = 64 << 20;

/// Sends one word.
pub(crate) fn send<T: Serialize>(mut to: impl Write, word: &T) -> io::Result<()> {
    let body = serde_json::to_vec(word).map_err(io::Error::from)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|length| *length <= LONGEST)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "step too large"))?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend_from_slice(&body);
    to.write_all(&frame)
}

/// Receives one word; `None` when the other side has closed the socket between words.
pub(crate) fn receive<T: DeserializeOwned>(mut from: impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "word too long for the sandbox channel",
        ));
    }
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}
