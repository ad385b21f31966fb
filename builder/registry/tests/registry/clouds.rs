//! The built-in credential helpers against stand-ins for the clouds' services.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_registry::credential::cloud::{AwsKey, Helper, Payload, Signing, sign};
use kiln_registry::server::{
    Access, Anonymous, Password, Protection, Registry, Rights, Scheme, Serving, User,
};
use kiln_registry::{Client, Error, Keychain, Reference, ServiceRequest, Settings};

use crate::reference;
use crate::scripted::{Scripted, Seen, with};

/// Our registry with one user, on http.
async fn registry(user: &str, password: &str) -> (tempfile::TempDir, Serving) {
    let folder = tempfile::tempdir().unwrap();
    let access = Access::Protected(Protection {
        scheme: Scheme::Basic,
        users: vec![User {
            name: user.to_owned(),
            password: Password::Plain(password.to_owned()),
            rights: Rights::All,
        }],
        anonymous: Anonymous::Nothing,
    });
    let registry = Registry::open(folder.path(), access).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let serving = Serving::start(registry, address, None).await.unwrap();
    (folder, serving)
}

/// A client for which `host` is really at `address`.
fn client(host: &str, address: &str, variables: &[(&str, &str)]) -> Client {
    let mut settings = Settings::default();
    settings.host_mut(host).connect_to = Some(address.parse().unwrap());
    let variables: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let keychain = Keychain::anonymous().with_built_ins(&Helper::ALL, variables);
    Client::new(settings, keychain).unwrap()
}

fn image(host: &str) -> Reference {
    reference(&format!("{host}/app:v1"))
}

