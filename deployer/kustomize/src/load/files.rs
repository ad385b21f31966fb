//! File systems.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::normal;

/// Where files come from. Paths are absolute, or relative to the working
/// directory of the program.
pub trait FileSystem {
    /// The content of a file.
    ///
    /// # Errors
    /// If there is no such file, it cannot be read, or it has more than
    /// `largest` bytes ([`io::ErrorKind::FileTooLarge`]).
    fn read(&self, path: &Path, largest: u64) -> io::Result<Vec<u8>>;

    /// The absolute path without symbolic links.
    ///
    /// # Errors
    /// If nothing is there.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;

    /// Whether there is a folder.
    fn is_folder(&self, path: &Path) -> bool;
}

fn too_large(largest: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("the file has more than {largest} bytes"),
    )
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFiles;

impl FileSystem for DiskFiles {
    fn read(&self, path: &Path, largest: u64) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.len() > largest {
            return Err(too_large(largest));
        }
        let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
        // A pipe or device has no length, and may have no end.
        file.take(largest + 1).read_to_end(&mut content)?;
        if content.len() as u64 > largest {
            return Err(too_large(largest));
        }
        Ok(content)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        path.canonicalize()
    }

    fn is_folder(&self, path: &Path) -> bool {
        path.is_dir()
    }
}

/// Files in memory, below `/`.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles {
    files: BTreeMap<PathBuf, Vec<u8>>,
    folders: BTreeSet<PathBuf>,
}

impl MemoryFiles {
    /// Adds or replaces a file; its folders come with it.
    pub fn insert(&mut self, path: impl AsRef<Path>, content: impl Into<Vec<u8>>) {
        let path = normal(&Path::new("/").join(path));
        let folders = path.ancestors().skip(1).map(Path::to_owned);
        self.folders.extend(folders);
        self.files.insert(path, content.into());
    }
}

impl FileSystem for MemoryFiles {
    fn read(&self, path: &Path, largest: u64) -> io::Result<Vec<u8>> {
        let content = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        if content.len() as u64 > largest {
            return Err(too_large(largest));
        }
        Ok(content.clone())
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        let path = normal(&Path::new("/").join(path));
        if self.files.contains_key(&path) || self.folders.contains(&path) {
            return Ok(path);
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn is_folder(&self, path: &Path) -> bool {
        self.folders.contains(path)
    }
}
