//! Base images that a warmer has put into a directory (`--cache-dir`): OCI layouts, each in a
//! directory of its own, and the archives of older warmers, each with a layer as
//! `<hex digits>.tar.gz`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use kiln_registry::Digest;

/// A part of a file.
#[derive(Debug, Clone)]
struct Section {
    file: PathBuf,
    offset: u64,
    length: u64,
}

/// The blobs of a directory, by the hex digits of their digests.
#[derive(Debug, Clone, Default)]
pub struct Warm {
    layouts: Vec<PathBuf>,
    archived: BTreeMap<String, Section>,
}

impl Warm {
    /// Looks at a directory; one that is not there has nothing.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let mut warm = Self::default();
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(warm),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // Everything in it is named `sha256:…`; archives have a `.json` beside them.
            if !name.starts_with("sha256:") || name.ends_with(".json") {
                continue;
            }
            if path.is_dir() {
                warm.layouts.push(path.join("blobs/sha256"));
            } else {
                warm.archive(&path)?;
            }
        }
        Ok(warm)
    }

    fn archive(&mut self, path: &Path) -> io::Result<()> {
        let mut archive = tar::Archive::new(File::open(path)?);
        for entry in archive.entries_with_seek()? {
            let Ok(entry) = entry else {
                return Ok(()); // it breaks off: what was found before is verified when it is read
            };
            let name = entry.path_bytes().into_owned();
            let name = String::from_utf8_lossy(&name);
            let hex = name
                .trim_end_matches(".tar.gz")
                .trim_start_matches("sha256:");
            let section = Section {
                file: path.to_owned(),
                offset: entry.raw_file_position(),
                length: entry.size(),
            };
            self.archived.insert(hex.to_owned(), section);
        }
        Ok(())
    }

    /// The bytes of a blob, not verified. `None` when it is not there.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> Option<Box<dyn Read + Send>> {
        let hex = digest.hex();
        for layout in &self.layouts {
            if let Ok(file) = File::open(layout.join(hex)) {
                return Some(Box::new(file));
            }
        }
        let section = self.archived.get(hex)?;
        let mut file = File::open(&section.file).ok()?;
        file.seek(SeekFrom::Start(section.offset)).ok()?;
        Some(Box::new(file.take(section.length)))
    }
}
