//! What holds for every text: it is read or refused, without a panic, at a place that is in it.

use std::collections::BTreeMap;

use kiln_dockerfile::expand::{expand, expand_words};
use kiln_dockerfile::instruction::Escape;
use kiln_dockerfile::{ParseError, lint, parse, parse_onbuild};
use proptest::prelude::*;

/// Pieces of the language in any order: most texts get past the first line.
fn dockerfile() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "FROM a",
        "AS b",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "ARG ",
        "ONBUILD ",
        "HEALTHCHECK ",
        "CMD ",
        "SHELL ",
        "VOLUME ",
        "# c",
        "# escape=`",
        "\n",
        "\n",
        "\n",
        "\\\n",
        "`\n",
        "\r\n",
        " ",
        "\t",
        "a=b",
        "\"",
        "'",
        "[\"a\",\"b\"]",
        "[",
        "<<EOF",
        "<<-'E'",
        "EOF\n",
        "E\n",
        "--from=x ",
        "--mount=type=cache,target=/x ",
        "--",
        "$a",
        "${a:-",
        "}",
        "\\",
        "é",
        "\u{feff}",
        "\u{a0}",
    ]);
    prop::collection::vec(piece, 0..25).prop_map(|pieces| pieces.concat())
}

fn stands_in(error: &ParseError, text: &str) -> bool {
    let lines = text.lines().count().max(1);
    let line = text
        .lines()
        .nth(error.line() as usize - 1)
        .unwrap_or_default();
    error.line() as usize <= lines && error.column() as usize <= line.chars().count() + 1
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![dockerfile(), "\\PC{0,200}"]) {
        match parse(&text) {
            Ok(dockerfile) => {
                lint::check(&dockerfile, &|_| Some(Vec::new()));
            }
            Err(error) => prop_assert!(stands_in(&error, &text), "{error} in {text:?}"),
        }
        // A trigger is one instruction; most texts are refused.
        parse_onbuild(&text).ok();
    }

    #[test]
    fn carriage_returns_change_nothing_but_heredocs(text in dockerfile()) {
        prop_assume!(!text.contains("<<") && !text.contains('\r'));
        let stages = |text: &str| parse(text).map(|dockerfile| dockerfile.stages);
        prop_assert_eq!(stages(&text), stages(&text.replace('\n', "\r\n")));
    }

    #[test]
    fn any_word_is_expanded_or_refused(
        word in "[$\\{\\}ab:+?#%/*\\\\\"' .-]{0,30}",
        value in "\\PC{0,20}",
    ) {
        let variables = BTreeMap::from([("a".to_owned(), value)]);
        for escape in [Escape::Backslash, Escape::Backtick] {
            let whole = expand(&word, &variables, escape);
            let words = expand_words(&word, &variables, escape);
            prop_assert_eq!(whole.is_ok(), words.is_ok());
        }
    }

    /// A word without special characters is itself.
    #[test]
    fn plain_words_stay(word in "[a-zA-Z0-9_/.:@,=+-]{0,40}") {
        let expanded = expand(&word, &BTreeMap::new(), Escape::Backslash);
        prop_assert_eq!(expanded, Ok(word));
    }
}
