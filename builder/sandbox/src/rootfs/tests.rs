//! Paths that try to leave the root, and the ordinary ones.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};

use tempfile::TempDir;

use super::*;

/// A directory with a secret next to the root.
struct Place {
    outside: TempDir,
    root: Rootfs,
}

impl Place {
    fn new() -> Self {
        let outside = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(outside.path().join("root")).expect("mkdir");
        fs::write(outside.path().join("secret"), "secret").expect("write");
        let root = Rootfs::open(&outside.path().join("root")).expect("open");
        Self { outside, root }
    }

    fn real(&self, path: &str) -> PathBuf {
        self.outside.path().join("root").join(path)
    }

    fn outside_is_untouched(&self) {
        let mut names: Vec<_> = fs::read_dir(self.outside.path())
            .expect("list")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["root", "secret"]);
        let secret = fs::read_to_string(self.outside.path().join("secret")).expect("read");
        assert_eq!(secret, "secret");
    }
}

fn p(path: &str) -> &Path {
    Path::new(path)
}

#[test]
fn dots_stop_at_the_root() {
    let place = Place::new();
    for path in [
        "../secret",
        "/../secret",
        "../../../../secret",
        "a/../../secret",
    ] {
        let error = place.root.open_file(p(path)).expect_err(path);
        assert!(error.is_not_found(), "{path}: {error}");
    }
    let mut file = place
        .root
        .create_file(p("../secret"), 0o644)
        .expect("create");
    file.write_all(b"inside").expect("write");
    assert_eq!(fs::read(place.real("secret")).expect("read"), b"inside");
    place.outside_is_untouched();
}

#[test]
fn absolute_and_relative_links_stay_inside() {
    let place = Place::new();
    let outside = place.outside.path().to_path_buf();
    symlink(&outside, place.real("absolute")).expect("symlink");
    symlink("../..", place.real("relative")).expect("symlink");
    symlink("/", place.real("top")).expect("symlink");
    assert!(place.root.open_file(p("absolute/secret")).is_err());
    assert!(place.root.open_file(p("relative/secret")).is_err());
    assert!(place.root.create_file(p("absolute/new"), 0o644).is_err());
    // Both lead to the root itself.
    place
        .root
        .create_file(p("relative/one"), 0o644)
        .expect("create");
    place.root.create_file(p("top/two"), 0o644).expect("create");
    place
        .root
        .remove(p("relative/secret"))
        .expect("nothing there");
    assert!(place.real("one").exists() && place.real("two").exists());
    place.outside_is_untouched();
}

#[test]
fn magic_links_are_refused() {
    let place = Place::new();
    let fd = fs::File::open(place.outside.path()).expect("open");
    let magic = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    let real_root = Rootfs::open(p("/")).expect("open /");
    assert!(real_root.open_file(&p(&magic).join("secret")).is_err());
}

#[test]
fn a_link_in_the_way_is_replaced_and_not_written_through() {
    let place = Place::new();
    symlink("../secret", place.real("link")).expect("symlink");
    place.root.create_file(p("link"), 0o600).expect("create");
    assert!(
        place
            .real("link")
            .symlink_metadata()
            .expect("stat")
            .is_file()
    );
    symlink("../secret", place.real("other")).expect("symlink");
    place.root.remove(p("other")).expect("remove");
    place.outside_is_untouched();
}

#[test]
fn names_that_are_paths_are_refused() {
    let place = Place::new();
    let directory = place.root.directory(p("/")).expect("open");
    for name in ["../secret", "a/b", "", ".", ".."] {
        assert!(
            directory.create_file(OsStr::new(name), 0o644).is_err(),
            "{name:?}"
        );
        assert!(directory.remove(OsStr::new(name)).is_err(), "{name:?}");
    }
    assert!(place.root.remove(p("/")).is_err());
    assert!(place.root.remove(p("..")).is_err());
    place.outside_is_untouched();
}

#[test]
fn hard_links_cannot_name_a_file_outside() {
    let place = Place::new();
    symlink(place.outside.path(), place.real("out")).expect("symlink");
    assert!(place.root.hard_link(p("out/secret"), p("stolen")).is_err());
    assert!(place.root.hard_link(p("../secret"), p("stolen")).is_err());
    // A link to a link is a link: its target is not touched.
    symlink("../secret", place.real("link")).expect("symlink");
    place.root.hard_link(p("link"), p("second")).expect("link");
    assert!(
        place
            .real("second")
            .symlink_metadata()
            .expect("stat")
            .is_symlink()
    );
    place.outside_is_untouched();
}

