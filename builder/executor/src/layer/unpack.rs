//! A layer blob or archive from anyone becomes a directory, in one pass: inflate, diff id, tar,
//! files.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use kiln_store::Digest;
use rustix::io::Errno;

use super::ahead;
use super::delta::{Content, Delta, Kind, Node};
use super::dir::{Form, LayerDir};
use super::gunzip::Behind;
use super::index::{self, Line, Names, TarError};
use super::parents::Parents;

/// A layer that has been unpacked.
#[derive(Debug)]
pub struct Unpacked {
    /// Digest of its tar.
    pub diff_id: Digest,
    /// See [`Parents::unnamed`].
    pub unnamed: BTreeSet<PathBuf>,
}

/// Unpacks a blob ([compressed](index::decompress) or plain) into `dir` and returns the digest of
/// its tar. For an [overlay](Form::Overlay) it is a layer with whiteouts; otherwise it is an archive
/// in which all names are ordinary.
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
pub fn unpack_layer(
    mut blob: impl Read + Send,
    dir: &Path,
    form: Form,
) -> Result<Unpacked, TarError> {
    let behind = match form {
        Form::Overlay => Behind::Refused,
        Form::Applied => Behind::Ignored,
    };
    let (diff_id, unnamed) = inflated(&mut blob, behind, |mut stream, blob| {
        write((&mut stream, blob), (dir, form), None)
    })?;
    Ok(Unpacked { diff_id, unnamed })
}

/// As [`unpack_layer`], with the headers as [`headers`] gives them.
///
/// # Errors
/// [`TarError`]; the directory is then in an undefined state.
pub fn unpack_with_headers(
    mut blob: impl Read + Send,
    dir: &Path,
    form: Form,
) -> Result<(Unpacked, Delta), TarError> {
    let (diff_id, (unnamed, headers)) =
        inflated(&mut blob, Behind::Refused, |mut stream, blob| {
            let mut headers = Delta::default();
            let unnamed = write((&mut stream, blob), (dir, form), Some(&mut headers))?;
            Ok((unnamed, headers))
        })?;
    Ok((Unpacked { diff_id, unnamed }, headers))
}

/// The entries of an archive for a root of its own, in their order, with the bytes of
/// files in the directory `dir`.
///
/// # Errors
/// [`TarError`]
pub fn entries(mut blob: impl Read + Send, dir: &Path) -> Result<Vec<(PathBuf, Node)>, TarError> {
    let (_, entries) = inflated(&mut blob, Behind::Ignored, |stream, blob| {
        let mut entries: Vec<(PathBuf, Node)> = Vec::new();
        index::read((stream, Names::Rooted), blob, &mut |line, content| {
            let Line::Put(path, mut node) = line else {
                return Ok(());
            };
            possible(&path, &node)?;
            if !matches!(
                node.kind,
                Kind::File(_) | Kind::Directory | Kind::Hardlink(_)
            ) {
                // Nothing else has attributes of the user's (xattr(7)).
                node.xattrs.retain(|name, _| !name.starts_with("user."));
            }
            if matches!(node.kind, Kind::File(1..)) {
                let host = dir.join(entries.len().to_string());
                let written =
                    File::create_new(&host).and_then(|mut file| io::copy(content, &mut file));
                written.map_err(|source| TarError::Write {
                    path: path.clone(),
                    source,
                })?;
                node.content = Some(Content::Host(host));
            }
            entries.push((path, node));
            Ok(())
        })?;
        Ok(entries)
    })?;
    Ok(entries)
}

/// What the kernel takes for a name and a path, in bytes (limits.h, without the end of the text).
const NAME_MAX: usize = 255;
/// The same of a path.
pub const PATH_MAX: usize = 4095;
/// The most bytes of an extended attribute.
const XATTR_SIZE_MAX: usize = 65_536;

