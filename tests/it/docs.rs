//! What the documents promise.

use std::fs;
use std::process::Command;

use crate::structure::root;

/// Names of all tests in the workspace's sources: functions after `#[test]`
/// or `#[tokio::test…]`, and the names that custom harnesses list.
fn test_names() -> Vec<String> {
    let output = Command::new("git")
        .args([
            "grep",
            "-hE",
            "-A3",
            r#"^\s*#\[(tokio::)?test|case!\(|^\s*\("[a-z_0-9]+","#,
        ])
        .args(["--untracked", "--", "*.rs"])
        .current_dir(root())
        .output()
        .expect("git runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut names = Vec::new();
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once("fn ") {
            names.extend(rest.split('(').next().map(str::to_owned));
        } else if let Some((_, rest)) = line.split_once("(\"") {
            names.extend(rest.split('"').next().map(str::to_owned));
        }
    }
    assert!(names.len() > 100, "found only {} tests", names.len());
    names
}

#[test]
fn every_feature_of_the_table_names_a_test_that_exists() {
    let table = fs::read_to_string(root().join("docs/features.md")).expect("docs/features.md");
    let names = test_names();
    let mut rows = 0;
    for line in table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("---"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if cells[0] == "feature" {
            continue;
        }
        assert_eq!(cells.len(), 2, "a row has a feature and its tests: {line}");
        rows += 1;
        let tests: Vec<&str> = cells[1].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test shows this: {line}");
        for test in tests {
            let name = test.rsplit("::").next().unwrap_or(test);
            assert!(
                names.iter().any(|n| n == name),
                "{}: no test is called {test}",
                cells[0]
            );
        }
    }
    assert!(rows > 30, "the table has only {rows} rows");
}

#[test]
fn the_readme_names_two_commands_that_exist() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let makefile = fs::read_to_string(root().join("Makefile")).expect("Makefile");
    for target in ["demo", "test"] {
        assert!(
            readme.contains(&format!("make {target}")),
            "README.md does not name make {target}"
        );
        assert!(
            makefile.contains(&format!("\n{target}:")),
            "Makefile has no target {target}"
        );
    }
}
