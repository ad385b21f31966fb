//! The build's tree as a tar stream, made while it is sent, so that memory
//! stays small whatever the context's size. [`super::delivery`] sends it.
//!
//! The stream is deterministic: sorted, owned by root, modes and times kept.
//! What goes wrong is an error at once, not after the upload's time limit
//! (skaffold.md 3.5, defect 3).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use kiln_schemas::event::{Event, Events, Phase};
use kiln_schemas::model::UploadLimits;
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;

use super::exec::ExecError;
use super::pod::{COMPLETE, EXECUTOR};
use super::tree::{BuildTree, CONTEXT_MOUNT, TreeFile};

/// Bytes per message to the exec connection.
const CHUNK: usize = 64 * 1024;
/// Messages that wait for the connection.
const QUEUE: usize = 16;
/// skaffold's `buildContextCompressionLevel`.
const DEFAULT_LEVEL: u32 = 1;

/// The context could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// A file of it cannot be read.
    #[error("cannot read {} for the build context", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file changed while it was read.
    #[error("{} changed while it was sent", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The other side did not take it, on the last attempt.
    #[error("cannot send the build context (attempt {attempt} of {attempts})")]
    Send {
        /// The last attempt.
        attempt: u32,
        /// How many there may be.
        attempts: u32,
        /// Why.
        #[source]
        source: ExecError,
    },
    /// It took too long, on the last attempt.
    #[error("sending the build context took longer than {} s (attempt {attempt} of {attempts})", after.as_secs())]
    Timeout {
        /// The last attempt.
        attempt: u32,
        /// How many there may be.
        attempts: u32,
        /// The limit of one attempt.
        after: Duration,
    },
    /// The task that reads it ended abnormally.
    #[error("reading the build context stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

impl ContextError {
    /// Whether it only says that nobody reads any more.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Who unpacks on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiver {
    /// Kiln's executor in the container that builds: plain tar, it sets the
    /// marker that the build waits for, and the build's log comes back.
    Executor,
    /// Kiln's executor image as init container of another executor.
    Init,
    /// `tar` in an init container that waits for a file, as skaffold does it.
    Shell,
}

impl Receiver {
    pub(super) fn unpack(self) -> Vec<String> {
        match self {
            Self::Executor => words(&[EXECUTOR, "receive", "--follow", CONTEXT_MOUNT]),
            Self::Init => words(&[EXECUTOR, "receive", CONTEXT_MOUNT]),
            Self::Shell => words(&["tar", "-zxf", "-", "-C", CONTEXT_MOUNT]),
        }
    }

    /// What lets the build begin, where unpacking does not do it.
    pub(super) fn release(self) -> Option<Vec<String>> {
        match self {
            Self::Executor | Self::Init => None,
            Self::Shell => Some(words(&["touch", COMPLETE])),
        }
    }

    pub(super) fn compression(self, limits: &UploadLimits) -> Option<Compression> {
        (self == Self::Shell)
            .then(|| Compression::new(limits.compression_level.unwrap_or(DEFAULT_LEVEL).min(9)))
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Tells how much of the context was sent.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    pub(super) events: Events,
    pub(super) image: String,
}

impl Progress {
    pub(super) fn report(&self, sent: &AtomicU64) {
        self.events.emit(Event::Transfer {
            image: self.image.clone(),
            phase: Phase::Context,
            done: sent.load(Ordering::Relaxed),
            total: None,
        });
    }
}

/// The blocking end of the channel to the connection.
pub(super) struct Pipe {
    sender: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
    sent: Arc<AtomicU64>,
}

impl Pipe {
    /// A pipe that counts its bytes in `sent`, and its other end.
    pub(super) fn new(sent: Arc<AtomicU64>) -> (Self, mpsc::Receiver<Bytes>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let pipe = Self {
            sender,
            buffer: Vec::with_capacity(CHUNK),
            sent,
        };
        (pipe, receiver)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.buffer.len();
        let taken = bytes.len().min(room);
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        let length = chunk.len() as u64;
        self.sender
            .blocking_send(Bytes::from(chunk))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.sent.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }
}

pub(super) fn write_stream(
    pipe: Pipe,
    tree: &BuildTree,
    compression: Option<Compression>,
) -> Result<(), ContextError> {
    let end = |source| ContextError::Read {
        path: PathBuf::from("-"),
        source,
    };
    match compression {
        Some(level) => {
            let encoder = write_archive(tree.files(), GzEncoder::new(pipe, level))?;
            encoder
                .finish()
                .and_then(|mut pipe| pipe.flush())
                .map_err(end)
        }
        None => write_archive(tree.files(), pipe)?.flush().map_err(end),
    }
}

/// Writes the archive and gives the writer back.
pub(super) fn write_archive<W: Write>(files: &[TreeFile], writer: W) -> Result<W, ContextError> {
    let mut archive = Builder::new(writer);
    let mut folders = BTreeSet::new();
    for file in files {
        for (path, source) in parents(file) {
            if folders.insert(path.clone()) {
                append(&mut archive, &path, &source)?;
            }
        }
        if !folders.contains(&file.path) {
            append(&mut archive, &file.path, &file.source)?;
        }
    }
    archive.into_inner().map_err(|source| ContextError::Read {
        path: PathBuf::from("-"),
        source,
    })
}

/// The folders above a file, outermost first, as far as they are the same on
/// this host: their modes are part of the context.
fn parents(file: &TreeFile) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let (mut path, mut source) = (Path::new(&file.path), file.source.as_path());
    while path.file_name() == source.file_name() {
        let (Some(up), Some(above)) = (path.parent(), source.parent()) else {
            break;
        };
        if up.as_os_str().is_empty() || up.file_name() != above.file_name() {
            break;
        }
        found.push((up.to_string_lossy().into_owned(), above.to_owned()));
        (path, source) = (up, above);
    }
    found.reverse();
    found
}

/// Appends one entry. Sockets and pipes are left out, as Docker leaves them.
fn append<W: Write>(
    archive: &mut Builder<W>,
    path: &str,
    source: &Path,
) -> Result<(), ContextError> {
    let read = |error| ContextError::Read {
        path: source.to_owned(),
        source: error,
    };
    let metadata = fs::symlink_metadata(source).map_err(read)?;
    let mut header = Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(mode(&metadata));
    header.set_mtime(mtime(&metadata));
    header.set_size(0);
    if metadata.is_dir() {
        header.set_entry_type(EntryType::Directory);
        archive
            .append_data(&mut header, format!("{path}/"), io::empty())
            .map_err(read)
    } else if metadata.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        let target = fs::read_link(source).map_err(read)?;
        archive.append_link(&mut header, path, target).map_err(read)
    } else if metadata.is_file() {
        header.set_entry_type(EntryType::Regular);
        let file = File::open(source).map_err(read)?;
        // What is open is what is sent: its size decides, not the path's.
        let size = file.metadata().map_err(read)?.len();
        header.set_size(size);
        let mut exact = Exact {
            inner: file.take(size),
            left: size,
        };
        archive
            .append_data(&mut header, path, &mut exact)
            .map_err(read)?;
        if exact.left > 0 {
            Err(ContextError::Changed {
                path: source.to_owned(),
            })
        } else {
            Ok(())
        }
    } else {
        Ok(())
    }
}

/// Counts down, so that a file that became shorter is noticed and not padded.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(unix)]
fn mode(metadata: &fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o7777
}

#[cfg(not(unix))]
fn mode(metadata: &fs::Metadata) -> u32 {
    if metadata.is_dir() { 0o755 } else { 0o644 }
}

fn mtime(metadata: &fs::Metadata) -> u64 {
    metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
