//! Remembers which digest a content key became, for tags that do not say it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kiln_schemas::image::ImageDigest;
use serde::{Deserialize, Serialize};

use crate::order::split_tag;
use crate::tag::ContentKey;

/// Entries that are kept; the oldest go first.
const CAPACITY: usize = 4096;

/// The file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the build records {}", path.display())]
pub struct RecordsError {
    /// `read` or `write`.
    pub action: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Which digest each key had in each repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    path: Option<PathBuf>,
    entries: BTreeMap<String, Entry>,
    /// Counts insertions, so that the oldest can be found.
    clock: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    digest: ImageDigest,
    added: u64,
}

impl Records {
    /// Records that are lost at the end of the process.
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// Reads a file; a missing one is empty, and so is one that is damaged or
    /// of another version: it is a cache, and the registry decides in the end.
    pub fn load(path: &Path) -> Result<Self, RecordsError> {
        let entries = read(path)?;
        let clock = entries.values().map(|entry| entry.added).max().unwrap_or(0);
        Ok(Self {
            path: Some(path.to_owned()),
            entries,
            clock,
        })
    }

    /// The digest that this key had in the reference's repository.
    pub fn digest(&self, key: &ContentKey, reference: &str) -> Option<ImageDigest> {
        self.entries
            .get(&index(key, reference))
            .map(|entry| entry.digest.clone())
    }

    /// Remembers a build.
    pub fn record(&mut self, key: &ContentKey, reference: &str, digest: &ImageDigest) {
        self.clock += 1;
        let entry = Entry {
            digest: digest.clone(),
            added: self.clock,
        };
        self.entries.insert(index(key, reference), entry);
    }

    /// Writes the file, together with what other processes wrote meanwhile.
    pub fn save(&self) -> Result<(), RecordsError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let mut all = read(path)?;
        all.extend(self.entries.clone());
        if all.len() > CAPACITY {
            let mut ages: Vec<u64> = all.values().map(|entry| entry.added).collect();
            ages.sort_unstable();
            let oldest = ages[ages.len() - CAPACITY];
            all.retain(|_, entry| entry.added >= oldest);
        }
        write(path, &all).map_err(|source| RecordsError {
            action: "write",
            path: path.clone(),
            source,
        })
    }
}

fn index(key: &ContentKey, reference: &str) -> String {
    format!("{}@{}", split_tag(reference).0, key.hex())
}

fn read(path: &Path) -> Result<BTreeMap<String, Entry>, RecordsError> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(source) => Err(RecordsError {
            action: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Writes beside the file and renames, so that a reader sees all or nothing.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut file, value)?;
    file.flush()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tag::content::tests::some_key;

    fn digest(digit: char) -> ImageDigest {
        ImageDigest::parse(&format!("sha256:{}", digit.to_string().repeat(64))).unwrap()
    }

    #[test]
    fn a_build_is_remembered_across_processes_for_its_repository_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state").join("records.json");
        let mut records = Records::load(&path).unwrap();
        records.record(&some_key("a"), "r.example/app:v1", &digest('1'));
        records.save().unwrap();

        let records = Records::load(&path).unwrap();
        assert_eq!(
            records.digest(&some_key("a"), "r.example/app:v2"),
            Some(digest('1'))
        );
        assert_eq!(records.digest(&some_key("b"), "r.example/app:v1"), None);
        assert_eq!(records.digest(&some_key("a"), "r.example/other:v1"), None);
    }

    #[test]
    fn two_processes_do_not_lose_each_others_builds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.json");
        let mut one = Records::load(&path).unwrap();
        let mut two = Records::load(&path).unwrap();
        one.record(&some_key("a"), "r.example/app:v1", &digest('1'));
        one.save().unwrap();
        two.record(&some_key("b"), "r.example/app:v1", &digest('2'));
        two.save().unwrap();
        let all = Records::load(&path).unwrap();
        assert_eq!(
            all.digest(&some_key("a"), "r.example/app"),
            Some(digest('1'))
        );
        assert_eq!(
            all.digest(&some_key("b"), "r.example/app"),
            Some(digest('2'))
        );
    }

    #[test]
    fn a_damaged_file_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.json");
        fs::write(&path, "{\"half\":").unwrap();
        assert_eq!(
            Records::load(&path)
                .unwrap()
                .digest(&some_key("a"), "r.example/app"),
            None
        );
    }
}
