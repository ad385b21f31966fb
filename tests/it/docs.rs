//! What the documents promise.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::structure::root;

/// Names of all tests in the workspace's sources: functions after `#[test]`
/// or `#[tokio::test…]`, and the cases that a test program without the usual
/// harness lists in `named![…]`, or by name in `CASES`.
fn test_names() -> BTreeSet<String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .args(["--", "*.rs"])
        .current_dir(root())
        .output()
        .expect("git runs");
    let listed = String::from_utf8(output.stdout).expect("names are UTF-8");
    let mut names = BTreeSet::new();
    // A file that was removed and not yet committed is listed and not there.
    for text in listed
        .lines()
        .filter_map(|file| fs::read_to_string(root().join(file)).ok())
    {
        names.extend(functions_under_test_attributes(&text));
        names.extend(listed_cases(&text));
        names.extend(cases_by_name(&text));
    }
    assert!(names.len() > 100, "found only {} tests", names.len());
    names
}

fn functions_under_test_attributes(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
            names.extend(rest.split(['(', '<']).next().map(str::to_owned));
            is_test = false;
        }
    }
    names
}

fn cases_by_name(text: &str) -> Vec<String> {
    let list = text.split("CASES: &[Case] = &[").nth(1);
    let list = list.and_then(|rest| rest.split("];").next());
    let quoted = list.unwrap_or_default().split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

fn listed_cases(text: &str) -> Vec<String> {
    text.split("named![")
        .skip(1)
        .filter_map(|rest| rest.split(']').next())
        .flat_map(|list| list.split(','))
        .filter_map(|path| path.trim().rsplit("::").next())
        .filter(|name| {
            let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            !name.is_empty() && name.chars().all(letter)
        })
        .map(str::to_owned)
        .collect()
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
                names.contains(name),
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

/// Texts between backticks that look like a path of this repository.
fn paths_in(text: &str) -> Vec<&str> {
    let top = [
        "schemas/",
        "builder/",
        "deployer/",
        "cli/",
        "tests/",
        "docs/",
        "examples/",
        "scripts/",
    ];
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|quoted| top.iter().any(|folder| quoted.starts_with(folder)))
        .filter(|quoted| !quoted.contains([' ', '*', '<', '{']))
        .collect()
}

#[test]
fn every_file_that_a_document_names_exists() {
    let mut documents = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    for entry in fs::read_dir(root().join("docs")).expect("docs/") {
        documents.push(entry.expect("an entry").path());
    }
    let mut found = 0;
    for document in documents
        .iter()
        .filter(|d| d.extension().is_some_and(|e| e == "md"))
    {
        let text = fs::read_to_string(document).expect("a document is text");
        for path in paths_in(&text) {
            found += 1;
            assert!(
                root().join(path).exists(),
                "{}: there is no {path}",
                document.display()
            );
        }
    }
    assert!(found > 30, "only {found} paths were found");
}
