//! Plans as folders: `plans/<case>/Dockerfile` and the expected `plan`, written by hand from the
//! reference manual and BuildKit's sources. The base `base` is an image with the configuration of
//! [`BASE`]; the arguments of a case are the lines of `args`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kiln_dockerfile::platform::Platform;
use kiln_dockerfile::scope::BuildFor;
use kiln_executor::image::ImageConfig;
use kiln_executor::plan::{Images, Input, Outcome, plan, render};

const BASE: &str = r#"{"architecture":"amd64","os":"linux","config":{
    "Env":["PATH=/bin","FROM_BASE=1"],"Cmd":["base-cmd"],"Entrypoint":["base-entry"],
    "WorkingDir":"/base","User":"app","Labels":{"base":"1"},
    "OnBuild":["COPY trigger /trigger","RUN triggered"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;

fn planned(dir: &Path) -> String {
    let text = fs::read_to_string(dir.join("Dockerfile")).unwrap();
    let dockerfile = kiln_dockerfile::parse(&text).unwrap();
    let args = fs::read_to_string(dir.join("args")).unwrap_or_default();
    let mut build_args: BTreeMap<String, String> = BTreeMap::new();
    let mut target = None;
    for (name, value) in args.lines().filter_map(|line| line.split_once('=')) {
        if name == "--target" {
            target = Some(value.to_owned());
        } else {
            build_args.insert(name.to_owned(), value.to_owned());
        }
    }
    let platform = Platform::parse("linux/amd64").unwrap();
    let build = BuildFor {
        build: platform.clone(),
        target: platform,
        stage: target,
    };
    let contexts = std::collections::BTreeMap::new();
    let input = Input {
        contexts: &contexts,
        dockerfile: &dockerfile,
        build_args: &build_args,
        build: &build,
    };
    let mut images = Images::new();
    loop {
        match plan(input, &images) {
            Ok(Outcome::Ready(plan)) => return render(&plan),
            Ok(Outcome::Needs(keys)) => {
                for key in keys {
                    assert!(!images.contains_key(&key), "asked for once");
                    images.insert(key, ImageConfig::parse(BASE.as_bytes()).unwrap());
                }
            }
            Err(error) => return format!("error {error}\n"),
        }
    }
}

#[test]
fn every_case() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut names: Vec<_> = fs::read_dir(cases)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert!(names.len() >= 6, "the cases are there");
    for dir in names {
        let expected = fs::read_to_string(dir.join("plan")).unwrap_or_default();
        assert_eq!(planned(&dir), expected, "{}", dir.display());
    }
}
