//! What can go wrong with a registry, told apart by what the user can do about it.

use std::time::Duration;

use crate::credential::CredentialError;
use crate::digest::{Digest, Mismatch};
use crate::manifest::ManifestError;
use crate::settings::SettingsError;

/// A failed operation.
///
/// Hosts are those that were really called. URLs carry neither passwords nor queries.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry wants other credentials, or any. (401)
    #[error("{host} refused {}{}", credential.as_deref().map_or_else(|| "anonymous access".to_owned(), |source| format!("the credentials from {source}")), said(message))]
    Unauthorized {
        /// The host that refused.
        host: String,
        /// Where the refused credentials came from; `None` when there were none for this host.
        credential: Option<String>,
        /// What the registry said.
        message: String,
        /// What to look at.
        hint: Option<String>,
    },
    /// The credentials are known but do not allow this. (403)
    #[error("{host} does not allow {action}{}", said(message))]
    Denied {
        /// The host that refused.
        host: String,
        /// What was attempted, for example `PUT https://ghcr.io/v2/app/manifests/latest`.
        action: String,
        /// What the registry said.
        message: String,
        /// What to look at.
        hint: Option<String>,
    },
    /// There is no such repository, manifest or blob. (404)
    #[error("{what} does not exist on {host}")]
    NotFound {
        /// The host that was asked.
        host: String,
        /// The manifest or blob.
        what: String,
    },
    /// The tag exists and may not be changed.
    #[error("the tag of {reference} is immutable{}", said(message))]
    ImmutableTag {
        /// What was to be pushed.
        reference: String,
        /// What the registry said.
        message: String,
    },
    /// The registry limits the rate of requests and did not relent. (429)
    #[error("{host} limits the rate of requests{}", said(message))]
    TooManyRequests {
        /// The host that refused.
        host: String,
        /// How long it asked to wait.
        retry_after: Option<Duration>,
        /// What the registry said.
        message: String,
    },
    /// The registry is broken or overloaded. (5xx, after all retries)
    #[error("{action} failed on the server with status {status}{}", said(message))]
    Server {
        /// The request.
        action: String,
        /// The status.
        status: u16,
        /// What the registry said.
        message: String,
    },
    /// Any other answer that the protocol does not foresee.
    #[error("{action} was answered with status {status}{}", said(message))]
    Unexpected {
        /// The request.
        action: String,
        /// The status.
        status: u16,
        /// What the registry said.
        message: String,
    },
    /// An answer with the right status that breaks the protocol in another way.
    #[error("the answer to {action} breaks the protocol: {problem}")]
    Protocol {
        /// The request.
        action: String,
        /// What is wrong.
        problem: String,
    },
    /// The answer never came.
    #[error("{action} failed")]
    Transport {
        /// The request.
        action: String,
        /// Why.
        source: Box<TransportError>,
    },
    /// The bytes that came are not those that were asked for.
    #[error("{host} sent wrong content")]
    Content {
        /// The host that sent it.
        host: String,
        /// What is wrong with it.
        source: Mismatch,
    },
    /// A manifest that Kiln cannot use.
    #[error("{reference} cannot be used")]
    Manifest {
        /// The image.
        reference: String,
        /// Why.
        source: ManifestError,
    },
    /// An index without an image for the platform.
    #[error("{reference} has no image for {platform}: it has {}", if offered.is_empty() { "none at all".to_owned() } else { visible(&offered.join(", ")) })]
    NoPlatform {
        /// The image.
        reference: String,
        /// What was asked for.
        platform: String,
        /// What there is.
        offered: Vec<String>,
    },
    /// Something is larger than it may be when held in memory.
    #[error("{what} has {size} bytes, more than the {limit} that are accepted")]
    TooLarge {
        /// The manifest or blob.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes to be pushed are not those that their digest names.
    #[error("{digest} cannot be pushed")]
    Source {
        /// The blob.
        digest: Digest,
        /// Why.
        source: std::io::Error,
    },
    /// A file that a blob is written to.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Credentials could not be looked up.
    #[error("credentials for {host} cannot be read")]
    Credential {
        /// The registry.
        host: String,
        /// Why.
        source: Box<CredentialError>,
    },
    /// The settings of a host cannot be used.
    #[error("the settings of {host} cannot be used")]
    Settings {
        /// The host.
        host: String,
        /// Why.
        source: SettingsError,
    },
}

/// Why there was no answer at all.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Nobody listens there.
    #[error("{host} refused the connection")]
    Refused {
        /// The host.
        host: String,
    },
    /// The name cannot be resolved.
    #[error("the host name of {host} cannot be resolved")]
    UnknownHost {
        /// The host.
        host: String,
    },
    /// The certificate is signed by an authority that is not trusted.
    #[error("the certificate of {host} is signed by an unknown authority")]
    UnknownAuthority {
        /// The host.
        host: String,
    },
    /// The certificate is expired, for another name, or broken.
    #[error("the certificate of {host} is not valid")]
    Certificate {
        /// The host.
        host: String,
        /// Why.
        source: rustls::Error,
    },
    /// The other side does not speak TLS.
    #[error("{host} does not speak TLS")]
    NotTls {
        /// The host.
        host: String,
    },
    /// The server wants a client certificate, or refused the one it got.
    #[error("{host} refused the TLS connection")]
    TlsRefused {
        /// The host.
        host: String,
        /// The alert.
        source: rustls::Error,
    },
    /// Nothing came for too long.
    #[error("{host} did not answer in time")]
    Timeout {
        /// The host.
        host: String,
    },
    /// A redirect that cannot be followed.
    #[error("{host} redirects {problem}")]
    Redirect {
        /// The host.
        host: String,
        /// Where to, or how often.
        problem: &'static str,
    },
    /// The other side hung up before there was a connection, TLS included.
    #[error("no connection to {host} could be established")]
    Unconnected {
        /// The host.
        host: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection broke or any other failure of the network.
    #[error("the connection to {host} broke")]
    Broken {
        /// The host.
        host: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// What the user can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unauthorized { hint, .. } | Self::Denied { hint, .. } => hint.clone(),
            Self::Transport { source, .. } => source.hint(),
            Self::ImmutableTag { .. } => Some("push under a new tag, or allow this tag to be overwritten in the registry's settings".to_owned()),
            Self::TooManyRequests { host, .. } if host.ends_with("docker.io") => {
                Some("log in to Docker Hub, or set a mirror for docker.io".to_owned())
            }
            _ => None,
        }
    }

    /// Whether the manifest or blob is simply not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether credentials are missing, wrong, or not sufficient.
    #[must_use]
    pub fn is_access(&self) -> bool {
        matches!(self, Self::Unauthorized { .. } | Self::Denied { .. })
    }
}

impl TransportError {
    /// What the user can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownAuthority { host } => Some(format!(
                "add the authority's certificate to the settings of {host}, or skip verification for this host"
            )),
            Self::NotTls { host } => Some(format!(
                "list {host} as an insecure registry if it is meant to speak plain http"
            )),
            Self::TlsRefused { host, .. } => Some(format!(
                "set a client certificate for {host} if it asks for one"
            )),
            Self::Refused { host } => Some(format!(
                "check that a registry listens on {host} and that the port is right"
            )),
            _ => None,
        }
    }
}

/// A text of somebody else as a terminal may show it: what would move the cursor, change colours or turn the direction
/// of letters is written out, as `\u{1b}`. Ends of lines and tabs stay.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if turns || (letter.is_control() && !matches!(letter, '\n' | '\t')) {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
    }
    shown
}

fn said(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}
