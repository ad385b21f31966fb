//! The renderer against kustomize 5.7.1: what it recorded, what it makes of
//! random overlays, and what both refuse.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test says what it compared, and is told by variables what to compare with"
)]

mod broken;
mod cases;
mod corpus;
mod random;

use std::path::{Path, PathBuf};

/// Folder of this crate.
fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The folders in a folder, sorted.
fn folders(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

/// The `kustomize` program in the version that counts. [`None`] skips the
/// test, with the reason on standard error; with `KILN_REQUIRE_ALL=1` that is
/// a failure.
fn program() -> Option<PathBuf> {
    let found = places().into_iter().find(|place| is_the_version(place));
    if found.is_none() {
        let reason = format!(
            "there is no kustomize {}: KUSTOMIZE names it, `kiln-test-cluster up` builds it",
            kiln_kustomize::VERSION
        );
        let required = std::env::var_os("KILN_REQUIRE_ALL").is_some_and(|value| value == "1");
        assert!(!required, "{reason}, and KILN_REQUIRE_ALL=1 is set");
        eprintln!("skipped: {reason}");
    }
    found
}

/// Where the program may be: the one that is named, else the one of the test
/// cluster (as the cluster shows it, or as its parts are kept between runs),
/// else the one on the PATH.
fn places() -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    if let Some(named) = variable("KUSTOMIZE") {
        return vec![named];
    }
    let bin = variable("KILN_TEST_BIN").unwrap_or_else(|| "/var/lib/kiln-test-cluster/bin".into());
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let parts = cache.unwrap_or_default().join("kiln/cluster/parts");
    let kept = std::fs::read_dir(parts).into_iter().flatten().flatten();
    let mut places = vec![bin.join("kustomize")];
    places.extend(kept.map(|part| part.path().join("kustomize")));
    places.push("kustomize".into());
    places
}

fn is_the_version(program: &Path) -> bool {
    std::process::Command::new(program)
        .arg("version")
        .output()
        .is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout).trim() == kiln_kustomize::VERSION
        })
}
