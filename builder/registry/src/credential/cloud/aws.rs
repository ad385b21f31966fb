//! Amazon: who we are (the chain of its SDKs), and what ECR takes for a password.
//!
//! Sources: "AWS SDKs and Tools Reference Guide, Standardized credential providers"; ECR's API reference,
//! GetAuthorizationToken.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde::Deserialize;

use super::sign::{AwsKey, Payload, Signing, sign};
use super::{
    CloudError, Credential, Variables, address, decoded, json, nearby, read, success, variable,
};
use crate::client::Client;
use crate::client::service::ServiceRequest;

/// The service of the machine that knows its role.
const INSTANCE: &str = "http://169.254.169.254";
/// The same for a container of ECS.
const CONTAINER: &str = "http://169.254.170.2";

/// A registry of ECR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registry {
    region: String,
    /// `amazonaws.com` or its counterpart elsewhere.
    domain: String,
    public: bool,
    fips: bool,
}

impl Registry {
    /// `<account>.dkr.ecr[-fips].<region>.amazonaws.com[.cn]`, or `public.ecr.aws`.
    pub(super) fn of_host(host: &str) -> Option<Self> {
        if host == "public.ecr.aws" {
            return Some(Self {
                region: "us-east-1".to_owned(),
                domain: "amazonaws.com".to_owned(),
                public: true,
                fips: false,
            });
        }
        let domain = [
            "amazonaws.com",
            "amazonaws.com.cn",
            "c2s.ic.gov",
            "sc2s.sgov.gov",
        ]
        .into_iter()
        .find(|domain| host.ends_with(&format!(".{domain}")))?;
        let labels: Vec<&str> = host[..host.len() - domain.len() - 1].split('.').collect();
        let [account, "dkr", service @ ("ecr" | "ecr-fips"), region] = labels.as_slice() else {
            return None;
        };
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Self {
            region: (*region).to_owned(),
            domain: domain.to_owned(),
            public: false,
            fips: *service == "ecr-fips",
        })
    }

    fn endpoint(&self, variables: &Variables) -> String {
        let (service, own) = if self.public {
            ("ecr-public", "AWS_ENDPOINT_URL_ECR_PUBLIC")
        } else {
            ("ecr", "AWS_ENDPOINT_URL_ECR")
        };
        let named = variable(variables, own).or_else(|| variable(variables, "AWS_ENDPOINT_URL"));
        if let Some(url) = named {
            return url.to_owned();
        }
        let service = if self.fips { "ecr-fips" } else { service };
        format!("https://api.{service}.{}.{}/", self.region, self.domain)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    authorization_data: Data,
}

/// A list in one API, a single one in the other.
#[derive(Deserialize)]
#[serde(untagged)]
enum Data {
    Many(Vec<Entry>),
    One(Entry),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    authorization_token: String,
}

/// User and password for a registry of ECR.
pub(super) async fn login(
    client: &Client,
    variables: &Variables,
    registry: &Registry,
) -> Result<Credential, CloudError> {
    let key = key(client, variables).await?;
    let (target, service) = if registry.public {
        ("SpencerFrontendService.GetAuthorizationToken", "ecr-public")
    } else {
        (
            "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
            "ecr",
        )
    };
    let url = address(&registry.endpoint(variables))?;
    let mut request = ServiceRequest::new(Method::POST, url)
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", target)
        .body("{}");
    let signing = Signing {
        region: &registry.region,
        service,
        time: super::now(),
    };
    sign(&mut request, &key, &signing, Payload::Body);
    let answer: Authorization = json(client, &request).await?;
    let entry = match answer.authorization_data {
        Data::One(entry) => Some(entry),
        Data::Many(entries) => entries.into_iter().next(),
    };
    let text = entry.and_then(|entry| {
        let bytes = STANDARD.decode(entry.authorization_token).ok()?;
        String::from_utf8(bytes).ok()
    });
    let login = text.as_deref().and_then(|text| text.split_once(':'));
    let (user, password) = login.ok_or_else(|| CloudError::Content {
        what: "the answer of ECR".to_owned(),
        why: "its token is not base64 of user:password".to_owned(),
    })?;
    Ok(super::basic(user, password))
}

