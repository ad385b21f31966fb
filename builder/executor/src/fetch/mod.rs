//! Contexts from elsewhere: archives of the web and of object stores, repositories of git.
//!
//! What a `--context` means is decided by [`Place::parse`] without I/O; [`fetch`] brings its files into a directory.
//! Requests are signed here, with what the environment and the machine say about who we are; no cloud's library is
//! needed.

mod azure;
mod gcs;
mod s3;
mod stream;

use std::io;
use std::path::{Path, PathBuf};

pub use azure::Login as AzureLogin;
use kiln_registry::credential::cloud::{CloudError, Variables};
use kiln_registry::{Client, ServiceAnswer, ServiceRequest};
use url::Url;

use crate::git::{self, Address, AddressError, Extent, Git, GitError};
use crate::layer::dir::Form;
use crate::layer::index::TarError;
use crate::layer::unpack;
use crate::remote::Remote;

/// What an object is called where only its bucket is named (kaniko's `context.tar.gz`).
const DEFAULT_OBJECT: &str = "context.tar.gz";

/// Where a context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory of this machine.
    Directory(PathBuf),
    /// An archive of this machine.
    Archive(PathBuf),
    /// An archive on standard input.
    Input,
    /// A repository: the text, to be read with what the environment says about it.
    Git(String),
    /// An archive of the web.
    Web(Url),
    /// An object in Google Cloud Storage.
    Gcs(Object),
    /// An object in S3, or in what speaks its protocol.
    S3(Object),
    /// A blob of Azure's storage.
    Azure(Url),
}

/// A bucket and the object's name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The bucket.
    pub bucket: String,
    /// The name, which may have slashes.
    pub key: String,
}

impl Object {
    fn parse(rest: &str) -> Self {
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let key = if key.is_empty() { DEFAULT_OBJECT } else { key };
        Self {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        }
    }
}

/// Why a text is no place of a context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The scheme.
    #[error(
        "contexts from {0}:// are not known: expected dir://, tar://, git://, https://, gs:// or s3://"
    )]
    Scheme(String),
    /// An address that is none.
    #[error("this is not an address: {0}")]
    Address(#[from] url::ParseError),
}

/// What `dir://` names: a path, also of the working directory (`dir://.`). A name that is none there
/// is one of `/`: `dir://workspace` in kaniko's tutorial is `/workspace`.
fn directory(written: &str, is_dir: impl Fn(&Path) -> bool) -> PathBuf {
    let path = Path::new(written);
    let is_relative = written.is_empty() || written.starts_with('.') || is_dir(path);
    match is_relative {
        true => path.to_owned(),
        false => Path::new("/").join(path),
    }
}

impl Place {
    /// Reads kaniko's forms.
    ///
    /// # Errors
    /// [`PlaceError`]
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::Directory(PathBuf::from(text)));
        };
        Ok(match scheme {
            "dir" => Self::Directory(directory(rest, Path::is_dir)),
            "tar" if rest == "stdin" => Self::Input,
            "tar" => Self::Archive(PathBuf::from(rest)),
            "git" => Self::Git(text.to_owned()),
            "gs" => Self::Gcs(Object::parse(rest)),
            "s3" => Self::S3(Object::parse(rest)),
            "http" | "https" => {
                let url = Url::parse(text)?;
                if azure::is_host(url.host_str().unwrap_or_default()) {
                    Self::Azure(url)
                } else {
                    Self::Web(url)
                }
            }
            other => return Err(PlaceError::Scheme(other.to_owned())),
        })
    }
}

