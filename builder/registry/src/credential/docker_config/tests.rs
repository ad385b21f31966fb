use super::*;
use crate::credential::Keychain;

/// base64 of `user:pass`, as docker's own documentation shows the field.
const USER_PASS: &str = "dXNlcjpwYXNz";

async fn look(json: &str, registry: &str, repository: &str) -> Lookup {
    let keychain = Keychain::anonymous()
        .with_docker_config("config.json", json.as_bytes())
        .unwrap();
    keychain.lookup(registry, repository).await.unwrap()
}

fn user(name: &str, password: &str) -> Option<Credential> {
    Some(Credential::Basic {
        username: name.into(),
        password: password.into(),
    })
}

#[tokio::test]
async fn every_form_of_a_key_matches_its_host() {
    let cases = [
        ("ghcr.io", "ghcr.io"),
        ("https://ghcr.io", "ghcr.io"),
        ("https://ghcr.io/", "ghcr.io"),
        ("https://ghcr.io/v1/", "ghcr.io"),
        ("https://ghcr.io/v2/", "ghcr.io"),
        ("http://ghcr.io", "ghcr.io"),
        ("localhost:5000", "localhost:5000"),
        ("https://localhost:5000/v1/", "localhost:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("docker.io", "index.docker.io"),
    ];
    for (key, registry) in cases {
        let found = look(
            &format!(r#"{{"auths": {{"{key}": {{"auth": "{USER_PASS}"}}}}}}"#),
            registry,
            "app",
        )
        .await;
        assert_eq!(found.credential, user("user", "pass"), "{key}");
        assert_eq!(found.source.unwrap(), format!("\"{key}\" in config.json"));
    }
}

#[tokio::test]
async fn keys_of_other_hosts_do_not_match() {
    for key in [
        "ghcr.io:443",
        "xghcr.io",
        "ghcr.io.example.com",
        "quay.io",
        "ghcr.io/org",
    ] {
        let found = look(
            &format!(r#"{{"auths": {{"{key}": {{"auth": "{USER_PASS}"}}}}}}"#),
            "ghcr.io",
            "app",
        )
        .await;
        assert_eq!(found.credential, None, "{key}");
    }
}

#[tokio::test]
async fn the_longest_path_wins_and_counts_whole_parts() {
    let json = r#"{"auths": {
        "quay.io": {"username": "all", "password": "1"},
        "quay.io/team": {"username": "team", "password": "2"},
        "quay.io/team/app": {"username": "app", "password": "3"}
    }}"#;
    for (repository, expected) in [
        ("team/app", user("app", "3")),
        ("team/app/x", user("app", "3")),
        ("team/apple", user("team", "2")),
        ("teams", user("all", "1")),
    ] {
        assert_eq!(
            look(json, "quay.io", repository).await.credential,
            expected,
            "{repository}"
        );
    }
}

#[tokio::test]
async fn tokens_are_told_from_passwords() {
    let json = format!(
        r#"{{"auths": {{
        "a.io": {{"auth": "{USER_PASS}", "identitytoken": "refresh"}},
        "b.io": {{"registrytoken": "bearer"}},
        "c.io": {{"username": "u", "password": "p:q"}},
        "d.io": {{"auth": "{}"}}
    }}}}"#,
        base64::engine::general_purpose::STANDARD.encode("u:p:q")
    );
    assert_eq!(
        look(&json, "a.io", "x").await.credential,
        Some(Credential::Identity("refresh".into()))
    );
    assert_eq!(
        look(&json, "b.io", "x").await.credential,
        Some(Credential::Bearer("bearer".into()))
    );
    assert_eq!(look(&json, "c.io", "x").await.credential, user("u", "p:q"));
    assert_eq!(
        look(&json, "d.io", "x").await.credential,
        user("u", "p:q"),
        "a password may have a colon"
    );
}

