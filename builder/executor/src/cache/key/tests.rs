use std::collections::BTreeMap;

use kiln_dockerfile::platform::Platform;
use kiln_dockerfile::scope::BuildFor;
use kiln_registry::Compression;

use super::*;
use crate::image::ImageConfig;
use crate::layer::tar::Times;
use crate::plan::{Images, Input, Outcome, plan};

/// What a build reads, as a test wants it.
#[derive(Clone)]
struct World {
    image: u8,
    content: u8,
    level: Option<u32>,
    sight: Option<Sight>,
    args: Vec<(&'static str, &'static str)>,
}

const WORLD: World = World {
    image: 1,
    content: 1,
    level: None,
    sight: None,
    args: Vec::new(),
};

fn planned(text: &str, args: &[(&str, &str)]) -> Plan {
    let dockerfile = kiln_dockerfile::parse(text).unwrap();
    let platform = Platform::parse("linux/amd64").unwrap();
    let build = BuildFor {
        build: platform.clone(),
        target: platform,
        stage: None,
    };
    let args = args.iter();
    let build_args: BTreeMap<String, String> = args
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let contexts = BTreeMap::new();
    let input = Input {
        contexts: &contexts,
        dockerfile: &dockerfile,
        build_args: &build_args,
        build: &build,
    };
    let mut images = Images::new();
    loop {
        match plan(input, &images).unwrap() {
            Outcome::Ready(plan) => return *plan,
            Outcome::Needs(keys) => images.extend(
                keys.into_iter()
                    .map(|key| (key, ImageConfig::scratch("linux", "amd64", None))),
            ),
        }
    }
}

/// The keys of the target's steps.
fn steps(text: &str, world: &World) -> Vec<Option<Digest>> {
    let plan = planned(text, &world.args);
    let images = plan
        .images()
        .into_iter()
        .map(|key| (key.clone(), vec![Digest::of(&[world.image])]))
        .collect();
    let mut contents = BTreeMap::new();
    for stage in &plan.stages {
        for step in 0..stage.steps.len() {
            for mount in [None, Some(0)] {
                let reader = Reader {
                    stage: stage.index,
                    step,
                    mount,
                };
                contents.insert(reader, Digest::of(&[world.content]));
            }
        }
    }
    let sights = plan
        .stages
        .iter()
        .filter_map(|stage| Some((stage.index, world.sight.clone()?)))
        .collect();
    let inputs = Inputs {
        plan: &plan,
        volumes: &["/volume".into()],
        epoch: None,
        images: &images,
        contents: &contents,
        format: Format {
            compression: Compression::Gzip,
            level: world.level,
            times: Times::Kept,
            threads: 1,
        },
        sights: &sights,
        ignored: &[],
    };
    keys(&inputs)[&plan.target().index].steps.clone()
}

fn last(text: &str, world: &World) -> Option<Digest> {
    *steps(text, world).last().unwrap()
}

