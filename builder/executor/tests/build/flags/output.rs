//! What becomes of the image: names, files, formats.

use std::fs;

use serde_json::{Value, json};

use super::hub::Hub;
use super::web::{Web, reply};

#[test]
fn every_destination_gets_the_image_and_files_say_its_digest() {
    let hub = Hub::start();
    let second = format!("--destination={}", hub.image("team/other"));
    let file = |flag: &str, name: &str| format!("--{flag}={}", hub.text(name));
    let files = [
        file("digest-file", "out/digest"),
        file("image-name-with-digest-file", "names"),
        file("image-name-tag-with-digest-file", "tags"),
    ];
    let mut flags = vec![second.as_str()];
    flags.extend(files.iter().map(String::as_str));
    let output = hub.text("builder");
    hub.build_with(
        &hub.simple(),
        "app:v1",
        &flags,
        &[("BUILDER_OUTPUT", &output)],
    )
    .good();
    let digest = hub.digest("app:v1");
    assert_eq!(hub.digest("team/other:latest"), digest);
    let read = |name: &str| fs::read_to_string(hub.path(name)).unwrap();
    assert_eq!(read("out/digest"), digest);
    let (app, other) = (hub.image("app"), hub.image("team/other"));
    assert_eq!(read("names"), format!("{app}@{digest}\n{other}@{digest}\n"));
    assert_eq!(
        read("tags"),
        format!("{app}:v1@{digest}\n{other}:latest@{digest}\n")
    );
    let lines: Vec<Value> = read("builder/images")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines,
        [
            json!({"name": format!("{app}:v1"), "digest": digest}),
            json!({"name": format!("{other}:latest"), "digest": digest}),
        ]
    );
}

#[test]
fn a_digest_file_may_be_an_address() {
    let hub = Hub::start();
    let web = Web::start(|_| reply(200, ""));
    let flag = format!("--digest-file={}", web.url("/digests/app?key=1"));
    hub.build(&hub.simple(), "app:v1", &[&flag]).good();
    let seen = web.seen();
    assert_eq!(
        (seen[0].method.as_str(), seen[0].target.as_str()),
        ("PUT", "/digests/app?key=1")
    );
    assert_eq!(
        String::from_utf8(seen[0].body.clone()).unwrap(),
        hub.digest("app:v1")
    );
    let web = Web::start(|_| reply(403, "no"));
    let flag = format!("--digest-file={}", web.url("/"));
    hub.build(&hub.simple(), "app:v2", &[&flag])
        .fails("cannot send the digest");
}

