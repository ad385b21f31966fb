//! Reads a tar, from anyone, as a sequence of items; and that of a layer as an index without files.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::AtomicU64;

use lzma_rust2::XzReader;
use tar::{Archive, Entry, EntryType, Header};

use super::bounds::{self, Bomb, Marked, Measured};
use super::delta::{Content, Delta, Item, Kind, Meta, Node, OPAQUE, WHITEOUT, is_portable_xattr};
use super::gunzip::{Behind, Gunzip};
use super::sparse::Sparse;

/// Files whose content an index keeps, because names of owners are looked up in them.
const KEPT: [&str; 2] = ["etc/passwd", "etc/group"];
/// The most that is kept of each.
const KEPT_LIMIT: u64 = 1 << 20;

/// The largest user or group: to the kernel the number after it means "as it was" (chown(2)).
const MAX_ID: u32 = u32::MAX - 1;

/// Why a tar cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream breaks off or is no tar.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// A name that leads out of the root.
    #[error("the archive holds an entry {name:?} that leads out of it: it is broken or hostile")]
    Escape {
        /// The name as it stands in the tar.
        name: String,
    },
    /// An entry of an unknown kind.
    #[error("the archive holds an entry {name:?} of the unknown type {kind:?}")]
    Kind {
        /// The name as it stands in the tar.
        name: String,
        /// Its type flag.
        kind: char,
    },
    /// An entry of a user or group that cannot be.
    #[error("the archive holds an entry {name:?} of the owner {id}: ids end at {MAX_ID}")]
    Owner {
        /// The name as it stands in the tar.
        name: String,
        /// Its user or group.
        id: u64,
    },
    /// A file that cannot be written.
    #[error("cannot write /{}", path.display())]
    Write {
        /// Where, inside the layer.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What names mean that begin with `.wh.`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// In a layer they hide what lower layers have.
    OfLayer,
    /// In any other archive they are names.
    Ordinary,
    /// They are names, and the archive is unpacked into a root of its own (`ADD`): `..` stays there.
    Rooted,
}

/// What an entry of a tar says, in the order of the tar.
#[derive(Debug)]
pub enum Line {
    /// A file.
    Put(PathBuf, Node),
    /// A whiteout.
    Removed(PathBuf),
    /// An opaque marker in this directory.
    Opaque(PathBuf),
}

/// Opens a blob by its first bytes: gzip (also of several members), zstd, bzip2, xz or a plain
/// tar. Media types lie in the wild.
///
/// # Errors
/// When nothing can be read.
pub fn decompress<'a>(blob: impl Read + 'a, behind: Behind) -> io::Result<Box<dyn Read + 'a>> {
    let mut blob = BufReader::with_capacity(1 << 17, blob);
    let magic = blob.fill_buf()?;
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(Gunzip::new(blob, behind)),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(blob)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(XzReader::new(blob, true)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(blob)?),
        _ => Box::new(blob),
    })
}

/// Calls `visit` for each entry with a reader of its bytes, then reads to the end of the stream,
/// so that digests computed on the way are complete. `blob` is how much of the blob that the tar
/// comes from was taken so far.
///
/// # Errors
/// [`TarError`], and those of `visit`.
pub fn read(
    (stream, names): (impl Read, Names),
    blob: &AtomicU64,
    visit: &mut dyn FnMut(Line, &mut dyn Read) -> Result<(), TarError>,
) -> Result<(), TarError> {
    let bomb = |bomb: Bomb| TarError::Read(io::Error::other(bomb));
    let mark = Cell::new(bounds::HEADERS);
    let mut archive = Archive::new(Marked::new(stream, &mark));
    let mut measured = Measured::new(blob);
    let mut count = 0;
    for entry in archive.entries().map_err(TarError::Read)? {
        let mut entry = entry.map_err(TarError::Read)?;
        count += 1;
        if count > bounds::ENTRIES {
            return Err(bomb(Bomb::Entries));
        }
        // What of the file is not read now is skipped before the next headers.
        let archived = archived(&entry)?;
        let sparse = Sparse::of(&mut entry).map_err(TarError::Read)?;
        let size = sparse.as_ref().map_or(entry.size(), |sparse| sparse.size);
        bounds::check_sparse(size, archived).map_err(bomb)?;
        let end = entry.raw_file_position().saturating_add(archived);
        mark.set(end.saturating_add(bounds::HEADERS));
        let Some(line) = line(&mut entry, names, sparse.as_ref())? else {
            continue;
        };
        match sparse {
            None => visit(line, &mut measured.file(&mut entry))?,
            Some(sparse) => {
                let whole = sparse.whole(&mut entry).map_err(TarError::Read)?;
                visit(line, &mut measured.file(whole))?;
            }
        }
    }
    let mut rest = archive.into_inner().into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(TarError::Read)?;
    Ok(())
}

