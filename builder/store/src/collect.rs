//! Garbage collection: by age and by size, least recently used first. Nothing that a living handle
//! may rely on is taken, so it can run beside builds.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::at;
use crate::{Store, StoreError, held, session};

/// Directories whose entries are collected, each entry as a whole.
const COLLECTED: [&str; 5] = ["records", "indexes", "layers", "blobs/sha256", "caches"];

/// What may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Entries that were not used for so long are removed.
    pub max_age: Option<Duration>,
    /// The most that all entries take, in bytes; those used longest ago go first.
    pub max_bytes: Option<u64>,
}

/// What a collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// How many entries were removed.
    pub entries: usize,
    /// Their sizes, in bytes of disk; 0 when only ages were asked for.
    pub bytes: u64,
}

struct Entry {
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
}

impl Store {
    /// Removes what `limits` do not allow to stay and no living handle, this one included, can
    /// have seen.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the store cannot be read or an entry not removed.
    pub fn collect(&self, limits: Limits) -> Result<Collected, StoreError> {
        let mut entries = self.entries(limits.max_bytes.is_some())?;
        entries.sort_by_key(|entry| entry.used);
        let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let now = SystemTime::now();
        let mut collected = Collected::default();
        for entry in &entries {
            let is_old = limits.max_age.is_some_and(|max| {
                now.duration_since(entry.used)
                    .is_ok_and(|unused| unused > max)
            });
            let is_too_much = limits.max_bytes.is_some_and(|max| total > max);
            if !is_old && !is_too_much {
                continue;
            }
            if self.take_away(entry)? {
                total = total.saturating_sub(entry.bytes);
                collected.entries += 1;
                collected.bytes += entry.bytes;
            }
        }
        Ok(collected)
    }

    /// As [`Store::collect`], unless that was done less than `pause` ago by anyone.
    ///
    /// # Errors
    /// As [`Store::collect`].
    pub fn collect_if_due(&self, limits: Limits, pause: Duration) -> Result<Collected, StoreError> {
        let path = self.root().join("locks").join("collected");
        let file = crate::lock::file(&path)?;
        let last = file
            .metadata()
            .and_then(|stat| stat.modified())
            .map_err(at("look at", &path))?;
        let is_new = file.metadata().is_ok_and(|stat| stat.len() == 0);
        let is_due = last.elapsed().is_ok_and(|since| since >= pause);
        if !is_due && !is_new {
            return Ok(Collected::default());
        }
        // Written first: of several builds one collects.
        fs::write(&path, "when this was written, the store was collected\n")
            .map_err(at("write", &path))?;
        if is_new {
            return Ok(Collected::default()); // nothing is old in a new store
        }
        self.collect(limits)
    }

    fn entries(&self, sized: bool) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for kind in COLLECTED {
            let dir = self.root().join(kind);
            for entry in fs::read_dir(&dir).map_err(at("read", &dir))? {
                let path = entry.map_err(at("read", &dir))?.path();
                let Some(used) = last_used(&path) else {
                    continue; // another collection was faster
                };
                let bytes = if sized { size(&path) } else { 0 };
                entries.push(Entry { path, used, bytes });
            }
        }
        Ok(entries)
    }

    /// Removes an entry unless it was used meanwhile or a living handle may have seen it.
    fn take_away(&self, entry: &Entry) -> Result<bool, StoreError> {
        let scratch = self.scratch()?;
        {
            let _gate = session::exclusive(self.root())?;
            let oldest = session::oldest(self)?;
            match last_used(&entry.path) {
                Some(used) if used <= entry.used && used < oldest => {}
                _ => return Ok(false),
            }
            // What is mounted somewhere is used, however long ago that began.
            let is_layer = entry.path.parent() == Some(&self.root().join("layers"));
            let taken = match is_layer {
                true => held::take(self.root(), &entry.path)?,
                false => None,
            };
            if is_layer && taken.is_none() {
                return Ok(false);
            }
            fs::rename(&entry.path, scratch.path().join("garbage"))
                .map_err(at("rename", &entry.path))?;
        }
        drop(scratch); // removes it, and others need not wait for that
        Ok(true)
    }
}

fn last_used(path: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(path).ok()?.accessed().ok()
}

/// Bytes of disk, of a directory with everything in it; what cannot be read counts nothing.
fn size(path: &Path) -> u64 {
    let Ok(stat) = fs::symlink_metadata(path) else {
        return 0;
    };
    let own = stat.blocks() * 512;
    if !stat.is_dir() {
        return own;
    }
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    own + below.map(|entry| size(&entry.path())).sum::<u64>()
}
