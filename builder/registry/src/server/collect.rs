//! Garbage: blobs that no manifest names, manifests that nothing leads to, uploads that were given up.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use kiln_store::{Digest as StoreDigest, StoreError};

use super::ServeError;
use super::manifest::{self, Content};
use super::reply::Problem;
use super::storage::{Link, Storage};
use crate::digest::Digest;

/// What counts as garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How old something is before it can be garbage: a push sends blobs before the manifest that names them.
    pub grace: Duration,
    /// What happens to manifests without a tag.
    pub untagged: Untagged,
}

/// See [`Policy::untagged`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untagged {
    /// They stay: someone may pull them by digest.
    Kept,
    /// They go, unless an index that stays lists them or their subject stays.
    Removed,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests.
    pub manifests: usize,
    /// Blobs that left a repository.
    pub links: usize,
    /// Blobs and manifests that left the disk.
    pub blobs: usize,
    /// Bytes of those.
    pub bytes: u64,
    /// Uploads that were given up.
    pub uploads: usize,
}

pub(super) fn collect(storage: &Storage, policy: &Policy) -> Result<Collected, ServeError> {
    let _collecting = storage.collecting();
    let mut collected = Collected::default();
    let mut run = || -> Result<(), Problem> {
        let mut used = BTreeSet::new();
        for name in storage.repositories()? {
            repository(storage, policy, &name, (&mut used, &mut collected))?;
        }
        sweep(storage, policy, &used, &mut collected)?;
        Ok(())
    };
    match run() {
        Ok(()) => Ok(collected),
        Err(Problem::Store(error)) => Err(error.into()),
        Err(problem) => Err(ServeError::Directory {
            dir: storage.root().to_owned(),
            source: std::io::Error::other(problem),
        }),
    }
}

/// Removes garbage of one repository, and adds what is left to `used`.
fn repository(
    storage: &Storage,
    policy: &Policy,
    name: &str,
    (used, collected): (&mut BTreeSet<StoreDigest>, &mut Collected),
) -> Result<(), Problem> {
    let is_young = |modified: SystemTime| {
        SystemTime::now()
            .duration_since(modified)
            .is_ok_and(|age| age < policy.grace)
    };
    let manifests = storage.links(name, Link::Manifest)?;
    let roots: Vec<Digest> = match policy.untagged {
        Untagged::Kept => manifests.iter().map(|(digest, _)| digest.clone()).collect(),
        Untagged::Removed => {
            let young = manifests.iter().filter(|(_, modified)| is_young(*modified));
            let mut roots: Vec<Digest> = young.map(|(digest, _)| digest.clone()).collect();
            for tag in storage.tags(name)?.unwrap_or_default() {
                roots.extend(storage.resolve_tag(name, &tag)?);
            }
            roots
        }
    };
    let (kept, blobs) = reachable(storage, name, roots)?;
    for (digest, _) in manifests
        .iter()
        .filter(|(digest, _)| !kept.contains(digest))
    {
        manifest::remove(storage, name, digest)?;
        collected.manifests += 1;
    }
    for (digest, modified) in storage.links(name, Link::Blob)? {
        if !blobs.contains(&digest) && !is_young(modified) {
            storage.unlink(name, Link::Blob, &digest)?;
            collected.links += 1;
        }
    }
    for link in [Link::Manifest, Link::Blob] {
        for (digest, _) in storage.links(name, link)? {
            used.extend(storage.held(name, link, &digest)?.map(|held| held.stored));
        }
    }
    Ok(())
}

/// The manifests that `roots` lead to, themselves included, and the blobs of all of them.
fn reachable(
    storage: &Storage,
    name: &str,
    roots: Vec<Digest>,
) -> Result<(BTreeSet<Digest>, BTreeSet<Digest>), Problem> {
    let mut kept = BTreeSet::new();
    let mut blobs = BTreeSet::new();
    let mut open = roots;
    while let Some(digest) = open.pop() {
        let Some(held) = storage.held(name, Link::Manifest, &digest)? else {
            continue;
        };
        if !kept.insert(digest.clone()) {
            continue;
        }
        let content = Content::parse(&storage.manifest_bytes(&held)?)?;
        blobs.extend(content.blobs().map(|blob| blob.digest.clone()));
        open.extend(content.manifests.into_iter().map(|child| child.digest));
        let about = storage.referrers(name, &digest)?;
        open.extend(about.into_iter().map(|referrer| referrer.digest));
    }
    Ok((kept, blobs))
}

/// Removes what no repository has.
fn sweep(
    storage: &Storage,
    policy: &Policy,
    used: &BTreeSet<StoreDigest>,
    collected: &mut Collected,
) -> Result<(), StoreError> {
    let store = storage.store();
    for digest in store.blobs()? {
        if used.contains(&digest) {
            continue;
        }
        let metadata = store.blob(&digest).and_then(|path| path.metadata().ok());
        let Some(metadata) = metadata else { continue };
        // A file that was renamed into the store a moment ago has the time of its last write.
        let age = metadata
            .modified()
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_none_or(|age| age < policy.grace) {
            continue;
        }
        store.remove_blob(&digest)?;
        collected.blobs += 1;
        collected.bytes += metadata.len();
    }
    Ok(())
}
