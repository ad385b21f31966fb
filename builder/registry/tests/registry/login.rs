//! Tokens, and where credentials must not go: scripted answers.

use axum::response::Response;
use kiln_registry::credential::Credential;
use kiln_registry::{Descriptor, Keychain, MediaType};
use serde_json::json;

use crate::scripted::{Scripted, Seen, client, quick, with};
use crate::{image, reference};

fn keychain(host: &str) -> Keychain {
    let credential = Credential::Basic {
        username: "me".into(),
        password: "pw".into(),
    };
    Keychain::anonymous().with_credential(host, credential, "the test")
}

fn challenge(seen: &Seen) -> Response {
    let realm = format!(
        "Bearer realm=\"http://{}/token\",service=\"s\"",
        seen.header("host").unwrap()
    );
    with(401, &[("www-authenticate", &realm)], "")
}

/// A token with its number in it.
fn token(number: usize, expires_in: u64) -> Response {
    with(
        200,
        &[],
        json!({"access_token": format!("t{number}"), "expires_in": expires_in}).to_string(),
    )
}

fn manifest() -> Response {
    let (_, manifest) = image(&[]);
    with(
        200,
        &[("content-type", manifest.media_type().as_str())],
        manifest.bytes().to_vec(),
    )
}

const TOKEN: &str = "GET /token?service=s&scope=repository%3Aapp%3Apull&account=me";

#[tokio::test]
async fn a_token_that_is_refused_later_is_replaced() {
    let server = Scripted::start(|seen, before| match seen.line.as_str() {
        TOKEN => token(before, 300),
        "GET /v2/app/manifests/v1" => match seen.header("authorization") {
            // The first token does for one request only.
            Some("Bearer t0") if before == 1 => manifest(),
            Some("Bearer t1") => manifest(),
            _ => challenge(seen),
        },
        _ => with(404, &[], ""),
    })
    .await;
    let client = client(quick(), keychain(&server.host()));
    let name = reference(&format!("{}/app:v1", server.host()));
    client.manifest(&name).await.unwrap();
    client.manifest(&name).await.unwrap();
    assert_eq!(server.count(TOKEN), 2);
    assert_eq!(server.count("GET /v2/app/manifests/v1"), 4);
}

#[tokio::test]
async fn a_token_is_replaced_before_it_expires() {
    let server = Scripted::start(|seen, before| match seen.line.as_str() {
        TOKEN => token(before, 1),
        "GET /v2/app/manifests/v1" if seen.header("authorization").is_some() => manifest(),
        "GET /v2/app/manifests/v1" => challenge(seen),
        _ => with(404, &[], ""),
    })
    .await;
    let client = client(quick(), keychain(&server.host()));
    let name = reference(&format!("{}/app:v1", server.host()));
    client.manifest(&name).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    client.manifest(&name).await.unwrap();
    assert_eq!(server.count(TOKEN), 2);
    assert_eq!(
        server.count("GET /v2/app/manifests/v1"),
        3,
        "the second was not refused first"
    );
}

#[tokio::test]
async fn a_server_that_knows_only_the_oauth_form_gets_it() {
    let server = Scripted::start(|seen, before| match seen.line.as_str() {
        TOKEN => with(405, &[], ""),
        "POST /token" => token(before, 300),
        "GET /v2/app/manifests/v1" if seen.header("authorization") == Some("Bearer t0") => {
            manifest()
        }
        "GET /v2/app/manifests/v1" => challenge(seen),
        _ => with(404, &[], ""),
    })
    .await;
    let client = client(quick(), keychain(&server.host()));
    client
        .manifest(&reference(&format!("{}/app:v1", server.host())))
        .await
        .unwrap();
    let post = server
        .seen()
        .into_iter()
        .find(|seen| seen.line == "POST /token")
        .unwrap();
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&post.body)
        .into_owned()
        .collect();
    for (name, value) in [
        ("grant_type", "password"),
        ("username", "me"),
        ("password", "pw"),
        ("scope", "repository:app:pull"),
    ] {
        assert!(form.contains(&(name.into(), value.into())), "{form:?}");
    }
}

