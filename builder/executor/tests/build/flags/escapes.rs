//! Contexts that were fetched, with links that lead out of them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::hub::{Hub, Run};

/// What a context must not get hold of.
const PRIVATE: &str = "PRIVATE-KEY of the pod";

/// A directory beside the contexts, as a pod has them.
fn private(hub: &Hub) -> String {
    let files = [
        ("key", PRIVATE),
        (
            "Dockerfile",
            "FROM scratch\nCOPY file /file\nLABEL from=pod\n",
        ),
        ("file", "of the pod"),
    ];
    hub.context("private", &files).display().to_string()
}

/// A tar of a directory in which links are links.
fn archive(dir: &Path) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.follow_symlinks(false);
    tar.append_dir_all(".", dir).unwrap();
    tar.into_inner().unwrap()
}

fn build(hub: &Hub, context: &Path, flags: &[&str]) -> Run {
    fs::write(hub.path("context.tar"), archive(context)).unwrap();
    let (place, image, trust) = (
        format!("tar://{}", hub.text("context.tar")),
        hub.image("app:v1"),
        hub.trust(),
    );
    let args = [&["-c", &place, "-d", &image, &trust], flags].concat();
    hub.executor(&args, &[])
}

#[track_caller]
fn refused(run: Run, what: &str) {
    let run = run.fails("is a link to nothing in the context");
    assert!(run.log.contains(what), "{}", run.log);
    assert!(!run.log.contains(PRIVATE), "{}", run.log);
}

#[test]
fn a_dockerfile_of_a_fetched_context_does_not_lead_out_of_it() {
    let hub = Hub::start();
    let private = private(&hub);
    let context = hub.context("context", &[("file", "content")]);
    for target in [
        format!("{private}/key"),
        format!("{}{private}/key", "../".repeat(20)),
        "/nothing/there".to_owned(),
    ] {
        let _ = fs::remove_file(context.join("Dockerfile"));
        symlink(target, context.join("Dockerfile")).unwrap();
        refused(build(&hub, &context, &[]), "the Dockerfile Dockerfile");
    }
    symlink(&private, context.join("dir")).unwrap();
    refused(
        build(&hub, &context, &["-f", "dir/key"]),
        "the Dockerfile dir/key",
    );
    let args = [
        "-c",
        "tar://stdin",
        "-d",
        &hub.image("app:v1"),
        &hub.trust(),
    ];
    let program = env!("CARGO_BIN_EXE_executor");
    refused(
        hub.program(program, &args, &[], &archive(&context)),
        "the Dockerfile Dockerfile",
    );
}

#[test]
fn a_dockerignore_and_a_sub_path_of_a_fetched_context_do_not_lead_out_of_it() {
    let hub = Hub::start();
    let private = private(&hub);
    let files = [
        ("Dockerfile", "FROM scratch\nCOPY file /file\n"),
        ("file", "content"),
    ];
    for name in [".dockerignore", "Dockerfile.dockerignore"] {
        let context = hub.context(&format!("with-{name}"), &files);
        symlink(format!("{private}/key"), context.join(name)).unwrap();
        refused(
            build(&hub, &context, &[]),
            &format!("the ignore file {name}"),
        );
    }
    let context = hub.context("context", &files);
    symlink(&private, context.join("sub")).unwrap();
    let run = build(&hub, &context, &["--context-sub-path=sub"]);
    refused(run, "the context sub");
    assert!(!hub.exists("app:v1"));
}

#[test]
fn links_within_a_fetched_context_are_followed() {
    let hub = Hub::start();
    let files = [
        ("docker/Dockerfile", "FROM scratch\nCOPY file /file\n"),
        ("real/file", "content"),
    ];
    let context = hub.context("context", &files);
    symlink("docker/Dockerfile", context.join("Dockerfile")).unwrap();
    symlink("../docker/Dockerfile", context.join("real/Dockerfile")).unwrap();
    symlink("/real", context.join("sub")).unwrap();
    for flags in [
        &["--context-sub-path=sub"][..],
        &["--context-sub-path=/real/"],
    ] {
        build(&hub, &context, flags).good();
        assert_eq!(
            hub.files("app:v1"),
            [("file".to_owned(), "content".to_owned())]
        );
    }
    build(&hub, &context, &[]).fails("Dockerfile:2: ");
}

#[test]
fn a_local_directory_may_have_its_dockerfile_anywhere() {
    let hub = Hub::start();
    let private = private(&hub);
    let context = hub.context("context", &[("file", "content")]);
    symlink(format!("{private}/Dockerfile"), context.join("Dockerfile")).unwrap();
    hub.build(&context, "app:v1", &[]).good();
    assert_eq!(hub.config("app:v1")["config"]["Labels"]["from"], "pod");
}
