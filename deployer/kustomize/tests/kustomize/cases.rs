//! Recorded cases: `tests/record.sh` wrote down what kustomize makes of them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kiln_kustomize::{DiskFiles, Kustomizer, LoadRestrictions, Options, Reorder};

use crate::{folders, home};

fn options(case: &Path) -> Options {
    let flags = std::fs::read_to_string(case.join("flags")).unwrap_or_default();
    let has = |flag: &str| flags.contains(flag);
    Options {
        load_restrictions: if has("LoadRestrictionsNone") {
            LoadRestrictions::None
        } else {
            LoadRestrictions::RootOnly
        },
        reorder: if has("--reorder none") {
            Reorder::None
        } else {
            Reorder::Legacy
        },
        managed_by_label: has("--enable-managedby-label"),
        separate_documents: case.join("folder").is_dir(),
    }
}

fn render(root: &Path, options: Options) -> Result<String, String> {
    Kustomizer::new(&DiskFiles)
        .with_options(options)
        .build(&root.to_string_lossy())
        .map(|build| build.yaml)
        .map_err(|refused| refused.error.chain())
}

/// Where the kustomization of a case is.
fn root_of(case: &Path) -> PathBuf {
    let input = case.join("input");
    let overlay = input.join("overlay");
    if overlay.is_dir() { overlay } else { input }
}

/// [`None`] if the case is as recorded, else what is wrong.
fn difference(case: &Path) -> Option<String> {
    let root = root_of(case);
    let expected = std::fs::read_to_string(case.join("expected.yaml"));
    match (render(&root, options(case)), expected) {
        (Ok(text), Ok(expected)) if text == expected => None,
        (Ok(text), Ok(expected)) => Some(format!("expected:\n{expected}rendered:\n{text}")),
        (Ok(_), Err(_)) => Some("rendered, and kustomize refuses it".to_owned()),
        (Err(error), Ok(_)) => Some(format!("refused: {error}")),
        (Err(error), Err(_)) if !error.contains("kustomization") && !error.contains("has no") => {
            Some(format!("the error names no kustomization: {error}"))
        }
        (Err(_), Err(_)) => None,
    }
}

#[test]
fn recorded_cases_and_examples_render_byte_for_byte() {
    let cases: Vec<PathBuf> = folders(&home().join("tests/cases"))
        .iter()
        .flat_map(|group| folders(group))
        .collect();
    let mut wrong = String::new();
    let mut count = 0;
    for case in &cases {
        match difference(case) {
            None => count += 1,
            Some(problem) => {
                let _ = writeln!(wrong, "{}: {problem}", case.display());
            }
        }
    }
    println!("{count} of {}", cases.len());
    assert!(wrong.is_empty(), "{count} of {}\n{wrong}", cases.len());
    assert!(cases.len() >= 250, "only {} cases", cases.len());
}

/// Cases with a `folder` hold what `-o` of a folder wrote.
#[test]
fn files_of_their_own_are_as_recorded() {
    let groups = folders(&home().join("tests/cases"));
    let cases = groups.iter().flat_map(|group| folders(group));
    let mut count = 0;
    for case in cases.filter(|case| case.join("folder").is_dir()) {
        let build = Kustomizer::new(&DiskFiles)
            .with_options(options(&case))
            .build(&root_of(&case).to_string_lossy())
            .unwrap();
        let mut expected: Vec<(String, String)> = std::fs::read_dir(case.join("folder"))
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, std::fs::read_to_string(&path).unwrap())
            })
            .collect();
        expected.sort();
        let mut documents = build.documents;
        documents.sort();
        assert_eq!(documents, expected, "{}", case.display());
        count += 1;
    }
    assert!(count >= 5, "only {count} cases have a folder");
}

