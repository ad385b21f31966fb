use super::*;

fn ignored(patterns: &str, path: &str) -> bool {
    Patterns::parse(patterns).expect(patterns).ignored(path)
}

/// From the tables of moby's `patternmatcher_test.go` (`TestMatches`, `TestMatch`); a match on a
/// parent counts as a match.
#[test]
fn single_patterns_match_as_in_moby() {
    for (pattern, path, expected) in [
        ("**", "file", true),
        ("**/", "dir/file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/dir2/file", true),
        ("abc/**", "abc", false),
        ("**/dir", "dir", true),
        ("**/dir", "dir/file", true),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/**", "dir/dir2/dir3/file", true),
        ("**file", "dir/dir/file", true),
        ("**/file", "dir/dir/file", true),
        ("**/file*txt", "dir/dir/file.txt", true),
        ("**/**/*.txt", "file.txt", true),
        ("**/**/*.txt2", "dir/dir/file.txt", false),
        ("a**/*.txt", "a/dir/dir/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt**", "a/file.txt", true),
        ("a[b-d]e", "ae", false),
        ("a[b-d]e", "ace", true),
        ("a[b-d]e", "aae", false),
        ("a[^b-d]e", "aze", true),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("abc?def", "abcdef", false),
        ("**/foo/bar", "dir/dir2/foo/bar", true),
        ("**/.foo", "bar.foo", false),
        ("a(b)c/def", "a(b)c/def", true),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
        (r"a\\", r"a\", true),
        (r"a\*b", "a*b", true),
        (r"a\*b", "ab", false),
        ("a*", "ab/c", true),
        ("a*/b", "a/c/b", false),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
        ("a*b?c*x", "abxbbxdbxebxczzy", false),
        ("a?b", "a☺b", true),
        ("a???b", "a☺b", false),
        ("[a-ζ]*", "α", true),
        ("*[a-ζ]", "A", false),
        ("a?b", "a/b", false),
        (r"[\]a]", "]", true),
        (r"[x\-]", "-", true),
        (r"[\-x]", "a", false),
        ("*x", "xxx", true),
    ] {
        assert_eq!(ignored(pattern, path), expected, "{pattern} {path}");
    }
}

#[test]
fn a_bang_in_a_class_is_an_ordinary_character() {
    assert!(ignored("a[!b]c", "a!c"));
    assert!(!ignored("a[!b]c", "axc"));
}

#[test]
fn the_last_match_wins() {
    for (patterns, path, expected) in [
        ("!fileutils.go\n*.go", "fileutils.go", true),
        ("*.go\n!fileutils.go", "fileutils.go", false),
        ("docs\n!docs/README.md", "docs/README.md", false),
        ("docs/\n!docs/README.md", "docs/other.md", true),
        ("docs/*\n!docs/README.md", "docs/README.md", false),
        ("**\n!util/docker/web", "util/docker/web/foo", false),
        (
            "**\n!util/docker/web\nutil/docker/web/foo",
            "util/docker/web/foo",
            true,
        ),
        ("**\n!dist/*.whl", "dist/a+b-1.2.whl", false),
        ("*\n!src\nsrc/**/*_test.go", "src/a/b_test.go", true),
        ("*\n!src\nsrc/**/*_test.go", "src/a/b.go", false),
        // A leading `/` hides the `!` only at first sight.
        ("*\n/!a", "a", false),
    ] {
        assert_eq!(ignored(patterns, path), expected, "{patterns:?} {path}");
    }
}

/// `MatchesUsingParentResults`: an exception that could not apply to a directory, because nothing
/// ignored it, does not cover what lies below the directory.
#[test]
fn an_exception_does_not_reach_below_a_directory_that_was_not_ignored() {
    assert!(ignored("x/y\n!x", "x/y"));
    assert!(!ignored("x\n!x", "x/y"));
}

#[test]
fn lines_are_read_as_in_moby() {
    let text = "\u{feff}# a comment\n\n  spaced  \r\n/rooted\n./dotted/\n#not\n a#b\n! kept\n";
    let patterns = Patterns::parse(text).expect("every line is valid");
    for path in ["spaced", "rooted", "dotted", "dotted/below", "a#b"] {
        assert!(patterns.ignored(path), "{path}");
    }
    for path in ["# a comment", "#not", "below/rooted", "kept"] {
        assert!(!patterns.ignored(path), "{path}");
    }
}

#[test]
fn the_root_itself_is_never_ignored() {
    assert!(!ignored("*\n.\n**", "."));
}

#[test]
fn what_is_no_pattern_is_refused_with_its_line() {
    for pattern in [
        "[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[",
    ] {
        let text = format!("ok\n{pattern}");
        let expected = PatternError::Syntax {
            line: 2,
            pattern: pattern.to_owned(),
        };
        assert_eq!(Patterns::parse(&text).err(), Some(expected), "{pattern}");
    }
    assert_eq!(
        Patterns::parse("a\n\n!").err(),
        Some(PatternError::LoneException { line: 3 })
    );
}

/// What moby says is "syntax error in pattern".
#[test]
fn what_becomes_no_regular_expression_is_explained() {
    for (pattern, expected) in [
        ("a*[", "`^a[^/]*[$`, in which a `[` is not closed"),
        ("a[c-a]", "`^a[c-a]$`, in which the range `c-a` is empty"),
        ("[a-*]", "`^[a-[^/]*]$`, in which the range `a-[` is empty"),
        (
            "[[:letter:]]",
            "`^[[:letter:]]$`, in which `[:letter:]` is no class of characters",
        ),
        (
            r"\e",
            r"`^\e$`, in which `\e` has no meaning; leave out the backslash where the character itself is meant",
        ),
        ("*{2}", "`^[^/]*{2}$`, in which `{2}` has nothing to repeat"),
        (
            "?{1001}",
            "`^[^/]{1001}$`, in which `{1001}` is no number of times",
        ),
        (
            r"\pL",
            r"`^\pL$`, in which `\p` stands for a class of Unicode, which is not known here; list the characters",
        ),
    ] {
        let error = Patterns::parse(&format!("ok\n{pattern}")).expect_err(pattern);
        let place = format!("line 2: `{pattern}` is no valid pattern: ");
        let expected = format!("{place}it stands for the regular expression {expected}");
        assert_eq!(error.to_string(), expected);
    }
}

/// Alternatives, repetitions and anchors are moby's by accident, and a walk has to allow for them.
#[test]
fn a_walk_enters_whatever_an_expression_may_match() {
    for exception in ["!a|b*", "!^docs*", "!docs{1}*"] {
        let patterns = Patterns::parse(&format!("*\n{exception}")).expect(exception);
        assert!(patterns.may_reinclude_below("docs"), "{exception}");
    }
}

#[test]
fn the_deciding_rule_is_named() {
    let patterns = Patterns::parse("# first\n*.md\n!README.md").expect("valid");
    let rule = |path: &str| patterns.rule(&patterns.explain(path));
    let expected = |pattern: &str, line| {
        Some(Rule {
            pattern: pattern.to_owned(),
            line,
        })
    };
    assert_eq!(rule("a.md"), expected("*.md", 2));
    assert_eq!(rule("README.md"), expected("!README.md", 3));
    assert_eq!(rule("main.rs"), None);
}

#[test]
fn a_walk_enters_an_ignored_directory_only_where_an_exception_can_match() {
    for (patterns, dir, expected) in [
        ("node_modules", "node_modules", false),
        ("*\n!src/main.rs", "src", true),
        ("*\n!src/main.rs", "docs", false),
        ("*\n!src/main.rs", "src/sub", false),
        ("*\n!src/main.rs", "srcs", false),
        ("*\n!src/*/a", "src/sub", true),
        ("*\n!src/*/a", "docs", false),
        ("*\n!**/keep", "anything/at/all", true),
        ("*\n!*.md", "docs", true),
        ("*\n!a/b*/c", "a", true),
    ] {
        let parsed = Patterns::parse(patterns).expect(patterns);
        assert_eq!(
            parsed.may_reinclude_below(dir),
            expected,
            "{patterns:?} {dir}"
        );
    }
}

mod properties {
    use proptest::prelude::*;

    use super::super::Patterns;

    fn pattern() -> impl Strategy<Value = String> {
        "!?(\\*\\*/|a/|b/|\\*/){0,2}(a|b|\\*|\\*\\*|a\\*|\\?|\\[ab\\]|a\\|b\\*|\\^a\\*|a/\\{0\\}b\\?)"
    }

    fn path() -> impl Strategy<Value = String> {
        "[ab](/[ab]){0,3}"
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}", path in "\\PC{0,20}") {
            if let Ok(patterns) = Patterns::parse(&text) {
                patterns.ignored(&path);
                patterns.may_reinclude_below(&path);
            }
        }

        /// Pruning loses nothing: below an ignored directory that is not entered, nothing is
        /// wanted.
        #[test]
        fn pruning_loses_nothing(
            patterns in prop::collection::vec(pattern(), 1..5),
            path in path(),
        ) {
            let patterns = Patterns::parse(&patterns.join("\n")).expect("built to be valid");
            if !patterns.ignored(&path) {
                for (end, _) in path.match_indices('/') {
                    let dir = &path[..end];
                    prop_assert!(!patterns.ignored(dir) || patterns.may_reinclude_below(dir));
                }
            }
        }
    }
}
