//! Signature Version 4 of AWS, which other object stores understand too.
//!
//! Source: "Signature Version 4 for API requests" and, for S3, "Authenticating Requests: Using the Authorization
//! Header".

use aws_lc_rs::hmac;

use crate::client::service::ServiceRequest;
use crate::digest::Digest;

/// Keys of AWS.
#[derive(Clone, PartialEq, Eq)]
pub struct AwsKey {
    /// Access key id.
    pub id: String,
    /// Secret access key.
    pub secret: String,
    /// Of temporary keys.
    pub session: Option<String>,
}

impl std::fmt::Debug for AwsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AwsKey({}, …)", self.id)
    }
}

/// What a signature holds for.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'s> {
    /// For example `eu-central-1`.
    pub region: &'s str,
    /// `s3`, `ecr`, …
    pub service: &'s str,
    /// Seconds since 1970.
    pub time: u64,
}

/// What of a body is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Its hash.
    Body,
    /// Its hash, in a header of its own as S3 wants it.
    BodyInHeader,
}

/// Adds the headers that sign `request` as it stands; nothing of it may be changed afterwards.
pub fn sign(request: &mut ServiceRequest, key: &AwsKey, signing: &Signing<'_>, payload: Payload) {
    let stamp = stamp(signing.time);
    let day = &stamp[..8];
    let hash = Digest::sha256(&request.body).hex().to_owned();
    let mut signed = std::mem::replace(
        request,
        ServiceRequest::new(request.method.clone(), request.url.clone()),
    );
    signed = signed.header("x-amz-date", &stamp);
    if payload == Payload::BodyInHeader {
        signed = signed.header("x-amz-content-sha256", &hash);
    }
    if let Some(session) = &key.session {
        signed = signed.header("x-amz-security-token", session);
    }
    let host = match (signed.url.host_str(), signed.url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    let mut headers: Vec<(String, String)> = signed
        .headers
        .iter()
        .filter_map(|(name, value)| {
            Some((
                name.as_str().to_owned(),
                value.to_str().ok()?.trim().to_owned(),
            ))
        })
        .chain([("host".to_owned(), host)])
        .collect();
    headers.sort();
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{names}\n{hash}",
        signed.method,
        path(&signed.url, signing.service),
        query(&signed.url),
    );
    let scope = format!("{day}/{}/{}/aws4_request", signing.region, signing.service);
    let text = format!(
        "AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}",
        Digest::sha256(canonical.as_bytes()).hex()
    );
    let mut secret = format!("AWS4{}", key.secret).into_bytes();
    for part in [day, signing.region, signing.service, "aws4_request"] {
        secret = mac(&secret, part);
    }
    let signature: String = mac(&secret, &text)
        .iter()
        .fold(String::new(), |mut text, byte| {
            use std::fmt::Write as _;
            let _ = write!(text, "{byte:02x}");
            text
        });
    *request = signed.header(
        "authorization",
        &format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            key.id
        ),
    );
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac_sha256(key, text.as_bytes())
}

/// HMAC with SHA-256 (RFC 2104), for signatures of object stores.
#[must_use]
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, message).as_ref().to_vec()
}

/// S3 signs the path as it is sent, other services encode it once more.
fn path(url: &url::Url, service: &str) -> String {
    let path = url.path();
    if service == "s3" {
        return path.to_owned();
    }
    path.split('/').map(encoded).collect::<Vec<_>>().join("/")
}

fn query(url: &url::Url) -> String {
    let mut pairs: Vec<(String, String)> = url
        .query_pairs()
        .map(|(name, value)| (encoded(&name), encoded(&value)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// Percent-encoding with AWS' set of letters that stay.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// `YYYYMMDDTHHMMSSZ`; the days are counted as in "chrono-compatible low-level date algorithms" (H. Hinnant).
fn stamp(time: u64) -> String {
    let (days, rest) = (time / 86_400 + 719_468, time % 86_400);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    fn signature(request: &ServiceRequest) -> String {
        let text = request.headers["authorization"].to_str().unwrap();
        text.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    /// `get-vanilla` of AWS' test suite for Signature Version 4.
    #[test]
    fn a_published_example() {
        let key = AwsKey {
            id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session: None,
        };
        let signing = Signing {
            region: "us-east-1",
            service: "service",
            time: 1_440_938_160,
        };
        let url = "https://example.amazonaws.com/".parse().unwrap();
        let mut request = ServiceRequest::new(Method::GET, url);
        sign(&mut request, &key, &signing, Payload::Body);
        assert_eq!(request.headers["x-amz-date"], "20150830T123600Z");
        assert_eq!(
            signature(&request),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
    }

    /// "Example: GET Object" of S3's documentation.
    #[test]
    fn a_published_example_of_s3() {
        let key = AwsKey {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            session: None,
        };
        let signing = Signing {
            region: "us-east-1",
            service: "s3",
            time: 1_369_353_600,
        };
        let url = "https://examplebucket.s3.amazonaws.com/test.txt"
            .parse()
            .unwrap();
        let mut request = ServiceRequest::new(Method::GET, url).header("range", "bytes=0-9");
        sign(&mut request, &key, &signing, Payload::BodyInHeader);
        assert_eq!(
            signature(&request),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }
}