/// Refuses what could be made in no file system.
fn possible(path: &Path, node: &Node) -> Result<(), TarError> {
    let is_long = |path: &Path| {
        let bytes = path.as_os_str().len();
        bytes > PATH_MAX || path.iter().any(|part| part.len() > NAME_MAX)
    };
    let is_large =
        |(name, value): (&String, &Vec<u8>)| name.len() > NAME_MAX || value.len() > XATTR_SIZE_MAX;
    let error = match &node.kind {
        _ if node.xattrs.iter().any(is_large) => Errno::TOOBIG,
        _ if is_long(path) => Errno::NAMETOOLONG,
        Kind::Symlink(target) if target.as_os_str().len() > PATH_MAX => Errno::NAMETOOLONG,
        Kind::Symlink(target) if target.as_os_str().is_empty() => Errno::NOENT,
        Kind::Hardlink(target) if is_long(target) => Errno::NAMETOOLONG,
        _ => return Ok(()),
    };
    let shown: String = path.to_string_lossy().chars().take(NAME_MAX).collect();
    Err(TarError::Write {
        path: shown.into(),
        source: error.into(),
    })
}

/// Fetches, inflates, digests and consumes a blob, a thread for each.
fn inflated<C>(
    blob: &mut (dyn Read + Send),
    behind: Behind,
    consume: impl FnOnce(ahead::Stream, &AtomicU64) -> Result<C, TarError>,
) -> Result<(Digest, C), TarError> {
    let taken = &AtomicU64::new(0);
    let mut blob = Counted(blob, taken);
    let (_, (whole, diff_id, consumed)) = ahead::read_ahead(
        |sink| sink.take_all(&mut blob),
        |blob| {
            ahead::read_watched(
                move |sink| sink.take_all(&mut index::decompress(blob, behind)?),
                digest_of,
                |stream| consume(stream, taken),
            )
        },
    );
    let consumed = consumed?;
    // Otherwise the source failed, and then so did reading it.
    whole.ok_or_else(|| TarError::Read(io::ErrorKind::UnexpectedEof.into()))?;
    Ok((diff_id, consumed))
}

/// Counts what is read.
struct Counted<'c>(&'c mut (dyn Read + Send), &'c AtomicU64);

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

fn digest_of(chunks: ahead::Watched) -> Digest {
    let mut hasher = kiln_store::Hasher::new(io::sink());
    for chunk in chunks {
        // A sink takes everything.
        let _ = io::Write::write_all(&mut hasher, &chunk);
    }
    hasher.finish().1
}

/// Writes a tar's files; returns the directories that it does not name. The headers go to
/// `headers`, where someone wants them.
fn write(
    (stream, blob): (&mut dyn Read, &AtomicU64),
    (dir, form): (&Path, Form),
    mut headers: Option<&mut Delta>,
) -> Result<BTreeSet<PathBuf>, TarError> {
    let mut parents = Parents::default();
    let open = |source| TarError::Write {
        path: dir.to_owned(),
        source,
    };
    let mut target = LayerDir::open(dir, form).map_err(open)?;
    let names = match form {
        Form::Overlay => Names::OfLayer,
        Form::Applied => Names::Ordinary,
    };
    index::read((stream, names), blob, &mut |line, content| {
        parents.see(&line);
        let kept = match &headers {
            Some(_) => index::kept(&line, content)?,
            None => None,
        };
        let (path, result) = match (&line, &kept) {
            (Line::Put(path, node), Some(bytes)) => (path, target.put(path, node, &mut &bytes[..])),
            (Line::Put(path, node), None) => (path, target.put(path, node, content)),
            (Line::Removed(path), _) => (path, target.remove(path)),
            (Line::Opaque(path), _) => (path, target.opaque(path)),
        };
        result.map_err(|source| TarError::Write {
            path: path.clone(),
            source,
        })?;
        if let Some(headers) = &mut headers {
            index::add(headers, line, kept);
        }
        Ok(())
    })?;
    target.finish().map_err(open)?;
    Ok(parents.unnamed())
}

/// Reads the headers of a blob; also returns the digest of its tar.
///
/// # Errors
/// [`TarError`]
pub fn headers(mut blob: impl Read + Send) -> Result<(Delta, Digest), TarError> {
    let (diff_id, delta) = inflated(&mut blob, Behind::Refused, index::index)?;
    Ok((delta, diff_id))
}
