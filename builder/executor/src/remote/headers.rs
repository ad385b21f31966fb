//! The headers of a whole image as one list, which is kept: with it, files are copied onto an
//! image that is never downloaded.

use std::sync::Arc;

use kiln_store::{Digest, Store};

use super::{BaseError, BaseImage, Remote, Want};
use crate::cache::repository::Repository;
use crate::layer::delta::Delta;
use crate::layer::view::Tree;

/// zstd's own default.
const LEVEL: i32 = 3;
/// The most that a list may take when it is unpacked, in bytes; an image has at most some million
/// files.
const LIMIT: u64 = 1 << 30;

impl BaseImage {
    /// Names, owners, modes and links of all layers, base first: from the store, from the shared
    /// cache, or else from one reading of each layer. Nothing is unpacked.
    ///
    /// # Errors
    /// [`BaseError`] of the first layer that fails.
    pub fn headers(
        &self,
        store: &Store,
        remote: &Remote,
        shared: Option<&Repository<'_>>,
    ) -> Result<Vec<Tree>, BaseError> {
        let is_at_hand = |id: Digest| store.layer(&id).is_some();
        if self.diff_ids().all(is_at_hand) {
            return self.fetch(store, remote, Want::Headers);
        }
        let key = self.headers_key();
        if let Some(delta) = store.index(&key)?.and_then(|bytes| decoded(&bytes)) {
            return Ok(vec![Tree::Delta(Arc::new(delta))]);
        }
        let found = shared.and_then(|shared| match shared.blob(&key) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, image = self.name, "its headers are read anew");
                None
            }
        });
        if let Some((bytes, delta)) = found.and_then(|bytes| {
            let delta = decoded(&bytes)?;
            Some((bytes, delta))
        }) {
            store.put_index(&key, &bytes)?;
            return Ok(vec![Tree::Delta(Arc::new(delta))]);
        }
        let trees = self.fetch(store, remote, Want::Headers)?;
        match merged(&trees) {
            Some(delta) => {
                if let Some(bytes) = encoded(&delta) {
                    store.put_index(&key, &bytes)?;
                }
                Ok(vec![Tree::Delta(Arc::new(delta))])
            }
            None => Ok(trees),
        }
    }

    /// Gives the list of this image to the shared cache, when the store has it.
    ///
    /// # Errors
    /// [`crate::cache::RepositoryError`]
    pub fn share_headers(
        &self,
        store: &Store,
        shared: &Repository<'_>,
    ) -> Result<(), crate::cache::RepositoryError> {
        let key = self.headers_key();
        let Ok(Some(bytes)) = store.index(&key) else {
            return Ok(());
        };
        if shared.known(&[key])?.contains(&key) {
            return Ok(());
        }
        shared.put_blob(&key, bytes)
    }

    fn headers_key(&self) -> Digest {
        let ids: Vec<String> = self.diff_ids().map(|id| id.to_string()).collect();
        Digest::of(format!("headers 2 of {}", ids.join(" ")).as_bytes())
    }
}

/// One list for all layers; `None` when some of them are directories.
fn merged(trees: &[Tree]) -> Option<Delta> {
    let mut merged = Delta::default();
    for tree in trees {
        let Tree::Delta(delta) = tree else {
            return None;
        };
        let mut delta = Delta::clone(delta);
        delta.resolve_hardlinks();
        merged.absorb(delta);
    }
    Some(merged)
}

fn encoded(delta: &Delta) -> Option<Vec<u8>> {
    // Names that are not UTF-8 have no place in it; such an image is read each time.
    let text = serde_json::to_vec(delta).ok()?;
    zstd::encode_all(&text[..], LEVEL).ok()
}

fn decoded(bytes: &[u8]) -> Option<Delta> {
    let mut text = Vec::new();
    let decoder = zstd::Decoder::new(bytes).ok()?;
    std::io::Read::read_to_end(&mut std::io::Read::take(decoder, LIMIT), &mut text).ok()?;
    serde_json::from_slice(&text).ok()
}
