//! Docker's `config.json` and podman's `auth.json`.
//!
//! Sources: docker/cli `cli/config`, containers-auth.json(5).

use std::collections::BTreeMap;

use base64::Engine as _;
use serde::Deserialize;

use super::{Credential, CredentialError, Helpers, Lookup, helper};
use crate::reference::{DOCKER_HUB, canonical_registry};

/// The key that docker itself writes for Docker Hub, and what helpers are asked for.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// One configuration document, its secrets decoded.
#[derive(Debug, Default)]
pub(super) struct DockerConfig {
    origin: String,
    /// By key as written; `None` for entries without a secret.
    auths: BTreeMap<String, Option<Credential>>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
    /// Credentials that were handed over as such, by key.
    fixed: BTreeMap<String, Credential>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    auths: BTreeMap<String, AuthEntry>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct AuthEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// What is wrong with a configuration document.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is no JSON, or not of this shape.
    #[error("{origin} is not a Docker configuration")]
    Json {
        /// The file.
        origin: String,
        /// Where and what.
        source: serde_json::Error,
    },
    /// The field `auth` is not base64 of `user:password`.
    #[error("the \"auth\" of \"{key}\" in {origin} is not base64 of user:password")]
    Auth {
        /// The key in `auths`.
        key: String,
        /// The file.
        origin: String,
    },
}

impl DockerConfig {
    pub(super) fn parse(origin: &str, bytes: &[u8]) -> Result<Self, ConfigError> {
        let document = if bytes.trim_ascii().is_empty() {
            Document::default()
        } else {
            serde_json::from_slice(bytes).map_err(|source| ConfigError::Json {
                origin: origin.to_owned(),
                source,
            })?
        };
        Self::decoded(origin, document)
    }

    pub(super) fn parse_legacy(origin: &str, bytes: &[u8]) -> Result<Self, ConfigError> {
        let auths = serde_json::from_slice(bytes).map_err(|source| ConfigError::Json {
            origin: origin.to_owned(),
            source,
        })?;
        Self::decoded(
            origin,
            Document {
                auths,
                ..Document::default()
            },
        )
    }

    pub(super) fn single(host: &str, credential: Credential, origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            fixed: BTreeMap::from([(host.to_owned(), credential)]),
            ..Self::default()
        }
    }

    /// A malformed entry is found when the file is read, not when the host is first used.
    fn decoded(origin: &str, document: Document) -> Result<Self, ConfigError> {
        let mut auths = BTreeMap::new();
        for (key, entry) in document.auths {
            let credential = entry.credential().map_err(|Malformed| ConfigError::Auth {
                key: key.clone(),
                origin: origin.to_owned(),
            })?;
            auths.insert(key, credential);
        }
        Ok(Self {
            origin: origin.to_owned(),
            auths,
            creds_store: document.creds_store.filter(|name| !name.is_empty()),
            cred_helpers: document.cred_helpers,
            fixed: BTreeMap::new(),
        })
    }

    pub(super) async fn lookup(
        &self,
        registry: &str,
        repository: &str,
        helpers: &Helpers,
    ) -> Result<Lookup, CredentialError> {
        if let Some(found) = self.fixed(registry, repository) {
            return Ok(found);
        }
        if let Some((key, name)) = best_key(&self.cred_helpers, registry, repository) {
            let source = format!(
                "docker-credential-{name} (credHelpers \"{key}\" of {})",
                self.origin
            );
            let credential = helper::get(name, server_url(registry), helpers)
                .await
                .map_err(|source| CredentialError::Helper {
                    key: key.to_owned(),
                    origin: self.origin.clone(),
                    source,
                })?;
            let source = credential.is_some().then_some(source);
            return Ok(Lookup {
                credential,
                source,
                hint: None,
            });
        }
        let mut hint = None;
        if let Some(name) = self.creds_store.as_deref().filter(|name| !name.is_empty()) {
            match helper::get(name, server_url(registry), helpers).await {
                Ok(Some(credential)) => {
                    let source =
                        format!("docker-credential-{name} (credsStore of {})", self.origin);
                    return Ok(Lookup {
                        credential: Some(credential),
                        source: Some(source),
                        hint: None,
                    });
                }
                Ok(None) => {}
                // A store that works on the author's laptop is often named in a file that was copied to a cluster.
                Err(error) => {
                    tracing::warn!(origin = %self.origin, store = name, %error, "credsStore cannot be used");
                    hint = Some(format!(
                        "the credsStore \"{name}\" of {} could not be used: {error}",
                        self.origin
                    ));
                }
            }
        }
        let found = self.inline(registry, repository);
        Ok(Lookup {
            hint: found.hint.or(hint),
            ..found
        })
    }

    fn fixed(&self, registry: &str, repository: &str) -> Option<Lookup> {
        let (_, credential) = best_key(&self.fixed, registry, repository)?;
        Some(Lookup {
            credential: Some(credential.clone()),
            source: Some(self.origin.clone()),
            hint: None,
        })
    }

    fn inline(&self, registry: &str, repository: &str) -> Lookup {
        let Some((key, entry)) = best_key(&self.auths, registry, repository) else {
            return Lookup {
                hint: self.likely_wrong_key(registry),
                ..Lookup::default()
            };
        };
        let credential = entry.clone();
        let source = format!("\"{key}\" in {}", self.origin);
        match credential {
            None => Lookup {
                hint: Some(format!(
                    "{source} has no user name and password (docker leaves such entries when a credsStore keeps them)"
                )),
                ..Lookup::default()
            },
            Some(_) => {
                let hint = (registry == DOCKER_HUB && key != DOCKER_HUB_KEY)
                    .then(|| hub_key_hint(key, &self.origin));
                Lookup {
                    credential,
                    source: Some(source),
                    hint,
                }
            }
        }
    }

    /// A key that was probably meant for `registry` but does not match it.
    fn likely_wrong_key(&self, registry: &str) -> Option<String> {
        let keys = self.auths.keys().chain(self.cred_helpers.keys());
        for key in keys {
            let (host, path) = split_key(key);
            let name = |host: &str| host.split(':').next().unwrap_or_default().to_lowercase();
            if registry == DOCKER_HUB
                && (name(&host) == "docker.com" || name(&host).ends_with(".docker.com"))
            {
                return Some(hub_key_hint(key, &self.origin));
            }
            if host == registry && !path.is_empty() {
                return Some(format!(
                    "the key \"{key}\" in {} holds for repositories below {host}/{path} only",
                    self.origin
                ));
            }
            let same_site = name(&host) == name(registry)
                || name(registry)
                    .strip_suffix(&name(&host))
                    .is_some_and(|rest| rest.ends_with('.'));
            if host != registry && same_site {
                return Some(format!(
                    "the key \"{key}\" in {} does not match: for this registry it must be \"{registry}\"",
                    self.origin
                ));
            }
        }
        None
    }
}