/// Bytes of an entry in the tar; a sparse file has fewer there than its size.
fn archived(entry: &Entry<'_, impl Read>) -> Result<u64, TarError> {
    if entry.header().entry_type().is_gnu_sparse() {
        entry.header().entry_size().map_err(TarError::Read)
    } else {
        Ok(entry.size())
    }
}

/// The headers of a layer; of files only `/etc/passwd` and `/etc/group` keep their bytes.
///
/// # Errors
/// [`TarError`]
pub fn index(stream: impl Read, blob: &AtomicU64) -> Result<Delta, TarError> {
    let mut delta = Delta::default();
    read((stream, Names::OfLayer), blob, &mut |line, content| {
        let bytes = kept(&line, content)?;
        add(&mut delta, line, bytes);
        Ok(())
    })?;
    Ok(delta)
}

/// The bytes of a file that an index keeps.
///
/// # Errors
/// [`TarError::Read`]
pub(super) fn kept(line: &Line, content: &mut dyn Read) -> Result<Option<Vec<u8>>, TarError> {
    match line {
        Line::Put(path, node)
            if matches!(node.kind, Kind::File(size) if size <= KEPT_LIMIT)
                && KEPT.iter().any(|kept| path == Path::new(kept)) =>
        {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(TarError::Read)?;
            Ok(Some(bytes))
        }
        _ => Ok(None),
    }
}

/// Adds an entry to an index, with its bytes where they are kept.
pub(super) fn add(delta: &mut Delta, line: Line, bytes: Option<Vec<u8>>) {
    match line {
        Line::Put(path, mut node) => {
            node.content = bytes.map(Content::Inline);
            delta.put(path, node);
        }
        Line::Removed(path) => match delta.items.get_mut(&path) {
            // It hides what is below this layer, not what this layer has itself.
            Some(Item::Put(node)) => node.opaque |= node.is_dir(),
            _ => {
                delta.items.insert(path, Item::Removed);
            }
        },
        Line::Opaque(path) => {
            let item = delta
                .items
                .entry(path)
                .or_insert(Item::Put(Node::directory(0)));
            if let Item::Put(node) = item {
                node.opaque = true;
            }
        }
    }
}

