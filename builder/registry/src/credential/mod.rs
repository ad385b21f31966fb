//! Which credentials a registry gets, and where they came from.
//!
//! A [`Keychain`] asks its sources in order. Within one Docker configuration the order is docker's own:
//! `credHelpers[host]`, then `credsStore`, then `auths`.

pub mod cloud;
pub mod docker_config;
pub mod helper;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use docker_config::ConfigError;
use docker_config::DockerConfig;
pub use helper::HelperError;

use crate::reference::canonical_registry;

/// Something that identifies us to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User name and password, for Basic or to be exchanged for a token.
    Basic {
        /// User name.
        username: String,
        /// Password or personal access token.
        password: String,
    },
    /// A refresh token, to be exchanged by an OAuth2 POST (docker's `identitytoken`).
    Identity(String),
    /// A bearer token to be sent as it is (docker's `registrytoken`).
    Bearer(String),
}

impl fmt::Debug for Credential {
    /// Never shows the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username}, …)"),
            Self::Identity(_) => f.write_str("Identity(…)"),
            Self::Bearer(_) => f.write_str("Bearer(…)"),
        }
    }
}

/// The answer of a [`Keychain`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lookup {
    /// The credential, or `None` for anonymous access.
    pub credential: Option<Credential>,
    /// Where it came from, for error messages: file and key.
    pub source: Option<String>,
    /// What is likely wrong, to be shown when the registry refuses.
    pub hint: Option<String>,
}

/// Why credentials could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A helper that is named for this host failed.
    #[error("credHelpers entry \"{key}\" of {origin} failed")]
    Helper {
        /// The key in `credHelpers`.
        key: String,
        /// The file.
        origin: String,
        /// Why.
        source: HelperError,
    },
    /// An entry of `auths`.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Where and how credential helpers are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helpers {
    /// Folders that are searched for `docker-credential-*`, as from `PATH`.
    pub search_path: Vec<PathBuf>,
    /// How long a helper may take.
    pub timeout: Duration,
}

impl Default for Helpers {
    fn default() -> Self {
        Self {
            search_path: Vec::new(),
            timeout: Duration::from_secs(30),
        }
    }
}

/// An ordered list of places to find credentials in. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Keychain {
    sources: Vec<Arc<DockerConfig>>,
    helpers: Helpers,
    built_ins: cloud::BuiltIns,
}

impl Keychain {
    /// No credentials for anyone.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Runs helpers like this.
    #[must_use]
    pub fn with_helpers(mut self, helpers: Helpers) -> Self {
        self.helpers = helpers;
        self
    }

    /// Asks these built-in helpers where no document has an entry; `variables` is the environment that they see.
    #[must_use]
    pub fn with_built_ins(
        mut self,
        helpers: &[cloud::Helper],
        variables: cloud::Variables,
    ) -> Self {
        self.built_ins = cloud::BuiltIns {
            helpers: helpers.to_vec(),
            variables,
        };
        self
    }

    pub(crate) fn built_ins(&self) -> &cloud::BuiltIns {
        &self.built_ins
    }

    /// Adds a Docker `config.json`, a podman `auth.json`, or the content of a `kubernetes.io/dockerconfigjson` secret,
    /// behind those added before. `origin` is what error messages call it.
    ///
    /// # Errors
    /// [`ConfigError`] when the document is malformed.
    pub fn with_docker_config(mut self, origin: &str, bytes: &[u8]) -> Result<Self, ConfigError> {
        self.sources
            .push(Arc::new(DockerConfig::parse(origin, bytes)?));
        Ok(self)
    }

    /// Adds the content of a `kubernetes.io/dockercfg` secret: the `auths` object alone.
    ///
    /// # Errors
    /// [`ConfigError`] when the document is malformed.
    pub fn with_legacy_dockercfg(
        mut self,
        origin: &str,
        bytes: &[u8],
    ) -> Result<Self, ConfigError> {
        self.sources
            .push(Arc::new(DockerConfig::parse_legacy(origin, bytes)?));
        Ok(self)
    }

    /// Adds one credential for `host`, behind those added before.
    #[must_use]
    pub fn with_credential(mut self, host: &str, credential: Credential, origin: &str) -> Self {
        self.sources
            .push(Arc::new(DockerConfig::single(host, credential, origin)));
        self
    }

    /// The credentials for `repository` on `registry` (both as in image names).
    ///
    /// # Errors
    /// [`CredentialError`] when a matching entry cannot be used.
    pub async fn lookup(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Lookup, CredentialError> {
        let registry = canonical_registry(registry);
        let mut hint = None;
        for source in &self.sources {
            let found = source.lookup(&registry, repository, &self.helpers).await?;
            if found.credential.is_some() {
                return Ok(found);
            }
            hint = hint.or(found.hint);
        }
        Ok(Lookup {
            credential: None,
            source: None,
            hint,
        })
    }
}