/// The keys of this machine, pod or job: variables, a web identity token (IRSA), a shared file, the container's or
/// pod's own service, the instance's.
///
/// # Errors
/// [`CloudError`], also where there are none.
pub async fn key(client: &Client, variables: &Variables) -> Result<AwsKey, CloudError> {
    let get = |name: &str| variable(variables, name);
    if let (Some(id), Some(secret)) = (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY")) {
        return Ok(AwsKey {
            id: id.to_owned(),
            secret: secret.to_owned(),
            session: get("AWS_SESSION_TOKEN").map(str::to_owned),
        });
    }
    if let (Some(file), Some(role)) = (get("AWS_WEB_IDENTITY_TOKEN_FILE"), get("AWS_ROLE_ARN")) {
        return web_identity(client, variables, (file, role)).await;
    }
    if let Some(found) = shared_file(variables)? {
        return Ok(found);
    }
    let full = get("AWS_CONTAINER_CREDENTIALS_FULL_URI").map(str::to_owned);
    let relative =
        get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CONTAINER}{path}"));
    if let Some(url) = full.or(relative) {
        return container(client, variables, &url).await;
    }
    if get("AWS_EC2_METADATA_DISABLED") == Some("true") {
        return Err(CloudError::Nothing("no keys of AWS are in the environment"));
    }
    instance(
        client,
        get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(INSTANCE),
    )
    .await
}

