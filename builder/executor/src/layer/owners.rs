//! Where all files belong to one user ([`Owners::One`](kiln_sandbox::users::Owners::One)), the disk
//! does not tell whose they are. What was unpacked gets owners, modes and attributes from the
//! headers of its tar, and only the bytes from the disk; what a command changed keeps the owner
//! that it had below, since the command could not give it away either.

use std::io;
use std::path::{Path, PathBuf};

use super::delta::{Content, Delta, Item, Kind, Meta, Node};
use super::upper;
use super::view::View;

/// The headers of a tar that was unpacked into `dir`, with the bytes of its files.
///
/// # Errors
/// When the directory cannot be read.
pub fn with_bytes(mut headers: Delta, dir: &Path) -> io::Result<Delta> {
    // Names of the tar are looked up among the names that are there, and not opened as paths:
    // a link of the tar must not lead out of the directory.
    let disk = upper::read(dir)?;
    for (path, item) in &mut headers.items {
        if let Item::Put(node) = item
            && matches!(node.kind, Kind::File(_))
        {
            node.content = bytes(&disk, path);
        }
    }
    // Directories that are used and not named are root's.
    for (path, item) in disk.items {
        if let Item::Put(node) = item
            && node.is_dir()
            && headers.get(&path).is_none()
        {
            let meta = Meta {
                uid: 0,
                gid: 0,
                ..node.meta
            };
            let dir = Node::new(Kind::Directory, meta);
            headers.items.insert(path, Item::Put(dir));
        }
    }
    Ok(headers)
}

/// What a command changed, read from a disk on which everything belongs to one user, with the
/// owners that the files had in the image below it; what is new is root's.
///
/// # Errors
/// When the image cannot be read.
pub fn of_before(mut changed: Delta, below: &View) -> io::Result<Delta> {
    for (path, item) in &mut changed.items {
        if let Item::Put(node) = item {
            let before = below.find_link(path)?;
            // An opaque directory is a new one in the place of another.
            let is_new = node.opaque;
            let before = before.filter(|found| !is_new && same_type(&found.node.kind, &node.kind));
            let owner = before.map_or((0, 0), |found| (found.node.meta.uid, found.node.meta.gid));
            (node.meta.uid, node.meta.gid) = owner;
        }
    }
    // A further name has the owner of its file.
    let first_names: Vec<_> = changed.items.iter().filter_map(further_name).collect();
    for (path, first) in first_names {
        let owner = match changed.get(&first) {
            Some(Item::Put(node)) => (node.meta.uid, node.meta.gid),
            _ => continue,
        };
        if let Some(Item::Put(node)) = changed.items.get_mut(&path) {
            (node.meta.uid, node.meta.gid) = owner;
        }
    }
    Ok(changed)
}

fn further_name((path, item): (&PathBuf, &Item)) -> Option<(PathBuf, PathBuf)> {
    match item {
        Item::Put(Node {
            kind: Kind::Hardlink(first),
            ..
        }) => Some((path.clone(), first.clone())),
        _ => None,
    }
}

fn same_type(before: &Kind, now: &Kind) -> bool {
    std::mem::discriminant(before) == std::mem::discriminant(now)
}

fn bytes(disk: &Delta, path: &Path) -> Option<Content> {
    match disk.get(path) {
        Some(Item::Put(node)) => match &node.kind {
            Kind::Hardlink(first) => bytes(disk, first),
            _ => node.content.clone(),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::Arc;

    use crate::layer::view::Tree;

    fn file(size: u64) -> Item {
        let meta = Meta {
            mode: 0o4755,
            uid: 7,
            gid: 8,
            mtime: 9,
        };
        Item::Put(Node::new(Kind::File(size), meta))
    }

    #[test]
    fn owners_are_the_headers_and_bytes_the_disks() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("made")).unwrap();
        fs::write(dir.path().join("made/z"), "text").unwrap();
        fs::hard_link(dir.path().join("made/z"), dir.path().join("a")).unwrap();
        let mut headers = Delta::default();
        headers.items.insert("made/z".into(), file(4));
        let link = Kind::Hardlink("made/z".into());
        let Item::Put(node) = file(0) else { panic!() };
        let link = Node { kind: link, ..node };
        headers.items.insert("a".into(), Item::Put(link));
        let whole = with_bytes(headers, dir.path()).unwrap();
        let names: Vec<_> = whole.items.keys().cloned().collect();
        assert_eq!(names, ["a", "made", "made/z"].map(PathBuf::from));
        let Some(Item::Put(node)) = whole.get(Path::new("made/z")) else {
            panic!()
        };
        assert_eq!((node.meta.uid, node.meta.mode), (7, 0o4755));
        let mut text = String::new();
        io::Read::read_to_string(&mut *node.open().unwrap(), &mut text).unwrap();
        assert_eq!(text, "text");
        let Some(Item::Put(made)) = whole.get(Path::new("made")) else {
            panic!()
        };
        assert_eq!(made.meta.uid, 0);
    }

    #[test]
    fn what_is_changed_keeps_its_owner_and_what_is_new_is_roots() {
        let put = |kind: Kind, uid| {
            let meta = Meta {
                mode: 0o644,
                uid,
                gid: uid,
                mtime: 9,
            };
            Item::Put(Node::new(kind, meta))
        };
        let of = |items: &[(&str, Kind, u32)]| {
            let mut delta = Delta::default();
            for (path, kind, uid) in items {
                delta.items.insert(path.into(), put(kind.clone(), *uid));
            }
            delta
        };
        let below = of(&[("kept", Kind::File(1), 7), ("other", Kind::Directory, 7)]);
        let below = View::new(vec![Tree::Delta(Arc::new(below))]);
        let changed = of(&[
            ("kept", Kind::File(2), 1000),
            ("name", Kind::Hardlink("kept".into()), 1000),
            ("new", Kind::File(2), 1000),
            ("other", Kind::File(2), 1000),
        ]);
        let changed = of_before(changed, &below).unwrap();
        let owners: Vec<_> = changed
            .items
            .values()
            .map(|item| match item {
                Item::Put(node) => node.meta.uid,
                Item::Removed => panic!(),
            })
            .collect();
        assert_eq!(owners, [7, 7, 0, 0]);
    }

    #[test]
    fn a_link_of_the_tar_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("key"), "outside").unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
        let mut headers = Delta::default();
        headers.items.insert("link/key".into(), file(7));
        let whole = with_bytes(headers, dir.path()).unwrap();
        let Some(Item::Put(node)) = whole.get(Path::new("link/key")) else {
            panic!()
        };
        assert!(node.open().is_err());
    }
}
