//! Google's application default credentials: a key file, a user's own login, workload identity federation, or the
//! metadata server of the machine or pod.
//!
//! Sources: "How Application Default Credentials works", RFC 7523 for service accounts, RFC 8693 for federation.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::json;

use super::{
    CloudError, Credential, Variables, address, decoded, json as ask, nearby, now, read, variable,
};
use crate::client::Client;
use crate::client::service::ServiceRequest;

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const METADATA: &str = "metadata.google.internal";

/// Whether a registry is Google's.
pub(super) fn is_host(registry: &str) -> bool {
    registry == "gcr.io" || registry.ends_with(".gcr.io") || registry.ends_with(".pkg.dev")
}

/// How Google's registries take an access token.
pub(super) fn login(token: String) -> Credential {
    Credential::Basic {
        username: "oauth2accesstoken".to_owned(),
        password: token,
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum KeyFile {
    ServiceAccount(ServiceAccount),
    AuthorizedUser {
        client_id: String,
        client_secret: String,
        refresh_token: String,
    },
    ExternalAccount(ExternalAccount),
    ImpersonatedServiceAccount {},
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct ServiceAccount {
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: String,
    token_uri: Option<String>,
}

#[derive(Deserialize)]
struct ExternalAccount {
    audience: String,
    subject_token_type: String,
    token_url: String,
    service_account_impersonation_url: Option<String>,
    credential_source: CredentialSource,
}

#[derive(Deserialize)]
struct CredentialSource {
    file: Option<String>,
    url: Option<String>,
    #[serde(default)]
    format: Format,
}

#[derive(Default, Deserialize)]
struct Format {
    subject_token_field_name: Option<String>,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    access_token: String,
}

/// An access token for Google's services.
///
/// # Errors
/// [`CloudError`], also where nothing identifies this machine.
pub async fn token(client: &Client, variables: &Variables) -> Result<String, CloudError> {
    if let Some(path) = key_file(variables) {
        let text = read(&path)?;
        return of_file(client, &path, &text).await;
    }
    let host = variable(variables, "GCE_METADATA_HOST").unwrap_or(METADATA);
    let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
    let request =
        ServiceRequest::new(Method::GET, address(&url)?).header("metadata-flavor", "Google");
    let body = nearby(client, &request).await?;
    Ok(decoded::<Token>(host, &body)?.access_token)
}

/// `GOOGLE_APPLICATION_CREDENTIALS`, or what `gcloud auth application-default login` left.
fn key_file(variables: &Variables) -> Option<String> {
    if let Some(path) = variable(variables, "GOOGLE_APPLICATION_CREDENTIALS") {
        return Some(path.to_owned());
    }
    let folder = match variable(variables, "CLOUDSDK_CONFIG") {
        Some(folder) => folder.to_owned(),
        None => format!("{}/.config/gcloud", variable(variables, "HOME")?),
    };
    let path = format!("{folder}/application_default_credentials.json");
    std::path::Path::new(&path).is_file().then_some(path)
}

async fn of_file(client: &Client, path: &str, text: &str) -> Result<String, CloudError> {
    match decoded::<KeyFile>(path, text.as_bytes())? {
        KeyFile::ServiceAccount(account) => {
            let uri = account.token_uri.as_deref().unwrap_or(TOKEN_URI);
            let assertion = assertion(&account, uri).ok_or_else(|| CloudError::Content {
                what: path.to_owned(),
                why: "its private key cannot be used".to_owned(),
            })?;
            let fields = [
                ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
                ("assertion", assertion.as_str()),
            ];
            grant(client, uri, &fields).await
        }
        KeyFile::AuthorizedUser {
            client_id,
            client_secret,
            refresh_token,
        } => {
            let fields = [
                ("grant_type", "refresh_token"),
                ("client_id", client_id.as_str()),
                ("client_secret", client_secret.as_str()),
                ("refresh_token", refresh_token.as_str()),
            ];
            grant(client, TOKEN_URI, &fields).await
        }
        KeyFile::ExternalAccount(account) => federated(client, &account).await,
        KeyFile::ImpersonatedServiceAccount {} | KeyFile::Other => Err(CloudError::Content {
            what: path.to_owned(),
            why: "its type is none of service_account, authorized_user and external_account"
                .to_owned(),
        }),
    }
}

async fn grant(client: &Client, uri: &str, fields: &[(&str, &str)]) -> Result<String, CloudError> {
    let request = ServiceRequest::new(Method::POST, address(uri)?).form(fields);
    Ok(ask::<Token>(client, &request).await?.access_token)
}

/// The signed claim that we are this account.
fn assertion(account: &ServiceAccount, audience: &str) -> Option<String> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(account.private_key.as_bytes()).ok()?;
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()?;
    let now = now();
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": account.private_key_id});
    let claims = json!({
        "iss": account.client_email, "scope": SCOPE, "aud": audience, "iat": now, "exp": now + 3600,
    });
    let signed = [header, claims]
        .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()))
        .join(".");
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .ok()?;
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// A token of somebody else (a CI system, Kubernetes) is exchanged, perhaps for that of a service account.
async fn federated(client: &Client, account: &ExternalAccount) -> Result<String, CloudError> {
    let subject = subject_token(client, &account.credential_source).await?;
    let fields = [
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        ("audience", account.audience.as_str()),
        ("scope", SCOPE),
        (
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        ("subject_token_type", account.subject_token_type.as_str()),
        ("subject_token", subject.as_str()),
    ];
    let token = grant(client, &account.token_url, &fields).await?;
    let Some(url) = &account.service_account_impersonation_url else {
        return Ok(token);
    };
    let request = ServiceRequest::new(Method::POST, address(url)?)
        .header("authorization", &format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(json!({"scope": [SCOPE]}).to_string());
    Ok(ask::<Impersonated>(client, &request).await?.access_token)
}

async fn subject_token(client: &Client, source: &CredentialSource) -> Result<String, CloudError> {
    let text = match (&source.file, &source.url) {
        (Some(path), _) => read(path)?,
        (None, Some(url)) => {
            let request = ServiceRequest::new(Method::GET, address(url)?);
            String::from_utf8_lossy(&nearby(client, &request).await?).into_owned()
        }
        (None, None) => {
            return Err(CloudError::Nothing(
                "workload identity federation is known with a file or a URL as credential_source",
            ));
        }
    };
    let Some(field) = &source.format.subject_token_field_name else {
        return Ok(text.trim().to_owned());
    };
    let value: serde_json::Value = decoded("the subject token", text.as_bytes())?;
    let token = value.get(field).and_then(serde_json::Value::as_str);
    token.map(str::to_owned).ok_or_else(|| CloudError::Content {
        what: "the subject token".to_owned(),
        why: format!("it has no field {field}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_only_look_like_googles() {
        for host in ["gcr.io", "eu.gcr.io", "europe-north1-docker.pkg.dev"] {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "evil-gcr.io",
            "gcr.io.evil.com",
            "pkg.dev.evil.com",
            "docker.io",
        ] {
            assert!(!is_host(host), "{host}");
        }
    }
}
