//! The promises of the store: verified blobs, complete layers, no debris, several users.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use kiln_store::{Digest, Held, LayerSlot, Limits, Sharing, Store, StoreError};

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
    let private = |id| {
        store
            .try_cache_mount(id, Sharing::Private)
            .unwrap()
            .unwrap()
    };
    let first = private("/root/.cache");
    fs::write(first.path().join("object"), "x").unwrap();
    let second = private("/root/.cache");
    assert!(
        entries(second.path()).is_empty(),
        "the second user has its own"
    );
    drop((first, second));
    let third = private("/root/.cache");
    assert_eq!(entries(third.path()), ["object"]);
    let other = store.try_cache_mount("other", Sharing::Shared).unwrap();
    assert!(entries(other.unwrap().path()).is_empty());
}

#[test]
fn a_locked_cache_mount_has_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let locked = || store.try_cache_mount("c", Sharing::Locked).unwrap();
    let first = locked();
    assert!(first.is_some());
    assert!(locked().is_none());
    let shared = store.try_cache_mount("c", Sharing::Shared).unwrap();
    assert!(shared.is_some(), "who shares asks nobody");
    drop(first);
    assert!(locked().is_some());
}

/// Writes a blob and makes it look as if it was used so many hours ago.
fn old_blob(dir: &Path, bytes: &[u8], hours: u64) -> Digest {
    let store = Store::open(dir).unwrap();
    let mut writer = store.write_blob().unwrap();
    writer.write_all(bytes).unwrap();
    let (digest, _, path) = writer.commit(None).unwrap();
    let used = std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600);
    let times = fs::FileTimes::new().set_accessed(used);
    fs::File::open(path).unwrap().set_times(times).unwrap();
    digest
}

fn hours(count: u64) -> Limits {
    Limits {
        max_age: Some(std::time::Duration::from_secs(count * 3600)),
        max_bytes: None,
    }
}

#[test]
fn what_nobody_used_for_long_is_collected_and_what_a_build_uses_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (
        old_blob(dir.path(), b"old", 48),
        old_blob(dir.path(), b"new", 1),
    );
    let (seen, other) = (
        old_blob(dir.path(), b"seen", 50),
        old_blob(dir.path(), b"other", 50),
    );
    let build = Store::open(dir.path()).unwrap();
    assert!(build.blob(&seen).is_some());
    let collector = Store::open(dir.path()).unwrap();
    let collected = collector.collect(hours(24)).unwrap();
    assert_eq!(collected.entries, 2);
    assert!(build.blob(&old).is_none() && build.blob(&other).is_none());
    assert!(build.blob(&new).is_some() && build.blob(&seen).is_some());
    assert!(entries(&dir.path().join("tmp")).is_empty());
}

#[test]
fn a_layer_that_is_held_stays_however_old_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let layer = |name: &[u8]| {
        let store = Store::open(dir.path()).unwrap();
        let LayerSlot::Fill(fill) = store.layer_slot(&Digest::of(name)).unwrap() else {
            panic!("it is new");
        };
        fill.commit().unwrap()
    };
    let (mounted, idle) = (layer(b"mounted"), layer(b"idle"));
    let held = Held::layer(dir.path(), &mounted).unwrap();
    assert!(held.is_some());
    // Held long ago: no living handle saw it, and it was not looked up since.
    let age = |path: &Path| {
        let used = std::time::SystemTime::now() - std::time::Duration::from_secs(48 * 3600);
        let times = fs::FileTimes::new().set_accessed(used);
        fs::File::open(path).unwrap().set_times(times).unwrap();
    };
    age(&mounted);
    age(&idle);
    let collector = Store::open(dir.path()).unwrap();
    assert_eq!(collector.collect(hours(24)).unwrap().entries, 1);
    assert!(mounted.is_dir() && !idle.exists());
    assert!(Held::layer(dir.path(), &idle).unwrap().is_none());
    drop(held);
    assert_eq!(collector.collect(hours(24)).unwrap().entries, 1);
    assert!(!mounted.exists());
}

#[test]
fn those_used_longest_ago_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let big = |letter: u8, hours| old_blob(dir.path(), &vec![letter; 100_000], hours);
    let (first, second, third) = (big(1, 3), big(2, 2), big(3, 1));
    let store = Store::open(dir.path()).unwrap();
    let limits = Limits {
        max_age: None,
        max_bytes: Some(250_000),
    };
    assert_eq!(store.collect(limits).unwrap().entries, 1);
    assert!(store.blob(&first).is_none());
    assert!(store.blob(&second).is_some() && store.blob(&third).is_some());
    // Now this handle relies on them, so even a limit of nothing leaves them.
    let nothing = Limits {
        max_age: None,
        max_bytes: Some(0),
    };
    assert_eq!(store.collect(nothing).unwrap().entries, 0);
}

#[test]
fn the_last_record_of_a_step_counts() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let key = Digest::of(b"step");
    assert_eq!(store.record(&key).unwrap(), None);
    store.put_record(&key, b"first").unwrap();
    store.put_record(&key, b"second").unwrap();
    let again = Store::open(dir.path()).unwrap();
    assert_eq!(again.record(&key).unwrap().as_deref(), Some(&b"second"[..]));
}

#[test]
fn nobody_else_may_look_into_a_store() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for _ in 0..2 {
        let _store = Store::open(dir.path()).unwrap();
        for name in ["layers", "tmp", "caches", "blobs/sha256", "records"] {
            assert_eq!(mode(&dir.path().join(name)), 0o700, "{name}");
        }
        // One of an earlier version is closed when it is opened.
        fs::set_permissions(dir.path().join("layers"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    // These become roots of images, whatever the caller's mask is.
    assert_eq!(mode(store.scratch().unwrap().path()), 0o755);
    let LayerSlot::Fill(fill) = store.layer_slot(&Digest::of(b"layer")).unwrap() else {
        panic!("it is not there yet");
    };
    assert_eq!(mode(fill.path()), 0o755);
}