struct Malformed;

impl AuthEntry {
    fn credential(&self) -> Result<Option<Credential>, Malformed> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credential::Bearer(token)));
        }
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credential::Identity(token)));
        }
        if let Some(auth) = given(&self.auth) {
            return decode_auth(&auth).map(Some);
        }
        match (given(&self.username), given(&self.password)) {
            (Some(username), Some(password)) => Ok(Some(Credential::Basic { username, password })),
            _ => Ok(None),
        }
    }
}

fn decode_auth(auth: &str) -> Result<Credential, Malformed> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(auth.trim())
        .or_else(|_| base64::engine::general_purpose::STANDARD_NO_PAD.decode(auth.trim()))
        .map_err(|_| Malformed)?;
    let text = String::from_utf8(bytes).map_err(|_| Malformed)?;
    let (username, password) = text.split_once(':').ok_or(Malformed)?;
    // Docker strips NUL bytes that some old helpers left behind.
    let password = password.trim_matches('\0').to_owned();
    Ok(Credential::Basic {
        username: username.to_owned(),
        password,
    })
}

fn hub_key_hint(key: &str, origin: &str) -> String {
    format!(
        "the key \"{key}\" in {origin} is not the one that docker uses for Docker Hub: \"{DOCKER_HUB_KEY}\""
    )
}

/// What a helper is asked for.
fn server_url(registry: &str) -> &str {
    if registry == DOCKER_HUB {
        DOCKER_HUB_KEY
    } else {
        registry
    }
}

/// The entry whose key matches: the longest path wins, then the canonical spelling of Docker Hub's key.
fn best_key<'a, V>(
    entries: &'a BTreeMap<String, V>,
    registry: &str,
    repository: &str,
) -> Option<(&'a str, &'a V)> {
    entries
        .iter()
        .filter_map(|(key, value)| {
            let (host, path) = split_key(key);
            let matches = host == registry && is_path_prefix(&path, repository);
            matches.then_some(((path.len(), key == DOCKER_HUB_KEY), (key.as_str(), value)))
        })
        .max_by_key(|(rank, _)| *rank)
        .map(|(_, entry)| entry)
}

fn is_path_prefix(path: &str, repository: &str) -> bool {
    path.is_empty()
        || repository
            .strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `https://host/v1/`, `host:port` and `host/org` as host and path prefix.
fn split_key(key: &str) -> (String, String) {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.trim_end_matches('/');
    let path = if matches!(path, "v1" | "v2") {
        ""
    } else {
        path
    };
    (canonical_registry(host), path.to_owned())
}

#[cfg(test)]
mod tests;
