//! Any files are rendered as a kustomization or refused with words.

use kiln_kustomize::{Kustomizer, MemoryFiles, Options};

/// The files follow each other, each behind a line `=== path`; `/overlay` and
/// `/` are rendered.
pub fn run(data: &[u8]) {
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
        let options = Options {
            separate_documents: true,
            ..Options::default()
        };
        match Kustomizer::new(&files).with_options(options).build(target) {
            Ok(build) => {
                let texts = build.documents.iter().map(|(_, text)| text);
                for text in texts.chain([&build.yaml]) {
                    assert!(text.is_empty() || text.ends_with('\n'));
                }
            }
            Err(refused) => assert!(!refused.error.chain().is_empty()),
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
