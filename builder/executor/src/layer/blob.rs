//! A layer becomes a blob in one pass: tar, diff id, compression, digest, file.

use std::io::{self, Write};

use kiln_registry::{Compression, Descriptor, MediaType, Vendor};
use kiln_store::{Digest, Hasher, Store, StoreError};

use super::delta::Delta;
use super::gzip::GzipWriter;
use super::tar::{TarWriter, Times};

/// gzip level that is about as small as level 6 of others and three times as fast.
const DEFAULT_GZIP: u32 = 1;
/// zstd's own default.
const DEFAULT_ZSTD: i32 = 3;

/// How layers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// gzip or zstd.
    pub compression: Compression,
    /// The compressor's level; its default when absent.
    pub level: Option<u32>,
    /// Which times the files get.
    pub times: Times,
    /// Compressing threads. The bytes of gzip do not depend on it.
    pub threads: usize,
}

impl Format {
    /// What is asked for, with a thread for each core.
    #[must_use]
    pub fn of(output: &crate::request::Output) -> Self {
        Self {
            compression: output.compression,
            level: output.level,
            times: output.times,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// What decides the bytes of a layer.
    #[must_use]
    pub fn for_key(self) -> (Compression, Option<u32>, Times) {
        (self.compression, self.level, self.times)
    }
}

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the tar.
    pub diff_id: Digest,
    /// Type, digest and size of the blob, in OCI's vocabulary.
    pub descriptor: Descriptor,
}

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// A file of the layer cannot be read, or the store is full.
    #[error("cannot write a layer")]
    Write(#[source] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes a layer into the store.
///
/// # Errors
/// When a file cannot be read or the store cannot be written.
pub fn write(store: &Store, delta: &Delta, format: Format) -> Result<Layer, BlobError> {
    let blob = io::BufWriter::with_capacity(1 << 17, store.write_blob()?);
    let (blob, diff_id, media_type) = match format.compression {
        Compression::None => {
            let (blob, diff_id) = tar(blob, delta, format.times)?;
            (blob, diff_id, MediaType::OciLayer)
        }
        Compression::Gzip => {
            let level = format.level.unwrap_or(DEFAULT_GZIP).clamp(1, 9);
            let gzip = GzipWriter::new(blob, level, format.threads).map_err(BlobError::Write)?;
            let (gzip, diff_id) = tar(gzip, delta, format.times)?;
            (
                gzip.finish().map_err(BlobError::Write)?,
                diff_id,
                MediaType::OciLayerGzip,
            )
        }
        Compression::Zstd => {
            let level = format
                .level
                .map_or(DEFAULT_ZSTD, |level| level.min(22).cast_signed());
            let zstd = zstd::Encoder::new(blob, level).map_err(BlobError::Write)?;
            let (zstd, diff_id) = tar(zstd, delta, format.times)?;
            (
                zstd.finish().map_err(BlobError::Write)?,
                diff_id,
                MediaType::OciLayerZstd,
            )
        }
    };
    let blob = blob
        .into_inner()
        .map_err(|error| BlobError::Write(error.into_error()))?;
    let (digest, size, _) = blob.commit(None)?;
    Ok(Layer {
        diff_id,
        descriptor: Descriptor::new(media_type, registry_digest(&digest), size),
    })
}

fn tar<W: Write>(inner: W, delta: &Delta, times: Times) -> Result<(W, Digest), BlobError> {
    let buffered = io::BufWriter::with_capacity(1 << 17, Hasher::new(inner));
    let mut tar = TarWriter::new(buffered, times);
    tar.append(delta).map_err(BlobError::Write)?;
    let hasher = tar
        .finish()
        .and_then(|buffered| {
            buffered
                .into_inner()
                .map_err(io::IntoInnerError::into_error)
        })
        .map_err(BlobError::Write)?;
    let (inner, diff_id, _) = hasher.finish();
    Ok((inner, diff_id))
}

impl Layer {
    /// The descriptor as `vendor` words it.
    #[must_use]
    pub fn descriptor_for(&self, vendor: Vendor) -> Option<Descriptor> {
        let media_type = self.descriptor.media_type.relabelled(vendor)?;
        Some(Descriptor {
            media_type,
            ..self.descriptor.clone()
        })
    }
}

/// The store's digest as the registry client has it.
#[must_use]
pub fn registry_digest(digest: &Digest) -> kiln_registry::Digest {
    kiln_registry::Digest::from_sha256(digest.bytes())
}

/// A registry's digest as the store has it; `None` for algorithms that the store does not keep.
#[must_use]
pub fn store_digest(digest: &kiln_registry::Digest) -> Option<Digest> {
    digest.to_string().parse().ok()
}
