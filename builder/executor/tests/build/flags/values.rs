//! Values of flags and variables: what they may be, and what is said of others.

use std::fs;

use super::hub::{Hub, Run};

/// Builds without any destination.
fn quiet(hub: &Hub, flags: &[&str], env: &[(&str, &str)]) -> Run {
    let context = hub.simple().display().to_string();
    hub.executor(&[&["-c", &context], flags].concat(), env)
}

#[test]
fn variables_are_on_and_off_as_in_go() {
    let hub = Hub::start();
    let context = hub.simple();
    for on in ["1", "t", "T", "true", "TRUE", "True"] {
        let env = [("KANIKO_NO_PUSH", on)];
        hub.build_with(&context, "app:v1", &[], &env).good();
    }
    assert!(!hub.exists("app:v1"));
    for wrong in ["yes", "on", "tRUE", "2"] {
        for name in ["KANIKO_NO_PUSH", "KANIKO_CLEANUP", "FF_KANIKO_X"] {
            hub.build_with(&context, "app:v1", &[], &[(name, wrong)])
                .fails(&format!(
                    "the variable {name}={wrong}: expected true or false"
                ));
        }
    }
    assert!(!hub.exists("app:v1"));
    for off in ["0", "f", "F", "false", "FALSE", "False", ""] {
        quiet(&hub, &[], &[("KANIKO_NO_PUSH", off)]).fails("no destination");
    }
    let env = [("KANIKO_NO_PUSH", "true"), ("KANIKO_CLEANUP", "false")];
    let flags = ["--no-push=false", "-v=debug"];
    let log = hub.build_with(&context, "app:v1", &flags, &env).good().log;
    assert!(hub.exists("app:v1"), "the flag comes before the variable");
    assert!(!log.contains("KANIKO_CLEANUP"), "{log}");
}

#[test]
fn a_digest_is_no_destination() {
    let hub = Hub::start();
    let digest = format!("sha256:{}", "a".repeat(64));
    for name in ["app@", "app:v1@"] {
        hub.build(&hub.simple(), &format!("{name}{digest}"), &[])
            .fails("a digest cannot be pushed to");
    }
}

#[test]
fn files_of_names_need_a_destination() {
    let hub = Hub::start();
    for flag in [
        "--image-name-with-digest-file=names",
        "--image-name-tag-with-digest-file=tags",
        "--image-name-with-digest-file=http://127.0.0.1:1/",
    ] {
        quiet(&hub, &["--no-push", flag], &[]).fails("give --destination");
    }
    quiet(&hub, &["--no-push", "--digest-file=digest"], &[]).good();
    assert!(
        fs::read_to_string(hub.path("digest"))
            .unwrap()
            .starts_with("sha256:")
    );
}

#[test]
fn formats_that_exclude_each_other_are_refused_before_the_build() {
    let hub = Hub::start();
    // What is built fails otherwise.
    let context = hub.context("none", &[("Dockerfile", "FROM scratch\nCOPY missing /\n")]);
    let tar = format!("--tar-path={}", hub.text("image.tar"));
    for (flags, expected) in [
        (
            &["--compression=zstd", "--image-format=docker"][..],
            "--compression=zstd: Docker's format has no zstd layers".to_owned(),
        ),
        (
            &["--image-format=oci", &tar],
            format!(
                "{tar}: an archive for `docker load` holds Docker's format with gzip: leave out --image-format=oci"
            ),
        ),
        (
            &["--compression=zstd", &tar],
            format!(
                "{tar}: an archive for `docker load` holds Docker's format with gzip: leave out --compression=zstd"
            ),
        ),
    ] {
        hub.build(&context, "app:v1", flags).fails(&expected);
    }
}

#[test]
fn snapshot_modes_and_choices_of_git_have_names() {
    let hub = Hub::start();
    let context = hub.simple();
    for mode in ["full", "redo", "time", ""] {
        let flag = format!("--snapshot-mode={mode}");
        hub.build(&context, "app:v1", &[&flag]).good();
    }
    hub.build(&context, "app:v1", &["--snapshotMode=bogus"])
        .fails("--snapshot-mode=bogus: expected full, redo or time");
    hub.build(&context, "app:v1", &["--git=bogus=1"])
        .fails("--git=bogus=1: expected branch=");
    hub.build(&context, "app:v1", &["--git=depth=many"])
        .fails("expected a number");
    hub.build(&context, "app:v1", &["--custom-platform="])
        .good();
}
