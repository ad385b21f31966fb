//! The vectors are those of distribution/reference: `reference_test.go` and `normalize_test.go`.

use super::*;

const HEX: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

fn parsed(text: &str) -> Reference {
    Reference::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn names_split_into_registry_repository_tag_and_digest() {
    let digest = format!("sha256:{HEX}");
    // (text, registry, repository, tag, has digest)
    let cases = [
        ("test_com", "docker.io", "library/test_com", None, false),
        (
            "test.com:tag",
            "docker.io",
            "library/test.com",
            Some("tag"),
            false,
        ),
        (
            "test.com:5000",
            "docker.io",
            "library/test.com",
            Some("5000"),
            false,
        ),
        ("test.com/repo:tag", "test.com", "repo", Some("tag"), false),
        ("test:5000/repo", "test:5000", "repo", None, false),
        (
            "test:5000/repo:tag",
            "test:5000",
            "repo",
            Some("tag"),
            false,
        ),
        (
            "test:5000/repo:tag@DIGEST",
            "test:5000",
            "repo",
            Some("tag"),
            true,
        ),
        ("test:5000/repo@DIGEST", "test:5000", "repo", None, true),
        (
            "lowercase:Uppercase",
            "docker.io",
            "library/lowercase",
            Some("Uppercase"),
            false,
        ),
        (
            "sub-dom1.foo.com/bar/baz/quux:some-long-tag",
            "sub-dom1.foo.com",
            "bar/baz/quux",
            Some("some-long-tag"),
            false,
        ),
        (
            "b.gcr.io/test.example.com/my-app:test.example.com",
            "b.gcr.io",
            "test.example.com/my-app",
            Some("test.example.com"),
            false,
        ),
        (
            "xn--n3h.com/myimage:xn--n3h.com",
            "xn--n3h.com",
            "myimage",
            Some("xn--n3h.com"),
            false,
        ),
        (
            "foo_bar.com:8080",
            "docker.io",
            "library/foo_bar.com",
            Some("8080"),
            false,
        ),
        (
            "foo/foo_bar.com:8080",
            "docker.io",
            "foo/foo_bar.com",
            Some("8080"),
            false,
        ),
        (
            "192.168.1.1:5000/repo",
            "192.168.1.1:5000",
            "repo",
            None,
            false,
        ),
        ("[2001:db8::1]/repo", "[2001:db8::1]", "repo", None, false),
        (
            "[2001:db8:1:2:3:4:5:6]:5000/repo:tag",
            "[2001:db8:1:2:3:4:5:6]:5000",
            "repo",
            Some("tag"),
            false,
        ),
        ("[::1]:5000/repo", "[::1]:5000", "repo", None, false),
        ("localhost/repo", "localhost", "repo", None, false),
        (
            "docker.io/library/golang",
            "docker.io",
            "library/golang",
            None,
            false,
        ),
        (
            "index.docker.io/golang",
            "docker.io",
            "library/golang",
            None,
            false,
        ),
        ("user/app", "docker.io", "user/app", None, false),
        ("Foo/bar", "Foo", "bar", None, false),
        ("aa/bb--cc/d__e", "docker.io", "aa/bb--cc/d__e", None, false),
    ];
    for (text, registry, repository, tag, has_digest) in cases {
        let reference = parsed(&text.replace("DIGEST", &digest));
        assert_eq!(
            (
                reference.registry(),
                reference.repository(),
                reference.tag(),
                reference.digest().is_some()
            ),
            (registry, repository, tag, has_digest),
            "{text}"
        );
    }
}

#[test]
fn malformed_names_are_refused() {
    let long = format!("{}a:tag", "a/".repeat(128));
    let cases = [
        ":justtag",
        "@sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "repo@sha256:ffffffffffffffffffffffffffffffffff",
        "validname@invaliddigest:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "-foo/bar",
        "foo/bar-",
        "foo//bar",
        "a//b",
        "aa/asdf$$^/aa",
        "foo.com/___bar",
        "foo..bar",
        "foo/-bar",
        "test:5000/repo:",
        "test:5000/repo:tag/more:x",
        "[fe80::1%eth0]:5000/repo",
        "[2001:db8:3:4:5:6]:5000:1/repo",
        "[2001:db8::1/repo",
        "-test.com/repo",
        "test_:5000/repo",
        "repo:.tag",
        "repo:-tag",
        "x y",
        "ünïcode",
        &long,
    ];
    for text in cases {
        assert!(Reference::parse(text).is_err(), "{text}");
    }
    let tag = "a".repeat(129);
    assert!(Reference::parse(&format!("repo:{tag}")).is_err());
    assert!(Reference::parse(&format!("repo:{}", &tag[1..])).is_ok());
}

#[test]
fn errors_say_what_to_write_instead() {
    assert_eq!(Reference::parse(""), Err(ReferenceError::Empty));
    assert_eq!(
        Reference::parse(HEX),
        Err(ReferenceError::ImageId(HEX.into()))
    );
    assert_eq!(
        Reference::parse("Uppercase:tag").unwrap_err().to_string(),
        "image name \"Uppercase:tag\" has upper-case letters in its repository: use \"uppercase:tag\""
    );
    assert!(matches!(
        Reference::parse("test.com/Foo"),
        Err(ReferenceError::Uppercase(_))
    ));
    assert!(matches!(
        Reference::parse("repo@md5:00"),
        Err(ReferenceError::Digest { .. })
    ));
}

#[test]
fn the_longest_name_is_255_bytes() {
    // normalize.go counts the normalized name, registry included.
    let fits = format!("a.io/{}", "a".repeat(250));
    assert!(Reference::parse(&fits).is_ok());
    let over = format!("a.io/{}", "a".repeat(251));
    assert_eq!(
        Reference::parse(&over),
        Err(ReferenceError::TooLong(over.clone()))
    );
}

#[test]
fn display_is_the_full_name_and_familiar_the_short_one() {
    let cases = [
        (
            "golang:alpine",
            "docker.io/library/golang:alpine",
            "golang:alpine",
        ),
        ("user/app", "docker.io/user/app", "user/app"),
        ("ghcr.io/o/app:1", "ghcr.io/o/app:1", "ghcr.io/o/app:1"),
        (
            "quay.io/library/x",
            "quay.io/library/x",
            "quay.io/library/x",
        ),
    ];
    for (text, full, familiar) in cases {
        let reference = parsed(text);
        assert_eq!(
            (
                reference.to_string().as_str(),
                reference.familiar().as_str()
            ),
            (full, familiar)
        );
        assert_eq!(parsed(full), reference, "the full name means the same");
    }
}

#[test]
fn a_digest_decides_over_a_tag() {
    let reference = parsed(&format!("golang:alpine@sha256:{HEX}"));
    assert_eq!(reference.identifier(), format!("sha256:{HEX}"));
    assert_eq!(parsed("golang").identifier(), "latest");
    assert_eq!(
        reference.with_tag("edge").unwrap().to_string(),
        "docker.io/library/golang:edge"
    );
}
