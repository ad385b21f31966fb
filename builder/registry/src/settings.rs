//! How each registry host is reached: protocol, certificates, mirrors, and which host is really called.
//!
//! Everything is keyed by the host as image names have it (`ghcr.io`, `registry.local:5000`, `docker.io`), with the
//! port where the name has one. Where [`HostSettings::connect_to`] or a mirror leads to another host, that host's
//! own [`Connection`] settings describe the connection to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::client::local::LocalBlob;
use crate::digest::Digest;
use crate::reference::{DOCKER_HUB, DOCKER_HUB_ENDPOINT, canonical_registry};

/// All that a [`crate::Client`] needs to know besides credentials.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Sent as `User-Agent`.
    pub user_agent: String,
    /// Holds for every host, together with what the host's own entry says.
    pub everywhere: Connection,
    /// Files with authorities that every connection trusts besides the built-in ones, and folders of such files. They
    /// are read when the first server shows a certificate; what is no certificate there is passed over.
    pub authorities: Vec<PathBuf>,
    /// Per host, by the name in image names. Use [`Self::host_mut`] to fill it in: it knows Docker Hub's aliases.
    pub hosts: BTreeMap<String, HostSettings>,
    /// What happens when no mirror of a host answered.
    pub after_mirrors: AfterMirrors,
    /// How often and how long to try again.
    pub retry: Retry,
    /// Proxies; the client never looks into the environment by itself.
    pub proxies: Proxies,
    /// How long a connection may take to be established.
    pub connect_timeout: Duration,
    /// How long a server may stay silent while an answer is awaited.
    pub idle_timeout: Duration,
    /// How blobs are sent.
    pub upload: Upload,
    /// How many blobs are sent at once by one client.
    pub parallel_uploads: usize,
    /// Blobs that need not be downloaded.
    pub local_blobs: BTreeMap<Digest, LocalBlob>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            user_agent: concat!("kiln/", env!("CARGO_PKG_VERSION")).to_owned(),
            authorities: Vec::new(),
            everywhere: Connection::default(),
            hosts: BTreeMap::new(),
            after_mirrors: AfterMirrors::default(),
            retry: Retry::default(),
            proxies: Proxies::default(),
            connect_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            upload: Upload::default(),
            parallel_uploads: 4,
            local_blobs: BTreeMap::new(),
        }
    }
}

/// What is special about one registry host.
#[derive(Debug, Clone, Default)]
pub struct HostSettings {
    /// Protocol and certificates.
    pub connection: Connection,
    /// Tried in order for pulls before the host itself.
    pub mirrors: Vec<Endpoint>,
    /// Where connections for this host go instead, pulls and pushes alike. Names in manifests stay as they are, and
    /// so do the credentials: those of the name count first, then those of the host that is called.
    pub connect_to: Option<Endpoint>,
}

/// Protocol and certificates of connections to one host.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// Whether plain http may be spoken.
    pub protocol: Protocol,
    /// Whether the server's certificate is checked.
    pub verification: Verification,
    /// Trusted besides the built-in roots.
    pub certificates: Vec<Pem>,
    /// Shown to a server that asks for one.
    pub client_certificate: Option<ClientCertificate>,
    /// The highest version of HTTP.
    pub http: HttpVersion,
}

/// Whether plain http may be spoken with a host.
///
/// Hosts on this machine (`localhost`, `*.localhost`, `127.0.0.0/8`, `[::1]`) are always [`Self::PlainAllowed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Protocol {
    /// https, nothing else.
    #[default]
    Https,
    /// https, and http where the host does not speak TLS at all. A certificate that is not trusted stays an error.
    PlainAllowed,
    /// http, nothing else.
    Plain,
}

/// Whether the certificate of a server is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Verification {
    /// It is.
    #[default]
    Full,
    /// Any certificate is taken; who listens is not known.
    Skip,
}

/// The highest version of HTTP to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum HttpVersion {
    /// HTTP/2 where the server offers it.
    #[default]
    Any,
    /// HTTP/1.1, which is faster with some registries (GitLab).
    Http1,
}

/// What happens when no mirror of a host answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AfterMirrors {
    /// The host itself is asked.
    #[default]
    AskOrigin,
    /// The pull fails (`--skip-default-registry-fallback`).
    Fail,
}

/// PEM text and where it came from, for error messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pem {
    origin: String,
    bytes: Vec<u8>,
}

