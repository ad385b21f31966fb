//! A layer as a value: paths with what is there, turned into the same tar bytes
//! each time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::error::{AtPath, Error};

/// 2024-01-01, the age of every file in every base image.
pub(super) const MTIME: u64 = 1_704_067_200;

enum Content {
    Directory,
    Link(String),
    Bytes(Vec<u8>),
    File(PathBuf),
}

struct Entry {
    content: Content,
    mode: u32,
}

/// The files of one layer by path, without a leading slash.
#[derive(Default)]
pub(super) struct Layer {
    entries: BTreeMap<String, Entry>,
}

/// What a written layer is called: digests as `sha256:` and hex, size in bytes.
pub(super) struct Written {
    pub(super) diff_id: String,
    pub(super) digest: String,
    pub(super) size: u64,
}

impl Layer {
    pub(super) fn directory(&mut self, path: &str, mode: u32) -> &mut Self {
        self.put(path, Content::Directory, mode)
    }

    pub(super) fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.put(path, Content::Link(target.to_owned()), 0o777)
    }

    pub(super) fn text(&mut self, path: &str, text: &str) -> &mut Self {
        self.put(path, Content::Bytes(text.as_bytes().to_vec()), 0o644)
    }

    pub(super) fn script(&mut self, path: &str, text: &str) -> &mut Self {
        self.put(path, Content::Bytes(text.as_bytes().to_vec()), 0o755)
    }

    /// A file of this machine; links to it are followed.
    pub(super) fn file(&mut self, path: &str, source: &Path, mode: u32) -> &mut Self {
        self.put(path, Content::File(source.to_owned()), mode)
    }

    /// A folder of this machine with all that is in it; links are followed.
    pub(super) fn tree(&mut self, path: &str, source: &Path) -> Result<&mut Self, Error> {
        self.directory(path, 0o755);
        for entry in source.read_dir().at("list", source)? {
            let entry = entry.at("list", source)?;
            let (from, name) = (entry.path(), entry.file_name());
            let to = format!("{path}/{}", name.to_string_lossy());
            let metadata = from.metadata().at("inspect", &from)?;
            if metadata.is_dir() {
                self.tree(&to, &from)?;
            } else {
                let executable = metadata.permissions().mode() & 0o111 != 0;
                self.file(&to, &from, if executable { 0o755 } else { 0o644 });
            }
        }
        Ok(self)
    }

    fn put(&mut self, path: &str, content: Content, mode: u32) -> &mut Self {
        let mut parent = path;
        while let Some((folder, _)) = parent.rsplit_once('/') {
            let folder_entry = Entry {
                content: Content::Directory,
                mode: 0o755,
            };
            self.entries
                .entry(folder.to_owned())
                .or_insert(folder_entry);
            parent = folder;
        }
        self.entries
            .insert(path.to_owned(), Entry { content, mode });
        self
    }

    /// Writes the layer as tar with gzip. Fast rather than small: it never leaves
    /// this machine.
    pub(super) fn write(&self, path: &Path) -> Result<Written, Error> {
        let file = File::create(path).at("create", path)?;
        let compressed = Hashing::new(io::BufWriter::new(file));
        let gzip = GzEncoder::new(compressed, Compression::fast());
        let mut tar = tar::Builder::new(Hashing::new(gzip));
        for (name, entry) in &self.entries {
            append(&mut tar, name, entry)?;
        }
        let plain = tar.into_inner().at("write", path)?;
        let diff_id = plain.digest();
        let mut compressed = plain.inner.finish().at("write", path)?;
        compressed.flush().at("write", path)?;
        Ok(Written {
            diff_id,
            digest: compressed.digest(),
            size: compressed.size,
        })
    }
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, entry: &Entry) -> Result<(), Error> {
    let path = Path::new(name);
    let mut header = tar::Header::new_gnu();
    header.set_mtime(MTIME);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(entry.mode);
    header.set_size(0);
    let written = match &entry.content {
        Content::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, format!("{name}/"), io::empty())
        }
        Content::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, name, target)
        }
        Content::Bytes(bytes) => {
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, bytes.as_slice())
        }
        Content::File(source) => {
            let file = File::open(source).at("open", source)?;
            let size = file.metadata().at("inspect", source)?.len();
            header.set_size(size);
            // A file that shrinks or grows meanwhile must not shift the archive.
            tar.append_data(&mut header, name, file.take(size))
        }
    };
    written.at("archive", path)
}

/// Counts and hashes what passes through.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            size: 0,
        }
    }

    fn digest(&self) -> String {
        digest_text(self.hash.clone())
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hash.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// `sha256:` and the hash in hex.
pub(super) fn digest_text(hash: Sha256) -> String {
    let hex: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(first: &str, second: &str) -> Layer {
        let mut layer = Layer::default();
        layer
            .text(first, "x")
            .text(second, "x")
            .link("usr/bin/l", "../a");
        layer
    }

    #[test]
    fn the_order_of_making_does_not_change_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layer");
        let one = sample("etc/a", "etc/b").write(&path).unwrap();
        let other = sample("etc/b", "etc/a").write(&path).unwrap();
        assert_eq!(one.digest, other.digest);
        assert_eq!(one.size, path.metadata().unwrap().len());
    }

    #[test]
    fn gnu_tar_lists_every_folder_before_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layer.tar.gz");
        sample("etc/a", "etc/b").write(&path).unwrap();
        let list = std::process::Command::new("tar")
            .arg("tzf")
            .arg(&path)
            .output()
            .unwrap();
        let names = String::from_utf8(list.stdout).unwrap();
        assert_eq!(names, "etc/\netc/a\netc/b\nusr/\nusr/bin/\nusr/bin/l\n");
    }
}