#[test]
fn directories_are_made_through_links_inside() {
    let place = Place::new();
    place
        .root
        .create_directories(p("/run"), 0o755)
        .expect("mkdir");
    place
        .root
        .create_directories(p("/var"), 0o755)
        .expect("mkdir");
    place
        .root
        .symlink(p("/run"), p("/var/run"))
        .expect("symlink");
    place
        .root
        .symlink(p("/data/cache"), p("/cache"))
        .expect("symlink");
    place
        .root
        .create_directories(p("/var/run/a/b"), 0o750)
        .expect("mkdir");
    place
        .root
        .create_directories(p("/cache/x"), 0o755)
        .expect("dangling");
    assert!(place.real("run/a/b").is_dir());
    assert!(place.real("data/cache/x").is_dir());
    let mode = fs::metadata(place.real("run/a/b")).expect("stat").mode();
    assert_eq!(mode & 0o7777, 0o750);
    assert_eq!(
        place
            .root
            .canonicalize(p("var/run/../run/a"))
            .expect("resolve"),
        p("/run/a")
    );
    place.root.create_file(p("/file"), 0o644).expect("create");
    assert!(place.root.create_directories(p("/file/x"), 0o755).is_err());
}

#[test]
fn links_in_a_circle_are_an_error() {
    let place = Place::new();
    symlink("b", place.real("a")).expect("symlink");
    symlink("a", place.real("b")).expect("symlink");
    let error = place
        .root
        .create_directories(p("a/x"), 0o755)
        .expect_err("circle");
    assert_eq!(error.source.raw_os_error(), Some(libc::ELOOP));
    assert!(
        place
            .root
            .make_mount_point(p("a"), MountPoint::File)
            .is_err()
    );
}

#[test]
fn metadata_is_set_as_asked() {
    let place = Place::new();
    let mut file = place.root.create_file(p("f"), 0o4755).expect("create");
    file.write_all(b"data").expect("write");
    let time = Timespec {
        tv_sec: 1_000_000_000,
        tv_nsec: 5,
    };
    place.root.set_modified(p("f"), time).expect("utimes");
    let found = place.root.stat(p("f")).expect("stat");
    assert_eq!(found.st_mode & 0o7777, 0o4755);
    assert_eq!((found.st_mtime, found.st_mtime_nsec), (1_000_000_000, 5));
    place.root.chmod(p("f"), 0o640).expect("chmod");
    assert_eq!(
        place.root.stat(p("f")).expect("stat").st_mode & 0o7777,
        0o640
    );
    place.root.symlink(p("f"), p("l")).expect("symlink");
    assert!(place.root.chmod(p("l"), 0o777).is_err());
    assert_eq!(place.root.read_link(p("l")).expect("readlink"), p("f"));
    let mut content = String::new();
    let mut through = place.root.open_file(p("l")).expect("open");
    through.read_to_string(&mut content).expect("read");
    assert_eq!(content, "data");
    place
        .root
        .create_special(p("pipe"), Special::Fifo, 0o622)
        .expect("mkfifo");
    let pipe = place.root.stat(p("pipe")).expect("stat");
    assert_eq!(FileType::from_raw_mode(pipe.st_mode), FileType::Fifo);
    assert_eq!(pipe.st_mode & 0o7777, 0o622);
}

#[test]
fn a_tree_is_removed_without_following_links() {
    let place = Place::new();
    place
        .root
        .create_directories(p("t/a/b"), 0o755)
        .expect("mkdir");
    symlink(place.outside.path(), place.real("t/a/out")).expect("symlink");
    place.root.remove(p("t")).expect("remove");
    assert!(!place.real("t").exists());
    place.root.remove(p("t")).expect("again");
    place.root.remove(p("t/deeper")).expect("no parent");
    place.outside_is_untouched();
}

#[test]
fn names_are_listed_in_order() {
    let place = Place::new();
    for name in ["b", "a", "c"] {
        place.root.create_file(p(name), 0o644).expect("create");
    }
    let directory = place.root.directory(p("/")).expect("open");
    assert_eq!(directory.names().expect("list"), ["a", "b", "c"]);
    assert_eq!(directory.names().expect("again").len(), 3);
}

#[test]
fn mount_points_follow_dangling_links() {
    let place = Place::new();
    place
        .root
        .create_directories(p("/etc"), 0o755)
        .expect("mkdir");
    let target = p("../run/systemd/resolve/stub-resolv.conf");
    place
        .root
        .symlink(target, p("/etc/resolv.conf"))
        .expect("symlink");
    place
        .root
        .make_mount_point(p("/etc/resolv.conf"), MountPoint::File)
        .expect("mount point");
    assert!(place.real("run/systemd/resolve/stub-resolv.conf").is_file());
    place
        .root
        .make_mount_point(p("/etc/resolv.conf"), MountPoint::File)
        .expect("exists");
    assert!(
        place
            .root
            .make_mount_point(p("/etc"), MountPoint::File)
            .is_err()
    );
    let error = place
        .root
        .make_mount_point(p("/etc/resolv.conf"), MountPoint::Directory);
    assert!(error.is_err());
}
