//! The digests of files of this machine, and whether the files are still the same.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use kiln_store::{Digest, Hasher};

use super::framed::Framed;
use crate::layer::delta::{Content, Delta, Item, Kind, Node};

/// Digests of files, each read once.
#[derive(Debug, Default)]
pub struct Files {
    /// By their paths as bytes: as paths they are compared part by part, which takes longer than
    /// reading a small file.
    known: HashMap<OsString, (Stamp, Digest)>,
    /// The keys are made: what is read from now on is compared with what they stand for.
    is_compared: bool,
    /// Commands may write to the files: a change is what the key of such a command stands for.
    is_shared: bool,
}

/// What a file has to have kept for its bytes to be the same. The time of its last change cannot be
/// set by anybody.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(stat: &Metadata) -> Self {
        Self {
            size: stat.len(),
            changed: (stat.ctime(), stat.ctime_nsec()),
        }
    }
}

impl Files {
    /// The digest of a tree: names, kinds, modes, links, attributes and contents.
    pub(super) fn digest(&mut self, delta: &Delta) -> io::Result<Digest> {
        self.read(delta)?;
        let mut hash = Framed::new("files");
        hash.number(delta.items.len() as u64);
        for (path, item) in &delta.items {
            hash.bytes(path.as_os_str().as_bytes());
            match item {
                Item::Removed => hash.text("removed"),
                Item::Put(node) => self.node(&mut hash, node)?,
            }
        }
        Ok(hash.finish())
    }

    /// From now on a file that changed has another digest.
    pub(super) fn compare(&mut self) {
        self.is_compared = true;
    }

    /// From now on changes are not looked for: commands of the build make them.
    pub(super) fn share(&mut self) {
        self.is_shared = true;
    }

    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Whether those among them that a layer is made of are what they were.
    #[must_use]
    pub fn are_unchanged_in(&self, delta: &Delta) -> bool {
        let mut items = delta.items.values();
        self.is_shared
            || items.all(|item| match item {
                Item::Put(node) => host(node).is_none_or(|host| {
                    let known = self.known.get(host.as_os_str());
                    known.is_none_or(|(stamp, _)| is_same(host, stamp))
                }),
                Item::Removed => true,
            })
    }

    fn node(&self, hash: &mut Framed, node: &Node) -> io::Result<()> {
        hash.number(u64::from(node.meta.mode & 0o7777));
        hash.number(node.xattrs.len() as u64);
        for (name, value) in &node.xattrs {
            hash.text(name);
            hash.bytes(value);
        }
        match &node.kind {
            Kind::File(size) => {
                hash.text("file");
                hash.number(*size);
                match host(node).and_then(|host| Some((host, self.known.get(host.as_os_str())?))) {
                    Some((host, (stamp, digest))) => {
                        hash.digest(*digest);
                        // Read again it is another one.
                        if self.is_compared && !is_same(host, stamp) {
                            hash.text("changed");
                        }
                    }
                    None => hash.digest(digest_of(&mut node.open()?, &mut [0; 8 << 10])?),
                }
            }
            Kind::Symlink(target) => {
                hash.text("link");
                hash.bytes(target.as_os_str().as_bytes());
            }
            Kind::Hardlink(first) => {
                hash.text("further name");
                hash.bytes(first.as_os_str().as_bytes());
            }
            other => hash.text(&format!("{other:?}")),
        }
        Ok(())
    }

    /// Reads the files that are not known yet, on all cores.
    fn read(&mut self, delta: &Delta) -> io::Result<()> {
        let hosts: Vec<&Path> = delta
            .items
            .values()
            .filter_map(|item| match item {
                Item::Put(node) => host(node),
                Item::Removed => None,
            })
            .filter(|host| !self.known.contains_key(host.as_os_str()))
            .collect();
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Vec::with_capacity(hosts.len()));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let work = || {
            let mut buffer = vec![0; 64 << 10];
            while let Some(host) = hosts.get(next.fetch_add(1, Ordering::Relaxed)) {
                let digest = File::open(host).and_then(|mut file| {
                    // Before it is read: what is written meanwhile counts as a change.
                    let stamp = Stamp::from(&file.metadata()?);
                    Ok((stamp, digest_of(&mut file, &mut buffer)?))
                });
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.push(digest.map(|digest| (host.as_os_str().to_owned(), digest)));
            }
        };
        if hosts.len() < 8 {
            work(); // not worth a thread
        } else {
            std::thread::scope(|scope| {
                for _ in 0..cores {
                    scope.spawn(work);
                }
            });
        }
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        for entry in found {
            let (host, digest) = entry?;
            self.known.insert(host, digest);
        }
        Ok(())
    }
}

fn is_same(host: &Path, stamp: &Stamp) -> bool {
    std::fs::symlink_metadata(host).is_ok_and(|stat| Stamp::from(&stat) == *stamp)
}

fn host(node: &Node) -> Option<&Path> {
    match (&node.kind, &node.content) {
        (Kind::File(size), Some(Content::Host(host))) if *size > 0 => Some(host),
        _ => None,
    }
}

fn digest_of(bytes: &mut dyn Read, buffer: &mut [u8]) -> io::Result<Digest> {
    let mut hasher = Hasher::new(io::sink());
    loop {
        match bytes.read(buffer) {
            Ok(0) => return Ok(hasher.finish().1),
            Ok(count) => hasher.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
