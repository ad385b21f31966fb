//! Objects of S3 and of what speaks its protocol (API reference, "GetObject").

use http::StatusCode;
use kiln_registry::credential::cloud::{AwsKey, Payload, Signing, Variables, aws, sign};
use kiln_registry::{Client, ServiceAnswer, ServiceRequest};
use url::Url;

use super::{FetchError, Object, checked};

/// Where a bucket is looked for when nobody says where it is.
const DEFAULT_REGION: &str = "us-east-1";

/// How buckets are addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `https://bucket.host/key`
    Host,
    /// `https://host/bucket/key`
    Path,
}

pub(super) async fn open(
    client: &Client,
    variables: &Variables,
    object: &Object,
) -> Result<ServiceAnswer, FetchError> {
    let region = aws::region(variables).unwrap_or(DEFAULT_REGION).to_owned();
    // Public objects need no keys.
    let key = aws::key(client, variables).await;
    if let Err(error) = &key {
        tracing::debug!(%error, "the context is asked for without a signature");
    }
    let key = key.ok();
    let answer = get(client, variables, (object, &region), key.as_ref()).await?;
    let moved = matches!(
        answer.status(),
        StatusCode::MOVED_PERMANENTLY | StatusCode::BAD_REQUEST
    );
    let other = answer.header("x-amz-bucket-region").map(str::to_owned);
    match other.filter(|other| moved && *other != region) {
        Some(other) => {
            checked(Ok(
                get(client, variables, (object, &other), key.as_ref()).await?
            ))
            .await
        }
        None => checked(Ok(answer)).await,
    }
}

async fn get(
    client: &Client,
    variables: &Variables,
    (object, region): (&Object, &str),
    key: Option<&AwsKey>,
) -> Result<ServiceAnswer, FetchError> {
    let url = address(variables, object, region)?;
    let mut request = ServiceRequest::new(http::Method::GET, url);
    if let Some(key) = key {
        let time = jiff::Timestamp::now().as_second();
        let signing = Signing {
            region,
            service: "s3",
            time: u64::try_from(time).unwrap_or_default(),
        };
        sign(&mut request, key, &signing, Payload::BodyInHeader);
    }
    client.service(&request).await.map_err(super::download)
}

/// `S3_ENDPOINT` names another server, `S3_FORCE_PATH_STYLE` how its buckets are addressed.
fn address(variables: &Variables, object: &Object, region: &str) -> Result<Url, FetchError> {
    let get = |name: &str| {
        variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    };
    let endpoint = get("S3_ENDPOINT").or_else(|| get("AWS_ENDPOINT_URL_S3"));
    let base = match endpoint {
        Some(text) if text.contains("://") => text.to_owned(),
        Some(host) => format!("https://{host}"),
        None => format!("https://s3.{region}.amazonaws.com"),
    };
    let wrong = || FetchError::Setting(format!("{base} is not the address of an object store"));
    let mut url = Url::parse(&base).map_err(|_| wrong())?;
    let is_ip = url
        .host_str()
        .is_some_and(|host| host.parse::<std::net::IpAddr>().is_ok());
    let style = match get("S3_FORCE_PATH_STYLE") {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Style::Path,
        // Neither an address nor a name with dots can stand in a host name that has a certificate.
        _ if is_ip || object.bucket.contains('.') => Style::Path,
        _ => Style::Host,
    };
    if style == Style::Host {
        let host = format!("{}.{}", object.bucket, url.host_str().unwrap_or_default());
        url.set_host(Some(&host)).map_err(|_| wrong())?;
    }
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty();
        if style == Style::Path {
            path.push(&object.bucket);
        }
        path.extend(object.key.split('/'));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_bucket_is() {
        let object = |bucket: &str| Object {
            bucket: bucket.to_owned(),
            key: "a/b c.tar.gz".to_owned(),
        };
        let url = |variables: &[(&str, &str)], bucket: &str| {
            let variables = variables
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect();
            address(&variables, &object(bucket), "eu-central-1")
                .unwrap()
                .to_string()
        };
        assert_eq!(
            url(&[], "bucket"),
            "https://bucket.s3.eu-central-1.amazonaws.com/a/b%20c.tar.gz"
        );
        assert_eq!(
            url(&[], "my.bucket"),
            "https://s3.eu-central-1.amazonaws.com/my.bucket/a/b%20c.tar.gz"
        );
        let minio = ("S3_ENDPOINT", "http://minio:9000");
        assert_eq!(
            url(&[minio], "bucket"),
            "http://bucket.minio:9000/a/b%20c.tar.gz"
        );
        let style = ("S3_FORCE_PATH_STYLE", "1");
        assert_eq!(
            url(&[minio, style], "bucket"),
            "http://minio:9000/bucket/a/b%20c.tar.gz"
        );
        assert_eq!(
            url(&[("S3_ENDPOINT", "http://127.0.0.1:9000")], "bucket"),
            "http://127.0.0.1:9000/bucket/a/b%20c.tar.gz"
        );
    }
}