#[test]
fn what_decides_the_files_decides_the_key() {
    let same = |a: &str, b: &str| last(a, &WORLD) == last(b, &WORLD);
    for (a, b) in [
        ("FROM a\nRUN x", "FROM a\nRUN y"),
        ("FROM a\nRUN x", "FROM a\nRUN [\"x\"]"),
        ("FROM a\nENV V=1\nRUN x", "FROM a\nENV V=2\nRUN x"),
        ("FROM a\nARG V=1\nRUN x", "FROM a\nARG V=2\nRUN x"),
        ("FROM a\nENV V=1 W=1\nRUN x", "FROM a\nENV W=1 V=1\nRUN x"),
        ("FROM a\nUSER u\nRUN x", "FROM a\nUSER v\nRUN x"),
        ("FROM a\nWORKDIR /u\nRUN x", "FROM a\nWORKDIR /v\nRUN x"),
        ("FROM a\nRUN x", "FROM a\nRUN --network=none x"),
        (
            "FROM a\nRUN x",
            "FROM a\nRUN --mount=type=cache,target=/c x",
        ),
        (
            "FROM a\nRUN --mount=type=secret,id=s x",
            "FROM a\nRUN --mount=type=secret,id=t x",
        ),
        ("FROM a\nRUN <<E\nx\nE", "FROM a\nRUN <<E\ny\nE"),
        ("FROM a\nRUN x\nRUN z", "FROM a\nRUN y\nRUN z"),
        ("FROM a\nCOPY f /", "FROM a\nCOPY f /d/"),
        ("FROM a\nCOPY f /", "FROM a\nADD f /"),
        ("FROM a\nCOPY f /", "FROM a\nCOPY --chown=1 f /"),
        ("FROM a\nCOPY f /", "FROM a\nCOPY --chmod=700 f /"),
        ("FROM a\nCOPY f g /", "FROM a\nCOPY fg /"),
        ("FROM a\nCOPY <<f /\n1\nf", "FROM a\nCOPY <<f /\n2\nf"),
        (
            "FROM a AS s\nRUN x\nFROM a\nCOPY --from=s /f /",
            "FROM a AS s\nRUN y\nFROM a\nCOPY --from=s /f /",
        ),
        (
            "FROM a AS s\nRUN x\nFROM a\nRUN --mount=from=s,target=/s z",
            "FROM a AS s\nRUN y\nFROM a\nRUN --mount=from=s,target=/s z",
        ),
        (
            "FROM a AS s\nRUN x\nFROM s\nRUN z",
            "FROM a AS s\nRUN y\nFROM s\nRUN z",
        ),
    ] {
        assert!(!same(a, b), "{a}\n--- has the key of ---\n{b}");
    }
    for (a, b) in [
        ("FROM a\nRUN x", "FROM a\nLABEL l=1\nEXPOSE 80\nRUN x"),
        ("FROM a\nRUN x", "FROM a AS name\nRUN x"),
        ("FROM a\nARG V=1\nCOPY f /", "FROM a\nARG V=2\nCOPY f /"),
        ("FROM a\nCOPY f /", "FROM a\n# a remark\nCOPY   f   /"),
        (
            "FROM a\nRUN --mount=type=cache,target=/c x",
            "FROM a\nRUN --mount=type=cache,target=/c,sharing=locked x",
        ),
    ] {
        assert!(same(a, b), "{a}\n--- has another key than ---\n{b}");
    }
}

#[test]
fn what_a_build_reads_decides_the_key_of_what_reads_it() {
    let text = "FROM a\nRUN x\nCOPY f /\nRUN y";
    let before = steps(text, &WORLD);
    let changed = |world: World| -> Vec<bool> {
        let after = steps(text, &world);
        before.iter().zip(after).map(|(a, b)| *a != b).collect()
    };
    let other = |change: fn(&mut World)| {
        let mut world = WORLD.clone();
        change(&mut world);
        world
    };
    assert_eq!(changed(other(|w| w.image = 2)), [true; 3]);
    assert_eq!(changed(other(|w| w.level = Some(9))), [true; 3]);
    assert_eq!(changed(other(|w| w.content = 2)), [false, true, true]);
    let seen = other(|w| {
        w.sight = Some(Sight {
            volumes: Vec::new(),
            context: Some(Digest::of(b"checkout")),
        });
    });
    assert_eq!(changed(seen), [true; 3]);
    // Proxies reach a command and are no part of what it makes.
    assert_eq!(
        changed(other(|w| w.args = vec![("HTTP_PROXY", "http://p")])),
        [false; 3]
    );
    // An argument that is not declared reaches nothing.
    assert_eq!(changed(other(|w| w.args = vec![("V", "1")])), [false; 3]);
}

#[test]
fn what_is_not_known_beforehand_has_no_key() {
    let text = "FROM a\nADD http://h/f /\nRUN x";
    assert_eq!(steps(text, &WORLD), [None, None]);
    let pinned = format!(
        "FROM a\nADD --checksum=sha256:{} http://h/f /",
        "0".repeat(64)
    );
    assert!(last(&pinned, &WORLD).is_some());
    assert!(last("FROM a\nADD https://h/r.git#main /", &WORLD).is_none());
    let commit = format!("FROM a\nADD https://h/r.git#{} /", "0".repeat(40));
    assert!(last(&commit, &WORLD).is_some());
    // Beside the stage's own files the copy reads what lies in a volume.
    for (path, is_known) in [
        ("/volume/f", false),
        ("/vol*/f", false),
        ("/volume", false),
        ("/volumes/f", true),
        ("/", true),
    ] {
        let text = format!("FROM a AS s\nRUN x\nFROM a\nCOPY --from=s {path} /\nRUN y");
        let known: Vec<bool> = steps(&text, &WORLD).iter().map(Option::is_some).collect();
        assert_eq!(known, [is_known; 2], "{path}");
    }
    let from = "FROM a AS s\nADD http://h/f /\nFROM a\nRUN x\nCOPY --from=s /f /\nRUN y";
    let known: Vec<bool> = steps(from, &WORLD).iter().map(Option::is_some).collect();
    assert_eq!(known, [true, false, false]);
}
