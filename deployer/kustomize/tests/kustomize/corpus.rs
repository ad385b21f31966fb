//! The corpus of the fuzz target `kustomize`, which must never panic; without
//! the nightly compiler that the target itself needs.

use std::path::Path;

use crate::{folders, home};

#[path = "../../../../fuzz/targets/kustomize.rs"]
mod target;

/// A folder as the target's input.
fn pack(folder: &Path) -> Vec<u8> {
    let mut packed = Vec::new();
    add(folder, folder, &mut packed);
    packed
}

fn add(top: &Path, folder: &Path, packed: &mut Vec<u8>) {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            add(top, &path, packed);
        } else if let (Ok(name), Ok(content)) = (path.strip_prefix(top), std::fs::read(&path)) {
            packed.extend(format!("=== {}\n", name.display()).bytes());
            packed.extend(content);
            if packed.last() != Some(&b'\n') {
                packed.push(b'\n');
            }
        }
    }
}

#[test]
fn the_corpus_renders_or_is_refused() {
    let corpus = home().join("../../fuzz/corpus/kustomize");
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        target::run(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 20, "only {count} inputs");
}

/// Every file of every recorded case, cut off and mutated at a few places.
/// `KUSTOMIZE_FUZZ_SECONDS` goes on for longer with random changes.
#[test]
fn mutated_cases_render_or_are_refused() {
    let seconds = std::env::var("KUSTOMIZE_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let mut seeds = Vec::new();
    for group in folders(&home().join("tests/cases")) {
        for case in folders(&group) {
            seeds.push(pack(&case.join("input")));
        }
    }
    for seed in &seeds {
        target::run(&seed[..seed.len() / 2]);
    }
    let started = std::time::Instant::now();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut dice = move |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap() % limit.max(1)
    };
    const TOKENS: [&[u8]; 24] = [
        b"- ",
        b": ",
        b"\n",
        b"[",
        b"]",
        b"{",
        b"}",
        b"&a ",
        b"*a",
        b"<<: ",
        b"null",
        b"~",
        b"'",
        b"\"",
        b"|\n",
        b"$patch: delete",
        b"name",
        b"../",
        b"\xff",
        b"\xc2\x85",
        b"0",
        b"-1",
        b"[name=",
        b"!!int ",
    ];
    let mut runs = 0_u64;
    let mut last = Vec::new();
    while runs < 300 || started.elapsed().as_secs() < seconds {
        let mut data = seeds[dice(seeds.len())].clone();
        for _ in 0..=dice(4) {
            let at = dice(data.len() + 1);
            match dice(4) {
                0 => drop(data.splice(at..at, TOKENS[dice(TOKENS.len())].iter().copied())),
                1 => {
                    let end = (at + dice(8)).min(data.len());
                    data.drain(at..end);
                }
                2 => {
                    let other = &seeds[dice(seeds.len())];
                    let from = dice(other.len());
                    let to = (from + dice(60)).min(other.len());
                    data.splice(at..at, other[from..to].iter().copied());
                }
                _ if at < data.len() => data[at] ^= 1 << dice(8),
                _ => {}
            }
        }
        last.clone_from(&data);
        let done = std::panic::catch_unwind(|| target::run(&data));
        if done.is_err() {
            let path = std::env::temp_dir().join("kustomize-panic.txt");
            std::fs::write(&path, &last).unwrap();
            panic!("a panic; the input is in {}", path.display());
        }
        runs += 1;
    }
    println!("{runs} inputs in {} s", started.elapsed().as_secs());
}
