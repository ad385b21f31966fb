//! Each folder below `tests/expand` holds `words` and the `variables` that they are expanded with
//! (`backtick` says that this is the escape character), each below `tests/ignore` a `dockerignore`
//! and `paths`, each below `tests/match` single `patterns` and `paths`. `expected.txt` is what BuildKit's and moby's own packages make of them, recorded by
//! `tests/record`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use kiln_dockerfile::expand::{expand, expand_words};
use kiln_dockerfile::ignore::Patterns;
use kiln_dockerfile::instruction::Escape;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares what `describe` says of each folder with what is recorded. Why something is refused
/// is said in other words here.
fn compare(kind: &str, describe: impl Fn(&Path) -> String) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(kind);
    let mut cases: Vec<PathBuf> = fs::read_dir(&dir)
        .expect("the folder of the cases")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let mut different = String::new();
    for case in cases {
        let expected: String = read(&case.join("expected.txt"))
            .lines()
            .map(|line| match line.split_once("refused: ") {
                Some((before, _)) if before.trim().is_empty() => format!("{before}refused\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let found = describe(&case);
        let mut input = "";
        for (expected, found) in expected.lines().zip(found.lines()) {
            if !expected.starts_with("  ") {
                input = expected;
            }
            if expected != found {
                let case = case.display();
                writeln!(different, "{case}: {input}\n- {expected}\n+ {found}")
                    .expect("a String takes everything");
            }
        }
        assert_eq!(
            expected.lines().count(),
            found.lines().count(),
            "{}",
            case.display()
        );
    }
    assert!(different.is_empty(), "{different}");
}

#[test]
fn words_expand_as_in_buildkit() {
    compare("expand", |case| {
        let variables: BTreeMap<String, String> = read(&case.join("variables"))
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let escape = if case.join("backtick").exists() {
            Escape::Backtick
        } else {
            Escape::Backslash
        };
        let json = |value: serde_json::Value| value.to_string();
        let mut text = String::new();
        for word in read(&case.join("words")).lines() {
            text += word;
            let result = match expand(word, &variables, escape) {
                Ok(found) => {
                    let words = expand_words(word, &variables, escape).expect("it was valid");
                    format!("{} {}", json(found.into()), json(words.into()))
                }
                Err(_) => "refused".to_owned(),
            };
            write!(text, "\n  {result}\n").expect("a String takes everything");
        }
        text
    });
}

#[test]
fn paths_are_ignored_as_in_moby() {
    compare("ignore", |case| {
        let Ok(patterns) = Patterns::parse(&read(&case.join("dockerignore"))) else {
            return "refused\n".to_owned();
        };
        let verdict = |path: &str| {
            let verdict = if patterns.ignored(path) {
                "ignored"
            } else {
                "kept"
            };
            format!("{verdict:<7} {path}\n")
        };
        read(&case.join("paths")).lines().map(verdict).collect()
    });
}

#[test]
fn corners_of_patterns_match_as_in_moby() {
    compare("match", |case| {
        let paths = read(&case.join("paths"));
        let mut text = String::new();
        for pattern in read(&case.join("patterns")).lines() {
            let result = Patterns::from_list([pattern]).map_or_else(
                |_| "refused".to_owned(),
                |patterns| {
                    let matched = paths.lines().filter(|path| patterns.ignored(path));
                    serde_json::Value::from_iter(matched).to_string()
                },
            );
            write!(text, "{pattern}\n  {result}\n").expect("a String takes everything");
        }
        text
    });
}
