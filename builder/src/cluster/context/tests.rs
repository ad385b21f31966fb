use std::os::unix::fs::PermissionsExt;

use super::*;

/// `type mode uid:gid path [-> target]`, as the tar crate's reader sees them.
fn listing(archive: &[u8]) -> Vec<String> {
    let mut reader = tar::Archive::new(archive);
    reader
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            let kind = header.entry_type().as_byte() as char;
            let link = entry
                .link_name()
                .unwrap()
                .map(|link| format!(" -> {}", link.display()));
            format!(
                "{kind} {:o} {}:{} {}{}",
                header.mode().unwrap(),
                header.uid().unwrap(),
                header.gid().unwrap(),
                entry.path().unwrap().display(),
                link.unwrap_or_default()
            )
        })
        .collect()
}

fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("cmd/app")).unwrap();
    fs::write(root.join("Dockerfile"), "FROM scratch\n").unwrap();
    fs::write(root.join("cmd/app/main.go"), "package main\n").unwrap();
    fs::write(root.join("run.sh"), "#!/bin/sh\n").unwrap();
    for (path, mode) in [
        ("run.sh", 0o755),
        ("Dockerfile", 0o644),
        ("cmd/app/main.go", 0o600),
        ("cmd", 0o750),
        ("cmd/app", 0o755),
    ] {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::symlink("run.sh", root.join("start")).unwrap();
    folder
}

fn tree(root: &Path) -> BuildTree {
    let files = ["run.sh", "start", "cmd/app/main.go"].map(PathBuf::from);
    BuildTree::new(root, files, &root.join("Dockerfile"))
}

#[test]
fn the_archive_is_sorted_owned_by_root_and_keeps_modes() {
    let folder = project();
    let archive = write_archive(tree(folder.path()).files(), Vec::new()).unwrap();
    assert_eq!(
        listing(&archive),
        [
            "0 644 0:0 Dockerfile",
            "5 750 0:0 cmd/",
            "5 755 0:0 cmd/app/",
            "0 600 0:0 cmd/app/main.go",
            "0 755 0:0 run.sh",
            "2 777 0:0 start -> run.sh",
        ]
    );
}

#[test]
fn two_runs_over_the_same_files_give_the_same_bytes() {
    let folder = project();
    let make = || write_archive(tree(folder.path()).files(), Vec::new()).unwrap();
    assert_eq!(make(), make());
}

#[test]
fn long_names_arrive_whole() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let path = folder.path().join(&long);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "x").unwrap();
    let files = [TreeFile {
        path: long.clone(),
        source: path,
    }];
    let archive = write_archive(&files, Vec::new()).unwrap();
    assert!(listing(&archive).iter().any(|line| line.ends_with(&long)));
}

#[test]
fn a_file_that_is_gone_is_named() {
    let files = [TreeFile {
        path: "gone".into(),
        source: PathBuf::from("/nowhere/gone"),
    }];
    let error = write_archive(&files, Vec::new()).map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read /nowhere/gone for the build context"
    );
}

#[test]
fn a_pipe_that_nobody_reads_ends_the_stream() {
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    let mut pipe = Pipe {
        sender,
        buffer: Vec::new(),
        sent: Arc::default(),
    };
    let error = pipe.write_all(&vec![0; CHUNK]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn each_receiver_gets_the_command_that_it_understands() {
    let unpack = |receiver: Receiver| receiver.unpack().join(" ");
    assert_eq!(
        unpack(Receiver::Shell),
        "tar -zxf - -C /kaniko/buildcontext"
    );
    assert_eq!(
        unpack(Receiver::Init),
        "/kaniko/executor receive /kaniko/buildcontext"
    );
    assert_eq!(
        unpack(Receiver::Executor),
        "/kaniko/executor receive --follow /kaniko/buildcontext"
    );
    assert_eq!(
        Receiver::Shell.release().unwrap().join(" "),
        "touch /tmp/complete"
    );
    assert_eq!(Receiver::Executor.release(), None);
}