#[tokio::test]
async fn documents_are_asked_in_order() {
    let first = br#"{"auths": {"a.io": {"username": "first", "password": "1"}}}"#;
    let second = br#"{"auths": {"a.io": {"username": "second", "password": "2"}, "b.io": {"username": "b", "password": "3"}}}"#;
    let keychain = Keychain::anonymous()
        .with_docker_config("first.json", first)
        .unwrap()
        .with_docker_config("second.json", second)
        .unwrap();
    let a = keychain.lookup("a.io", "x").await.unwrap();
    assert_eq!(
        (a.credential, a.source.unwrap().as_str()),
        (user("first", "1"), "\"a.io\" in first.json")
    );
    assert_eq!(
        keychain.lookup("b.io", "x").await.unwrap().credential,
        user("b", "3")
    );
}

#[tokio::test]
async fn both_kinds_of_pull_secret_are_read() {
    // The two forms of the Kubernetes documentation, "Pull an Image from a Private Registry".
    let keychain = Keychain::anonymous()
        .with_docker_config("secret a", format!(r#"{{"auths":{{"a.io":{{"username":"user","password":"pass","auth":"{USER_PASS}"}}}}}}"#).as_bytes())
        .unwrap()
        .with_legacy_dockercfg("secret b", format!(r#"{{"https://b.io/v1/":{{"email":"x@y.z","auth":"{USER_PASS}"}}}}"#).as_bytes())
        .unwrap();
    for registry in ["a.io", "b.io"] {
        assert_eq!(
            keychain.lookup(registry, "x").await.unwrap().credential,
            user("user", "pass")
        );
    }
}

#[tokio::test]
async fn a_likely_wrong_key_is_pointed_out() {
    let entry = |key: &str| format!(r#"{{"auths": {{"{key}": {{"auth": "{USER_PASS}"}}}}}}"#);
    let cases = [
        ("docker.io", "docker.io", "\"https://index.docker.io/v1/\""),
        (
            "https://hub.docker.com",
            "docker.io",
            "\"https://index.docker.io/v1/\"",
        ),
        (
            "registry.local",
            "registry.local:5000",
            "it must be \"registry.local:5000\"",
        ),
        (
            "example.com",
            "registry.example.com",
            "it must be \"registry.example.com\"",
        ),
        ("ghcr.io/other", "ghcr.io", "below ghcr.io/other only"),
    ];
    for (key, registry, expected) in cases {
        let hint = look(&entry(key), registry, "app")
            .await
            .hint
            .unwrap_or_default();
        assert!(
            hint.contains(expected) && hint.contains(key),
            "{key}: {hint}"
        );
    }
    assert_eq!(look(&entry("quay.io"), "ghcr.io", "app").await.hint, None);
    assert_eq!(
        look(&entry("https://index.docker.io/v1/"), "docker.io", "app")
            .await
            .hint,
        None
    );
}

#[tokio::test]
async fn an_entry_that_a_store_emptied_is_explained() {
    let found = look(r#"{"auths": {"ghcr.io": {}}}"#, "ghcr.io", "app").await;
    assert_eq!(found.credential, None);
    assert!(found.hint.unwrap().contains("credsStore"));
}

#[test]
fn a_malformed_document_names_file_and_key() {
    let json = DockerConfig::parse("a.json", b"{").unwrap_err();
    assert_eq!(json.to_string(), "a.json is not a Docker configuration");
    for auth in ["%%%", "dXNlcg=="] {
        let text = format!(r#"{{"auths": {{"ghcr.io": {{"auth": "{auth}"}}}}}}"#);
        let error = DockerConfig::parse("a.json", text.as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the \"auth\" of \"ghcr.io\" in a.json is not base64 of user:password"
        );
    }
    assert!(
        DockerConfig::parse("empty", b" \n").is_ok(),
        "an empty file has no credentials"
    );
}

#[test]
fn debug_output_hides_secrets() {
    let keychain =
        Keychain::anonymous().with_credential("a.io", user("me", "hunter2").unwrap(), "flag");
    assert!(!format!("{keychain:?}").contains("hunter2"));
    let config = format!(
        r#"{{"auths": {{"a.io": {{"auth": "{USER_PASS}", "identitytoken": "hunter2"}}}}}}"#
    );
    let keychain = Keychain::anonymous()
        .with_docker_config("c", config.as_bytes())
        .unwrap();
    let shown = format!("{keychain:?}");
    assert!(
        !shown.contains("hunter2") && !shown.contains(USER_PASS),
        "{shown}"
    );
}
