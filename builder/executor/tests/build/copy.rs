//! COPY and ADD: which files arrive, where, and whose they are; and the images as files.

use std::fs;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::world::World;

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn files_directories_patterns_and_their_owners() {
    let Some(world) = World::new() else { return };
    let context = world.context("copy");
    for name in [
        "a.txt",
        "b.txt",
        "c.md",
        "dir/one",
        "dir/sub/two",
        "deep/x/y/z.go",
        "skip/no",
        "skip/yes",
    ] {
        write(&context.join(name), &format!("{name}\n"));
    }
    fs::set_permissions(context.join("dir/sub"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(context.join("a.txt"), Some(4321), Some(4321)).unwrap();
    std::os::unix::fs::symlink("one", context.join("dir/link")).unwrap();
    write(
        &context.join(".dockerignore"),
        "skip\n!skip/yes\nDockerfile\n",
    );
    world.dockerfile(
        &context,
        "FROM BASE\nRUN echo app:x:500:501::/:/bin/sh >> /etc/passwd && mkdir -p /real && ln -s /real /linked && mkdir -m 0711 /kept\n\
         COPY a.txt /as-file\nCOPY a.txt /into/\nCOPY *.txt /globbed/\nCOPY dir /tree\nCOPY --chown=app --chmod=640 c.md /owned/c\n\
         COPY a.txt /linked/\nCOPY dir/one /kept/\nCOPY . /all\nCOPY --exclude=*.txt --exclude=dir . /some/\n\
         COPY --parents deep/./x/y/z.go /parents/\nCOPY --chmod=u=rwX,go=rX dir/sub /symbolic\n\
         COPY <<one <<\"two\" /here/\nhello $HOSTNAME${HOME:+}\none\n$literal\ntwo\n",
    );
    world.build(&context, "copy:1", &[]);
    let tree = world.tree("copy:1");
    assert_eq!(tree["as-file"].text(), "a.txt\n");
    assert_eq!(
        tree["as-file"].owner,
        (0, 0),
        "files of a context belong to root"
    );
    assert!(tree.contains_key("into/a.txt"));
    let globbed: Vec<_> = tree
        .keys()
        .filter(|path| path.starts_with("globbed/"))
        .collect();
    assert_eq!(globbed, ["globbed/a.txt", "globbed/b.txt"]);
    assert_eq!(tree["tree/sub"].mode, 0o700);
    assert_eq!(
        (tree["tree/link"].kind, tree["tree/link"].link.as_str()),
        ('l', "one")
    );
    assert_eq!(
        (tree["owned/c"].mode, tree["owned/c"].owner),
        (0o640, (500, 501))
    );
    assert_eq!(
        tree["owned"].owner,
        (500, 501),
        "missing parents belong to the new owner"
    );
    assert!(tree.contains_key("real/a.txt") && tree["linked"].kind == 'l');
    assert_eq!(
        tree["kept"].mode, 0o711,
        "an existing directory stays as it is"
    );
    let all: Vec<_> = tree
        .keys()
        .filter(|path| path.starts_with("all/skip"))
        .collect();
    assert_eq!(all, ["all/skip", "all/skip/yes"]);
    assert!(!tree.contains_key("all/Dockerfile"));
    let some: Vec<_> = tree
        .keys()
        .filter(|path| path.starts_with("some/"))
        .collect();
    assert!(
        !some
            .iter()
            .any(|path| path.ends_with("a.txt") || path.contains("dir")),
        "{some:?}"
    );
    assert!(tree.contains_key("some/c.md"));
    assert!(tree.contains_key("parents/x/y/z.go"));
    assert_eq!(
        (tree["symbolic"].mode, tree["symbolic/two"].mode),
        (0o755, 0o644)
    );
    assert_eq!(tree["here/one"].text(), "hello \n");
    assert_eq!(tree["here/two"].text(), "$literal\n");
}

#[test]
fn copies_on_a_base_that_is_not_unpacked() {
    let Some(world) = World::new() else { return };
    let context = world.context("headers");
    write(&context.join("f"), "f\n");
    world.dockerfile(&context, "FROM BASE\nCOPY f /var/run/f\nCOPY --chown=root:root f /tmp/f\nWORKDIR /var/log/deep/er\nENV X=1\n");
    fs::remove_dir_all(world.store()).unwrap();
    world.build(&context, "headers:1", &[]);
    let unpacked = fs::read_dir(world.store().join("layers")).unwrap().count();
    assert_eq!(unpacked, 0, "only headers are read");
    let tree = world.tree("headers:1");
    assert_eq!(
        tree["run/f"].text(),
        "f\n",
        "/var/run is a link to /run in the base"
    );
    assert_eq!(tree["var/run"].kind, 'l');
    assert_eq!(tree["tmp"].mode, 0o1777, "a parent keeps the base's mode");
    assert_eq!(tree["var/log/deep/er"].mode, 0o755);
}

#[test]
fn add_unpacks_archives_and_copy_does_not() {
    let Some(world) = World::new() else { return };
    let context = world.context("add");
    write(&context.join("in/etc/x"), "x\n");
    let packed = Command::new("tar")
        .args(["-C"])
        .arg(&context)
        .args(["-czf"])
        .arg(context.join("a.tgz"))
        .arg("in")
        .status();
    assert!(packed.unwrap().success());
    world.dockerfile(
        &context,
        "FROM scratch\nADD a.tgz /unpacked/\nCOPY a.tgz /packed/\nADD in/etc/x /plain\n",
    );
    world.build(&context, "add:1", &[]);
    let tree = world.tree("add:1");
    assert_eq!(tree["unpacked/in/etc/x"].text(), "x\n");
    assert!(tree.contains_key("packed/a.tgz") && !tree.contains_key("unpacked/a.tgz"));
    assert_eq!(tree["plain"].text(), "x\n");
}

/// A file system that is full while the image is written there.
#[test]
fn an_archive_that_cannot_be_written_leaves_the_one_before() {
    let Some(world) = World::new() else { return };
    let context = world.context("too-large");
    let noise: Vec<u8> = (0..300_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    fs::write(context.join("f"), noise).unwrap();
    world.dockerfile(&context, "FROM scratch\nCOPY f /\n");
    for (flag, place) in [("--tar-path", "x.tar"), ("--oci-layout-path", "x")] {
        let script = format!(
            "mount -t tmpfs -o size=200k tmpfs /mnt\nmkdir -p /mnt/x/blobs/sha256\n\
             echo before > /mnt/x.tar\n\
             if {} -c {} --no-push --store-dir {} {flag}=/mnt/{place}; then exit 1; fi\n\
             cat /mnt/x.tar; ls -A /mnt; ls -A /mnt/x/blobs/sha256",
            env!("CARGO_BIN_EXE_executor"),
            context.display(),
            world.store().display(),
        );
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-ec", &script])
            .env("KANIKO_DIR", world.store().join("kaniko"))
            .output()
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.contains("No space left on device"), "{log}");
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "before\nx\nx.tar\n",
            "{flag}: {log}"
        );
    }
}

/// kaniko resolves `dir://.` before it leaves the working directory.
#[test]
fn a_relative_context_is_one_of_the_working_directory() {
    let Some(world) = World::new() else { return };
    let context = world.context("relative");
    write(&context.join("sub/f"), "f\n");
    for (place, from) in [
        (".", "sub/f"),
        ("dir://.", "sub/f"),
        ("dir://./", "sub/f"),
        ("dir://./sub", "f"),
        ("dir://sub", "f"),
    ] {
        world.dockerfile(&context, &format!("FROM scratch\nCOPY {from} /\n"));
        let output = Command::new(env!("CARGO_BIN_EXE_executor"))
            .current_dir(&context)
            .env_clear()
            .args(["--no-push", "-f", "Dockerfile", "-c", place, "--store-dir"])
            .arg(world.store())
            .output()
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{place}: {log}");
    }
}

/// As in BuildKit and kaniko, with BuildKit's remark.
#[test]
fn an_image_is_said_to_be_for_the_platform_that_was_asked_for() {
    let Some(world) = World::new() else { return };
    let (base, context) = (world.context("platform-base"), world.context("platform"));
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let other = if own == "arm64" { "amd64" } else { "arm64" };
    write(&base.join("f"), "f\n");
    world.dockerfile(&base, "FROM scratch\nCOPY f /\n");
    world.build(&base, "platform-base:1", &[]);
    let from = world.image("platform-base:1");
    world.dockerfile(&context, &format!("FROM {from}\nENV A=1\n"));
    let log = world.build(&context, "platform:own", &[]);
    assert!(!log.contains("InvalidBaseImagePlatform"), "{log}");
    assert_eq!(world.config("platform:own")["architecture"], own);
    let flag = format!("--custom-platform=linux/{other}");
    let log = world.build(&context, "platform:other", &[&flag]);
    let remark = format!("InvalidBaseImagePlatform: {from} is for linux/{own}, and linux/{other}");
    assert!(log.contains(&remark), "{log}");
    assert_eq!(world.config("platform:other")["architecture"], other);
    world.dockerfile(
        &context,
        &format!("# check=skip=InvalidBaseImagePlatform\nFROM {from}\nENV A=1\n"),
    );
    let log = world.build(&context, "platform:other", &[&flag]);
    assert!(!log.contains("InvalidBaseImagePlatform"), "{log}");
}

/// `lost+found` of a volume, or the files of a database beside the source.
#[test]
fn what_is_excluded_does_not_have_to_be_readable() {
    use std::os::unix::process::CommandExt;
    const USER: u32 = 12345;
    let Some(world) = World::new() else { return };
    let (context, store) = (world.context("closed"), world.context("closed-store"));
    let open =
        |dir: &Path, mode| fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
    open(context.parent().unwrap(), 0o755);
    write(&context.join("pgdata/x"), "x\n");
    write(&context.join("f"), "f\n");
    open(&context.join("pgdata"), 0o700);
    std::os::unix::fs::chown(&store, Some(USER), Some(USER)).unwrap();
    world.dockerfile(&context, "FROM scratch\nCOPY . /c/\n");
    let build = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_executor"));
        command.env_clear().uid(USER).gid(USER);
        command.arg("--no-push").arg("-c").arg(&context);
        let output = command.arg("--store-dir").arg(&store).output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (built, log) = build();
    assert!(
        !built && log.contains("/closed/pgdata: Permission denied"),
        "{log}"
    );
    write(&context.join(".dockerignore"), "pgdata\n");
    let (built, log) = build();
    assert!(built, "{log}");
}

/// As BuildKit does, and gzip(1): a tape's or a download's padding is no part of the archive.
#[test]
fn what_follows_the_end_of_a_packed_archive_is_ignored() {
    let Some(world) = World::new() else { return };
    let context = world.context("padded");
    write(&context.join("in/x"), "x\n");
    let packed = Command::new("tar")
        .current_dir(&context)
        .args(["-czf", "a.tgz", "in"])
        .status();
    assert!(packed.unwrap().success());
    let mut bytes = fs::read(context.join("a.tgz")).unwrap();
    bytes.extend([0; 700]);
    fs::write(context.join("zeros.tgz"), &bytes).unwrap();
    bytes.extend(b"garbage");
    fs::write(context.join("garbage.tgz"), &bytes).unwrap();
    world.dockerfile(
        &context,
        "FROM scratch\nADD zeros.tgz /zeros/\nADD garbage.tgz /garbage/\n",
    );
    world.build(&context, "padded:1", &[]);
    let tree = world.tree("padded:1");
    assert_eq!(tree["zeros/in/x"].text(), "x\n");
    assert_eq!(tree["garbage/in/x"].text(), "x\n");
}

#[test]
fn add_of_a_pattern_unpacks_the_archives_among_its_matches() {
    let Some(world) = World::new() else { return };
    let context = world.context("pattern");
    write(&context.join("in/x"), "x\n");
    write(&context.join("p[1]"), "plain\n");
    for name in ["p.tar", "p.tgz"] {
        let packed = Command::new("tar")
            .current_dir(&context)
            .args([if name == "p.tar" { "-cf" } else { "-czf" }, name, "in"])
            .status();
        assert!(packed.unwrap().success());
    }
    write(&context.join(".dockerignore"), "*.tgz\n");
    world.dockerfile(&context, "FROM scratch\nADD p* /d/\n");
    world.build(&context, "pattern:1", &[]);
    let tree = world.tree("pattern:1");
    let names: Vec<&str> = tree.keys().map(String::as_str).collect();
    assert_eq!(names, ["d", "d/in", "d/in/x", "d/p[1]"]);
}

/// As BuildKit: an archive is what can be read as one.
#[test]
fn what_only_begins_like_an_archive_is_copied_as_it_is() {
    let Some(world) = World::new() else { return };
    let context = world.context("compressed");
    // The first bytes of what `xz` and `bzip2` write.
    let (xz, bzip2) = (b"\xfd7zXZ\0\0\x04", b"BZh91AY&SY");
    fs::write(context.join("a.tar.xz"), xz).unwrap();
    fs::write(context.join("a.tbz"), bzip2).unwrap();
    world.dockerfile(&context, "FROM scratch\nADD a.tar.xz a.tbz /\n");
    world.build(&context, "compressed:1", &[]);
    let tree = world.tree("compressed:1");
    assert_eq!(tree["a.tar.xz"].content, xz);
    assert_eq!(tree["a.tbz"].content, bzip2);
}

#[test]
fn owners_of_another_stage_are_kept() {
    let Some(world) = World::new() else { return };
    let context = world.context("stage");
    world.dockerfile(
        &context,
        "FROM BASE AS one\nRUN mkdir /d && echo x > /d/x && chown 7:8 /d/x && ln -s x /d/l\nFROM scratch\nCOPY --from=one /d /d\nCOPY --from=0 /d/l /followed\n",
    );
    world.build(&context, "stage:1", &[]);
    let tree = world.tree("stage:1");
    assert_eq!(tree["d/x"].owner, (7, 8));
    assert_eq!((tree["d/l"].kind, tree["followed"].kind), ('l', 'f'));
    assert_eq!(tree["followed"].text(), "x\n");
}

#[test]
fn an_image_as_a_layout_and_as_an_archive() {
    let Some(world) = World::new() else { return };
    let context = world.context("files");
    write(&context.join("f"), "f\n");
    world.dockerfile(&context, "FROM BASE\nCOPY f /f\n");
    let (layout, tar) = (context.join("out"), context.join("out.tar"));
    let (layout_flag, tar_flag) = (
        format!("--oci-layout-path={}", layout.display()),
        format!("--tar-path={}", tar.display()),
    );
    let store = world.store().display().to_string();
    let output = world.executor(&[
        "-c",
        context.to_str().unwrap(),
        "--store-dir",
        &store,
        "--no-push",
        &layout_flag,
        &tar_flag,
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let pushed = world.image("files:tar");
    world.crane_push(&tar, &pushed);
    assert_eq!(world.tree("files:tar")["f"].text(), "f\n");
    world.crane_push(&layout, &world.image("files:layout"));
    assert_eq!(world.tree("files:layout")["f"].text(), "f\n");
}

/// Bazel and ko write layers without entries for directories; `/tmp` is the base's, mode 1777.
#[test]
fn a_layer_that_does_not_name_its_directories_leaves_them_as_they_are() {
    let Some(world) = World::new() else { return };
    let context = world.context("unnamed");
    write(&context.join("f"), "f\n");
    write(&context.join("tmp/new/x"), "x\n");
    let packed = Command::new("tar")
        .current_dir(&context)
        .args(["-czf", "layer.tgz", "tmp/new/x"])
        .status();
    assert!(packed.unwrap().success());
    world.crane_append("base:1", &context.join("layer.tgz"), "unnamed:1");
    let image = world.image("unnamed:1");
    // First the headers of the layers alone, then their files.
    world.dockerfile(&context, &format!("FROM {image}\nCOPY f /tmp/f\n"));
    world.build(&context, "unnamed:2", &[]);
    let layer = world.layer("unnamed:2", -1);
    assert_eq!((layer["tmp"].mode, layer["tmp/f"].text()), (0o1777, "f\n"));
    for tag in ["unnamed:3", "unnamed:4"] {
        world.dockerfile(
            &context,
            &format!("FROM {image}\nRUN stat -c '%a %n' /tmp /tmp/new /tmp/new/x > /tmp/seen\nRUN touch /{tag}\n"),
        );
        world.build(&context, tag, &[]);
        let tree = world.tree(tag);
        assert_eq!(
            tree["tmp/seen"].text(),
            "1777 /tmp\n755 /tmp/new\n644 /tmp/new/x\n"
        );
        assert_eq!(tree["tmp"].mode, 0o1777);
        assert_eq!(
            world.layer(tag, -2).keys().collect::<Vec<_>>(),
            ["tmp", "tmp/seen"]
        );
    }
    assert_eq!(
        world.manifest("unnamed:3")["layers"]
            .as_array()
            .unwrap()
            .len(),
        world.manifest("unnamed:1")["layers"]
            .as_array()
            .unwrap()
            .len()
            + 2,
        "the correction is no layer"
    );
}
