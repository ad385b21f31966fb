//! Layers from anyone: whatever a tar says, nothing outside of its directory is touched.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use kiln_executor::layer::delta::Item;
use kiln_executor::layer::dir::Form;
use kiln_executor::layer::index::TarError;
use kiln_executor::layer::tar::{TarWriter, Times};
use kiln_executor::layer::unpack::{headers, unpack};
use kiln_executor::layer::upper;
use kiln_store::Digest;
use tar::{Builder, EntryType, Header};

/// Adds an entry with exactly this name, as no honest tool would write it.
fn add(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

/// A directory to unpack into, beside one that must stay as it is.
fn arena() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("layer")).unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    fs::write(dir.path().join("outside/victim"), "untouched").unwrap();
    dir
}

fn assert_untouched(dir: &Path) {
    let names: Vec<_> = fs::read_dir(dir.join("outside"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["victim"]);
    assert_eq!(
        fs::read_to_string(dir.join("outside/victim")).unwrap(),
        "untouched"
    );
    assert_eq!(
        fs::metadata(dir.join("outside/victim")).unwrap().nlink(),
        1,
        "no hard link to it"
    );
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in [
        "../outside/new",
        "a/../../outside/new",
        "/../outside/new",
        "a/../..",
        ".wh...",
        ".wh..",
        "a/.wh.",
    ] {
        let dir = arena();
        let mut tar = Builder::new(Vec::new());
        add(&mut tar, EntryType::Regular, name, "", b"evil");
        let result = unpack(
            &tar.into_inner().unwrap()[..],
            &dir.path().join("layer"),
            Form::Overlay,
        );
        assert!(
            matches!(result, Err(TarError::Escape { .. })),
            "{name}: {result:?}"
        );
        assert_untouched(dir.path());
    }
}

/// As Go's `path.Clean`, which whoever applies layers uses: `a` need not be there.
#[test]
fn names_that_lead_up_and_stay_inside_are_what_they_lead_to() {
    for (name, expected) in [("a/../new", "new"), ("a/b/../new", "a/new")] {
        let dir = arena();
        let mut tar = Builder::new(Vec::new());
        add(&mut tar, EntryType::Regular, name, "", b"bytes");
        let layer = dir.path().join("layer");
        unpack(&tar.into_inner().unwrap()[..], &layer, Form::Overlay).unwrap();
        assert_eq!(fs::read_to_string(layer.join(expected)).unwrap(), "bytes");
        assert_untouched(dir.path());
    }
}

/// What applying the entries one after the other leaves (OCI image specification, layer.md).
#[test]
fn of_several_entries_of_a_directory_the_last_counts() {
    let dir = arena();
    let mut tar = Builder::new(Vec::new());
    for (mode, mtime) in [(0o700, 3_000_000), (0o750, 1_000_000)] {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_path("twice/").unwrap();
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mtime(mtime);
        header.set_cksum();
        tar.append(&header, &b""[..]).unwrap();
        add(&mut tar, EntryType::Regular, "twice/file", "", b"bytes");
    }
    let layer = dir.path().join("layer");
    unpack(&tar.into_inner().unwrap()[..], &layer, Form::Overlay).unwrap();
    let twice = fs::metadata(layer.join("twice")).unwrap();
    assert_eq!((twice.mode() & 0o7777, twice.mtime()), (0o750, 1_000_000));
}

#[test]
fn links_are_followed_inside_only() {
    for form in [Form::Overlay, Form::Applied] {
        let dir = arena();
        let outside = dir.path().join("outside").display().to_string();
        let mut tar = Builder::new(Vec::new());
        add(&mut tar, EntryType::Symlink, "abs", &outside, b"");
        add(&mut tar, EntryType::Symlink, "rel", "../outside", b"");
        add(
            &mut tar,
            EntryType::Symlink,
            "file",
            "../outside/victim",
            b"",
        );
        add(
            &mut tar,
            EntryType::Regular,
            "file",
            "",
            b"replaced the link",
        );
        for name in ["abs/victim", "rel/victim", "rel/new"] {
            add(&mut tar, EntryType::Regular, name, "", b"evil");
        }
        add(&mut tar, EntryType::Regular, "rel/.wh.victim", "", b"");
        let layer = dir.path().join("layer");
        let _ = unpack(&tar.into_inner().unwrap()[..], &layer, form); // refusing is fine, too
        assert_untouched(dir.path());
        assert_eq!(
            fs::read_to_string(layer.join("file")).unwrap(),
            "replaced the link"
        );
    }
}

#[test]
fn hard_links_cannot_reach_out() {
    for target in ["../outside/victim", "link/victim"] {
        let dir = arena();
        let mut tar = Builder::new(Vec::new());
        add(&mut tar, EntryType::Symlink, "link", "../outside", b"");
        add(&mut tar, EntryType::Link, "hard", target, b"");
        add(&mut tar, EntryType::Regular, "hard", "", b"evil");
        let _ = unpack(
            &tar.into_inner().unwrap()[..],
            &dir.path().join("layer"),
            Form::Overlay,
        );
        assert_untouched(dir.path());
    }
}

#[test]
fn an_entry_in_the_place_of_another() {
    let dir = arena();
    let mut tar = Builder::new(Vec::new());
    add(&mut tar, EntryType::Directory, "x", "", b"");
    add(&mut tar, EntryType::Regular, "x/inner", "", b"1");
    add(&mut tar, EntryType::Regular, "x", "", b"now a file");
    add(&mut tar, EntryType::Regular, "y", "", b"1");
    add(&mut tar, EntryType::Directory, "y", "", b"");
    unpack(
        &tar.into_inner().unwrap()[..],
        &dir.path().join("layer"),
        Form::Overlay,
    )
    .unwrap();
    assert_eq!(
        fs::read_to_string(dir.path().join("layer/x")).unwrap(),
        "now a file"
    );
    assert!(dir.path().join("layer/y").is_dir());
}

#[test]
fn whiteouts_become_those_of_an_overlay_and_come_back() {
    let dir = arena();
    let mut tar = Builder::new(Vec::new());
    add(&mut tar, EntryType::Directory, "d", "", b"");
    add(&mut tar, EntryType::Regular, "d/.wh.gone", "", b"");
    add(&mut tar, EntryType::Directory, "o", "", b"");
    add(&mut tar, EntryType::Regular, "o/.wh..wh..opq", "", b"");
    add(&mut tar, EntryType::Regular, "o/kept", "", b"k");
    add(&mut tar, EntryType::Regular, ".wh..wh.plnk", "", b"");
    let bytes = tar.into_inner().unwrap();
    let layer = dir.path().join("layer");
    let diff_id = unpack(&bytes[..], &layer, Form::Overlay).unwrap();
    assert_eq!(diff_id, Digest::of(&bytes), "the digest is that of the tar");
    let whiteout = fs::symlink_metadata(layer.join("d/gone")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    let mut value = [0; 8];
    let length = rustix::fs::lgetxattr(layer.join("o"), "user.overlay.opaque", &mut value).unwrap();
    assert_eq!(&value[..length], b"y");

    let delta = upper::read(&layer).unwrap();
    let mut writer = TarWriter::new(Vec::new(), Times::Kept);
    writer.append(&delta).unwrap();
    let again = writer.finish().unwrap();
    let mut archive = tar::Archive::new(&again[..]);
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(
        names,
        ["d/", "d/.wh.gone", "o/", "o/.wh..wh..opq", "o/kept"]
    );
    let (index, _) = headers(&bytes[..]).unwrap();
    assert_eq!(
        index.items.keys().collect::<Vec<_>>(),
        delta.items.keys().collect::<Vec<_>>(),
        "headers alone tell the same"
    );
}

/// In a context or an archive of `ADD` nothing is hidden: no layer is below it.
#[test]
fn names_of_whiteouts_are_ordinary_outside_of_layers() {
    let dir = arena();
    let mut tar = Builder::new(Vec::new());
    let names = [
        "kept",
        ".wh.kept",
        "d/kept",
        "d/.wh..wh..opq",
        ".wh..wh..opq",
        ".wh..wh.plnk",
        ".wh.",
    ];
    for name in names {
        add(&mut tar, EntryType::Regular, name, "", name.as_bytes());
    }
    let archive = dir.path().join("layer");
    unpack(&tar.into_inner().unwrap()[..], &archive, Form::Applied).unwrap();
    for name in names {
        assert_eq!(fs::read_to_string(archive.join(name)).unwrap(), name);
    }
}

/// An overlay shows all layers in its root, whatever they say.
#[test]
fn an_opaque_root_hides_nothing() {
    let dir = arena();
    let mut tar = Builder::new(Vec::new());
    add(&mut tar, EntryType::Directory, "./", "", b"");
    add(&mut tar, EntryType::Regular, ".wh..wh..opq", "", b"");
    add(&mut tar, EntryType::Regular, "file", "", b"f");
    let tar = tar.into_inner().unwrap();
    let layer = dir.path().join("layer");
    unpack(&tar[..], &layer, Form::Overlay).unwrap();
    assert_eq!(fs::read_to_string(layer.join("file")).unwrap(), "f");
    assert!(!upper::is_opaque(&layer).unwrap());
    let (index, _) = headers(&tar[..]).unwrap();
    let Some(Item::Put(root)) = index.get(Path::new("")) else {
        panic!("{index:?}")
    };
    assert!(!root.opaque);
}

/// chown(2) takes -1 for "as it was", so that a file would belong to whoever unpacks it.
#[test]
fn an_owner_that_cannot_be_is_refused() {
    for (uid, gid) in [(4_294_967_295, 0), (0, 4_294_967_295), (1 << 32, 0)] {
        for field in ["header", "record"] {
            let mut header = Header::new_ustar();
            header.set_path("file").unwrap();
            header.set_mode(0o644);
            for field in [Header::set_uid, Header::set_gid, Header::set_mtime] {
                field(&mut header, 0);
            }
            header.set_size(0);
            let mut tar = Builder::new(Vec::new());
            if field == "header" {
                header.set_uid(uid);
                header.set_gid(gid);
            } else {
                let (uid, gid) = (uid.to_string(), gid.to_string());
                tar.append_pax_extensions([("uid", uid.as_bytes()), ("gid", gid.as_bytes())])
                    .unwrap();
            }
            header.set_cksum();
            tar.append(&header, &b""[..]).unwrap();
            let tar = tar.into_inner().unwrap();
            for form in [Form::Overlay, Form::Applied] {
                let error = unpack(&tar[..], &arena().path().join("layer"), form).unwrap_err();
                let expected = format!("\"file\" of the owner {}", uid.max(gid));
                assert!(error.to_string().contains(&expected), "{field}: {error}");
            }
        }
    }
}

/// What a tar says of its next entry may be compressed a thousandfold, and is kept in memory.
#[test]
fn headers_without_end_are_refused_before_they_are_read() {
    let long = vec![b'x'; 64 << 20];
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
    ] {
        let mut tar = Builder::new(Vec::new());
        add(&mut tar, kind, "././@LongLink", "", &long);
        add(&mut tar, EntryType::Regular, "file", "", b"");
        let tar = tar.into_inner().unwrap();
        let dir = arena();
        let mut blob = std::io::Cursor::new(&tar);
        let result = unpack(&mut blob, &dir.path().join("layer"), Form::Overlay);
        let Err(TarError::Read(error)) = result else {
            panic!("{kind:?}: {result:?}")
        };
        assert!(error.to_string().contains("taken for a bomb"), "{error}");
        assert!(headers(&tar[..]).is_err(), "{kind:?}");
        assert!(blob.position() < 32 << 20, "{kind:?}: {}", blob.position());
    }
    // A file may be larger than that, read or not.
    let mut tar = Builder::new(Vec::new());
    add(&mut tar, EntryType::Regular, "large", "", &long);
    add(&mut tar, EntryType::Regular, "file", "", b"");
    let tar = tar.into_inner().unwrap();
    let dir = arena();
    unpack(&tar[..], &dir.path().join("layer"), Form::Overlay).unwrap();
    let (delta, _) = headers(&tar[..]).unwrap();
    assert_eq!(delta.items.len(), 2);
}

/// A sparse file costs a few bytes and says that it has 20 GiB.
#[test]
fn a_sparse_file_from_nothing_is_refused() {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_path("sparse").unwrap();
    header.set_mode(0o644);
    for field in [Header::set_uid, Header::set_gid, Header::set_mtime] {
        field(&mut header, 0);
    }
    header.set_size(0);
    let gnu = header.as_gnu_mut().unwrap();
    // 20 GiB and a hole up to there, in octal.
    gnu.realsize.copy_from_slice(b"240000000000");
    gnu.sparse[0].offset.copy_from_slice(b"240000000000");
    gnu.sparse[0].numbytes.copy_from_slice(b"000000000000");
    header.set_cksum();
    let mut tar = Builder::new(Vec::new());
    tar.append(&header, &b""[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    let dir = arena();
    let result = unpack(&tar[..], &dir.path().join("layer"), Form::Overlay);
    let Err(TarError::Read(error)) = result else {
        panic!("{result:?}")
    };
    assert!(error.to_string().contains("taken for a bomb"), "{error}");
    let names = fs::read_dir(dir.path().join("layer")).unwrap();
    assert_eq!(names.count(), 0);
}

#[test]
fn every_compression_is_found_by_its_first_bytes() {
    let mut tar = Builder::new(Vec::new());
    add(&mut tar, EntryType::Regular, "f", "", b"content");
    let plain = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    // eStargz and bgzip are gzip files of many members.
    let members: Vec<u8> = plain
        .chunks(700)
        .flat_map(|chunk| {
            let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            member.write_all(chunk).unwrap();
            member.finish().unwrap()
        })
        .collect();
    let zstd = zstd::encode_all(&plain[..], 3).unwrap();
    for blob in [plain.clone(), gzip, members, zstd] {
        let dir = arena();
        let layer = dir.path().join("layer");
        assert_eq!(
            unpack(&blob[..], &layer, Form::Overlay).unwrap(),
            Digest::of(&plain)
        );
        assert_eq!(fs::read_to_string(layer.join("f")).unwrap(), "content");
    }
}

/// Long names, large owners, old times and attributes, read back by GNU tar.
#[test]
fn what_ustar_has_no_room_for_is_read_by_others() {
    use kiln_executor::layer::delta::{Content, Delta, Kind, Meta, Node};
    let mut delta = Delta::default();
    let mut expected = BTreeMap::new();
    let part = "n".repeat(60);
    let deep = format!("{part}/{part}/{part}/{part}");
    let long = "l".repeat(200);
    for (name, uid, mtime) in [
        (deep.as_str(), 7, 5),
        (long.as_str(), 3_000_000_000_u32, -86_400),
        ("s", 0, 0),
    ] {
        let meta = Meta {
            mode: 0o4755,
            uid,
            gid: 2_097_152,
            mtime,
        };
        let mut node = Node::new(Kind::File(1), meta);
        node.content = Some(Content::Inline(b"x".to_vec()));
        delta.put(name.into(), node);
        expected.insert(name.to_owned(), (uid, mtime));
    }
    let target = "t".repeat(150);
    let meta = Meta {
        mode: 0o777,
        uid: 0,
        gid: 0,
        mtime: 0,
    };
    delta.put(
        "link".into(),
        Node::new(Kind::Symlink(target.clone().into()), meta),
    );
    let mut writer = TarWriter::new(Vec::new(), Times::Kept);
    writer.append(&delta).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.tar");
    fs::write(&file, writer.finish().unwrap()).unwrap();
    let listing = std::process::Command::new("tar")
        .args(["--numeric-owner", "--utc", "--full-time", "-tvf"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&listing.stderr), "");
    let listing = String::from_utf8(listing.stdout).unwrap();
    for (name, (uid, mtime)) in expected {
        let day = match mtime {
            -86_400 => "1969-12-31 00:00:00",
            5 => "1970-01-01 00:00:05",
            _ => "1970-01-01 00:00:00",
        };
        let line = listing
            .lines()
            .find(|line| line.ends_with(&format!(" {name}")))
            .unwrap();
        assert!(
            line.starts_with("-rwsr-xr-x") && line.contains(&format!("{uid}/2097152")),
            "{line}"
        );
        assert!(line.contains(day), "{line}");
    }
    assert!(listing.contains(&format!("link -> {target}")));
}

#[path = "../../../fuzz/targets/challenge.rs"]
mod fuzz_challenge;
#[path = "../../../fuzz/targets/dockerfile.rs"]
mod fuzz_dockerfile;
#[path = "../../../fuzz/targets/ignore.rs"]
mod fuzz_ignore;
#[path = "../../../fuzz/targets/layer.rs"]
mod fuzz_layer;
#[path = "../../../fuzz/targets/manifest.rs"]
mod fuzz_manifest;

/// Runs a fuzz target over its corpus.
fn corpus(name: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(name);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        run(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 4, "{} has {count} files", folder.display());
}

#[test]
fn the_fuzz_targets_find_nothing_in_their_corpora() {
    corpus("challenge", fuzz_challenge::run);
    corpus("dockerfile", fuzz_dockerfile::run);
    corpus("ignore", fuzz_ignore::run);
    corpus("layer", fuzz_layer::run);
    corpus("manifest", fuzz_manifest::run);
}
