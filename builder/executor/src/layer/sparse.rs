//! Sparse files as GNU tar writes them into a PAX archive (GNU tar manual, "Storing Sparse Files",
//! formats 0.0, 0.1 and 1.0): the entry holds the pieces alone, a map says where they belong. The
//! older form, of GNU archives, the tar reader knows itself.

use std::io::{self, Read};

use tar::{Entry, EntryType};

use super::bounds;

/// The map in front of the pieces fills whole blocks.
const BLOCK: usize = 512;

/// A file with holes.
#[derive(Debug)]
pub struct Sparse {
    /// Its name, where the entry has another.
    pub name: Option<Vec<u8>>,
    /// Its bytes, holes included.
    pub size: u64,
    map: Map,
}

/// Where the pieces belong.
#[derive(Debug)]
enum Map {
    /// It stands in front of them.
    InFront,
    /// Offsets and lengths.
    Known(Vec<(u64, u64)>),
}

/// What the records of an entry say.
#[derive(Default)]
struct Records {
    version: (Option<String>, Option<String>),
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// Offset, length, offset, …
    map: Option<Vec<u64>>,
}

impl Sparse {
    /// What an entry says of its holes; `None` when it is no sparse file.
    ///
    /// # Errors
    /// When its records contradict each other or are of an unknown format.
    pub fn of(entry: &mut Entry<'_, impl Read>) -> io::Result<Option<Self>> {
        let kind = entry.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Continuous) {
            return Ok(None);
        }
        let records = Records::of(entry)?;
        let (major, minor) = &records.version;
        let map = match (major.as_deref(), minor.as_deref(), records.map) {
            (Some("1"), Some("0"), _) => Map::InFront,
            (None, None, None) => return Ok(None),
            (None, None, Some(map)) | (Some("0"), Some("0" | "1"), Some(map)) => {
                Map::Known(pairs(&map)?)
            }
            (major, minor, _) => {
                let (major, minor) = (major.unwrap_or_default(), minor.unwrap_or_default());
                return Err(invalid(format!(
                    "a sparse file of the format {major}.{minor}, of which only 0.0, 0.1 and 1.0 \
                     are known"
                )));
            }
        };
        let size = records
            .size
            .ok_or_else(|| invalid("a sparse file without its size"))?;
        if let Map::Known(pieces) = &map {
            check(pieces, size)?;
        }
        let name = records.name;
        Ok(Some(Self { name, size, map }))
    }

    /// The bytes of the file, from those of the entry.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn whole<R: Read>(self, mut content: R) -> io::Result<Whole<R>> {
        let pieces = match self.map {
            Map::Known(pieces) => pieces,
            Map::InFront => {
                let pieces = in_front(&mut content)?;
                check(&pieces, self.size)?;
                pieces
            }
        };
        Ok(Whole {
            content,
            pieces: pieces.into_iter(),
            piece: (0, 0),
            at: 0,
            size: self.size,
        })
    }
}

