//! How bytes become a folder: files follow each other, each behind a line
//! `=== path`.

use std::path::Path;

use kiln_kustomize::{Kustomizer, MemoryFiles};

/// Renders what the bytes describe.
pub fn render(data: &[u8]) {
    let mut files = MemoryFiles::default();
    let mut rest = data;
    while let Some((path, content, tail)) = next(rest) {
        if let Ok(path) = std::str::from_utf8(path)
            && !path.contains('\0')
        {
            files.insert(path, content);
        }
        rest = tail;
    }
    for target in ["/overlay", "/"] {
        if let Ok(build) = Kustomizer::new(&files).build(target) {
            assert!(build.yaml.is_empty() || build.yaml.ends_with('\n'));
        }
    }
}

type Entry<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn next(data: &[u8]) -> Option<Entry<'_>> {
    let data = data.strip_prefix(b"=== ")?;
    let end = data.iter().position(|byte| *byte == b'\n')?;
    let (path, body) = (&data[..end], &data[end + 1..]);
    let length = body
        .windows(5)
        .position(|window| window == b"\n=== ")
        .map_or(body.len(), |at| at + 1);
    Some((path, &body[..length], &body[length..]))
}

/// A folder as such bytes.
#[allow(dead_code, reason = "the fuzz target itself reads only")]
pub fn pack(folder: &Path) -> Vec<u8> {
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
