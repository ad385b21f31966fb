//! Blobs that are on this machine already: read from there instead of from a registry, and verified all the same.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, Take};

use super::answer::Answer;
use crate::error::Error;

/// What is read at once.
const PIECE: usize = 256 * 1024;

/// A blob in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalBlob {
    /// The file.
    pub path: PathBuf,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub size: u64,
}

/// Where the bytes of a blob come from.
#[derive(Debug)]
pub(super) enum Source {
    Network(Box<Answer>),
    File(Take<File>, PathBuf),
}

impl Source {
    /// Opens a file that has a blob of this size; `None` where that is not so any more.
    pub(super) async fn local(blob: &LocalBlob, size: u64) -> Option<Self> {
        let open = async {
            let mut file = File::open(&blob.path).await?;
            file.set_max_buf_size(PIECE);
            file.seek(SeekFrom::Start(blob.offset)).await?;
            std::io::Result::Ok(file.take(blob.size))
        };
        if blob.size != size {
            return None;
        }
        match open.await {
            Ok(file) => Some(Self::File(file, blob.path.clone())),
            Err(error) => {
                tracing::debug!(path = %blob.path.display(), %error, "a local blob is not used");
                None
            }
        }
    }

    /// The next bytes.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Network(answer) => answer.chunk().await,
            Self::File(file, path) => {
                let mut piece = BytesMut::with_capacity(PIECE);
                let read = file.read_buf(&mut piece).await;
                let count = read.map_err(|error| broken(path, error.to_string()))?;
                Ok((count > 0).then(|| piece.freeze()))
            }
        }
    }

    /// Who sent it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Network(answer) => answer.host.clone(),
            Self::File(_, path) => path.display().to_string(),
        }
    }

    /// The error that an early end is.
    pub(super) fn ended_early(&self) -> Error {
        let problem = "it ended before the blob did";
        match self {
            Self::Network(answer) => answer.protocol_error(problem),
            Self::File(_, path) => broken(path, problem.to_owned()),
        }
    }
}

fn broken(path: &Path, problem: String) -> Error {
    Error::Protocol {
        action: format!("reading {}", path.display()),
        problem,
    }
}