impl Records {
    fn of(entry: &mut Entry<'_, impl Read>) -> io::Result<Self> {
        let mut found = Self::default();
        let Some(records) = entry.pax_extensions()? else {
            return Ok(found);
        };
        for record in records {
            let record = record?;
            let value = record.value_bytes();
            let Some(key) = record.key_bytes().strip_prefix(b"GNU.sparse.") else {
                continue;
            };
            let text = || Some(String::from_utf8_lossy(value).into_owned());
            match key {
                b"major" => found.version.0 = text(),
                b"minor" => found.version.1 = text(),
                b"name" => found.name = Some(value.to_vec()),
                b"size" | b"realsize" => found.size = Some(number(value)?),
                b"offset" | b"numbytes" => {
                    found.map.get_or_insert_default().push(number(value)?);
                }
                b"map" => {
                    let numbers = value.split(|byte| *byte == b',');
                    let numbers = numbers.filter(|number| !number.is_empty()).map(number);
                    found.map = Some(numbers.collect::<io::Result<_>>()?);
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// The map of format 1.0: how many pieces there are, then offset and length of each, a line for
/// each number.
fn in_front(content: &mut impl Read) -> io::Result<Vec<(u64, u64)>> {
    let mut lines = Lines {
        content,
        block: [0; BLOCK],
        at: BLOCK,
        taken: 0,
    };
    let count = lines.number()?;
    let mut pieces = Vec::new();
    for _ in 0..count {
        pieces.push((lines.number()?, lines.number()?));
    }
    Ok(pieces)
}

struct Lines<'c, R> {
    content: &'c mut R,
    block: [u8; BLOCK],
    at: usize,
    taken: u64,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> io::Result<u64> {
        let mut digits = Vec::new();
        loop {
            if self.at == BLOCK {
                self.taken += BLOCK as u64;
                if self.taken > bounds::HEADERS {
                    return Err(io::Error::other(bounds::Bomb::Headers));
                }
                self.content.read_exact(&mut self.block)?;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            if byte == b'\n' {
                return number(&digits);
            }
            digits.push(byte);
        }
    }
}

fn number(text: &[u8]) -> io::Result<u64> {
    let number = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok());
    number.ok_or_else(broken)
}

fn pairs(numbers: &[u64]) -> io::Result<Vec<(u64, u64)>> {
    let (pairs, []) = numbers.as_chunks::<2>() else {
        return Err(broken());
    };
    Ok(pairs
        .iter()
        .map(|[offset, length]| (*offset, *length))
        .collect())
}

/// Pieces lie within the file and in order.
fn check(pieces: &[(u64, u64)], size: u64) -> io::Result<()> {
    let mut end = 0;
    for (offset, length) in pieces {
        if *offset < end {
            return Err(broken());
        }
        end = offset.checked_add(*length).ok_or_else(broken)?;
    }
    if end > size { Err(broken()) } else { Ok(()) }
}

fn broken() -> io::Error {
    invalid("the map of a sparse file is broken")
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// The pieces with zeros in the holes.
#[derive(Debug)]
pub struct Whole<R> {
    content: R,
    pieces: std::vec::IntoIter<(u64, u64)>,
    /// The piece that is read, or comes next.
    piece: (u64, u64),
    at: u64,
    size: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = |bytes: u64| {
            usize::try_from(bytes)
                .unwrap_or(usize::MAX)
                .min(buffer.len())
        };
        while self.at < self.size && self.at == self.piece.0 + self.piece.1 {
            self.piece = self.pieces.next().unwrap_or((self.size, 0));
        }
        let (offset, length) = self.piece;
        let count = if self.at < offset {
            let count = most(offset - self.at);
            buffer[..count].fill(0);
            count
        } else {
            let count = most(offset + length - self.at);
            let read = self.content.read(&mut buffer[..count])?;
            if read == 0 && count > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            read
        };
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::sync::atomic::AtomicU64;

    use crate::layer::delta::Kind;
    use crate::layer::index::{self, Line, Names, TarError};

    /// The files of a tar: name, size and bytes.
    fn files(tar: &[u8]) -> Result<Vec<(String, u64, Vec<u8>)>, TarError> {
        let mut files = Vec::new();
        let source = (tar, Names::OfLayer);
        index::read(source, &AtomicU64::new(0), &mut |line, content| {
            if let Line::Put(path, node) = line
                && let Kind::File(size) = node.kind
            {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes).map_err(TarError::Read)?;
                files.push((path.display().to_string(), size, bytes));
            }
            Ok(())
        })?;
        Ok(files)
    }

    /// Files with holes everywhere, written by GNU tar, are read as they were.
    #[test]
    fn what_gnu_tar_writes_is_read_in_every_format() {
        let dir = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        let many: Vec<u64> = (0..40).map(|n| n * 20_000).collect();
        for (name, at, size) in [
            ("empty", &[][..], 1 << 20),
            ("start", &[0], 1 << 20),
            ("end", &[(1 << 20) - 3], 1 << 20),
            ("many", &many, 900_000),
        ] {
            let mut bytes = vec![0; size];
            let file = std::fs::File::create(dir.path().join(name)).unwrap();
            file.set_len(size as u64).unwrap();
            for at in at {
                std::os::unix::fs::FileExt::write_all_at(&file, b"abc", *at).unwrap();
                let at = usize::try_from(*at).unwrap();
                bytes[at..at + 3].copy_from_slice(b"abc");
            }
            expected.push((name.to_owned(), size as u64, bytes));
        }
        std::fs::write(dir.path().join("whole"), "w").unwrap();
        expected.push(("whole".to_owned(), 1, b"w".to_vec()));
        for version in ["0.0", "0.1", "1.0", "gnu"] {
            let format = match version {
                "gnu" => vec!["--format=gnu".to_owned()],
                _ => vec![
                    "--format=pax".to_owned(),
                    format!("--sparse-version={version}"),
                ],
            };
            let output = Command::new("tar")
                .args(format)
                .args(["--sparse", "-C"])
                .arg(dir.path())
                .args(["-cf", "-", "empty", "start", "end", "many", "whole"])
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            assert!(output.stdout.len() < 1 << 20, "{version} has holes");
            let found = files(&output.stdout).unwrap();
            assert!(found == expected, "{version}");
        }
    }

    /// An entry with these records and this content, and a file after it.
    fn tar(records: &[(&str, &str)], content: &[u8]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let records = records.iter();
        tar.append_pax_extensions(records.map(|(key, value)| (*key, value.as_bytes())))
            .unwrap();
        for (name, content) in [("GNUSparseFile.0/f", content), ("next", b"n")] {
            let mut header = tar::Header::new_ustar();
            header.set_path(name).unwrap();
            header.set_size(content.len() as u64);
            for field in [
                tar::Header::set_uid,
                tar::Header::set_gid,
                tar::Header::set_mtime,
            ] {
                field(&mut header, 0);
            }
            header.set_mode(0o644);
            header.set_cksum();
            tar.append(&header, content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn in_front(map: &str, data: &[u8]) -> Vec<u8> {
        let mut content = map.as_bytes().to_vec();
        content.resize(map.len().next_multiple_of(BLOCK), 0);
        content.extend_from_slice(data);
        content
    }

    const ONE: [(&str, &str); 3] = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "f"),
    ];

    #[test]
    fn a_map_that_lies_is_refused() {
        let sized = |size| [&ONE[..], &[("GNU.sparse.realsize", size)]].concat();
        let good = tar(&sized("6"), &in_front("1\n2\n2\n", b"ab"));
        let expected = [
            ("f".to_owned(), 6, b"\0\0ab\0\0".to_vec()),
            ("next".to_owned(), 1, b"n".to_vec()),
        ];
        assert_eq!(files(&good).unwrap(), expected);
        for (size, map, data) in [
            ("3", "1\n2\n2\n", "ab"),                    // behind the end
            ("9", "2\n4\n1\n3\n1\n", "ab"),              // backwards
            ("9", "2\n0\n2\n1\n2\n", "abcd"),            // over each other
            ("9", "1\n2\n4\n", "ab"),                    // more than there is
            ("9", "1\n-2\n2\n", "ab"),                   // no number
            ("9", "5\n", ""),                            // cut off
            ("9", "1\n1\n18446744073709551615\n", "ab"), // past all numbers
            ("18446744073709551615", "1\n0\n2\n", "ab"), // a bomb
            ("9", "99999999999\n0\n0\n", ""),            // cut off
        ] {
            let tar = tar(&sized(size), &in_front(map, data.as_bytes()));
            assert!(files(&tar).is_err(), "{size} {map:?}");
        }
        let lines = "0\n0\n".repeat(2 << 20);
        let endless = in_front(&format!("{}\n{lines}", 2 << 20), b"");
        assert!(files(&tar(&sized("9"), &endless)).is_err());
    }

    #[test]
    fn a_format_that_nobody_knows_is_refused_by_its_number() {
        let records = [("GNU.sparse.major", "2"), ("GNU.sparse.minor", "7")];
        let error = files(&tar(&records, b"x")).unwrap_err();
        let TarError::Read(error) = error else {
            panic!("{error}")
        };
        assert!(error.to_string().contains("the format 2.7"), "{error}");
        let odd = [("GNU.sparse.size", "9"), ("GNU.sparse.map", "0,1,2")];
        assert!(files(&tar(&odd, b"x")).is_err());
    }
}
