//! What moby checks of a pattern before it makes anything of it: that Go's `filepath.Match` can compare it with `.`.

use crate::glob::ranges;

/// Whether the comparison finds no fault. It ends at the first part (up to a `*`) that does not match, so what comes
/// behind is not looked at.
pub(super) fn passes(pattern: &str) -> bool {
    compare(pattern).is_some()
}

fn compare(mut pattern: &str) -> Option<()> {
    let mut name = ".";
    while !pattern.is_empty() {
        let (star, part, rest) = next_part(pattern);
        pattern = rest;
        if star && part.is_empty() {
            break;
        }
        let fits = |left: &&str| left.is_empty() || !pattern.is_empty();
        let mut found = matched(part, name)?.filter(fits);
        // The star may take what is there.
        if found.is_none() && star && !name.is_empty() {
            found = matched(part, "")?.filter(fits);
        }
        match found {
            Some(left) => name = left,
            None => break,
        }
    }
    Some(())
}

/// The stars in front, the part up to the next one outside of a class, and the rest.
fn next_part(pattern: &str) -> (bool, &str, &str) {
    let part = pattern.trim_start_matches('*');
    let star = part.len() < pattern.len();
    let (mut in_class, mut escaped) = (false, false);
    for (at, byte) in part.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => return (star, &part[..at], &part[at..]),
            _ => {}
        }
    }
    (star, part, "")
}

/// What is left of `name` behind `part`, or nothing where it does not match; `None` is a fault, which is looked for to
/// the part's end.
fn matched<'n>(part: &str, name: &'n str) -> Option<Option<&'n str>> {
    let (mut part, mut name) = (part.chars().peekable(), name.chars());
    let mut failed = false;
    while let Some(ch) = part.next() {
        let found = if failed { None } else { name.next() };
        let fits = match ch {
            '[' => {
                let (negated, ranges) = ranges(&mut part)?;
                found.is_some_and(|found| {
                    let within = |&(low, high): &(char, char)| low <= found && found <= high;
                    ranges.iter().any(within) != negated
                })
            }
            '?' => found.is_some_and(|found| found != '/'),
            '\\' => {
                let escaped = part.next()?;
                found == Some(escaped)
            }
            ch => found == Some(ch),
        };
        failed |= !fits;
    }
    Some((!failed).then_some(name.as_str()))
}
