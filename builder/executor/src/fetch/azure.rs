//! Blobs of Azure's storage ("Get Blob"), with a shared key, a signature in the address, or a token.
//!
//! Source of the signature: "Authorize with Shared Key".

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_registry::credential::cloud::{Variables, azure};
use kiln_registry::{Client, ServiceAnswer, ServiceRequest};
use url::Url;

use super::{FetchError, checked, download};

/// The version of the protocol; bearer tokens need one that is not older than 2017-11-09.
const VERSION: &str = "2021-08-06";
/// Whom tokens for storage are meant for.
const STORAGE: &str = "https://storage.azure.com/";
/// Hosts of storage accounts in all of Azure's clouds (kaniko's list).
const SUFFIXES: [&str; 4] = [
    ".blob.core.windows.net",
    ".blob.core.chinacloudapi.cn",
    ".blob.core.cloudapi.de",
    ".blob.core.usgovcloudapi.net",
];

pub(super) fn is_host(host: &str) -> bool {
    SUFFIXES.iter().any(|suffix| {
        host.strip_suffix(suffix).is_some_and(|account| {
            !account.is_empty()
                && account
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
    })
}

/// What a request shows of who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Login {
    /// A signature that the address brings.
    #[error("with the signature of its address")]
    Address,
    /// The account's key.
    #[error("signed with AZURE_STORAGE_ACCESS_KEY")]
    Key,
    /// A token of the identity that variables or the machine give.
    #[error("with a token of Entra ID")]
    Token,
    /// Nothing: the container may be for everyone.
    #[error(
        "without a login; set AZURE_STORAGE_ACCESS_KEY or give the address a shared access signature (sig=)"
    )]
    Nothing,
}

pub(super) async fn open(
    client: &Client,
    variables: &Variables,
    url: &Url,
) -> Result<ServiceAnswer, FetchError> {
    let date = http_date();
    let mut request = ServiceRequest::new(http::Method::GET, url.clone())
        .header("x-ms-version", VERSION)
        .header("x-ms-date", &date);
    let key = variables
        .get("AZURE_STORAGE_ACCESS_KEY")
        .filter(|key| !key.is_empty());
    let mut nobody = None;
    // The address is meant for this blob; a key in the environment may be another account's.
    let login = if url.query_pairs().any(|(name, _)| name == "sig") {
        Login::Address
    } else if let Some(key) = key {
        let key = STANDARD.decode(key.trim()).map_err(|_| {
            FetchError::Setting("AZURE_STORAGE_ACCESS_KEY is not base64".to_owned())
        })?;
        request = request.header("authorization", &shared_key(url, &date, &key));
        Login::Key
    } else {
        match azure::token(client, variables, STORAGE).await {
            Ok(token) => {
                request = request.header("authorization", &format!("Bearer {token}"));
                Login::Token
            }
            Err(error) => {
                nobody = Some(error);
                Login::Nothing
            }
        }
    };
    let answer = client.service(&request).await.map_err(download)?;
    let status = answer.status();
    // The body is a page of XML around the same code.
    let code = answer.header("x-ms-error-code").map(str::to_owned);
    match code.filter(|_| !status.is_success()) {
        Some(code) => Err(FetchError::Azure {
            status: status.as_u16(),
            code,
            login,
            source: nobody,
        }),
        None => checked(Ok(answer)).await,
    }
}

fn http_date() -> String {
    jiff::Timestamp::now()
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

/// The header for a GET without further headers.
fn shared_key(url: &Url, date: &str, key: &[u8]) -> String {
    let account = url
        .host_str()
        .and_then(|host| host.split('.').next())
        .unwrap_or_default();
    let text = string_to_sign(url, account, date);
    let mac = kiln_registry::credential::cloud::hmac_sha256(key, text.as_bytes());
    format!("SharedKey {account}:{}", STANDARD.encode(mac))
}

fn string_to_sign(url: &Url, account: &str, date: &str) -> String {
    let mut parameters: Vec<(String, String)> = url
        .query_pairs()
        .map(|(name, value)| (name.to_lowercase(), value.into_owned()))
        .collect();
    parameters.sort();
    let parameters: String = parameters
        .iter()
        .map(|(name, value)| format!("\n{name}:{value}"))
        .collect();
    // GET, then eleven standard headers that this request does not have.
    format!(
        "GET{}x-ms-date:{date}\nx-ms-version:{VERSION}\n/{account}{}{parameters}",
        "\n".repeat(12),
        url.path()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_and_hosts_that_only_look_like_one() {
        assert!(is_host("team.blob.core.windows.net"));
        for host in [
            "blob.core.windows.net",
            "team.blob.core.windows.net.evil.com",
            "a.b.blob.core.windows.net",
        ] {
            assert!(!is_host(host), "{host}");
        }
    }

    /// The shape of "Authorize with Shared Key", "Blob, Queue, and File Services": verb, eleven empty headers,
    /// canonicalized headers, canonicalized resource.
    #[test]
    fn what_is_signed() {
        let url = Url::parse("https://team.blob.core.windows.net/box/path/context.tar.gz").unwrap();
        let text = string_to_sign(&url, "team", "Fri, 26 Jun 2015 23:39:12 GMT");
        assert_eq!(
            text,
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2021-08-06\n/team/box/path/context.tar.gz"
        );
    }
}
