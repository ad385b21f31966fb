//! Patterns of `COPY` sources: Go's `path/filepath.Match` for each part of a path, and `**` for
//! any number of parts.

/// Whether a source has to be matched at all.
pub(super) fn is_pattern(source: &str) -> bool {
    source.contains(['*', '?', '[', '\\'])
}

/// Whether a pattern is well formed, by the rules of Go's `path.Match`, which looks at a pattern to
/// its end whatever it is compared with.
pub(super) fn is_valid(pattern: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let mut rest = pattern.as_slice();
    loop {
        rest = match rest {
            [] => return true,
            ['\\'] => return false,
            ['\\', _, rest @ ..] => rest,
            // Which letter it is compared with makes no difference here.
            ['[', rest @ ..] => match class(rest, 'a') {
                Some((_, rest)) => rest,
                None => return false,
            },
            [_, rest @ ..] => rest,
        };
    }
}

/// Whether `name` (one part of a path) matches `pattern`. A pattern that is malformed matches
/// nothing.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    part(&pattern, &name)
}

fn part(pattern: &[char], name: &[char]) -> bool {
    match pattern {
        [] => name.is_empty(),
        ['*', rest @ ..] => (0..=name.len()).any(|skip| part(rest, &name[skip..])),
        ['?', rest @ ..] => !name.is_empty() && part(rest, &name[1..]),
        ['\\', literal, rest @ ..] => name.first() == Some(literal) && part(rest, &name[1..]),
        ['[', rest @ ..] => {
            let Some(first) = name.first() else {
                return false;
            };
            class(rest, *first).is_some_and(|(inside, rest)| inside && part(rest, &name[1..]))
        }
        [literal, rest @ ..] => name.first() == Some(literal) && part(rest, &name[1..]),
    }
}

/// A class after its `[`: whether it holds `name`, and what follows its `]`.
fn class(mut pattern: &[char], name: char) -> Option<(bool, &[char])> {
    let negated = pattern.first() == Some(&'^');
    if negated {
        pattern = &pattern[1..];
    }
    let mut inside = false;
    let mut ranges = 0;
    loop {
        match pattern {
            [']', rest @ ..] if ranges > 0 => return Some((inside != negated, rest)),
            [] => return None,
            _ => {}
        }
        let (low, rest) = literal(pattern)?;
        let (high, rest) = match rest {
            ['-', rest @ ..] => literal(rest)?,
            _ => (low, rest),
        };
        inside |= (low..=high).contains(&name);
        ranges += 1;
        pattern = rest;
    }
}

fn literal(pattern: &[char]) -> Option<(char, &[char])> {
    match pattern {
        ['\\', literal, rest @ ..] => Some((*literal, rest)),
        ['-' | ']', ..] | [] => None,
        [literal, rest @ ..] => Some((*literal, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_valid, matches};

    /// From Go's `path/filepath/match_test.go`.
    #[test]
    fn as_in_go() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*b*c*d*e*", "axbxcxdxe", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[\\]a]", "]", true),
            ("[x\\-]", "-", true),
            ("[]a]", "]", false),
            ("[-]", "-", false),
            ("[x-]", "x", false),
            ("[", "a", false),
            ("[^bc", "a", false),
            ("*x", "xxx", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }

    /// Those that Go's test expects to be `ErrBadPattern`, and some of those beside them.
    #[test]
    fn what_is_malformed() {
        for pattern in [
            "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "[a.txt,", "a\\",
        ] {
            assert!(!is_valid(pattern), "{pattern}");
        }
        for pattern in ["a*/b?[a-c]", "[\\]a]", "[^a\\-]", "\\[", "]"] {
            assert!(is_valid(pattern), "{pattern}");
        }
    }
}