/// Every kustomization of the examples has its recorded output in
/// `tests/examples`, under the same path.
#[test]
fn every_overlay_of_the_examples_renders_as_recorded() {
    let examples = home().join("../../examples");
    let mut found = Vec::new();
    collect(&examples, &mut found);
    let mut count = 0;
    for folder in &found {
        let name = folder.strip_prefix(&examples).unwrap();
        let recorded = home()
            .join("tests/examples")
            .join(name)
            .with_extension("yaml");
        let expected = std::fs::read_to_string(&recorded)
            .unwrap_or_else(|error| panic!("{}: {error}; run tests/record.sh", recorded.display()));
        let rendered = render(folder, Options::default()).unwrap();
        assert_eq!(rendered, expected, "{}", folder.display());
        count += 1;
    }
    println!("{count} of {}", found.len());
    assert!(count > 5, "only {count} overlays");
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    if folder.join("kustomization.yaml").is_file() {
        found.push(folder.to_owned());
    }
    for inner in folders(folder) {
        if inner.file_name().is_some_and(|name| name != "node_modules") {
            collect(&inner, found);
        }
    }
}

/// The first case that renders names every file that it read.
#[test]
fn the_files_that_were_read_are_known() {
    let case = home().join("tests/cases/metadata/origins/input");
    let build = Kustomizer::new(&DiskFiles)
        .build(&case.join("overlay").to_string_lossy())
        .unwrap();
    let case = case.canonicalize().unwrap();
    let names: Vec<String> = build
        .files
        .iter()
        .map(|path| path.strip_prefix(&case).unwrap().display().to_string())
        .collect();
    assert_eq!(
        names,
        [
            "base/kustomization.yaml",
            "base/sub/d.yaml",
            "deep/c.yaml",
            "deep/kustomization.yaml",
            "overlay/c.yaml",
            "overlay/gen.yaml",
            "overlay/kustomization.yaml",
            "part/kustomization.yaml",
            "part/p.yaml",
        ]
    );
}

/// A repository on this machine is a remote base as good as any.
#[test]
fn bases_in_repositories_are_cloned_at_their_commit() {
    let folder = tempfile::tempdir().unwrap();
    let repository = folder.path().join("repo.git");
    let work = folder.path().join("work");
    std::fs::create_dir_all(work.join("base")).unwrap();
    let git = |args: &[&str]| {
        let status = std::process::Command::new("git")
            .args([
                "-c",
                "user.name=n",
                "-c",
                "user.email=e",
                "-c",
                "init.defaultBranch=main",
            ])
            .args(args)
            .current_dir(&work)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "git {args:?}");
    };
    let map = |key: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  version: {key}\n")
    };
    std::fs::write(
        work.join("base/kustomization.yaml"),
        "resources: [map.yaml]\n",
    )
    .unwrap();
    std::fs::write(work.join("base/map.yaml"), map("one")).unwrap();
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    git(&["tag", "v1"]);
    std::fs::write(work.join("base/map.yaml"), map("two")).unwrap();
    git(&["commit", "--quiet", "-am", "two"]);
    git(&[
        "clone",
        "--quiet",
        "--bare",
        ".",
        &repository.to_string_lossy(),
    ]);
    let overlay = folder.path().join("overlay");
    std::fs::create_dir(&overlay).unwrap();
    let address = format!("file://{}/base?ref=v1", repository.display());
    std::fs::write(
        overlay.join("kustomization.yaml"),
        format!("buildMetadata: [originAnnotations]\nresources: ['{address}']\n"),
    )
    .unwrap();
    let remotes = kiln_kustomize::GitRemotes::default();
    let build = Kustomizer::new(&DiskFiles)
        .with_remotes(&remotes)
        .build(&overlay.to_string_lossy())
        .unwrap();
    assert!(build.yaml.contains("version: one"), "{}", build.yaml);
    let origin = format!(
        "path: base/map.yaml\n      repo: file://{}\n      ref: v1",
        repository.display()
    );
    assert!(build.yaml.contains(&origin), "{}", build.yaml);
    assert_eq!(build.files.len(), 1, "files of a clone are not watched");
    let refused = Kustomizer::new(&DiskFiles)
        .build(&overlay.to_string_lossy())
        .unwrap_err();
    assert!(refused.error.chain().contains("not allowed here"));
}
