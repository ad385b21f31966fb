//! Writes changes as a tar whose bytes depend on nothing but the changes.
//!
//! The format is POSIX.1-2001 (ustar, with PAX records only where ustar has no room), with
//! numeric owners, no user names, whole seconds and no access times: what containerd and BuildKit
//! write.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tar::{EntryType, Header};

use super::delta::{Delta, Item, Kind, Meta, Node, OPAQUE, WHITEOUT};

/// Bytes per tar record.
const RECORD: u64 = 512;
/// Largest size, in octal digits, that a ustar header holds.
const MAX_SIZE: u64 = 0o77_777_777_777;
/// Largest owner or group that a ustar header holds.
const MAX_ID: u32 = 0o7_777_777;

/// A tar on its way to `inner`.
#[derive(Debug)]
pub struct TarWriter<W> {
    inner: W,
    /// Write all times as zero (`--reproducible`).
    times: Times,
}

/// Which times the entries get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Those of the files.
    Kept,
    /// 1970-01-01T00:00:00Z.
    Zero,
}

impl<W: Write> TarWriter<W> {
    /// An empty archive.
    pub fn new(inner: W, times: Times) -> Self {
        Self { inner, times }
    }

    /// Adds every item of a layer, parents first.
    ///
    /// # Errors
    /// When a file cannot be read or is shorter than it was, or the inner writer fails.
    pub fn append(&mut self, delta: &Delta) -> io::Result<()> {
        for (path, item) in &delta.items {
            match item {
                Item::Put(node) => self.put(path, node)?,
                Item::Removed => {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    self.marker(path.parent(), &format!("{WHITEOUT}{name}"))?;
                }
            }
        }
        Ok(())
    }

    /// Writes the end of the archive and returns the inner writer.
    ///
    /// # Errors
    /// When the inner writer fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&[0; 2 * RECORD as usize])?;
        Ok(self.inner)
    }

    fn put(&mut self, path: &Path, node: &Node) -> io::Result<()> {
        if path.as_os_str().is_empty() {
            return Ok(()); // the root directory belongs to no layer
        }
        let size = self.header(path, node)?;
        let mut content = node.open().map_err(|error| of_file(path, &error))?;
        self.content(size, &mut content, path)?;
        if node.opaque {
            self.marker(Some(path), OPAQUE)
        } else {
            Ok(())
        }
    }

    fn header(&mut self, path: &Path, node: &Node) -> io::Result<u64> {
        let mut name = path.as_os_str().as_bytes().to_vec();
        if node.is_dir() {
            name.push(b'/');
        }
        let mut header = Header::new_ustar();
        let mut records = Records::default();
        header.set_mode(node.meta.mode & 0o7777);
        self.time(&mut header, &mut records, node.meta.mtime);
        owner(&mut header, &mut records, &node.meta);
        let size = Self::kind(&mut header, &mut records, &node.kind)?;
        if set_name(&mut header, &name).is_err() {
            records.add("path", &name);
        }
        for (key, value) in &node.xattrs {
            records.add(&format!("SCHILY.xattr.{key}"), value);
        }
        records.write(&mut self.inner, &name)?;
        header.set_cksum();
        self.inner.write_all(header.as_bytes())?;
        Ok(size)
    }

    fn time(&self, header: &mut Header, records: &mut Records, mtime: i64) {
        let time = if self.times == Times::Zero { 0 } else { mtime };
        let field = u64::try_from(time).ok().filter(|time| *time <= MAX_SIZE);
        header.set_mtime(field.unwrap_or_default());
        if field.is_none() {
            records.add("mtime", time.to_string().as_bytes());
        }
    }

    /// Sets type, size, link and device; returns the number of content bytes.
    fn kind(header: &mut Header, records: &mut Records, kind: &Kind) -> io::Result<u64> {
        header.set_size(0);
        let mut size = 0;
        let entry_type = match kind {
            Kind::File(bytes) => {
                size = *bytes;
                header.set_size(if size > MAX_SIZE { 0 } else { size });
                if size > MAX_SIZE {
                    records.add("size", size.to_string().as_bytes());
                }
                EntryType::Regular
            }
            Kind::Directory => EntryType::Directory,
            Kind::Symlink(target) | Kind::Hardlink(target) => {
                let target_bytes = target.as_os_str().as_bytes();
                let field = &mut header.as_ustar_mut().ok_or_else(not_ustar)?.linkname;
                if target_bytes.len() <= field.len() {
                    field[..target_bytes.len()].copy_from_slice(target_bytes);
                } else {
                    records.add("linkpath", target_bytes);
                }
                if matches!(kind, Kind::Symlink(_)) {
                    EntryType::Symlink
                } else {
                    EntryType::Link
                }
            }
            Kind::Fifo => EntryType::Fifo,
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                header.set_device_major(*major)?;
                header.set_device_minor(*minor)?;
                if matches!(kind, Kind::CharDevice(..)) {
                    EntryType::Char
                } else {
                    EntryType::Block
                }
            }
        };
        header.set_entry_type(entry_type);
        Ok(size)
    }

    fn content(&mut self, size: u64, content: &mut dyn Read, path: &Path) -> io::Result<()> {
        if size == 0 {
            return Ok(());
        }
        let copied = io::copy(&mut content.take(size), &mut self.inner)?;
        if copied != size {
            let text = format!("{} shrank from {size} to {copied} bytes", path.display());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        let padding = (RECORD - size % RECORD) % RECORD;
        self.inner
            .write_all(&[0; RECORD as usize][..padding as usize])
    }

    /// A whiteout: an empty file with all fields zero, so that it is the same everywhere.
    fn marker(&mut self, parent: Option<&Path>, name: &str) -> io::Result<()> {
        let path = parent.unwrap_or(Path::new("")).join(name);
        let meta = Meta {
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
        };
        self.header(&path, &Node::new(Kind::File(0), meta))
            .map(drop)
    }
}

