//! One digest over everything that an artifact is made from.

use std::os::unix::ffi::OsStrExt;

use super::error::io_error;
use super::{FileKind, HashCache, Sources, SourcesError};

impl Sources {
    /// The BLAKE3 digest over the Dockerfile and the sorted sources: path, kind, execute bits and
    /// content or link target of each. Times, owners and the other permission bits do not count,
    /// so that a fresh checkout has the digest of an old one.
    ///
    /// Every part is preceded by its length: no two lists of sources share a digest by the way
    /// they are strung together.
    pub fn digest(&self, hashes: &mut HashCache) -> Result<[u8; 32], SourcesError> {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        let mut content = |path| hashes.hash(path).map_err(io_error(path));
        part(&content(&self.dockerfile)?);
        for file in &self.files {
            part(file.path.as_os_str().as_bytes());
            match &file.kind {
                FileKind::File => {
                    part(&[b'f', u8::try_from(file.mode & 0o111).unwrap_or_default()]);
                    part(&content(&file.absolute)?);
                }
                FileKind::Folder => part(b"d"),
                FileKind::Link(target) => {
                    part(b"l");
                    part(target.as_os_str().as_bytes());
                }
            }
        }
        Ok(*hasher.finalize().as_bytes())
    }
}
