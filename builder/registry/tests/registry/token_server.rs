//! A token server as distribution's documentation describes it, signing with ES256.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::json;

use crate::scripted::with;

pub const SERVICE: &str = "kiln-test";
pub const ISSUER: &str = "kiln-test-issuer";
/// May do everything.
pub const ADMIN: (&str, &str) = ("admin", "secret");
/// May pull.
pub const READER: (&str, &str) = ("reader", "secret");
/// A refresh token of the administrator.
pub const REFRESH: &str = "refresh-me";

pub struct TokenServer {
    pub address: SocketAddr,
    pub certificate: String,
    requests: Arc<Mutex<Vec<String>>>,
    server: tokio::task::JoinHandle<()>,
}

struct Signer {
    key: EcdsaKeyPair,
    certificate: Vec<u8>,
}

impl TokenServer {
    pub async fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let signer = Arc::new(Signer {
            key: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.serialized_der())
                .unwrap(),
            certificate: certificate.der().to_vec(),
        });
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = requests.clone();
        let handler = move |request: Request| {
            let (signer, log) = (signer.clone(), log.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                log.lock()
                    .unwrap()
                    .push(format!("{} {}", parts.method, parts.uri));
                let form = if parts.method == "POST" {
                    body.to_vec()
                } else {
                    parts.uri.query().unwrap_or_default().into()
                };
                let fields: Vec<(String, String)> =
                    url::form_urlencoded::parse(&form).into_owned().collect();
                let basic = parts
                    .headers
                    .get("authorization")
                    .map(|value| value.to_str().unwrap().to_owned());
                answer(&signer, &fields, basic.as_deref())
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(handler);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            certificate: certificate.pem(),
            requests,
            server,
        }
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn answer(signer: &Signer, fields: &[(String, String)], basic: Option<&str>) -> Response {
    let field = |name: &str| {
        fields
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let is = |(user, password): (&str, &str)| {
        basic == Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))).as_str())
    };
    let refreshed =
        field("grant_type") == Some("refresh_token") && field("refresh_token") == Some(REFRESH);
    let may_push = is(ADMIN) || refreshed;
    if !may_push && !is(READER) {
        return with(
            401,
            &[],
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#,
        );
    }
    assert_eq!(field("service"), Some(SERVICE));
    let scopes = fields
        .iter()
        .filter(|(key, _)| key == "scope")
        .flat_map(|(_, value)| value.split(' '));
    let access: Vec<_> = scopes
        .filter(|scope| !scope.is_empty())
        .map(|scope| {
            let mut parts = scope.splitn(3, ':');
            let (kind, name, actions) = (
                parts.next().unwrap(),
                parts.next().unwrap(),
                parts.next().unwrap(),
            );
            let actions: Vec<&str> = actions
                .split(',')
                .filter(|action| may_push || *action == "pull")
                .collect();
            json!({"type": kind, "name": name, "actions": actions})
        })
        .collect();
    let token = signer.sign(&access);
    with(
        200,
        &[("content-type", "application/json")],
        json!({"token": token, "expires_in": 300}).to_string(),
    )
}

impl Signer {
    fn sign(&self, access: &[serde_json::Value]) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let header =
            json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.certificate)]});
        let claims = json!({
            "iss": ISSUER, "sub": "test", "aud": SERVICE, "jti": now.to_string(),
            "iat": now, "nbf": now - 60, "exp": now + 300, "access": access,
        });
        let signed = [header, claims]
            .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()))
            .join(".");
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