fn of_file(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("/{}: {error}", path.display()))
}

fn owner(header: &mut Header, records: &mut Records, meta: &Meta) {
    let field = |id: u32| if id <= MAX_ID { u64::from(id) } else { 0 };
    header.set_uid(field(meta.uid));
    header.set_gid(field(meta.gid));
    for (key, id) in [("uid", meta.uid), ("gid", meta.gid)] {
        if id > MAX_ID {
            records.add(key, id.to_string().as_bytes());
        }
    }
}

fn not_ustar() -> io::Error {
    io::Error::other("the header is not ustar")
}

/// Puts a name into the header: whole, or split at a slash into prefix and name.
fn set_name(header: &mut Header, name: &[u8]) -> Result<(), ()> {
    let ustar = header.as_ustar_mut().ok_or(())?;
    if name.len() <= ustar.name.len() {
        ustar.name[..name.len()].copy_from_slice(name);
        return Ok(());
    }
    // The rest must not be empty, so the slash at the end of a directory does not count.
    let limit = ustar.prefix.len().min(name.len() - 2);
    let at = name[..=limit]
        .iter()
        .rposition(|byte| *byte == b'/')
        .ok_or(())?;
    let (prefix, rest) = (&name[..at], &name[at + 1..]);
    if rest.len() > ustar.name.len() || at == 0 {
        // A PAX record takes over; readers without PAX see a shortened name.
        let shown = &name[..ustar.name.len()];
        ustar.name.copy_from_slice(shown);
        return Err(());
    }
    ustar.prefix[..prefix.len()].copy_from_slice(prefix);
    ustar.name[..rest.len()].copy_from_slice(rest);
    Ok(())
}

/// PAX records of one entry (POSIX.1-2001, pax, "Extended Header").
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    /// `<length> <key>=<value>\n`, where the length counts itself.
    fn add(&mut self, key: &str, value: &[u8]) {
        let rest = 1 + key.len() + 1 + value.len() + 1;
        let mut length = rest;
        loop {
            let total = rest + length.to_string().len();
            if total == length {
                break;
            }
            length = total;
        }
        self.0
            .extend_from_slice(format!("{length} {key}=").as_bytes());
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    fn write(&self, to: &mut impl Write, name: &[u8]) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(self.0.len() as u64);
        let base = name.strip_suffix(b"/").unwrap_or(name);
        let base = base.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let mut shown = b"PaxHeaders.0/".to_vec();
        shown.extend_from_slice(&base[..base.len().min(80)]);
        let _ = set_name(&mut header, &shown); // it always fits
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        to.write_all(header.as_bytes())?;
        to.write_all(&self.0)?;
        let padding = (RECORD - self.0.len() as u64 % RECORD) % RECORD;
        to.write_all(&[0; RECORD as usize][..padding as usize])
    }
}