#[tokio::test]
async fn a_redirect_to_another_host_carries_no_credentials() {
    let content = b"the layer";
    let storage = Scripted::start(|_, _| with(200, &[], &b"the layer"[..])).await;
    let location = format!("http://{}/bucket/blob?signature=s3cret", storage.address);
    let server = Scripted::start(move |seen, _| {
        if seen.line == "GET /v2/" {
            return with(200, &[], "");
        }
        match seen.header("authorization") {
            Some(_) => with(307, &[("location", &location)], ""),
            None => with(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
        }
    })
    .await;
    let client = client(quick(), keychain(&server.host()));
    let descriptor = Descriptor::of(MediaType::OciLayer, content);
    let name = reference(&format!("{}/app", server.host()));
    assert_eq!(
        client.blob_bytes(&name, &descriptor, 100).await.unwrap(),
        &content[..]
    );
    let seen = storage.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].line, "GET /bucket/blob?signature=s3cret");
    assert_eq!(seen[0].header("authorization"), None);
    assert!(
        server
            .seen()
            .iter()
            .any(|seen| seen.header("authorization").is_some()),
        "the registry itself was logged in to"
    );
}

#[tokio::test]
async fn a_redirect_on_the_same_host_keeps_them() {
    let server =
        Scripted::start(
            |seen, _| match (seen.line.as_str(), seen.header("authorization")) {
                ("GET /v2/", _) => with(200, &[], ""),
                (_, None) => with(401, &[("www-authenticate", "Basic")], ""),
                ("GET /elsewhere", Some(_)) => manifest(),
                _ => with(302, &[("location", "/elsewhere")], ""),
            },
        )
        .await;
    let client = client(quick(), keychain(&server.host()));
    client
        .manifest(&reference(&format!("{}/app:v1", server.host())))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_upload_that_is_sent_to_another_host_carries_no_credentials() {
    let storage = Scripted::start(|_, _| with(201, &[], "")).await;
    let location = format!("http://{}/upload?x=1", storage.address);
    let server =
        Scripted::start(
            move |seen, _| match (seen.line.as_str(), seen.header("authorization")) {
                (_, None) => with(401, &[("www-authenticate", "Basic")], ""),
                ("POST /v2/app/blobs/uploads/", _) => with(202, &[("location", &location)], ""),
                _ => with(404, &[], ""),
            },
        )
        .await;
    let client = client(quick(), keychain(&server.host()));
    let name = reference(&format!("{}/app", server.host()));
    let blob = kiln_registry::BlobSource::bytes(&b"x"[..]);
    client
        .push_blob(&name, &blob, &kiln_registry::Progress::silent())
        .await
        .unwrap();
    let seen = storage.seen();
    let expected = format!(
        "PUT /upload?x=1&digest={}",
        blob.digest().to_string().replace(':', "%3A")
    );
    assert_eq!(
        (seen[0].line.as_str(), seen[0].header("authorization")),
        (expected.as_str(), None)
    );
    assert_eq!(seen[0].body, &b"x"[..]);
}

#[tokio::test]
async fn a_registry_token_is_sent_as_it_is() {
    let server = Scripted::start(|seen, _| match seen.header("authorization") {
        Some("Bearer verbatim") => manifest(),
        _ => challenge(seen),
    })
    .await;
    let keychain = Keychain::anonymous().with_credential(
        &server.host(),
        Credential::Bearer("verbatim".into()),
        "the test",
    );
    client(quick(), keychain)
        .manifest(&reference(&format!("{}/app:v1", server.host())))
        .await
        .unwrap();
    assert!(!server.lines().iter().any(|line| line.contains("/token")));
}