/// Why a context did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A file of this machine.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What came is no archive, or the directory cannot be written.
    #[error("cannot unpack the context")]
    Unpack(#[source] TarError),
    /// A server.
    #[error("cannot download the context")]
    Download(#[source] Box<kiln_registry::Error>),
    /// Nobody gave us the credentials that the place asks for.
    #[error("cannot log in where the context is")]
    Login(#[source] CloudError),
    /// Azure's storage.
    #[error("the storage answered {code} (status {status}) to a request {login}")]
    Azure {
        /// The status.
        status: u16,
        /// The storage's own name of the trouble, such as `BlobNotFound`.
        code: String,
        /// Who asked.
        login: AzureLogin,
        /// Why nobody did.
        #[source]
        source: Option<CloudError>,
    },
    /// A variable or an address.
    #[error("{0}")]
    Setting(String),
    /// The address of a repository.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A repository.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// What is known about the repository besides its address.
#[derive(Debug, Clone, Default)]
pub struct GitChoices {
    /// A branch, where the address names no reference.
    pub branch: Option<String>,
    /// How much of it.
    pub extent: Extent,
}

/// A place as it may be shown: without user, password and query, which hold what only its owner may know.
#[must_use]
pub fn shown(place: &str) -> String {
    let Ok(mut url) = Url::parse(place) else {
        return place.to_owned();
    };
    url.set_query(None);
    // An address without a host has neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// Brings the files of a place that is elsewhere into the empty directory `into`.
///
/// # Errors
/// [`FetchError`]
pub fn fetch(
    place: &Place,
    remote: &Remote,
    (variables, git): (&Variables, &GitChoices),
    into: &Path,
) -> Result<(), FetchError> {
    match place {
        Place::Directory(path) => Err(FetchError::Read {
            path: path.clone(),
            source: io::ErrorKind::Unsupported.into(),
        }),
        Place::Archive(path) => {
            let file = std::fs::File::open(path).map_err(|source| FetchError::Read {
                path: path.clone(),
                source,
            })?;
            unpacked(file, into)
        }
        Place::Input => unpacked(io::stdin(), into),
        Place::Git(text) => repository(text, (variables, git), into),
        Place::Web(_) | Place::Gcs(_) | Place::S3(_) | Place::Azure(_) => {
            let answer = remote.wait(open(remote.client(), place, variables))?;
            unpacked(stream::Body::new(remote, answer), into)
        }
    }
}

/// A text of the web, not longer than `limit` bytes.
///
/// # Errors
/// [`FetchError::Download`]
pub fn text(remote: &Remote, url: &Url, limit: u64) -> Result<String, FetchError> {
    let request = ServiceRequest::new(http::Method::GET, url.clone());
    let answer = async {
        let answer = checked(remote.client().service(&request).await).await?;
        answer.bytes(limit).await.map_err(download)
    };
    let bytes = remote.wait(answer)?;
    String::from_utf8(bytes.to_vec())
        .map_err(|_| FetchError::Setting(format!("{} is not a text", shown(url.as_str()))))
}

fn unpacked(input: impl io::Read + Send, into: &Path) -> Result<(), FetchError> {
    unpack::unpack(input, into, Form::Applied)
        .map(drop)
        .map_err(FetchError::Unpack)
}

async fn open(
    client: &Client,
    place: &Place,
    variables: &Variables,
) -> Result<ServiceAnswer, FetchError> {
    match place {
        Place::Gcs(object) => gcs::open(client, variables, object).await,
        Place::S3(object) => s3::open(client, variables, object).await,
        Place::Azure(url) => azure::open(client, variables, url).await,
        Place::Web(url) => {
            checked(
                client
                    .service(&ServiceRequest::new(http::Method::GET, url.clone()))
                    .await,
            )
            .await
        }
        _ => Err(FetchError::Setting("this is not in the web".to_owned())),
    }
}

/// An answer with content.
async fn checked(
    answer: Result<ServiceAnswer, kiln_registry::Error>,
) -> Result<ServiceAnswer, FetchError> {
    let answer = answer.map_err(download)?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    Err(download(answer.refusal().await))
}

fn download(error: kiln_registry::Error) -> FetchError {
    FetchError::Download(Box::new(error))
}

/// `GIT_PULL_METHOD`, `GIT_TOKEN` or `GIT_USERNAME` and `GIT_PASSWORD` say how (kaniko).
fn repository(
    text: &str,
    (variables, choices): (&Variables, &GitChoices),
    into: &Path,
) -> Result<(), FetchError> {
    let get = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    let method = match get("GIT_PULL_METHOD").map(String::as_str) {
        None | Some("https") => "https",
        Some("http") => "http",
        Some(other) => {
            let text = format!("GIT_PULL_METHOD={other}: expected https or http");
            return Err(FetchError::Setting(text));
        }
    };
    let mut address = Address::of_context(text, method)?;
    if address.reference.is_none() {
        let branch = choices.branch.as_ref();
        address.reference = branch.map(|branch| format!("refs/heads/{branch}"));
    }
    let login = match (get("GIT_TOKEN"), get("GIT_USERNAME")) {
        (Some(token), _) => Some(git::Login {
            username: token.clone(),
            password: String::new(),
        }),
        (None, Some(username)) => Some(git::Login {
            username: username.clone(),
            password: get("GIT_PASSWORD").cloned().unwrap_or_default(),
        }),
        (None, None) => address.login.take(),
    };
    let mut git = Git::new(variables);
    if let Some(login) = login {
        git = git.with_login(login);
    }
    git.fetch(&address, &choices.extent, into)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(bucket: &str, key: &str) -> Object {
        Object {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        }
    }

    /// The forms of kaniko's README, "Kaniko Build Contexts".
    #[test]
    fn kanikos_forms() {
        let url = |text: &str| Url::parse(text).unwrap();
        let blob = "https://myaccount.blob.core.windows.net/container/path/context.tar.gz";
        for (text, expected) in [
            ("/workspace", Place::Directory("/workspace".into())),
            ("dir:///workspace", Place::Directory("/workspace".into())),
            ("dir://workspace", Place::Directory("/workspace".into())),
            ("dir://.", Place::Directory(".".into())),
            ("dir://./app", Place::Directory("./app".into())),
            ("dir://../app", Place::Directory("../app".into())),
            ("dir://src", Place::Directory("src".into())), // a directory here
            (
                "tar:///path/to/context.tar.gz",
                Place::Archive("/path/to/context.tar.gz".into()),
            ),
            ("tar://stdin", Place::Input),
            (
                "gs://kaniko-bucket/path/to/context.tar.gz",
                Place::Gcs(object("kaniko-bucket", "path/to/context.tar.gz")),
            ),
            (
                "gs://kaniko-bucket",
                Place::Gcs(object("kaniko-bucket", "context.tar.gz")),
            ),
            (
                "s3://kaniko-bucket/path/to/context.tar.gz",
                Place::S3(object("kaniko-bucket", "path/to/context.tar.gz")),
            ),
            (blob, Place::Azure(url(blob))),
            (
                "https://example.com/context.tar.gz",
                Place::Web(url("https://example.com/context.tar.gz")),
            ),
            (
                "git://github.com/acme/myproject.git#refs/heads/mybranch",
                Place::Git("git://github.com/acme/myproject.git#refs/heads/mybranch".to_owned()),
            ),
        ] {
            assert_eq!(Place::parse(text), Ok(expected), "{text}");
        }
        assert_eq!(
            Place::parse("ftp://x"),
            Err(PlaceError::Scheme("ftp".to_owned()))
        );
    }

    #[test]
    fn what_is_shown_of_a_place_is_no_secret() {
        for (place, expected) in [
            (
                "https://team.blob.core.windows.net/box/c.tar.gz?sp=r&sig=secret",
                "https://team.blob.core.windows.net/box/c.tar.gz",
            ),
            (
                "git://user:secret@example.com/app.git#refs/heads/main",
                "git://example.com/app.git#refs/heads/main",
            ),
            ("tar://stdin", "tar://stdin"),
            (
                "s3://bucket/path/context.tar.gz",
                "s3://bucket/path/context.tar.gz",
            ),
        ] {
            assert_eq!(shown(place), expected);
        }
    }
}
