//! Any `.dockerignore` is read or refused, and decides about any path; walking down says the same as asking directly.

use kiln_dockerfile::ignore::Patterns;

/// The first line is a path, the rest the file.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (path, rules) = text.split_once('\n').unwrap_or(("a/b", text));
    let Ok(patterns) = Patterns::parse(rules) else {
        return;
    };
    let is_plain = !path.is_empty()
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..");
    if !is_plain {
        return;
    }
    let direct = patterns.explain(path);
    let _ = patterns.rule(&direct);
    // As a walk asks: each folder first, then what is in it.
    let mut parent = None;
    let mut end = 0;
    for part in path.split('/') {
        end += part.len();
        parent = Some(patterns.verdict(&path[..end], parent.as_ref()));
        let _ = patterns.may_reinclude_below(&path[..end]);
        end += 1;
    }
    let walked = parent.expect("a path has a part");
    assert_eq!(
        format!("{walked:?}"),
        format!("{direct:?}"),
        "{path:?} under {rules:?}"
    );
}