#[test]
fn labels_annotations_and_the_platform_stand_in_the_image() {
    let hub = Hub::start();
    let flags = [
        "--label=a=b=c",
        "--label",
        "com.example=x y",
        "--annotation=org.opencontainers.image.source=https://example.com",
        "--custom-platform=linux/arm/v7",
        "--image-format=oci",
    ];
    hub.build(&hub.simple(), "app:v1", &flags).good();
    let config = hub.config("app:v1");
    assert_eq!(
        config["config"]["Labels"],
        json!({"a": "b=c", "com.example": "x y"})
    );
    assert_eq!(
        (&config["architecture"], &config["variant"]),
        (&json!("arm"), &json!("v7"))
    );
    let manifest = hub.manifest("app:v1");
    assert_eq!(
        manifest["annotations"],
        json!({"org.opencontainers.image.source": "https://example.com"})
    );
    assert_eq!(
        manifest["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(
        manifest["layers"][0]["mediaType"],
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
    hub.build(&hub.simple(), "app:v2", &["--customPlatform=linux/s390x"])
        .good();
    assert_eq!(hub.config("app:v2")["architecture"], "s390x");
    let manifest = hub.manifest("app:v2");
    assert_eq!(
        manifest["mediaType"],
        "application/vnd.docker.distribution.manifest.v2+json"
    );
}

#[test]
fn compression_and_its_level_decide_the_bytes() {
    let hub = Hub::start();
    let text: String = (0..200_000)
        .map(|number| format!("{} ", number * 7919 % 10007))
        .collect();
    let context = hub.context(
        "large",
        &[
            ("Dockerfile", "FROM scratch\nCOPY file /\n"),
            ("file", &text),
        ],
    );
    let layer = |tag: &str, flags: &[&str]| {
        hub.build(&context, tag, flags).good();
        let manifest = hub.manifest(tag);
        let layer = manifest["layers"][0].clone();
        (layer["mediaType"].clone(), hub.blob(tag, &layer))
    };
    let (_, fast) = layer("app:fast", &["--compression-level=1"]);
    let (_, small) = layer("app:small", &["--compression-level=9"]);
    assert!(small.len() < fast.len(), "{} {}", small.len(), fast.len());
    let (media_type, zstd) = layer("app:zstd", &["--compression=zstd"]);
    assert_eq!(media_type, "application/vnd.oci.image.layer.v1.tar+zstd");
    assert_eq!(zstd[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    hub.build(
        &context,
        "app:x",
        &["--compression=zstd", "--image-format=docker"],
    )
    .fails("--image-format=oci");
}

#[test]
fn what_is_reproducible_has_no_time_in_it() {
    let hub = Hub::start();
    let first = hub.context(
        "one",
        &[("Dockerfile", "FROM scratch\nCOPY file /\n"), ("file", "x")],
    );
    let second = hub.context(
        "two",
        &[("Dockerfile", "FROM scratch\nCOPY file /\n"), ("file", "x")],
    );
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::open(second.join("file"))
        .unwrap()
        .set_modified(past)
        .unwrap();
    hub.build(&first, "app:one", &["--reproducible"]).good();
    let store = format!("--store-dir={}", hub.text("another-store"));
    hub.build(&second, "app:two", &["--reproducible", &store])
        .good();
    assert_eq!(hub.digest("app:one"), hub.digest("app:two"));
    assert_eq!(hub.config("app:one")["created"], "1970-01-01T00:00:00Z");
}

#[test]
fn without_a_push_the_registry_stays_empty() {
    let hub = Hub::start();
    hub.build(&hub.simple(), "app:v1", &["--no-push"]).good();
    hub.build_with(&hub.simple(), "app:v1", &[], &[("KANIKO_NO_PUSH", "true")])
        .good();
    assert!(!hub.exists("app:v1"));
    let context = hub.simple().display().to_string();
    hub.executor(&["-c", &context, "--no-push"], &[]).good();
    hub.executor(&["-c", &context], &[]).fails("no destination");
}

#[test]
fn the_image_becomes_an_archive_and_a_layout() {
    let hub = Hub::start();
    let flags = [
        format!("--tarPath={}", hub.text("image.tar")),
        format!("--oci-layout-path={}", hub.text("layout")),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    hub.build(&hub.simple(), "app:v1", &flags).good();
    let archive = fs::read(hub.path("image.tar")).unwrap();
    let mut archive = tar::Archive::new(&archive[..]);
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert!(names.contains(&"manifest.json".to_owned()), "{names:?}");
    let index: Value =
        serde_json::from_slice(&fs::read(hub.path("layout/index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], hub.digest("app:v1"));
    assert_eq!(
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"],
        "v1"
    );
}

#[test]
fn stage_arguments_and_ignored_paths() {
    let hub = Hub::start();
    let dockerfile = "FROM scratch AS one\nARG WHO\nARG FROM_ENV\nLABEL who=$WHO env=$FROM_ENV\nCOPY a /a\nCOPY b /b\n\
        FROM scratch AS two\nCOPY b /two\n";
    let context = hub.context(
        "stages",
        &[("Dockerfile", dockerfile), ("a", "a"), ("b", "b")],
    );
    let flags = ["--target=ONE", "--build-arg=WHO=me", "--build-arg=FROM_ENV"];
    hub.build_with(&context, "app:one", &flags, &[("FROM_ENV", "seen")])
        .good();
    let config = hub.config("app:one");
    assert_eq!(
        config["config"]["Labels"],
        json!({"who": "me", "env": "seen"})
    );
    assert_eq!(
        hub.manifest("app:one")["layers"].as_array().unwrap().len(),
        2
    );
    hub.build(
        &context,
        "app:single",
        &[
            "--target=one",
            "--single-snapshot",
            "--build-arg=WHO=x",
            "--build-arg=FROM_ENV=y",
        ],
    )
    .good();
    assert_eq!(
        hub.manifest("app:single")["layers"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    hub.build(&context, "app:two", &[]).good();
    assert_eq!(hub.files("app:two"), [("two".to_owned(), "b".to_owned())]);
}

#[test]
fn the_log_has_the_form_and_level_that_is_asked_for() {
    let hub = Hub::start();
    let context = hub.simple();
    let log = hub
        .build(
            &context,
            "app:v1",
            &["--verbosity=debug", "--cleanup", "--force", "--use-new-run"],
        )
        .good()
        .log;
    for flag in ["--cleanup", "--force", "--use-new-run"] {
        assert!(log.contains(&format!("{flag} has no effect here")), "{log}");
    }
    let log = hub
        .build_with(
            &context,
            "app:v1",
            &["-v=debug"],
            &[("FF_KANIKO_X", "1"), ("KANIKO_CLEANUP", "1")],
        )
        .good()
        .log;
    assert!(
        log.contains("FF_KANIKO_X has no effect") && log.contains("KANIKO_CLEANUP has no effect"),
        "{log}"
    );
    let log = hub
        .build(&context, "app:v1", &["--log-format=json"])
        .good()
        .log;
    for line in log.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        // logrus' fields.
        assert_eq!(object["level"], "info", "{line}");
        assert!(!object["msg"].as_str().unwrap().is_empty(), "{line}");
        let time: Result<jiff::Timestamp, _> = object["time"].as_str().unwrap().parse();
        assert!(time.is_ok(), "{line}");
    }
    let quiet = hub
        .build(&context, "app:v1", &["--verbosity=error"])
        .good()
        .log;
    assert_eq!(quiet, "");
    let timed = hub
        .build(&context, "app:v1", &["--log-timestamp"])
        .good()
        .log;
    let year = timed.lines().next().unwrap().get(..2).unwrap().to_owned();
    assert_eq!(year, "20", "{timed}");
    let colored = hub
        .build(&context, "app:v1", &["--log-format=color"])
        .good()
        .log;
    assert!(colored.contains("\u{1b}["), "{colored}");
}

#[test]
fn a_dry_run_prints_the_plan_and_does_nothing() {
    let hub = Hub::start();
    let run = hub.build(&hub.simple(), "app:v1", &["--dryrun"]).good();
    assert!(
        run.output.contains("from context to /file"),
        "{}",
        run.output
    );
    assert!(!hub.exists("app:v1"));
}

#[test]
fn the_executors_own_directory_moves() {
    let hub = Hub::start();
    hub.build(&hub.simple(), "app:v1", &[]).good();
    assert!(hub.path("kaniko/store/blobs").is_dir());
    let flag = format!("--kaniko-dir={}", hub.text("elsewhere"));
    hub.build(&hub.simple(), "app:v1", &[&flag]).good();
    assert!(hub.path("elsewhere/store/blobs").is_dir());
}