/// The region of `AWS_REGION` or `AWS_DEFAULT_REGION`.
#[must_use]
pub fn region(variables: &Variables) -> Option<&str> {
    variable(variables, "AWS_REGION").or_else(|| variable(variables, "AWS_DEFAULT_REGION"))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Temporary {
    access_key_id: String,
    secret_access_key: String,
    #[serde(alias = "SessionToken")]
    token: Option<String>,
}

impl From<Temporary> for AwsKey {
    fn from(keys: Temporary) -> Self {
        Self {
            id: keys.access_key_id,
            secret: keys.secret_access_key,
            session: keys.token,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Assumed {
    assume_role_with_web_identity_response: AssumedResponse,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumedResponse {
    assume_role_with_web_identity_result: AssumedResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumedResult {
    credentials: Temporary,
}

async fn web_identity(
    client: &Client,
    variables: &Variables,
    (file, role): (&str, &str),
) -> Result<AwsKey, CloudError> {
    let token = read(file)?;
    let own = match region(variables) {
        Some(region) => format!("https://sts.{region}.amazonaws.com/"),
        None => "https://sts.amazonaws.com/".to_owned(),
    };
    let named = variable(variables, "AWS_ENDPOINT_URL_STS")
        .or_else(|| variable(variables, "AWS_ENDPOINT_URL"));
    let session = variable(variables, "AWS_ROLE_SESSION_NAME").unwrap_or("kiln");
    let fields = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", role),
        ("RoleSessionName", session),
        ("WebIdentityToken", token.trim()),
    ];
    let request = ServiceRequest::new(Method::POST, address(named.unwrap_or(&own))?)
        .form(&fields)
        .header("accept", "application/json");
    let answer: Assumed = json(client, &request).await?;
    let result = answer.assume_role_with_web_identity_response;
    Ok(result
        .assume_role_with_web_identity_result
        .credentials
        .into())
}

/// A profile of `~/.aws/credentials`.
fn shared_file(variables: &Variables) -> Result<Option<AwsKey>, CloudError> {
    let path = match variable(variables, "AWS_SHARED_CREDENTIALS_FILE") {
        Some(path) => path.to_owned(),
        None => match variable(variables, "HOME") {
            Some(home) => format!("{home}/.aws/credentials"),
            None => return Ok(None),
        },
    };
    if !std::path::Path::new(&path).is_file() {
        return Ok(None);
    }
    let profile = variable(variables, "AWS_PROFILE").unwrap_or("default");
    Ok(profile_of(&read(&path)?, profile))
}

fn profile_of(text: &str, profile: &str) -> Option<AwsKey> {
    let mut inside = false;
    let (mut id, mut secret, mut session) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            inside = name.trim() == profile;
            continue;
        }
        let Some((name, value)) = line.split_once('=').filter(|_| inside) else {
            continue;
        };
        let value = Some(value.trim().to_owned());
        match name.trim() {
            "aws_access_key_id" => id = value,
            "aws_secret_access_key" => secret = value,
            "aws_session_token" => session = value,
            _ => {}
        }
    }
    Some(AwsKey {
        id: id?,
        secret: secret?,
        session,
    })
}

async fn container(
    client: &Client,
    variables: &Variables,
    url: &str,
) -> Result<AwsKey, CloudError> {
    let mut request = ServiceRequest::new(Method::GET, address(url)?);
    let token = match variable(variables, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => Some(read(file)?.trim().to_owned()),
        None => variable(variables, "AWS_CONTAINER_AUTHORIZATION_TOKEN").map(str::to_owned),
    };
    if let Some(token) = token {
        request = request.header("authorization", &token);
    }
    let body = nearby(client, &request).await?;
    Ok(decoded::<Temporary>("the container's credentials", &body)?.into())
}

/// IMDSv2: a token first.
async fn instance(client: &Client, base: &str) -> Result<AwsKey, CloudError> {
    let base = base.trim_end_matches('/');
    let request = ServiceRequest::new(Method::PUT, address(&format!("{base}/latest/api/token"))?)
        .header("x-aws-ec2-metadata-token-ttl-seconds", "300");
    let token = nearby(client, &request).await?;
    let token = String::from_utf8_lossy(&token).into_owned();
    let get = |path: String| {
        let token = token.clone();
        async move {
            let request = ServiceRequest::new(Method::GET, address(&path)?)
                .header("x-aws-ec2-metadata-token", &token);
            success(client.service_once(&request).await).await
        }
    };
    let roles = format!("{base}/latest/meta-data/iam/security-credentials/");
    let role = get(roles.clone()).await?;
    let role = String::from_utf8_lossy(&role);
    let role = role.lines().next().unwrap_or_default().trim().to_owned();
    let body = get(format!("{roles}{role}")).await?;
    Ok(decoded::<Temporary>("the instance's credentials", &body)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_say_their_region_and_others_only_look_like_it() {
        let region = |host: &str| Registry::of_host(host).map(|registry| registry.region);
        for (host, expected) in [
            (
                "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
                Some("eu-central-1"),
            ),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                Some("us-gov-west-1"),
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                Some("cn-north-1"),
            ),
            ("public.ecr.aws", Some("us-east-1")),
            (
                "123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.com",
                None,
            ),
            ("x.dkr.ecr.eu-central-1.amazonaws.com", None),
            ("evilamazonaws.com", None),
            ("docker.io", None),
        ] {
            assert_eq!(region(host).as_deref(), expected, "{host}");
        }
    }

    #[test]
    fn a_profile_of_the_shared_file() {
        let text = "[default]\naws_access_key_id = a\naws_secret_access_key=b\n\n[ci]\naws_access_key_id=c\naws_secret_access_key=d\naws_session_token=e\n";
        let found = profile_of(text, "ci").unwrap();
        assert_eq!(
            (
                found.id.as_str(),
                found.secret.as_str(),
                found.session.as_deref()
            ),
            ("c", "d", Some("e"))
        );
        assert_eq!(profile_of(text, "default").unwrap().session, None);
        assert!(profile_of(text, "other").is_none());
    }
}
