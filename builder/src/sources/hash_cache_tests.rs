use super::*;

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

fn blake3_of(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// Puts a wrong hash under every entry, so that a use of the cache shows.
fn poison(cache: &mut HashCache) {
    for entry in cache.entries.values_mut() {
        entry.hash = [7; 32];
    }
}

#[test]
fn an_edit_of_the_same_size_in_the_same_tick_is_seen() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("f");
    let mut cache = HashCache::open(folder.path().join("hashes"));
    for round in 0..200 {
        let text = format!("{round:08}");
        fs::write(&file, &text).expect("the folder is writable");
        assert_eq!(
            cache.hash(&file).expect("the file is there"),
            blake3_of(&text)
        );
    }
}

#[test]
fn a_file_that_has_just_changed_is_not_remembered() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("f");
    fs::write(&file, "a").expect("the folder is writable");
    let ctime = file.metadata().expect("the file is there");
    let changed =
        UNIX_EPOCH + Duration::new(ctime.ctime().unsigned_abs(), ctime.ctime_nsec() as u32);
    let mut cache = HashCache::open(folder.path().join("hashes"));
    cache
        .hash_at(&file, changed + RACY)
        .expect("the file is there");
    assert!(cache.entries.is_empty());
    cache
        .hash_at(&file, changed + RACY_WHOLE_SECONDS + RACY)
        .expect("the file is there");
    assert_eq!(cache.entries.len(), 1);
}

#[test]
fn an_unchanged_file_is_not_read_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("f");
    fs::write(&file, "a").expect("the folder is writable");
    let mut cache = HashCache::open(folder.path().join("deep/hashes"));
    assert_eq!(
        cache.hash_at(&file, later()).expect("the file is there"),
        blake3_of("a")
    );
    poison(&mut cache);
    cache.save().expect("the folder is writable");
    let mut cache = HashCache::open(folder.path().join("deep/hashes"));
    assert_eq!(
        cache.hash_at(&file, later()).expect("the file is there"),
        [7; 32]
    );
    fs::write(&file, "bb").expect("the folder is writable");
    assert_eq!(
        cache.hash_at(&file, later()).expect("the file is there"),
        blake3_of("bb")
    );
}

#[test]
fn a_replaced_file_with_the_old_times_is_read_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("f");
    fs::write(&file, "a").expect("the folder is writable");
    let mtime = file
        .metadata()
        .and_then(|metadata| metadata.modified())
        .expect("an mtime");
    let mut cache = HashCache::open(folder.path().join("hashes"));
    cache.hash_at(&file, later()).expect("the file is there");
    let other = folder.path().join("other");
    fs::write(&other, "b").expect("the folder is writable");
    let handle = File::options()
        .write(true)
        .open(&other)
        .expect("the file is there");
    handle.set_modified(mtime).expect("mtime can be set");
    fs::rename(&other, &file).expect("the folder is writable");
    assert_eq!(
        cache.hash_at(&file, later()).expect("the file is there"),
        blake3_of("b")
    );
}

#[test]
fn a_damaged_cache_is_an_empty_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, store) = (folder.path().join("f"), folder.path().join("hashes"));
    fs::write(&file, "a").expect("the folder is writable");
    let mut cache = HashCache::open(&store);
    cache.hash_at(&file, later()).expect("the file is there");
    poison(&mut cache);
    cache.save().expect("the folder is writable");
    let bytes = fs::read(&store).expect("it was saved");
    for damaged in [
        &bytes[..bytes.len() - 1],
        &bytes[1..],
        b"",
        b"kiln hashes 2\n",
    ] {
        fs::write(&store, damaged).expect("the folder is writable");
        let mut cache = HashCache::open(&store);
        assert_eq!(
            cache.hash_at(&file, later()).expect("the file is there"),
            blake3_of("a")
        );
    }
}

#[test]
fn entries_that_nobody_asks_for_are_forgotten() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (old, store) = (folder.path().join("old"), folder.path().join("hashes"));
    fs::write(&old, "a").expect("the folder is writable");
    let mut cache = HashCache::open(&store);
    cache.hash_at(&old, later()).expect("the file is there");
    cache.save().expect("the folder is writable");
    for _ in 0..MAX_UNUSED {
        let mut cache = HashCache::open(&store);
        assert_eq!(cache.entries.len(), 1);
        cache.changed = true;
        cache.save().expect("the folder is writable");
    }
    assert!(HashCache::open(&store).entries.is_empty());
}
