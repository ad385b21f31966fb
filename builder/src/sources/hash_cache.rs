//! Content hashes that survive the process, by identity and times of the file.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Remembers the hash of a file as long as its device, inode, size, ctime and mtime stay.
///
/// Times come from the kernel's clock, which moves in ticks: two writes within one tick leave the
/// same times, and when the size stays too, nothing but the content differs. So a hash is
/// remembered only when the file's last change lies further back than [`RACY`] at the moment the
/// file is opened for hashing; then any later write gets a later ctime. A younger file is hashed
/// again next time. (Git calls such entries "racily clean".)
#[derive(Debug)]
pub struct HashCache {
    file: PathBuf,
    entries: HashMap<(u64, u64), Entry>,
    changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    stamp: Stamp,
    hash: [u8; 32],
    /// How often the cache was opened, and saved again, without the entry being asked for.
    unused: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    /// Nanoseconds since 1970.
    ctime: i64,
    mtime: i64,
}

/// Two ticks of the slowest clock that Linux is built with (`CONFIG_HZ=100`).
const RACY: Duration = Duration::from_millis(20);

/// The same for a file system that keeps whole seconds (FAT keeps two): recognised by times
/// without a fraction.
const RACY_WHOLE_SECONDS: Duration = Duration::from_secs(3);

/// An entry that is not asked for this many times is forgotten.
const MAX_UNUSED: u8 = 50;

const MAGIC: &[u8] = b"kiln hashes 1\n";
const RECORD: usize = 8 * 5 + 32 + 1;

impl HashCache {
    /// Reads the cache from a file. One that is missing, damaged or of another version is an
    /// empty cache: it holds nothing that cannot be computed again.
    pub fn open(file: impl Into<PathBuf>) -> Self {
        let file = file.into();
        let mut entries = fs::read(&file)
            .ok()
            .and_then(|bytes| decode(&bytes))
            .unwrap_or_default();
        entries.retain(|_, entry| {
            entry.unused = entry.unused.saturating_add(1);
            entry.unused <= MAX_UNUSED
        });
        Self {
            file,
            entries,
            changed: false,
        }
    }

    /// The BLAKE3 hash of a regular file's content.
    pub fn hash(&mut self, path: &Path) -> io::Result<[u8; 32]> {
        self.hash_at(path, SystemTime::now())
    }

    fn hash_at(&mut self, path: &Path, now: SystemTime) -> io::Result<[u8; 32]> {
        let mut file = File::open(path)?;
        let before = file.metadata()?;
        let key = (before.dev(), before.ino());
        let stamp = Stamp::of(&before);
        if let Some(entry) = self.entries.get_mut(&key)
            && entry.stamp == stamp
        {
            entry.unused = 0;
            return Ok(entry.hash);
        }
        let hash = hash(&mut file)?;
        if stamp.is_settled(now) && Stamp::of(&file.metadata()?) == stamp {
            self.entries.insert(
                key,
                Entry {
                    stamp,
                    hash,
                    unused: 0,
                },
            );
            self.changed = true;
        } else {
            self.changed |= self.entries.remove(&key).is_some();
        }
        Ok(hash)
    }

    /// Writes the cache back, in one step, when anything changed.
    pub fn save(&mut self) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        let folder = self.file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&encode(&self.entries))?;
        file.persist(&self.file).map_err(|error| error.error)?;
        self.changed = false;
        Ok(())
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000) + nanos;
        Self {
            size: metadata.len(),
            ctime: nanos(metadata.ctime(), metadata.ctime_nsec()),
            mtime: nanos(metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Whether a write from `now` on is sure to change the stamp.
    fn is_settled(self, now: SystemTime) -> bool {
        let Ok(now) = now.duration_since(UNIX_EPOCH) else {
            return false;
        };
        let changed = Duration::from_nanos(u64::try_from(self.ctime).unwrap_or(0));
        let margin = if changed.subsec_nanos() == 0 {
            RACY_WHOLE_SECONDS
        } else {
            RACY
        };
        changed + margin < now
    }
}

fn hash(file: &mut impl Read) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(*hasher.finalize().as_bytes())
}

/// The magic line, the records, and a hash of both.
fn encode(entries: &HashMap<(u64, u64), Entry>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for ((dev, ino), entry) in entries {
        bytes.extend(dev.to_le_bytes());
        bytes.extend(ino.to_le_bytes());
        bytes.extend(entry.stamp.size.to_le_bytes());
        bytes.extend(entry.stamp.ctime.to_le_bytes());
        bytes.extend(entry.stamp.mtime.to_le_bytes());
        bytes.extend(entry.hash);
        bytes.push(entry.unused);
    }
    bytes.extend(blake3::hash(&bytes).as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<HashMap<(u64, u64), Entry>> {
    let (body, sum) = bytes.split_last_chunk::<32>()?;
    if blake3::hash(body) != *sum {
        return None;
    }
    let records = body.strip_prefix(MAGIC)?;
    records.chunks(RECORD).map(record).collect()
}

fn record(bytes: &[u8]) -> Option<((u64, u64), Entry)> {
    let (dev, rest) = bytes.split_first_chunk()?;
    let (ino, rest) = rest.split_first_chunk()?;
    let (size, rest) = rest.split_first_chunk()?;
    let (ctime, rest) = rest.split_first_chunk()?;
    let (mtime, rest) = rest.split_first_chunk()?;
    let (hash, rest) = rest.split_first_chunk()?;
    let [unused] = rest else { return None };
    let stamp = Stamp {
        size: u64::from_le_bytes(*size),
        ctime: i64::from_le_bytes(*ctime),
        mtime: i64::from_le_bytes(*mtime),
    };
    let key = (u64::from_le_bytes(*dev), u64::from_le_bytes(*ino));
    Some((
        key,
        Entry {
            stamp,
            hash: *hash,
            unused: *unused,
        },
    ))
}

#[cfg(test)]
#[path = "hash_cache_tests.rs"]
mod tests;
