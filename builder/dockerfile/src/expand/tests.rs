use super::*;

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// `expected` is what BuildKit 0.33.1 gives (`frontend/dockerfile/shell`), or the error.
fn check(cases: &[(&str, Result<&str, ExpandError>)], pairs: &[(&str, &str)]) {
    let variables = variables(pairs);
    for (word, expected) in cases {
        let got = expand(word, &variables, Escape::Backslash);
        assert_eq!(got.as_deref(), expected.as_ref().copied(), "{word}");
    }
}

#[test]
fn quotes_and_escapes_go_and_protect() {
    check(
        &[
            ("plain", Ok("plain")),
            ("a b  c", Ok("a b  c")),
            ("'single $v \"'", Ok("single $v \"")),
            ("\"double $v '\"", Ok("double V '")),
            (r"\$v", Ok("$v")),
            (r"\\$v", Ok(r"\V")),
            (r"a\bc", Ok("abc")),
            (r#""a\bc""#, Ok(r"a\bc")),
            (r#""\"\$\\""#, Ok(r#""$\"#)),
            (r"trailing\", Ok("trailing")),
            (r"'a\b'", Ok(r"a\b")),
            ("pre'mid'post", Ok("premidpost")),
            ("''", Ok("")),
            ("'open", Err(ExpandError::UnclosedQuote('\''))),
            ("\"open", Err(ExpandError::UnclosedQuote('"'))),
        ],
        &[("v", "V")],
    );
}

#[test]
fn names_end_where_a_shell_ends_them() {
    check(
        &[
            ("$v", Ok("V")),
            ("${v}", Ok("V")),
            ("$v-x", Ok("V-x")),
            ("$vx", Ok("")),
            ("${v}x", Ok("Vx")),
            ("$", Ok("$")),
            ("$.", Ok("$.")),
            ("a$", Ok("a$")),
            ("$10x", Ok("x")),
            ("$unset", Ok("")),
            ("$v$v", Ok("VV")),
            ("${", Err(ExpandError::MissingBrace)),
            ("${v", Err(ExpandError::MissingBrace)),
            ("${}", Err(ExpandError::BadSubstitution)),
            ("${:-x}", Err(ExpandError::BadSubstitution)),
            ("${{v}}", Err(ExpandError::BadSubstitution)),
            ("${v!x}", Err(ExpandError::UnknownModifier("!".to_owned()))),
            ("${v:x}", Err(ExpandError::UnknownModifier(":x".to_owned()))),
        ],
        &[("v", "V")],
    );
}

#[test]
fn defaults_alternatives_and_demands() {
    let required = |name: &str, message: &str| {
        Err(ExpandError::Required {
            name: name.to_owned(),
            message: message.to_owned(),
        })
    };
    check(
        &[
            ("${v:-x}", Ok("V")),
            ("${v-x}", Ok("V")),
            ("${e:-x}", Ok("x")),
            ("${e-x}", Ok("")),
            ("${u:-x}", Ok("x")),
            ("${u-x}", Ok("x")),
            ("${v:+x}", Ok("x")),
            ("${v+x}", Ok("x")),
            ("${e:+x}", Ok("")),
            ("${e+x}", Ok("x")),
            ("${u:+x}", Ok("")),
            ("${u+x}", Ok("")),
            ("${v:?x}", Ok("V")),
            ("${v?x}", Ok("V")),
            ("${e?x}", Ok("")),
            ("${e:?no value}", required("e", "no value")),
            ("${u:?no value}", required("u", "no value")),
            ("${u?}", required("u", "is not allowed to be unset")),
            ("${e:?}", required("e", "is not allowed to be empty")),
            ("${u:-$v}", Ok("V")),
            ("${u:-${e:-${v}}}", Ok("V")),
            ("${u:-'a}b'}", Ok("a}b")),
            (r"${u:-a\}b}", Ok("a}b")),
            ("${u:-a b}", Ok("a b")),
            ("\"${u:-a b}\"", Ok("a b")),
            ("${u:-}", Ok("")),
            ("${u:-a", Err(ExpandError::MissingBrace)),
        ],
        &[("v", "V"), ("e", "")],
    );
}

#[test]
fn prefixes_and_suffixes() {
    check(
        &[
            ("${f#*/}", Ok("b/c.tar.gz")),
            ("${f##*/}", Ok("c.tar.gz")),
            ("${f%.*}", Ok("a/b/c.tar")),
            ("${f%%.*}", Ok("a/b/c")),
            ("${f#?}", Ok("/b/c.tar.gz")),
            ("${f#x}", Ok("a/b/c.tar.gz")),
            ("${f#a/$m}", Ok("/c.tar.gz")),
            ("${f#}", Ok("a/b/c.tar.gz")),
            (r"${s#\*}", Ok("star*")),
            (r"${s%\*}", Ok("*star")),
            ("${s%%s*r*}", Ok("*")),
            (
                r"${s#\x}",
                Err(ExpandError::BadPattern {
                    pattern: r"\x".to_owned(),
                    escaped: 'x',
                }),
            ),
            ("${u#a}", Ok("")),
        ],
        &[("f", "a/b/c.tar.gz"), ("m", "b"), ("s", "*star*")],
    );
}

#[test]
fn replacements() {
    check(
        &[
            ("${f/o/0}", Ok("f0o.bar")),
            ("${f//o/0}", Ok("f00.bar")),
            ("${f/o*/x}", Ok("fx")),
            ("${f//./}", Ok("foobar")),
            (r"${p//\//-}", Ok("a-b-c")),
            ("${f/$o/$n}", Ok("new.bar")),
            ("${f/zz/x}", Ok("foo.bar")),
            ("${f/o", Err(ExpandError::MissingSlash)),
            ("${f/o/x", Err(ExpandError::MissingBrace)),
            ("${u/a/b}", Ok("")),
            ("${u/*/b}", Ok("b")),
        ],
        &[("f", "foo.bar"), ("p", "a/b/c"), ("o", "foo"), ("n", "new")],
    );
}

#[test]
fn the_backtick_escapes_when_the_file_says_so() {
    let none = BTreeMap::new();
    let expanded = |word| expand(word, &none, Escape::Backtick);
    assert_eq!(expanded(r"C:\dir"), Ok(r"C:\dir".to_owned()));
    assert_eq!(expanded("`$v"), Ok("$v".to_owned()));
}

#[test]
fn words_split_at_blanks_that_nothing_protects() {
    let variables = variables(&[("two", "a b"), ("empty", "")]);
    let words = |word| expand_words(word, &variables, Escape::Backslash);
    let list = |words: &[&str]| Ok(words.iter().map(|word| (*word).to_owned()).collect());
    assert_eq!(words("x  $two y"), list(&["x", "a", "b", "y"]));
    assert_eq!(words("\"$two\" 'c d'"), list(&["a b", "c d"]));
    assert_eq!(words(r"a\ b c"), list(&["a b", "c"]));
    assert_eq!(words("$empty"), list(&[]));
}

#[test]
fn an_expansion_knows_what_it_read() {
    let variables = variables(&[("set", "1")]);
    let expansion = expansion(
        "$set ${gone} ${other:-x} '$quoted'",
        &variables,
        Escape::Backslash,
    );
    let expansion = expansion.expect("the word is valid");
    assert_eq!(expansion.used, BTreeSet::from(["set".to_owned()]));
    assert_eq!(expansion.unset, BTreeSet::from(["gone".to_owned()]));
}

#[test]
fn a_heredoc_keeps_its_quotes() {
    let variables = variables(&[("v", "V")]);
    let body = "echo \"$v\" '$v' \\$v\n";
    assert_eq!(
        expand_heredoc(body, &variables),
        Ok("echo \"V\" 'V' $v\n".to_owned())
    );
}

#[test]
fn nesting_is_bounded() {
    let none = BTreeMap::new();
    let deep = format!("{}x{}", "${a:-".repeat(100_000), "}".repeat(100_000));
    assert_eq!(
        expand(&deep, &none, Escape::Backslash),
        Err(ExpandError::TooDeep)
    );
    let allowed = format!(
        "{}x{}",
        "${a:-".repeat(MAX_NESTING),
        "}".repeat(MAX_NESTING)
    );
    assert_eq!(
        expand(&allowed, &none, Escape::Backslash),
        Ok("x".to_owned())
    );
}

#[test]
fn growth_is_bounded() {
    let long = "ab".repeat(MAX_GROWTH / 4);
    let variables = variables(&[("half", &long), ("v", "V")]);
    let expanded = |word: &str| expand(word, &variables, Escape::Backslash);
    assert_eq!(
        expanded("$half$half").map(|text| text.len()),
        Ok(MAX_GROWTH)
    );
    for word in [
        "$half${half}.$v${half}",
        "\"$half$half $half\"",
        "${half//a/$half}",
        "${half//a/12345678}",
        "${gone:-$half$half$half}",
    ] {
        assert_eq!(expanded(word), Err(ExpandError::TooLong), "{word}");
    }
    // What is long itself may be: it is in the file.
    let body = "a long text\n".repeat(MAX_GROWTH / 4);
    let expected = format!("{body}V");
    assert_eq!(
        expand_heredoc(&format!("{body}$v"), &variables),
        Ok(expected)
    );
}
