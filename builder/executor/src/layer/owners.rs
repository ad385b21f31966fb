//! What is unpacked belongs to who unpacked it, unless that is root. For anyone else owners, modes
//! and attributes come from the headers of a tar, and only the bytes from the disk.

use std::io;
use std::path::Path;

use super::delta::{Content, Delta, Item, Kind, Meta, Node};
use super::upper;

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
    use std::path::PathBuf;

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
