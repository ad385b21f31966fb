//! Flags that matter to RUN: where the store is, what is cached, what is left out, secrets. The image is the machine's
//! busybox.

use std::fs;
use std::path::PathBuf;

use super::hub::Hub;
use crate::world::skip;

/// A registry, and a context whose Dockerfile runs this script; `None` with a reason on standard error.
fn script(name: &str, run: &str) -> Option<(Hub, PathBuf)> {
    if !std::path::Path::new("/bin/busybox").exists() {
        skip("/bin/busybox is not there (Debian: busybox-static)");
        return None;
    }
    let hub = Hub::start();
    let dockerfile = format!(
        "FROM scratch\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\nCOPY busybox /bin/busybox\nRUN {run}\n"
    );
    let context = hub.context(name, &[("Dockerfile", &dockerfile)]);
    fs::copy("/bin/busybox", context.join("busybox")).unwrap();
    Some((hub, context))
}

/// The names of the files of the last layer.
fn names(hub: &Hub) -> Vec<String> {
    let files = hub.files("app:v1");
    files.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn directories_of_the_executor_may_be_relative() {
    let Some((hub, context)) = script("relative", "echo ran > /ran") else {
        return;
    };
    for (env, flags, store) in [
        (&[][..], &["--store-dir=relstore"][..], "relstore"),
        (&[], &["--kaniko-dir=own"], "own/store"),
        (&[("KANIKO_DIR", "./named")], &[], "named/store"),
    ] {
        hub.build_with(&context, "app:v1", flags, env).good();
        assert_eq!(names(&hub), ["ran"]);
        assert!(hub.path(store).join("blobs").is_dir(), "{store}");
    }
}

#[test]
fn paths_are_ignored_by_pattern() {
    let run = "mkdir -p /tmp/deep /var/keep && touch /tmp/a.log /tmp/b.txt /tmp/deep/c.log /var/keep/d /gone";
    let Some((hub, context)) = script(
        "ignored",
        &run.replace("mkdir", "/bin/busybox mkdir")
            .replace("touch", "/bin/busybox touch"),
    ) else {
        return;
    };
    let flags = [
        "--ignore-path=/tmp/*.log",
        "--ignore-path=/gone",
        "--ignore-path=/v?r/keep/",
    ];
    hub.build(&context, "app:v1", &flags).good();
    assert_eq!(names(&hub), ["tmp/b.txt", "tmp/deep/c.log"]);
    hub.build(&context, "app:v1", &["--ignore-path=tmp/*.log"])
        .fails("--ignore-path=tmp/*.log: expected an absolute path");
    hub.build(&context, "app:v1", &["--ignore-path=/tmp/["])
        .fails("is no valid pattern");
}

#[test]
fn run_is_performed_where_its_layers_are_not_cached() {
    let Some((hub, context)) = script("uncached", "echo this is run > /ran") else {
        return;
    };
    let (repo, no) = (
        format!("--cache-repo={}", hub.image("cache")),
        "--cache-run-layers=false",
    );
    let is_cached = |flags: &[&str]| {
        let run = hub.build(&context, "app:v1", flags).good();
        assert_eq!(names(&hub), ["ran"]);
        run.log.contains("cached in")
    };
    assert!(!is_cached(&["--cache", &repo]));
    assert!(is_cached(&[]) && is_cached(&["--cache", &repo]));
    assert!(!is_cached(&[no]) && !is_cached(&["--cache", &repo, no]));
}

#[test]
fn a_secret_comes_from_where_buildx_takes_it() {
    let mount = "--mount=type=secret,id=a,target=/secret,required=true";
    let Some((hub, context)) = script(
        "secret",
        &format!("{mount} echo \"got $(/bin/busybox cat /secret)\" > /ran"),
    ) else {
        return;
    };
    let got = |flag: &str, env: &[(&str, &str)]| {
        let flags = ["--cache=false", flag];
        hub.build_with(&context, "app:v1", &flags, env).good();
        hub.files("app:v1").pop().unwrap().1
    };
    let refused = |flag: &str, why: &str| {
        hub.build(&context, "app:v1", &[flag]).fails(why);
    };
    refused("--secret=id=a", "there is neither a variable nor a file a");
    fs::write(hub.path("a"), "file").unwrap();
    fs::write(hub.path("other"), "another").unwrap();
    let variables = [("a", "variable"), ("B", "of B")];
    for (flag, env, expected) in [
        ("--secret=id=a", &variables[..], "got variable\n"),
        ("--secret=id=a", &[], "got file\n"),
        ("--secret=id=a,type=file", &variables, "got file\n"),
        ("--secret=id=a,env=B", &variables, "got of B\n"),
        ("--secret=type=env,id=a,src=B", &variables, "got of B\n"),
        ("--secret=id=a,source=other", &variables, "got another\n"),
    ] {
        assert_eq!(got(flag, env), expected, "{flag}");
    }
    refused(
        "--secret=id=a,type=foo",
        "unknown type foo: expected file or env",
    );
    refused("--secret=id=a,sorce=other", "unknown field sorce");
    refused("--secret=src=other", "it needs an id");
    fs::write(hub.path("large"), vec![b'x'; 500 * 1024 + 1]).unwrap();
    for file in ["large", "/dev/zero"] {
        refused(
            &format!("--secret=id=a,src={file}"),
            "a secret has 500 KiB at most",
        );
    }
}
