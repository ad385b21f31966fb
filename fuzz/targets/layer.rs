//! Any bytes are unpacked as a layer or refused; nothing outside of the directory changes.

use std::fs;
use std::path::Component;

use kiln_executor::layer::delta::Content;
use kiln_executor::layer::dir::Form;
use kiln_executor::layer::unpack;

/// Unpacks the bytes into a directory beside others.
pub fn run(data: &[u8]) {
    let outside = tempfile::tempdir().expect("a folder");
    let inside = outside.path().join("inside");
    let sentinel = outside.path().join("sentinel");
    fs::create_dir(&inside).expect("a folder");
    fs::write(&sentinel, "untouched").expect("a file");
    let _ = unpack::unpack(data, &inside, Form::Applied);
    let mut names: Vec<_> = fs::read_dir(outside.path())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["inside", "sentinel"],
        "something came to lie outside"
    );
    assert_eq!(fs::read(&sentinel).expect("the file"), b"untouched");
    assert!(
        !fs::symlink_metadata(&inside)
            .expect("the folder")
            .is_symlink(),
        "the directory was replaced"
    );
    // The headers alone are read without writing anything.
    let _ = unpack::headers(data);
    // What `ADD` unpacks is a list first, whose names stay in the root they are meant for.
    let entries = outside.path().join("entries");
    fs::create_dir(&entries).expect("a folder");
    for (path, node) in unpack::entries(data, &entries).unwrap_or_default() {
        let is_plain = |part| matches!(part, Component::Normal(_));
        assert!(path.components().all(is_plain), "{}", path.display());
        if let Some(Content::Host(host)) = node.content {
            assert_eq!(host.parent(), Some(entries.as_path()));
        }
    }
}