impl Pem {
    /// PEM text from anywhere; `origin` is what error messages call it.
    pub fn new(origin: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            origin: origin.into(),
            bytes: bytes.into(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`SettingsError::Read`] with the path.
    pub fn from_file(path: &Path) -> Result<Self, SettingsError> {
        let bytes = std::fs::read(path).map_err(|source| SettingsError::Read {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self::new(path.display().to_string(), bytes))
    }

    /// What error messages call this text.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The text.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A certificate with its key that a client shows to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and its intermediates, leaf first.
    pub chain: Pem,
    /// The private key, PKCS#8, PKCS#1 or SEC1.
    pub key: Pem,
}

/// A host to call, with an optional protocol and path: `mirror.gcr.io`, `http://cache:5000/hub`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    host: String,
    prefix: String,
    protocol: Option<Protocol>,
}

impl Endpoint {
    /// The host with its port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What is put before each repository, without slashes at its ends; empty mostly.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The protocol, where the text named one.
    #[must_use]
    pub fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// The endpoint that serves the registry called `registry` in image names.
    #[must_use]
    pub fn of_registry(registry: &str) -> Self {
        let host = if registry == DOCKER_HUB {
            DOCKER_HUB_ENDPOINT
        } else {
            registry
        };
        Self {
            host: host.to_owned(),
            prefix: String::new(),
            protocol: None,
        }
    }
}

impl FromStr for Endpoint {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let (protocol, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(Protocol::Plain), rest),
            Some(("https", rest)) => (Some(Protocol::Https), rest),
            Some(_) => return Err(SettingsError::Endpoint(text.to_owned())),
            None => (None, text),
        };
        let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let invalid = |c: char| c.is_whitespace() || matches!(c, '@' | '?' | '#' | '\\');
        if host.is_empty() || rest.contains(invalid) {
            return Err(SettingsError::Endpoint(text.to_owned()));
        }
        let host = if canonical_registry(host) == DOCKER_HUB {
            DOCKER_HUB_ENDPOINT
        } else {
            host
        };
        Ok(Self {
            host: host.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            protocol,
        })
    }
}

/// How often a request is tried, and how long to wait in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The pause before each further try; their number is the number of further tries.
    pub pauses: Vec<Duration>,
    /// The longest `Retry-After` that is obeyed; a longer one ends the attempts.
    pub longest_wait: Duration,
    /// Whether there is a further try where nobody listened.
    pub after_refusal: AfterRefusal,
}

/// What a refused connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AfterRefusal {
    /// The address is wrong.
    #[default]
    Fail,
    /// The registry is about to start, or to come back.
    TryAgain,
}

impl Default for Retry {
    /// kaniko's three tries.
    fn default() -> Self {
        Self {
            pauses: vec![Duration::from_secs(1), Duration::from_secs(3)],
            longest_wait: Duration::from_secs(60),
            after_refusal: AfterRefusal::default(),
        }
    }
}

impl Retry {
    /// No second try.
    #[must_use]
    pub fn never() -> Self {
        Self {
            pauses: Vec::new(),
            ..Self::default()
        }
    }
}

/// Proxies, as the variables of the same names describe them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    /// `HTTP_PROXY`: for http URLs.
    pub http: Option<String>,
    /// `HTTPS_PROXY`: for https URLs.
    pub https: Option<String>,
    /// `NO_PROXY`: hosts, domains and networks that are called directly, separated by commas.
    pub except: Option<String>,
}

/// How blobs are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Upload {
    /// One PUT per blob; in chunks only where a server refuses the size or asks for chunks.
    #[default]
    Whole,
    /// PATCH requests of this many bytes, for proxies that limit the size of a body.
    Chunks(u64),
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file with certificates or keys.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// PEM text with something else in it.
    #[error("{origin} has no {expected} in PEM format")]
    Pem {
        /// The file or other origin.
        origin: String,
        /// What was looked for.
        expected: &'static str,
    },
    /// A certificate that the TLS library refuses.
    #[error("the certificate or key in {origin} cannot be used")]
    Certificate {
        /// The file or other origin.
        origin: String,
        /// Why.
        source: rustls::Error,
    },
    /// Not `host`, `host:port`, or those with `http://`, `https://` or a path.
    #[error(
        "\"{0}\" is not a registry address: expected host[:port][/path], optionally after http:// or https://"
    )]
    Endpoint(String),
    /// The TLS library cannot work with its own defaults.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The HTTP library refused the settings, for example a proxy address.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
    /// A proxy address.
    #[error("\"{address}\" is not a proxy address")]
    Proxy {
        /// What was given, without its password.
        address: String,
        /// Why.
        source: reqwest::Error,
    },
}

impl Settings {
    /// The entry of `host`, made when there is none. Docker Hub's aliases share one entry.
    pub fn host_mut(&mut self, host: &str) -> &mut HostSettings {
        self.hosts.entry(canonical_registry(host)).or_default()
    }

    /// The entry of `host`.
    #[must_use]
    pub fn host(&self, host: &str) -> Option<&HostSettings> {
        self.hosts.get(&canonical_registry(host))
    }

    /// Where a push to the registry called `registry` goes.
    #[must_use]
    pub fn push_endpoint(&self, registry: &str) -> Endpoint {
        self.host(registry)
            .and_then(|host| host.connect_to.clone())
            .unwrap_or_else(|| Endpoint::of_registry(registry))
    }

