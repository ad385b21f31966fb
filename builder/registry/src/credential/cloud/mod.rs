//! Credentials that are found without a file of docker's: the helpers that are built in.
//!
//! Each answers for its own hosts alone, decided by whole labels of the host's name: a token never reaches a host that
//! only looks like a cloud's. The caller hands over the environment; files that it names (tokens which are renewed)
//! are read when they are needed.
//!
//! | helper | hosts | from |
//! |---|---|---|
//! | `env` | any | `KANIKO_<HOST>_USER`, `KANIKO_<HOST>_PASSWORD` |
//! | `google` | `gcr.io`, `*.gcr.io`, `*.pkg.dev` | application default credentials, metadata server |
//! | `ecr` | `*.dkr.ecr.<region>.amazonaws.com`, `public.ecr.aws` | AWS's credential chain |
//! | `acr` | `*.azurecr.io` and its national clouds | client secret, workload identity, managed identity |
//! | `gitlab` | `CI_REGISTRY`, `CI_DEPENDENCY_PROXY_SERVER` | the variables of a GitLab job |

pub mod aws;
pub mod azure;
mod ci;
pub mod google;
mod sign;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;

pub use sign::{AwsKey, Payload, Signing, hmac_sha256, sign};

use super::{Credential, Lookup};
use crate::client::Client;
use crate::client::service::ServiceRequest;
use crate::error::Error;

/// The longest answer of a token service that is read.
const LONGEST_ANSWER: u64 = 1 << 20;
/// How long a service of the machine's own network may take: where there is none, packets are lost in silence.
const NEARBY: Duration = Duration::from_secs(3);

/// The variables that helpers look into.
pub type Variables = BTreeMap<String, String>;

/// A built-in helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Helper {
    /// Variables for one host.
    Env,
    /// Google's registries.
    Google,
    /// Amazon's.
    Ecr,
    /// Microsoft's.
    Acr,
    /// GitLab's, in its jobs.
    GitLab,
}

/// A name that is none of a helper.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no built-in credential helper: expected env, google, ecr, acr or gitlab")]
pub struct HelperName(pub String);

impl Helper {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 5] = [Self::Env, Self::Google, Self::Ecr, Self::Acr, Self::GitLab];
}

impl FromStr for Helper {
    type Err = HelperName;

    fn from_str(text: &str) -> Result<Self, HelperName> {
        Ok(match text {
            "env" => Self::Env,
            "google" => Self::Google,
            "ecr" => Self::Ecr,
            "acr" => Self::Acr,
            "gitlab" => Self::GitLab,
            _ => return Err(HelperName(text.to_owned())),
        })
    }
}

/// The helpers that are asked, with the environment that they see.
#[derive(Clone, Default)]
pub struct BuiltIns {
    pub(crate) helpers: Vec<Helper>,
    pub(crate) variables: Variables,
}

impl std::fmt::Debug for BuiltIns {
    /// Never shows the variables: secrets are among them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BuiltIns({:?}, …)", self.helpers)
    }
}

/// Why a cloud gave no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// There is nothing that identifies this machine.
    #[error("{0}")]
    Nothing(&'static str),
    /// A file that the environment names.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file or answer that is not what it should be.
    #[error("{what} is not what was expected: {why}")]
    Content {
        /// What.
        what: String,
        /// Why; never quotes it.
        why: String,
    },
    /// A service that refuses or does not answer.
    #[error(transparent)]
    Service(#[from] Box<Error>),
    /// A service that does not answer.
    #[error("{0} did not answer")]
    Silent(String),
}

/// Asks the helpers for `registry`. What fails on the way is a hint: the image may be for everyone.
pub(crate) async fn lookup(client: &Client, built_ins: &BuiltIns, registry: &str) -> Lookup {
    let mut hint = None;
    for helper in &built_ins.helpers {
        let variables = &built_ins.variables;
        let found = match helper {
            Helper::Env => Ok(ci::of_host(variables, registry)),
            Helper::GitLab => Ok(ci::gitlab(variables, registry)),
            Helper::Google if google::is_host(registry) => google::token(client, variables)
                .await
                .map(|token| Some((google::login(token), "google".to_owned()))),
            Helper::Ecr => match aws::Registry::of_host(registry) {
                Some(place) => aws::login(client, variables, &place)
                    .await
                    .map(|login| Some((login, "ecr".to_owned()))),
                None => Ok(None),
            },
            Helper::Acr if azure::is_host(registry) => azure::login(client, variables, registry)
                .await
                .map(|login| Some((login, "acr".to_owned()))),
            Helper::Google | Helper::Acr => Ok(None),
        };
        match found {
            Ok(Some((credential, source))) => {
                return Lookup {
                    credential: Some(credential),
                    source: Some(format!("the built-in helper {source}")),
                    hint: None,
                };
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%registry, %error, "a built-in helper has nothing");
                hint = hint.or_else(|| Some(explained(&error)));
            }
        }
    }
    Lookup {
        credential: None,
        source: None,
        hint,
    }
}

fn explained(error: &CloudError) -> String {
    let mut text = format!("no credentials from the cloud: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The JSON answer to a request that must succeed.
async fn json<T: DeserializeOwned>(
    client: &Client,
    request: &ServiceRequest,
) -> Result<T, CloudError> {
    let body = success(client.service(request).await).await?;
    decoded(request.url.host_str().unwrap_or_default(), &body)
}

/// The same from a service of the machine's own network.
async fn nearby(client: &Client, request: &ServiceRequest) -> Result<Bytes, CloudError> {
    let answer = tokio::time::timeout(NEARBY, client.service_once(request)).await;
    let silent = || CloudError::Silent(request.url.host_str().unwrap_or_default().to_owned());
    success(answer.map_err(|_| silent())?).await
}

async fn success(
    answer: Result<crate::client::service::ServiceAnswer, Error>,
) -> Result<Bytes, CloudError> {
    let answer = answer.map_err(Box::new)?;
    if !answer.status().is_success() {
        return Err(Box::new(answer.refusal().await).into());
    }
    Ok(answer.bytes(LONGEST_ANSWER).await.map_err(Box::new)?)
}

/// serde's own message may quote a secret, so that it is not passed on.
fn decoded<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, CloudError> {
    serde_json::from_slice(bytes).map_err(|error| CloudError::Content {
        what: what.to_owned(),
        why: format!("{:?} in line {}", error.classify(), error.line()),
    })
}

fn read(path: &str) -> Result<String, CloudError> {
    std::fs::read_to_string(path).map_err(|source| CloudError::File {
        path: path.into(),
        source,
    })
}

fn address(text: &str) -> Result<url::Url, CloudError> {
    url::Url::parse(text).map_err(|error| CloudError::Content {
        what: text.to_owned(),
        why: error.to_string(),
    })
}

/// A variable that is set and not empty.
fn variable<'v>(variables: &'v Variables, name: &str) -> Option<&'v str> {
    variables
        .get(name)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
}

/// Seconds since 1970.
fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// User and password as a credential.
fn basic(username: &str, password: &str) -> Credential {
    Credential::Basic {
        username: username.to_owned(),
        password: password.to_owned(),
    }
}
