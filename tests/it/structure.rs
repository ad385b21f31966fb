//! The shape of the house: what depends on what, and how large a file may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The workspace's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is below the root")
        .to_owned()
}

/// What each crate may depend on; docs/architecture.md, "Direction of
/// dependencies".
const ALLOWED: [(&str, &[&str]); 11] = [
    ("kiln-schemas", &[]),
    ("kiln-dockerfile", &["kiln-schemas"]),
    ("kiln-registry", &["kiln-schemas", "kiln-store"]),
    ("kiln-store", &[]),
    ("kiln-sandbox", &[]),
    (
        "kiln-executor",
        &[
            "kiln-schemas",
            "kiln-dockerfile",
            "kiln-registry",
            "kiln-store",
            "kiln-sandbox",
        ],
    ),
    (
        "kiln-builder",
        &["kiln-schemas", "kiln-dockerfile", "kiln-registry"],
    ),
    ("kiln-kustomize", &["kiln-schemas"]),
    ("kiln-deployer", &["kiln-schemas", "kiln-kustomize"]),
    (
        "kiln-local",
        &["kiln-schemas", "kiln-sandbox", "kiln-store"],
    ),
    (
        "kiln",
        &[
            "kiln-schemas",
            "kiln-dockerfile",
            "kiln-registry",
            "kiln-store",
            "kiln-sandbox",
            "kiln-executor",
            "kiln-builder",
            "kiln-deployer",
            "kiln-local",
        ],
    ),
];

fn normal_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        let normal = dependencies
            .iter()
            .filter(|d| d["kind"].is_null())
            .map(|d| text(&d["name"]));
        found.insert(text(&package["name"]), normal.collect());
    }
    found
}

#[test]
fn dependencies_point_one_way() {
    let found = normal_dependencies();
    for (name, allowed) in ALLOWED {
        let dependencies = found.get(name).unwrap_or_else(|| panic!("no crate {name}"));
        let ours = dependencies.iter().filter(|d| found.contains_key(*d));
        let wrong: Vec<_> = ours.filter(|d| !allowed.contains(&d.as_str())).collect();
        assert!(wrong.is_empty(), "{name} must not depend on {wrong:?}");
    }
}

#[test]
fn the_executor_is_useful_alone_without_a_cluster_client_or_a_command_line_library() {
    let found = normal_dependencies();
    for (name, forbidden) in [
        ("kiln-executor", ["kube", "clap"].as_slice()),
        ("kiln-schemas", &["kube", "tokio", "reqwest", "k8s-openapi"]),
        ("kiln-dockerfile", &["tokio", "reqwest", "rustix"]),
        ("kiln-registry", &["kube"]),
        ("kiln-local", &["kube", "reqwest"]),
    ] {
        let wrong: Vec<_> = forbidden
            .iter()
            .filter(|d| found[name].contains(**d))
            .collect();
        assert!(wrong.is_empty(), "{name} must not depend on {wrong:?}");
    }
}

/// Every Rust file of the workspace that git knows or would know.
fn rust_files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.rs",
        ])
        .current_dir(root())
        .output()
        .expect("git runs");
    let listed = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let files: Vec<_> = listed
        .lines()
        .map(|l| root().join(l))
        .filter(|p| p.exists())
        .collect();
    assert!(files.len() > 20, "git lists no files; is this a checkout?");
    files
}

#[test]
fn no_file_is_longer_than_800_lines() {
    // Written by their generator, `deployer/kustomize/generate`.
    let generated = ["config", "schema"]
        .map(|part| root().join(format!("deployer/kustomize/src/{part}/table.rs")));
    assert!(generated.iter().all(|table| table.is_file()));
    for file in rust_files()
        .into_iter()
        .filter(|file| !generated.contains(file))
    {
        let lines = fs::read_to_string(&file).expect("readable").lines().count();
        assert!(
            lines <= 800,
            "{} has {lines} lines; split it",
            file.display()
        );
    }
}

#[test]
fn no_module_is_a_drawer_for_everything() {
    for file in rust_files() {
        let name = file
            .file_stem()
            .and_then(|s| s.to_str())
            .unwrap_or_default();
        let folder = file
            .parent()
            .and_then(Path::file_name)
            .and_then(|s| s.to_str())
            .unwrap_or_default();
        for drawer in ["util", "utils", "common", "helpers", "misc"] {
            assert!(name != drawer && folder != drawer, "{}", file.display());
        }
    }
}

#[test]
fn only_the_sandbox_holds_unsafe_code() {
    for file in rust_files() {
        let text = fs::read_to_string(&file).expect("readable");
        let sandbox = file.starts_with(root().join("builder/sandbox"));
        let holds = text.lines().any(|line| {
            let code = line.trim_start();
            !code.starts_with("//") && (code.contains("unsafe {") || code.starts_with("unsafe fn"))
        });
        // This very line names what it looks for.
        let itself = file.ends_with("it/structure.rs");
        assert!(
            !holds || sandbox || itself,
            "{} holds unsafe code",
            file.display()
        );
    }
}