/// As ECR does it: the signature covers the request.
fn ecr(seen: &Seen) -> axum::response::Response {
    let date = seen.header("x-amz-date").unwrap_or_default().to_owned();
    let target = seen.header("x-amz-target").unwrap_or_default();
    let url = format!("http://{}/", seen.header("host").unwrap());
    let mut again = ServiceRequest::new(http::Method::POST, url.parse().unwrap())
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", target)
        .body("{}");
    let key = AwsKey {
        id: "id".to_owned(),
        secret: "secret".to_owned(),
        session: Some("session".to_owned()),
    };
    let signing = Signing {
        region: "eu-central-1",
        service: "ecr",
        time: seconds(&date),
    };
    sign(&mut again, &key, &signing, Payload::Body);
    if seen.header("authorization") != again.headers["authorization"].to_str().ok() {
        return with(400, &[], r#"{"__type": "InvalidSignatureException"}"#);
    }
    assert_eq!(
        target,
        "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
    );
    // printf AWS:pw | base64
    with(
        200,
        &[],
        r#"{"authorizationData": [{"authorizationToken": "QVdTOnB3"}]}"#,
    )
}

/// Seconds since 1970 of `YYYYMMDDTHHMMSSZ`.
fn seconds(stamp: &str) -> u64 {
    let number = |range: std::ops::Range<usize>| stamp[range].parse::<u64>().unwrap();
    let (year, month, day) = (number(0..4), number(4..6), number(6..8));
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut days: u64 = (1970..year)
        .map(|year| if leap(year) { 366 } else { 365 })
        .sum();
    let months = [
        31,
        if leap(year) { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    days += months[..usize::try_from(month).unwrap() - 1]
        .iter()
        .sum::<u64>()
        + day
        - 1;
    days * 86_400 + number(9..11) * 3600 + number(11..13) * 60 + number(13..15)
}

#[tokio::test]
async fn ecr_gives_a_password_for_its_own_hosts() {
    let (_folder, serving) = registry("AWS", "pw").await;
    let service = Scripted::start(|seen, _| ecr(seen)).await;
    let endpoint = format!("http://{}/", service.address);
    let variables = |secret: &'static str| {
        [
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_SESSION_TOKEN", "session"),
            ("AWS_ENDPOINT_URL_ECR", endpoint.as_str()),
        ]
    };
    let address = serving.address().to_string();
    let host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
    client(host, &address, &variables("secret"))
        .check_push(&image(host))
        .await
        .unwrap();
    let asked = service.seen().len();
    let other = "123456789012.dkr.ecr.eu-central-1.amazonaws.com.example.com";
    let refused = client(other, &address, &variables("secret"))
        .check_push(&image(other))
        .await;
    assert!(
        matches!(refused, Err(Error::Unauthorized { .. })),
        "{refused:?}"
    );
    assert_eq!(service.seen().len(), asked);
    // What went wrong is said where the registry refuses.
    let error = client(host, &address, &variables("wrong"))
        .check_push(&image(host))
        .await
        .unwrap_err();
    assert!(
        error.hint().unwrap().contains("InvalidSignatureException"),
        "{error:?}"
    );
}

#[tokio::test]
async fn ecr_takes_keys_of_a_web_identity_and_of_a_pod() {
    let (_folder, serving) = registry("AWS", "pw").await;
    let service = Scripted::start(|seen, _| match seen.line.as_str() {
        "POST /sts" => {
            let form = String::from_utf8_lossy(&seen.body);
            assert!(form.contains("WebIdentityToken=jwt") && form.contains("RoleArn=arn%3Aaws"), "{form}");
            with(200, &[], r#"{"AssumeRoleWithWebIdentityResponse": {"AssumeRoleWithWebIdentityResult": {"Credentials":
                {"AccessKeyId": "id", "SecretAccessKey": "secret", "SessionToken": "session"}}}}"#)
        }
        "GET /pod" => {
            assert_eq!(seen.header("authorization"), Some("pod-token"));
            with(200, &[], r#"{"AccessKeyId": "id", "SecretAccessKey": "secret", "Token": "session"}"#)
        }
        _ => ecr(seen),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let base = format!("http://{}", service.address);
    let (ecr_url, sts, pod) = (
        format!("{base}/"),
        format!("{base}/sts"),
        format!("{base}/pod"),
    );
    let (jwt, token) = (file("jwt", "jwt\n"), file("token", "pod-token"));
    let host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
    let address = serving.address().to_string();
    for variables in [
        vec![
            ("AWS_WEB_IDENTITY_TOKEN_FILE", jwt.as_str()),
            ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x"),
            ("AWS_ENDPOINT_URL_STS", sts.as_str()),
        ],
        vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", pod.as_str()),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.as_str()),
        ],
    ] {
        let all: Vec<_> = variables
            .into_iter()
            .chain([("AWS_ENDPOINT_URL_ECR", ecr_url.as_str())])
            .collect();
        client(host, &address, &all)
            .check_push(&image(host))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn acr_exchanges_a_token_of_entra() {
    let registry: Arc<std::sync::OnceLock<String>> = Arc::default();
    let own = registry.clone();
    let service = Scripted::start(move |seen, _| {
        let form = String::from_utf8_lossy(&seen.body).into_owned();
        let line = seen.line.split('?').next().unwrap().to_owned();
        match line.as_str() {
            "POST /tenant/oauth2/v2.0/token" => {
                assert!(
                    form.contains("client_secret=pw")
                        && form.contains("management.azure.com%2F.default"),
                    "{form}"
                );
                with(200, &[], r#"{"access_token": "entra"}"#)
            }
            "POST /oauth2/exchange" => {
                assert!(
                    form.contains("access_token=entra")
                        && form.contains("service=team.azurecr.io")
                        && form.contains("tenant=tenant"),
                    "{form}"
                );
                with(200, &[], r#"{"refresh_token": "refresh"}"#)
            }
            "POST /oauth2/token" => {
                assert!(
                    form.contains("grant_type=refresh_token")
                        && form.contains("refresh_token=refresh"),
                    "{form}"
                );
                with(200, &[], r#"{"access_token": "acr"}"#)
            }
            "POST /v2/app/blobs/uploads/" if seen.header("authorization") == Some("Bearer acr") => {
                with(202, &[("location", "/v2/app/blobs/uploads/1")], "")
            }
            "DELETE /v2/app/blobs/uploads/1" => with(204, &[], ""),
            _ => {
                let realm = format!(
                    "Bearer realm=\"http://{}/oauth2/token\",service=\"team.azurecr.io\"",
                    own.get().unwrap()
                );
                with(401, &[("www-authenticate", &realm)], "{}")
            }
        }
    })
    .await;
    let address = service.address.to_string();
    registry.set(address.clone()).unwrap();
    let authority = format!("http://{address}/");
    let variables = [
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_CLIENT_ID", "id"),
        ("AZURE_CLIENT_SECRET", "pw"),
        ("AZURE_AUTHORITY_HOST", authority.as_str()),
    ];
    let host = "team.azurecr.io";
    client(host, &address, &variables)
        .check_push(&image(host))
        .await
        .unwrap();
    // A look-alike hears nothing of it.
    let asked = service
        .seen()
        .iter()
        .filter(|seen| seen.line.contains("exchange"))
        .count();
    let other = "team.azurecr.io.example.com";
    client(other, &address, &variables)
        .check_push(&image(other))
        .await
        .unwrap_err();
    let exchanges = service
        .seen()
        .iter()
        .filter(|seen| seen.line.contains("exchange"))
        .count();
    assert_eq!((asked, exchanges), (1, 1));
}

#[tokio::test]
async fn google_signs_with_a_service_accounts_key_and_exchanges_other_tokens() {
    let (_folder, serving) = registry("oauth2accesstoken", "t").await;
    let service = Scripted::start(|seen, _| {
        let form = String::from_utf8_lossy(&seen.body).into_owned();
        match seen.line.as_str() {
            "POST /token" => {
                assert!(
                    form.contains("jwt-bearer") && form.contains("assertion=eyJ"),
                    "{form}"
                );
                with(200, &[], r#"{"access_token": "t"}"#)
            }
            "POST /sts" => {
                assert!(
                    form.contains("token-exchange") && form.contains("subject_token=jwt"),
                    "{form}"
                );
                with(200, &[], r#"{"access_token": "federated"}"#)
            }
            "POST /impersonate" => {
                assert_eq!(seen.header("authorization"), Some("Bearer federated"));
                with(200, &[], r#"{"accessToken": "t"}"#)
            }
            _ => with(404, &[], ""),
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let base = format!("http://{}", service.address);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)
        .unwrap()
        .serialize_pem();
    let account = serde_json::json!({"type": "service_account", "client_email": "a@b", "private_key": key, "token_uri": format!("{base}/token")});
    let jwt = file("jwt", r#"{"value": "jwt"}"#);
    let federated = serde_json::json!({
        "type": "external_account", "audience": "//iam", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("{base}/sts"), "service_account_impersonation_url": format!("{base}/impersonate"),
        "credential_source": {"file": jwt, "format": {"type": "json", "subject_token_field_name": "value"}},
    });
    let address = serving.address().to_string();
    for (name, text) in [("account", account), ("federated", federated)] {
        let path = file(name, &text.to_string());
        let variables = [("GOOGLE_APPLICATION_CREDENTIALS", path.as_str())];
        client("eu.gcr.io", &address, &variables)
            .check_push(&image("eu.gcr.io"))
            .await
            .unwrap();
    }
}
