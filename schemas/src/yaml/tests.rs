//! Expected values were taken from Go: `sigs.k8s.io/yaml` 1.3 for manifests
//! and `yaml.v3` for configuration.

use serde_json::{Value, json};

use super::*;

fn config(scalar: &str) -> Value {
    parse(&format!("a: {scalar}\n"), "f").unwrap()[0].to_value()["a"].clone()
}

fn manifest(scalar: &str) -> Value {
    manifests(&format!("a: {scalar}\n"), "f").unwrap()[0]["a"].clone()
}

#[test]
fn scalars_mean_what_they_mean_in_go() {
    // text, as kubectl reads it, as yaml.v3 reads it
    let rows = [
        ("yes", json!(true), json!("yes")),
        ("Off", json!(false), json!("Off")),
        ("y", json!(true), json!("y")),
        ("n", json!(false), json!("n")),
        ("true", json!(true), json!(true)),
        ("0777", json!(511), json!(511)),
        ("0o777", json!(511), json!(511)),
        ("0x1F", json!(31), json!(31)),
        ("-0b101", json!(-5), json!(-5)),
        ("08", json!(8), json!(8.0)),
        ("1_000", json!(1000), json!(1000)),
        ("1e3", json!(1000), json!(1000.0)),
        ("1.0", json!(1), json!(1.0)),
        ("1.5", json!(1.5), json!(1.5)),
        ("123e99999", json!("123e99999"), json!("123e99999")),
        ("12:30:45", json!("12:30:45"), json!("12:30:45")),
        ("2020-01-01", json!("2020-01-01"), json!("2020-01-01")),
        ("!!binary aGk=", json!("hi"), json!("hi")),
        ("!!str 12", json!("12"), json!("12")),
        ("'12'", json!("12"), json!("12")),
        ("~", Value::Null, Value::Null),
        ("", Value::Null, Value::Null),
        ("1.2.3", json!("1.2.3"), json!("1.2.3")),
        ("18446744073709551615", json!(u64::MAX), json!(u64::MAX)),
    ];
    for (text, kubectl, v3) in rows {
        assert_eq!(manifest(text), kubectl, "kubectl: {text}");
        assert_eq!(config(text), v3, "yaml.v3: {text}");
    }
    assert!(manifests("a: .inf\n", "f").is_err());
}

#[test]
fn keys_of_manifests_are_decoded_too() {
    let read = manifests("yes: 1\n0777: 2\n", "f").unwrap();
    assert_eq!(read[0], json!({"true": 1, "511": 2}));
}

#[test]
fn merge_keys_lose_against_own_keys() {
    let text = "\
base: &base {a: 1, b: 1}
more: &more {b: 2, c: 2}
own: {<<: [*base, *more], a: 0}
";
    let read = parse(text, "f").unwrap()[0].to_value();
    assert_eq!(read["own"], json!({"a": 0, "b": 1, "c": 2}));
}

#[test]
fn empty_documents_are_dropped_and_many_are_read() {
    assert_eq!(
        manifests("---\n# nothing\n---\na: 1\n---\n---\nnull\n", "f")
            .unwrap()
            .len(),
        1
    );
    let many = "---\na: 1\n".repeat(3000);
    assert_eq!(manifests(&many, "f").unwrap().len(), 3000);
}

#[test]
fn nodes_know_where_they_were_written() {
    let node = parse("a:\n  - {b: föö, c: x}\n", "f").unwrap().remove(0);
    let span = &node.pointer("/a/0/c").unwrap().span;
    assert_eq!((span.line, span.column, span.length), (2, 17, 1));
    assert_eq!(span.line_text(), Some("  - {b: föö, c: x}"));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let message = |text: &str| parse(text, "f").unwrap_err().to_string();
    assert_eq!(
        message("a: 1\nb: 2\na: 3\n"),
        "f:3:1: `a` stands twice in the same mapping"
    );
    assert!(
        message("a:\n\t- b\n").starts_with("f:2:"),
        "{}",
        message("a:\n\t- b\n")
    );
    assert!(
        message("a: *nowhere\n").starts_with("f:1:4: "),
        "{}",
        message("a: *nowhere\n")
    );
    assert_eq!(
        message("a: !custom 1\n"),
        "f:1:12: the tag `!custom` is not understood"
    );
    assert_eq!(
        message("a: &a [*a]\n"),
        "f:1:8: this alias stands inside the value that it names"
    );
}

#[test]
fn aliases_cannot_grow_without_bound() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let error = parse(&text, "f").unwrap_err();
    assert!(
        error.message.starts_with("aliases expand to more than"),
        "{error}"
    );
}

#[test]
fn what_is_written_is_read_back_alike_by_both_rules() {
    let traps = [
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "null",
        "~",
        "",
        "0777",
        "0o17",
        "1_000",
        "1e3",
        "1.0",
        "12:30:45",
        "2020-01-01",
        "=",
        "<<",
        "- a",
        "a: b",
        "#",
        "a #b",
        " a",
        "a ",
        "a\nb\n",
        "tab\there",
        "'",
        "\"",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        ".inf",
        "0x1F",
        "é",
        "true",
        "a\n\n b \n",
        "{a}",
        "[a]",
        "?",
        ":",
        "a:",
        "---",
        "...",
    ];
    let long = "word ".repeat(60);
    for text in traps.into_iter().chain([long.as_str()]) {
        let value = json!({"key": text, "list": [text], text: 1});
        let written = to_string(std::slice::from_ref(&value)).unwrap();
        assert_eq!(
            manifests(&written, "f").unwrap(),
            std::slice::from_ref(&value),
            "{written}"
        );
        assert_eq!(
            parse(&written, "f").unwrap()[0].to_value(),
            value,
            "{written}"
        );
        assert!(!written.contains(">-"), "folded: {written}");
    }
}

#[test]
fn documents_are_separated() {
    let text = to_string(&[json!({"a": 1}), json!({"b": []})]).unwrap();
    assert_eq!(text, "a: 1\n---\nb: []\n");
}
