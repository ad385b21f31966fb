//! A layer blob from anyone becomes a directory, in one pass: inflate, diff id, tar, files.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use kiln_store::Digest;

use super::ahead;
use super::dir::{Form, LayerDir};
use super::index::{self, Line, TarError};
use super::parents::Parents;

/// A layer that has been unpacked.
#[derive(Debug)]
pub struct Unpacked {
    /// Digest of its tar.
    pub diff_id: Digest,
    /// See [`Parents::unnamed`].
    pub unnamed: BTreeSet<PathBuf>,
}

/// Unpacks a blob (gzip, zstd or plain) into `dir` and returns the digest of its tar.
///
/// # Errors
/// [`TarError`]; the directory is then in an undefined state.
pub fn unpack(blob: impl Read + Send, dir: &Path, form: Form) -> Result<Digest, TarError> {
    unpack_layer(blob, dir, form).map(|layer| layer.diff_id)
}

/// As [`unpack`], with what has to be known to put the layer on top of others.
///
/// # Errors
/// [`TarError`]; the directory is then in an undefined state.
pub fn unpack_layer(blob: impl Read + Send, dir: &Path, form: Form) -> Result<Unpacked, TarError> {
    let (diff_id, unnamed) = ahead::read_ahead(
        |sink| {
            let mut stream = HashReader::new(index::decompress(blob)?);
            sink.take_all(&mut stream)?;
            Ok(stream.digest())
        },
        |stream| write(stream, dir, form),
    );
    let unnamed = unnamed?;
    // Without a digest the source failed, and then so did reading it.
    let diff_id = diff_id.ok_or_else(|| TarError::Read(io::ErrorKind::UnexpectedEof.into()))?;
    Ok(Unpacked { diff_id, unnamed })
}

/// Writes a tar's files; returns the directories that it does not name.
fn write(stream: &mut dyn Read, dir: &Path, form: Form) -> Result<BTreeSet<PathBuf>, TarError> {
    let mut parents = Parents::default();
    let open = |source| TarError::Write {
        path: dir.to_owned(),
        source,
    };
    let mut target = LayerDir::open(dir, form).map_err(open)?;
    index::read(stream, &mut |line, content| {
        parents.see(&line);
        let (path, result) = match &line {
            Line::Put(path, node) => (path, target.put(path, node, content)),
            Line::Removed(path) => (path, target.remove(path)),
            Line::Opaque(path) => (path, target.opaque(path)),
        };
        result.map_err(|source| TarError::Write {
            path: path.clone(),
            source,
        })
    })?;
    target.finish().map_err(open)?;
    Ok(parents.unnamed())
}

/// Reads the headers of a blob; also returns the digest of its tar.
///
/// # Errors
/// [`TarError`]
pub fn headers(blob: impl Read) -> Result<(super::delta::Delta, Digest), TarError> {
    let stream = index::decompress(blob).map_err(TarError::Read)?;
    let mut stream = HashReader::new(stream);
    let delta = index::index(&mut stream)?;
    Ok((delta, stream.digest()))
}

/// Computes the digest of what is read through it.
struct HashReader<R> {
    inner: R,
    hasher: kiln_store::Hasher<io::Sink>,
}

impl<R> HashReader<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: kiln_store::Hasher::new(io::sink()),
        }
    }

    fn digest(self) -> Digest {
        self.hasher.finish().1
    }
}

impl<R: Read> Read for HashReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        io::Write::write_all(&mut self.hasher, &buffer[..count])?;
        Ok(count)
    }
}
