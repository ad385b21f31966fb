use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::credential::Keychain;

/// A folder with `docker-credential-<name>` programs.
fn helpers(programs: &[(&str, &str)]) -> (tempfile::TempDir, Helpers) {
    let folder = tempfile::tempdir().unwrap();
    for (name, script) in programs {
        install(folder.path(), name, script);
    }
    let helpers = Helpers {
        search_path: vec![folder.path().to_owned()],
        ..Helpers::default()
    };
    (folder, helpers)
}

fn install(folder: &Path, name: &str, script: &str) {
    let path = folder.join(format!("docker-credential-{name}"));
    // Renamed into place: a file that some forked process still has open for writing cannot be run.
    let draft = folder.join("draft");
    std::fs::write(&draft, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&draft, &path).unwrap();
}

/// Answers with the URL that it was asked for as the user name.
const ECHO: &str = r#"read -r url; [ "$1" = get ] && printf '{"ServerURL":"%s","Username":"%s","Secret":"s3"}' "$url" "$url""#;

#[tokio::test]
async fn the_url_goes_in_and_the_credential_comes_out() {
    let (_folder, helpers) = helpers(&[("echo", ECHO)]);
    let found = get("echo", "ghcr.io", &helpers).await.unwrap();
    assert_eq!(
        found,
        Some(Credential::Basic {
            username: "ghcr.io".into(),
            password: "s3".into()
        })
    );
}

#[tokio::test]
async fn a_token_user_means_an_identity_token() {
    let (_folder, helpers) = helpers(&[(
        "t",
        r#"printf '{"ServerURL":"x","Username":"<token>","Secret":"refresh"}'"#,
    )]);
    assert_eq!(
        get("t", "x", &helpers).await.unwrap(),
        Some(Credential::Identity("refresh".into()))
    );
}

#[tokio::test]
async fn nothing_found_is_anonymous_and_any_other_failure_is_an_error() {
    let (_folder, helpers) = helpers(&[
        (
            "none",
            "echo 'credentials not found in native keychain'; exit 1",
        ),
        ("sick", "echo 'the vault is locked' >&2; exit 3"),
        ("odd", "echo hello"),
    ]);
    assert_eq!(get("none", "x", &helpers).await.unwrap(), None);
    let failed = get("sick", "x", &helpers).await.unwrap_err();
    assert_eq!(
        failed.to_string(),
        "docker-credential-sick failed with exit status: 3: the vault is locked"
    );
    assert!(matches!(
        get("odd", "x", &helpers).await,
        Err(HelperError::Output { .. })
    ));
    assert!(matches!(
        get("absent", "x", &helpers).await,
        Err(HelperError::Missing { .. })
    ));
    assert!(matches!(
        get("../none", "x", &helpers).await,
        Err(HelperError::Name(_))
    ));
}

#[tokio::test]
async fn a_helper_that_hangs_is_given_up() {
    let (_folder, mut helpers) = helpers(&[("slow", "sleep 600")]);
    helpers.timeout = Duration::from_millis(50);
    assert!(matches!(
        get("slow", "x", &helpers).await,
        Err(HelperError::Timeout { .. })
    ));
}

#[tokio::test]
async fn a_helper_of_the_host_goes_before_the_store_and_the_store_before_inline() {
    let (_folder, helpers) = helpers(&[
        ("echo", ECHO),
        (
            "none",
            "echo 'credentials not found in native keychain'; exit 1",
        ),
    ]);
    let lookup = async |json: &str, registry: &str| {
        let keychain = Keychain::anonymous()
            .with_docker_config("c.json", json.as_bytes())
            .unwrap();
        keychain
            .with_helpers(helpers.clone())
            .lookup(registry, "app")
            .await
            .unwrap()
    };
    let json = r#"{"credHelpers": {"a.io": "echo", "anon.io": "none"}, "credsStore": "echo",
        "auths": {"a.io": {"username": "inline", "password": "x"}, "anon.io": {"username": "inline", "password": "x"}}}"#;
    let found = lookup(json, "a.io").await;
    assert_eq!(
        found.source.unwrap(),
        "docker-credential-echo (credHelpers \"a.io\" of c.json)"
    );
    assert_eq!(
        lookup(json, "anon.io").await.credential,
        None,
        "the host's own helper has the last word"
    );
    let stored = lookup(json, "docker.io").await;
    assert_eq!(
        stored.source.unwrap(),
        "docker-credential-echo (credsStore of c.json)"
    );
    let Some(Credential::Basic { username, .. }) = stored.credential else {
        panic!("a user")
    };
    assert_eq!(
        username, "https://index.docker.io/v1/",
        "helpers know Docker Hub by this URL"
    );

    let empty_store =
        r#"{"credsStore": "none", "auths": {"a.io": {"username": "inline", "password": "x"}}}"#;
    assert_eq!(
        lookup(empty_store, "a.io").await.source.unwrap(),
        "\"a.io\" in c.json"
    );
}

#[tokio::test]
async fn a_store_that_is_not_installed_is_a_hint_and_a_missing_helper_an_error() {
    let json = br#"{"credsStore": "desktop", "credHelpers": {"gcr.io": "gcloud"}}"#;
    let keychain = Keychain::anonymous()
        .with_docker_config("c.json", json)
        .unwrap();
    let found = keychain.lookup("ghcr.io", "app").await.unwrap();
    assert_eq!(found.credential, None);
    assert!(
        found
            .hint
            .unwrap()
            .contains("docker-credential-desktop is not installed")
    );
    let error = keychain.lookup("gcr.io", "app").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "credHelpers entry \"gcr.io\" of c.json failed"
    );
}
