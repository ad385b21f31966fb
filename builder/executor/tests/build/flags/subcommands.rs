//! `login`, `push`, `version`.

use std::fs;

use super::hub::{Hub, PASSWORD, USER};

#[test]
fn who_has_logged_in_may_push() {
    let hub = Hub::start();
    fs::remove_file(hub.path("docker/config.json")).unwrap();
    hub.build(&hub.simple(), "app:v1", &["--credential-helpers="])
        .fails("may not push");
    let args = ["login", &hub.host, "--username", USER, "--password-stdin"];
    hub.program(
        env!("CARGO_BIN_EXE_executor"),
        &args,
        &[],
        PASSWORD.as_bytes(),
    )
    .good();
    hub.build(&hub.simple(), "app:v1", &["--credential-helpers="])
        .good();
    assert!(hub.exists("app:v1"));
}

#[test]
fn help_is_no_error_wherever_it_stands() {
    let hub = Hub::start();
    for args in [
        &["--help"][..],
        &["-c", ".", "-h"],
        &["-d", "x", "--help", "--nonsense"],
        &["help"],
        &["push", "--help"],
        &["login", "-h"],
        &["receive", "--help"],
    ] {
        let run = hub.executor(args, &[]).good();
        assert!(run.output.contains("usage: executor"), "{}", run.output);
    }
    let warmer = env!("CARGO_BIN_EXE_warmer");
    let run = hub.program(warmer, &["-f", "--help"], &[], b"").good();
    assert!(run.output.contains("usage: warmer"), "{}", run.output);
}

#[test]
fn flags_are_written_as_kaniko_reads_them() {
    let hub = Hub::start();
    let (context, trust) = (hub.simple().display().to_string(), hub.trust());
    let destination = format!("-d{}", hub.image("app:v1"));
    let layout = format!("--oci-layout-path={}", hub.text("layout"));
    let run = hub.executor(
        &[
            "-c",
            &context,
            &destination,
            "-vdebug",
            "--cleanup",
            &trust,
            &layout,
            "--",
        ],
        &[],
    );
    assert!(run.good().log.contains("--cleanup has no effect here"));
    assert!(hub.exists("app:v1"));
    let destination = format!("-d{}", hub.image("app:v2"));
    let layout = hub.text("layout");
    hub.executor(&["push", &destination, &trust, "--", &layout], &[])
        .good();
    assert!(hub.exists("app:v2"));
}

#[test]
fn what_an_earlier_build_wrote_is_pushed() {
    let hub = Hub::start();
    let context = hub.simple();
    let flags = [
        format!("--tar-path={}", hub.text("image.tar")),
        format!("--oci-layout-path={}", hub.text("layout")),
        "--no-push".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    hub.build(&context, "app:v1", &flags).good();
    let (one, two, trust) = (hub.image("app:layout"), hub.image("other"), hub.trust());
    let digest_file = format!("--digest-file={}", hub.text("digest"));
    hub.executor(
        &[
            "push",
            &hub.text("layout"),
            "-d",
            &one,
            "-d",
            &two,
            &trust,
            &digest_file,
        ],
        &[],
    )
    .good();
    let digest = hub.digest("app:layout");
    assert_eq!(hub.digest("other:latest"), digest);
    assert_eq!(fs::read_to_string(hub.path("digest")).unwrap(), digest);
    let three = hub.image("app:archive");
    hub.executor(&["push", "-d", &three, &trust, &hub.text("image.tar")], &[])
        .good();
    assert_eq!(hub.files("app:archive"), hub.files("app:layout"));
    hub.executor(&["push", &hub.text("simple"), "-d", &three, &trust], &[])
        .fails("neither an OCI layout");
    hub.executor(&["push", &hub.text("layout"), &trust], &[])
        .fails("no destination");
    hub.executor(&["push"], &[]).fails("usage: executor push");
}

#[test]
fn layers_that_are_not_compressed_are_compressed_for_the_push() {
    let hub = Hub::start();
    // As `docker save` wrote it up to version 24.
    let entry = |bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    };
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = entry(b"content");
    layer
        .append_data(&mut header, "file", &b"content"[..])
        .unwrap();
    let layer = layer.into_inner().unwrap();
    let diff_id = kiln_registry::Digest::sha256(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let manifest = r#"[{"Config":"abc.json","RepoTags":["x:latest"],"Layers":["def/layer.tar"]}]"#;
    let mut archive = tar::Builder::new(fs::File::create(hub.path("saved.tar")).unwrap());
    for (name, bytes) in [
        ("abc.json", config.as_bytes()),
        ("def/layer.tar", &layer),
        ("manifest.json", manifest.as_bytes()),
    ] {
        let mut header = entry(bytes);
        archive.append_data(&mut header, name, bytes).unwrap();
    }
    archive.finish().unwrap();
    let (image, trust) = (hub.image("saved:v1"), hub.trust());
    hub.executor(&["push", &hub.text("saved.tar"), "-d", &image, &trust], &[])
        .good();
    assert_eq!(
        hub.files("saved:v1"),
        [("file".to_owned(), "content".to_owned())]
    );
    assert_eq!(
        hub.config("saved:v1")["rootfs"]["diff_ids"][0],
        diff_id.to_string()
    );
}

#[test]
fn the_version_is_printed_and_wrong_flags_end_with_one() {
    let hub = Hub::start();
    let run = hub.executor(&["version"], &[]).good();
    assert_eq!(run.output, format!("{}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        hub.executor(&["--destnation=x"], &[])
            .fails("--destination")
            .code,
        1
    );
}