fn line(
    entry: &mut Entry<'_, impl Read>,
    names: Names,
    sparse: Option<&Sparse>,
) -> Result<Option<Line>, TarError> {
    let name = match sparse.and_then(|sparse| sparse.name.clone()) {
        Some(name) => name,
        None => entry.path_bytes().into_owned(),
    };
    let shown = || String::from_utf8_lossy(&name).into_owned();
    let escape = || TarError::Escape { name: shown() };
    let path = inside(&name, names).ok_or_else(escape)?;
    if names == Names::OfLayer
        && let Some(marker) = marker(&path)
    {
        return marker.map_err(|()| escape());
    }
    let kind = match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            // Before POSIX, which writes `0` for a file, a directory was one whose name ends in a
            // slash. Go's archive/tar goes by that too.
            if name.ends_with(b"/") && entry.header().as_old().linkflag == [0] {
                Kind::Directory
            } else {
                Kind::File(sparse.map_or(entry.size(), |sparse| sparse.size))
            }
        }
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(link_of(entry)),
        EntryType::Link => {
            let target = link_of(entry);
            Kind::Hardlink(inside(target.as_os_str().as_bytes(), names).ok_or_else(escape)?)
        }
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => device(entry.header(), Kind::CharDevice)?,
        EntryType::Block => device(entry.header(), Kind::BlockDevice)?,
        EntryType::XGlobalHeader => return Ok(None),
        other => {
            let (name, kind) = (shown(), char::from(other.as_byte()));
            return Err(TarError::Kind { name, kind });
        }
    };
    let owner = |id: io::Result<u64>| {
        let id = id.map_err(TarError::Read)?;
        let known = u32::try_from(id).ok().filter(|id| *id <= MAX_ID);
        known.ok_or_else(|| TarError::Owner { name: shown(), id })
    };
    let header = entry.header();
    let meta = Meta {
        mode: header.mode().map_err(TarError::Read)? & 0o7777,
        uid: owner(header.uid())?,
        gid: owner(header.gid())?,
        mtime: i64::try_from(header.mtime().map_err(TarError::Read)?).unwrap_or_default(),
    };
    let mut node = Node::new(kind, meta);
    extensions(entry, &mut node).map_err(TarError::Read)?;
    Ok(Some(Line::Put(path, node)))
}

/// What a name says that begins with `.wh.`: nothing, where it is a note of AUFS, and an error
/// where it hides no name. Nothing makes the root opaque either: an overlay, and so whoever runs
/// the image, shows all layers there.
fn marker(path: &Path) -> Option<Result<Option<Line>, ()>> {
    let base = path.file_name()?.as_bytes();
    if base == OPAQUE.as_bytes() {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        return Some(Ok(dir.map(|dir| Line::Opaque(dir.to_owned()))));
    }
    Some(match base.strip_prefix(WHITEOUT.as_bytes())? {
        b"" | b"." | b".." => Err(()),
        hidden if hidden.starts_with(WHITEOUT.as_bytes()) => Ok(None),
        hidden => {
            let path = path.with_file_name(OsStr::from_bytes(hidden));
            Ok(Some(Line::Removed(path)))
        }
    })
}

fn link_of(entry: &Entry<'_, impl Read>) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(
        &entry.link_name_bytes().unwrap_or_default(),
    ))
}

fn device(header: &Header, kind: fn(u32, u32) -> Kind) -> Result<Kind, TarError> {
    let number = |number: io::Result<Option<u32>>| {
        number
            .map(Option::unwrap_or_default)
            .map_err(TarError::Read)
    };
    Ok(kind(
        number(header.device_major())?,
        number(header.device_minor())?,
    ))
}

/// What PAX records say beyond the header: times with fractions, attributes. Name, link, size and
/// owner are already taken care of by the tar reader.
fn extensions(entry: &mut Entry<'_, impl Read>, node: &mut Node) -> io::Result<()> {
    let mut xattrs = BTreeMap::new();
    let Some(records) = entry.pax_extensions()? else {
        return Ok(());
    };
    for record in records {
        let record = record?;
        let (Ok(key), value) = (record.key(), record.value_bytes()) else {
            continue;
        };
        let text = || std::str::from_utf8(value).unwrap_or_default();
        match key {
            "mtime" => {
                let whole = text().split('.').next().unwrap_or_default();
                node.meta.mtime = whole.parse().unwrap_or(node.meta.mtime);
            }
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.")
                    && is_portable_xattr(name)
                {
                    xattrs.insert(name.to_owned(), value.to_vec());
                }
            }
        }
    }
    node.xattrs = xattrs;
    Ok(())
}

/// A name relative to the root, without dots: `a/../b` is `b`, whatever `a` is. `None` when it
/// leads out of it.
fn inside(name: &[u8], names: Names) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => {
                if !path.pop() && names != Names::Rooted {
                    return None;
                }
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    (!name.contains(&0)).then_some(path)
}
