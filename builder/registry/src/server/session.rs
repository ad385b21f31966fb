//! Uploads in progress: files that grow, in a directory each, until they are named by their digest.
//!
//! `uploads/<id>/repository` says where the blob will belong, `uploads/<id>/data` holds what has come. What is known
//! about the digest so far is kept in memory; after a restart of the server it is computed from the file.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::blocking;
use super::reply::{Problem, storage as failed};
use crate::digest::{Algorithm, Digest, Hasher};

/// What is gathered before it is written.
const PIECE: usize = 1 << 20;

/// All uploads.
#[derive(Debug)]
pub(super) struct Uploads {
    dir: PathBuf,
    sessions: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Session>>>>,
}

/// One upload; one request at a time works on it.
#[derive(Debug)]
pub(super) struct Session {
    dir: PathBuf,
    pub(super) repository: String,
    /// `None` while it is written, and after something went wrong: the file is read again then.
    sink: Option<Sink>,
}

/// The growing file with its digest so far.
#[derive(Debug)]
struct Sink {
    file: File,
    hasher: Hasher,
    size: u64,
}

impl Uploads {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let dir = root.join("uploads");
        fs::create_dir_all(&dir)?;
        Ok(Self {
            dir,
            sessions: Mutex::default(),
        })
    }

    /// Begins an upload for `repository` and returns its id.
    pub(super) fn start(&self, repository: &str) -> Result<String, Problem> {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| Problem::Stopped)?;
        let id = random.iter().fold(String::new(), |mut text, byte| {
            use std::fmt::Write as _;
            let _ = write!(text, "{byte:02x}");
            text
        });
        let dir = self.dir.join(&id);
        fs::create_dir(&dir).map_err(failed(&dir))?;
        let file = File::create(dir.join("data")).map_err(failed(&dir))?;
        fs::write(dir.join("repository"), repository).map_err(failed(&dir))?;
        let session = Session {
            dir,
            repository: repository.to_owned(),
            sink: Some(Sink {
                file,
                hasher: Hasher::new(Algorithm::Sha256),
                size: 0,
            }),
        };
        self.lock()
            .insert(id.clone(), Arc::new(tokio::sync::Mutex::new(session)));
        Ok(id)
    }

    /// The upload `id` of `repository`.
    pub(super) fn find(
        &self,
        repository: &str,
        id: &str,
    ) -> Result<Arc<tokio::sync::Mutex<Session>>, Problem> {
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Problem::UploadUnknown);
        }
        let dir = self.dir.join(id);
        let belongs =
            fs::read_to_string(dir.join("repository")).map_err(|_| Problem::UploadUnknown)?;
        if belongs != repository {
            return Err(Problem::UploadUnknown);
        }
        let mut sessions = self.lock();
        let session = sessions.entry(id.to_owned()).or_insert_with(|| {
            Arc::new(tokio::sync::Mutex::new(Session {
                dir,
                repository: belongs,
                sink: None,
            }))
        });
        Ok(session.clone())
    }

    /// Forgets an upload and removes what is left of it.
    pub(super) fn end(&self, id: &str) {
        self.lock().remove(id);
        let dir = self.dir.join(id);
        if let Err(error) = fs::remove_dir_all(&dir) {
            tracing::warn!(dir = %dir.display(), %error, "an upload's directory is left");
        }
    }

    /// Removes uploads that nothing was written to for `age`.
    pub(super) fn remove_older(&self, age: Duration) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let modified = fs::metadata(entry.path().join("data")).and_then(|data| data.modified());
            let is_old = modified.map_or(true, |modified| {
                SystemTime::now()
                    .duration_since(modified)
                    .is_ok_and(|old| old > age)
            });
            if is_old && let Ok(id) = entry.file_name().into_string() {
                self.end(&id);
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<Session>>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// How many bytes have come.
    pub(super) async fn size(&mut self) -> Result<u64, Problem> {
        let sink = self.take().await?;
        let size = sink.size;
        self.sink = Some(sink);
        Ok(size)
    }

    /// Adds a body as it comes. What came before an error is kept.
    pub(super) async fn append(&mut self, mut body: Incoming) -> Result<u64, Problem> {
        let mut sink = self.take().await?;
        let mut piece = BytesMut::new();
        loop {
            let frame = body.frame().await;
            let ended = frame.is_none();
            let mut broken = None;
            match frame {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        piece.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => broken = Some(error),
                None => {}
            }
            if piece.len() >= PIECE || ended || broken.is_some() {
                let bytes = piece.split().freeze();
                let path = self.data();
                sink = blocking(move || {
                    sink.file.write_all(&bytes).map_err(failed(path))?;
                    sink.hasher.update(&bytes);
                    sink.size += bytes.len() as u64;
                    Ok(sink)
                })
                .await?;
            }
            if ended || broken.is_some() {
                let size = sink.size;
                self.sink = Some(sink);
                return broken.map_or(Ok(size), |error| Err(Problem::Body(error)));
            }
        }
    }

    /// The digest of what has come, by sha256 and by the algorithm that is asked for.
    pub(super) async fn digests(
        &mut self,
        algorithm: Algorithm,
    ) -> Result<(Digest, Digest), Problem> {
        let sink = self.take().await?;
        let sha256 = sink.hasher.clone().finish();
        self.sink = Some(sink);
        if algorithm == Algorithm::Sha256 {
            return Ok((sha256.clone(), sha256));
        }
        let path = self.data();
        let (hasher, _) = blocking(move || hash(&path, algorithm)).await?;
        Ok((sha256, hasher.finish()))
    }

    async fn take(&mut self) -> Result<Sink, Problem> {
        if let Some(sink) = self.sink.take() {
            return Ok(sink);
        }
        let path = self.data();
        blocking(move || {
            let (hasher, size) = hash(&path, Algorithm::Sha256)?;
            let file = File::options()
                .append(true)
                .open(&path)
                .map_err(failed(&path))?;
            Ok(Sink { file, hasher, size })
        })
        .await
    }
}

fn hash(path: &Path, algorithm: Algorithm) -> Result<(Hasher, u64), Problem> {
    let mut hasher = Hasher::new(algorithm);
    let mut file = File::open(path).map_err(failed(path))?;
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer).map_err(failed(path))?;
        if count == 0 {
            return Ok((hasher, size));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}
