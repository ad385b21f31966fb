//! The patterns of `COPY` and `ADD` sources: Go's `filepath.Match`.

use regex::Regex;

/// A pattern over whole paths: `*` and `?` stay within a part of the path, `**` is two `*`.
#[derive(Debug, Clone)]
pub struct Glob {
    regex: Regex,
}

/// An open class or a lone escape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no valid pattern; close its `[`, or escape it with a backslash")]
pub struct GlobError(pub String);

impl Glob {
    /// Compiles a pattern.
    pub fn parse(pattern: &str) -> Result<Self, GlobError> {
        let error = || GlobError(pattern.to_owned());
        let mut regex = String::from("(?s)^");
        let mut rest = pattern.chars().peekable();
        while let Some(ch) = rest.next() {
            match ch {
                '*' => regex.push_str("[^/]*"),
                '?' => regex.push_str("[^/]"),
                '[' => class(&mut rest, &mut regex).ok_or_else(error)?,
                '\\' => push_literal(&mut regex, rest.next().ok_or_else(error)?),
                ch => push_literal(&mut regex, ch),
            }
        }
        regex.push('$');
        Regex::new(&regex)
            .map(|regex| Self { regex })
            .map_err(|_| error())
    }

    /// Whether the whole `path` matches.
    pub fn matches(&self, path: &str) -> bool {
        self.regex.is_match(path)
    }
}

/// Whether a source is a pattern. Without one of `*`, `?` and `[` it names one path.
pub fn has_wildcard(source: &str) -> bool {
    let mut chars = source.chars();
    while let Some(ch) = chars.next() {
        match ch {
            '*' | '?' | '[' => return true,
            '\\' => {
                chars.next();
            }
            _ => {}
        }
    }
    false
}

pub(crate) fn push_literal(regex: &mut String, ch: char) {
    regex.push_str(&regex::escape(ch.encode_utf8(&mut [0; 4])));
}

/// A class after its `[`: `^` negates, ranges and escapes work, and it holds at least one
/// character. `!` is an ordinary character. Says whether it is negated; ranges may be empty.
pub(crate) fn ranges(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Option<(bool, Vec<(char, char)>)> {
    let member = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        ch => Some(ch),
    };
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || rest.next_if_eq(&']').is_none() {
        let low = member(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() {
            member(rest)?
        } else {
            low
        };
        ranges.push((low, high));
    }
    Some((negated, ranges))
}

fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, regex: &mut String) -> Option<()> {
    let (negated, mut ranges) = ranges(rest)?;
    // A range that is empty holds nothing, which is no error in Go.
    ranges.retain(|(low, high)| low <= high);
    match (negated, ranges.is_empty()) {
        (false, true) => regex.push_str(r"[^\x00-\x{10ffff}]"),
        (true, true) => regex.push_str(r"[\x00-\x{10ffff}]"),
        (negated, false) => {
            regex.push_str(if negated { "[^" } else { "[" });
            for (low, high) in ranges {
                regex.push_str(&format!(
                    "\\x{{{:x}}}-\\x{{{:x}}}",
                    u32::from(low),
                    u32::from(high)
                ));
            }
            regex.push(']');
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stays_within_parts_of_the_path() {
        for (pattern, path, expected) in [
            ("*.go", "main.go", true),
            ("*.go", "cmd/main.go", false),
            ("*/*.go", "cmd/main.go", true),
            ("**/*.go", "cmd/main.go", true),
            ("**/*.go", "main.go", false),
            ("**/*.go", "a/b/main.go", false),
            ("hom?.txt", "home.txt", true),
            ("arr[[]0].txt", "arr[0].txt", true),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
        ] {
            let glob = Glob::parse(pattern).expect(pattern);
            assert_eq!(glob.matches(path), expected, "{pattern} {path}");
        }
        assert_eq!(Glob::parse("a[").err(), Some(GlobError("a[".to_owned())));
    }

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
            let matched = Glob::parse(pattern).is_ok_and(|glob| glob.matches(name));
            assert_eq!(matched, expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn an_empty_range_holds_nothing() {
        for (pattern, expected) in [("[b-a]", false), ("[^b-a]", true), ("[b-ac]", false)] {
            let glob = Glob::parse(pattern).expect(pattern);
            assert_eq!(glob.matches("a"), expected, "{pattern}");
        }
    }

    /// Those that Go's test expects to be `ErrBadPattern`, and some of those beside them.
    #[test]
    fn what_is_malformed() {
        for pattern in [
            "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "[a.txt,", "a\\",
        ] {
            assert!(Glob::parse(pattern).is_err(), "{pattern}");
        }
        for pattern in ["a*/b?[a-c]", "[\\]a]", "[^a\\-]", "\\[", "]"] {
            assert!(Glob::parse(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn an_escaped_wildcard_is_none() {
        assert!(has_wildcard("a*") && has_wildcard("[ab]") && has_wildcard("x?"));
        assert!(!has_wildcard(r"a\*") && !has_wildcard("plain/path"));
    }
}