    /// Where a pull from the registry called `registry` goes, in the order to be tried.
    #[must_use]
    pub fn pull_endpoints(&self, registry: &str) -> Vec<Endpoint> {
        let mirrors = self
            .host(registry)
            .map(|host| host.mirrors.as_slice())
            .unwrap_or_default();
        // A mirror is a registry too: its own redirection holds.
        let redirected =
            |mirror: &Endpoint| match self.host(&mirror.host).and_then(|h| h.connect_to.clone()) {
                Some(called) if mirror.prefix.is_empty() => called,
                Some(called) => Endpoint {
                    prefix: mirror.prefix.clone(),
                    ..called
                },
                None => mirror.clone(),
            };
        let mut endpoints: Vec<Endpoint> = mirrors.iter().map(redirected).collect();
        if endpoints.is_empty() || self.after_mirrors == AfterMirrors::AskOrigin {
            endpoints.push(self.push_endpoint(registry));
        }
        endpoints
    }

    /// How to connect to `endpoint`: what holds everywhere, what its host's entry says, and what its text says.
    #[must_use]
    pub fn connection(&self, endpoint: &Endpoint) -> Connection {
        let mut connection = self.everywhere.clone();
        if let Some(HostSettings {
            connection: own, ..
        }) = self.host(&endpoint.host)
        {
            connection.protocol = connection.protocol.max(own.protocol);
            connection.verification = connection.verification.max(own.verification);
            connection.http = connection.http.max(own.http);
            connection
                .certificates
                .extend(own.certificates.iter().cloned());
            if own.client_certificate.is_some() {
                connection
                    .client_certificate
                    .clone_from(&own.client_certificate);
            }
        }
        if connection.protocol == Protocol::Https && is_loopback(&endpoint.host) {
            connection.protocol = Protocol::PlainAllowed;
        }
        if let Some(protocol) = endpoint.protocol {
            connection.protocol = protocol;
        }
        connection
    }
}

/// Whether `host` (with an optional port) is this machine.
fn is_loopback(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    bare == "localhost"
        || bare.ends_with(".localhost")
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_may_speak_http() {
        let settings = Settings::default();
        let protocol = |host: &str| settings.connection(&Endpoint::of_registry(host)).protocol;
        for host in [
            "localhost",
            "localhost:5000",
            "a.localhost:1",
            "127.0.0.1:5000",
            "127.9.9.9",
            "[::1]:5000",
        ] {
            assert_eq!(protocol(host), Protocol::PlainAllowed, "{host}");
        }
        for host in [
            "ghcr.io",
            "localhost.example.com",
            "128.0.0.1:5000",
            "10.0.0.1:5000",
            "registry:5000",
        ] {
            assert_eq!(protocol(host), Protocol::Https, "{host}");
        }
    }

    #[test]
    fn docker_hub_has_one_entry_and_another_endpoint() {
        let mut settings = Settings::default();
        settings.host_mut("index.docker.io").mirrors = vec!["mirror.gcr.io".parse().unwrap()];
        let endpoints = settings.pull_endpoints("docker.io");
        let hosts: Vec<&str> = endpoints.iter().map(Endpoint::host).collect();
        assert_eq!(hosts, ["mirror.gcr.io", "registry-1.docker.io"]);
        assert_eq!(
            settings.push_endpoint("docker.io").host(),
            "registry-1.docker.io",
            "pushes are not mirrored"
        );
    }

    #[test]
    fn without_fallback_only_mirrors_are_asked() {
        let mut settings = Settings {
            after_mirrors: AfterMirrors::Fail,
            ..Settings::default()
        };
        assert_eq!(
            settings.pull_endpoints("ghcr.io").len(),
            1,
            "a host without mirrors is asked itself"
        );
        settings.host_mut("ghcr.io").mirrors = vec!["m:5000/ghcr/".parse().unwrap()];
        let endpoints = settings.pull_endpoints("ghcr.io");
        assert_eq!((endpoints.len(), endpoints[0].prefix()), (1, "ghcr"));
    }

    #[test]
    fn a_mapped_host_is_called_for_pulls_and_pushes_with_its_own_connection() {
        let mut settings = Settings::default();
        settings.host_mut("registry.example.com").connect_to =
            Some("registry.infra.svc:5000".parse().unwrap());
        settings
            .host_mut("registry.infra.svc:5000")
            .connection
            .protocol = Protocol::Plain;
        let push = settings.push_endpoint("registry.example.com");
        assert_eq!(push.host(), "registry.infra.svc:5000");
        assert_eq!(
            settings.pull_endpoints("registry.example.com"),
            std::slice::from_ref(&push)
        );
        assert_eq!(settings.connection(&push).protocol, Protocol::Plain);
    }

    #[test]
    fn an_endpoint_may_name_its_protocol_and_a_path() {
        let endpoint: Endpoint = "http://cache:5000/hub/".parse().unwrap();
        assert_eq!((endpoint.host(), endpoint.prefix()), ("cache:5000", "hub"));
        assert_eq!(
            Settings::default().connection(&endpoint).protocol,
            Protocol::Plain
        );
        for wrong in [
            "",
            "http://",
            "ftp://x",
            "user@host",
            "a b",
            "https:///path",
        ] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong:?}");
        }
    }
}
