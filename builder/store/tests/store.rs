//! The promises of the store: verified blobs, complete layers, no debris, several users.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use kiln_store::{Digest, LayerSlot, Sharing, Store, StoreError};

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_blob_is_kept_under_its_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut writer = store.write_blob().unwrap();
    writer.write_all(b"hello").unwrap();
    assert_eq!(
        store.blob(&Digest::of(b"hello")),
        None,
        "not before the commit"
    );
    let (digest, size, path) = writer.commit(None).unwrap();
    assert_eq!((digest, size), (Digest::of(b"hello"), 5));
    assert_eq!(fs::read(path).unwrap(), b"hello");
    assert!(
        Store::open(dir.path()).unwrap().blob(&digest).is_some(),
        "survives reopening"
    );
}

#[test]
fn a_wrong_blob_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut writer = store.write_blob().unwrap();
    writer.write_all(b"evil").unwrap();
    let error = writer.commit(Some(&Digest::of(b"good"))).unwrap_err();
    assert!(matches!(error, StoreError::Mismatch { .. }), "{error}");
    assert!(entries(&dir.path().join("blobs/sha256")).is_empty());
    assert!(entries(&dir.path().join("tmp")).is_empty());
}

#[test]
fn one_of_several_threads_unpacks_and_the_others_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let id = Digest::of(b"layer");
    let (sender, fills) = mpsc::channel();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (store, sender) = (store.clone(), sender.clone());
            thread::spawn(move || match store.layer_slot(&id).unwrap() {
                LayerSlot::Ready(path) => assert!(path.join("file").exists(), "complete"),
                LayerSlot::Fill(fill) => {
                    sender.send(()).unwrap();
                    assert_eq!(store.layer(&id), None, "invisible while it is filled");
                    fs::write(fill.path().join("file"), "x").unwrap();
                    fill.commit().unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    drop(sender);
    assert_eq!(fills.iter().count(), 1);
}

#[test]
fn a_layer_given_up_half_way_is_filled_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let id = Digest::of(b"layer");
    let LayerSlot::Fill(fill) = store.layer_slot(&id).unwrap() else {
        panic!("not there yet")
    };
    fs::write(fill.path().join("half"), "x").unwrap();
    drop(fill);
    let LayerSlot::Fill(fill) = store.layer_slot(&id).unwrap() else {
        panic!("given up")
    };
    assert!(entries(fill.path()).is_empty());
}

/// The body of a process that is killed: see `debris_of_a_killed_process_is_swept`.
#[test]
fn child_that_waits_to_be_killed() {
    let Some(dir) = std::env::args().skip_while(|a| a != "--skip").nth(1) else {
        return;
    };
    let Some(dir) = dir.strip_prefix("store=") else {
        return;
    };
    let store = Store::open(Path::new(dir)).unwrap();
    let LayerSlot::Fill(fill) = store.layer_slot(&Digest::of(b"layer")).unwrap() else {
        panic!("nobody else fills it")
    };
    fs::write(fill.path().join("half"), "x").unwrap();
    fs::write(Path::new(dir).join("ready"), "").unwrap();
    loop {
        thread::park();
    }
}

#[test]
fn debris_of_a_killed_process_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_waits_to_be_killed", "--skip"])
        .arg(format!("store={}", dir.path().display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !dir.path().join("ready").exists() {
        assert_eq!(
            child.try_wait().unwrap(),
            None,
            "the child has to wait to be killed"
        );
        thread::yield_now();
    }
    let live = Store::open(dir.path()).unwrap();
    assert_eq!(
        entries(&dir.path().join("tmp")).len(),
        1,
        "a living owner keeps its entry"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(entries(&dir.path().join("tmp")).is_empty());
    assert!(matches!(
        store.layer_slot(&Digest::of(b"layer")).unwrap(),
        LayerSlot::Fill(_)
    ));
    drop(live);
}

#[test]
fn a_store_of_another_version_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("version"), "99\n").unwrap();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("\"99\"") && error.contains("version 1"),
        "{error}"
    );
}

#[test]
fn cache_mounts_keep_their_content_and_private_ones_do_not_share() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let first = store.cache_mount("/root/.cache", Sharing::Private).unwrap();
    fs::write(first.path().join("object"), "x").unwrap();
    let second = store.cache_mount("/root/.cache", Sharing::Private).unwrap();
    assert!(
        entries(second.path()).is_empty(),
        "the second user has its own"
    );
    drop((first, second));
    let third = store.cache_mount("/root/.cache", Sharing::Private).unwrap();
    assert_eq!(entries(third.path()), ["object"]);
    assert!(entries(store.cache_mount("other", Sharing::Shared).unwrap().path()).is_empty());
}
