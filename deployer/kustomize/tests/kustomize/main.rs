//! The renderer against kustomize 5.7.1: what it recorded, what it makes of
//! random overlays, and what both refuse.

#![allow(
    clippy::print_stdout,
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

/// The `kustomize` program, if it is there in the version that counts.
fn program() -> Option<PathBuf> {
    let program = std::env::var_os("KUSTOMIZE").map_or_else(|| "kustomize".into(), PathBuf::from);
    let output = std::process::Command::new(&program)
        .arg("version")
        .output()
        .ok()?;
    let version = String::from_utf8_lossy(&output.stdout);
    (version.trim() == kiln_kustomize::VERSION).then_some(program)
}
