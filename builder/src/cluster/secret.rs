//! Secrets of a build: existing ones are used as they are; those that Kiln
//! makes are unique to the build, belong to its pod, and go with it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kiln_schemas::model::{ClusterBuild, DockerConfig, PullSecret};
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, ResourceExt};
use serde_json::json;

use super::args::certificate_key;
use super::error::ApiError;
use super::pod::{CloudKey, PodSecrets};
use super::{RegistryReach, Session, lease};

/// skaffold's `DefaultKanikoSecretName`, the key in a secret that has no other.
const CLOUD_KEY: &str = "kaniko-secret";
const DOCKER_CONFIG: &str = "config.json";
const DOCKER_CONFIG_TYPE: &str = "kubernetes.io/dockerconfigjson";
const DOCKER_CONFIG_KEY: &str = ".dockerconfigjson";

/// A secret of the configuration could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It is not there, and there is no file to make it from.
    #[error("there is no secret {name} in namespace {namespace}")]
    Missing {
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// It is not there, and the file to make it from cannot be read.
    #[error("there is no secret {name} in namespace {namespace}, and {} cannot be read", path.display())]
    File {
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It has no key that holds what it should.
    #[error("the secret {name} has no key {wanted}; it has {}", list(found))]
    Key {
        /// Its name.
        name: String,
        /// What was looked for.
        wanted: String,
        /// What there is.
        found: Vec<String>,
    },
    /// The API server refused.
    #[error(transparent)]
    Api(#[from] ApiError),
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

/// Secrets of one namespace, for one build.
pub(super) struct Secrets<'a> {
    pub(super) api: Api<Secret>,
    pub(super) namespace: &'a str,
    pub(super) session: &'a Session,
    pub(super) now: Timestamp,
    /// For how long a made secret is leased until its pod owns it.
    pub(super) lease: std::time::Duration,
}

impl Secrets<'_> {
    /// Finds or makes everything that the pod refers to. The names of what
    /// was made are put into `made`, also when a later one fails.
    pub(super) async fn prepare(
        &self,
        build: &ClusterBuild,
        reach: &RegistryReach,
        made: &mut Vec<String>,
    ) -> Result<PodSecrets, SecretError> {
        let mut secrets = PodSecrets::default();
        if let Some(wanted) = &build.pull_secret {
            secrets.cloud_key = Some(self.cloud_key(wanted, made).await?);
        }
        if let Some(wanted) = &build.docker_config {
            self.docker_config(wanted, &mut secrets, made).await?;
        } else if let Some(config) = &reach.pull_config {
            let name = self.make_docker_config(config.clone(), made).await?;
            secrets.image_pull.push(name);
        }
        if !reach.certificates.is_empty() {
            let data = reach
                .certificates
                .iter()
                .map(|(host, pem)| (certificate_key(host), pem.clone()))
                .collect();
            secrets.certificates = Some(self.make("kiln-certs-", "Opaque", data, made).await?);
        }
        Ok(secrets)
    }

    async fn cloud_key(
        &self,
        wanted: &PullSecret,
        made: &mut Vec<String>,
    ) -> Result<CloudKey, SecretError> {
        let mounted = |secret: String, key: String| CloudKey {
            secret,
            key,
            mount_path: wanted.mount_path.clone(),
        };
        let existing = if wanted.random_name {
            Existing::No
        } else {
            self.find(&wanted.name).await?
        };
        match existing {
            Existing::Yes(secret) => {
                let key = cloud_key_of(&secret, wanted)?;
                Ok(mounted(wanted.name.clone(), key))
            }
            Existing::Hidden => Ok(mounted(
                wanted.name.clone(),
                configured_key(wanted.path.as_deref()),
            )),
            Existing::No => {
                let bytes = self
                    .file(&wanted.name, wanted.path.as_deref().map(Path::new))
                    .await?;
                let data = BTreeMap::from([(CLOUD_KEY.to_owned(), bytes)]);
                let name = self.make("kiln-cloud-key-", "Opaque", data, made).await?;
                Ok(mounted(name, CLOUD_KEY.to_owned()))
            }
        }
    }

    async fn docker_config(
        &self,
        wanted: &DockerConfig,
        secrets: &mut PodSecrets,
        made: &mut Vec<String>,
    ) -> Result<(), SecretError> {
        let existing = match &wanted.secret_name {
            // With a file, skaffold makes the secret of this name; Kiln makes
            // one of its own, so a secret left behind is in nobody's way.
            Some(name) if wanted.path.is_none() => Some((name, self.find(name).await?)),
            _ => None,
        };
        match existing {
            Some((name, Existing::Yes(secret))) => {
                let (key, bytes) = docker_config_of(&secret, name)?;
                if key == DOCKER_CONFIG_KEY {
                    secrets.image_pull.push(name.clone());
                } else {
                    // The kubelet takes no Opaque secret.
                    secrets
                        .image_pull
                        .push(self.make_docker_config(bytes, made).await?);
                }
                secrets.docker_config = Some((name.clone(), key));
            }
            Some((name, Existing::Hidden)) => {
                secrets.docker_config = Some((name.clone(), DOCKER_CONFIG.to_owned()));
            }
            Some((name, Existing::No)) => {
                return Err(SecretError::Missing {
                    name: name.clone(),
                    namespace: self.namespace.to_owned(),
                });
            }
            None => {
                let name = wanted.secret_name.as_deref().unwrap_or("docker-cfg");
                let bytes = self.file(name, wanted.path.as_deref()).await?;
                let made_name = self.make_docker_config(bytes, made).await?;
                secrets.image_pull.push(made_name.clone());
                secrets.docker_config = Some((made_name, DOCKER_CONFIG_KEY.to_owned()));
            }
        }
        Ok(())
    }

    async fn find(&self, name: &str) -> Result<Existing, SecretError> {
        match self.api.get_opt(name).await {
            Ok(Some(secret)) => Ok(Existing::Yes(Box::new(secret))),
            Ok(None) => Ok(Existing::No),
            Err(error) => {
                match ApiError::new(&format!("read secret {name}"), self.namespace, error) {
                    // A pod may use what its maker may not read.
                    ApiError::Forbidden(_) => Ok(Existing::Hidden),
                    error => Err(error.into()),
                }
            }
        }
    }

    async fn file(&self, name: &str, path: Option<&Path>) -> Result<Vec<u8>, SecretError> {
        let (name, namespace) = (name.to_owned(), self.namespace.to_owned());
        let Some(path) = path else {
            return Err(SecretError::Missing { name, namespace });
        };
        tokio::fs::read(path)
            .await
            .map_err(|source| SecretError::File {
                name,
                namespace,
                path: path.to_owned(),
                source,
            })
    }

    async fn make_docker_config(
        &self,
        bytes: Vec<u8>,
        made: &mut Vec<String>,
    ) -> Result<String, SecretError> {
        let data = BTreeMap::from([(DOCKER_CONFIG_KEY.to_owned(), bytes)]);
        self.make("kiln-docker-config-", DOCKER_CONFIG_TYPE, data, made)
            .await
    }

    async fn make(
        &self,
        prefix: &str,
        kind: &str,
        data: BTreeMap<String, Vec<u8>>,
        made: &mut Vec<String>,
    ) -> Result<String, SecretError> {
        let lease = lease::until(self.now, self.lease);
        let secret = Secret {
            metadata: ObjectMeta {
                generate_name: Some(prefix.to_owned()),
                labels: Some(lease::labels(self.session)),
                annotations: Some([(lease::LEASED_UNTIL.to_owned(), lease)].into()),
                ..ObjectMeta::default()
            },
            type_: Some(kind.to_owned()),
            data: Some(
                data.into_iter()
                    .map(|(key, value)| (key, ByteString(value)))
                    .collect(),
            ),
            ..Secret::default()
        };
        let secret = self
            .api
            .create(&PostParams::default(), &secret)
            .await
            .map_err(|error| {
                ApiError::creating("create a secret for the build", self.namespace, error)
            })?;
        let name = secret.name_any();
        made.push(name.clone());
        Ok(name)
    }
}

enum Existing {
    Yes(Box<Secret>),
    No,
    /// Nobody may say whether it exists.
    Hidden,
}

/// What the configuration calls the key: `pullSecretPath`, or its last part
/// where it is the path of a file.
fn configured_key(path: Option<&str>) -> String {
    let name = path.and_then(|path| Path::new(path).file_name());
    name.map_or_else(
        || CLOUD_KEY.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn cloud_key_of(secret: &Secret, wanted: &PullSecret) -> Result<String, SecretError> {
    let keys = keys(secret);
    let configured = configured_key(wanted.path.as_deref());
    [configured.as_str(), CLOUD_KEY]
        .into_iter()
        .find(|key| keys.iter().any(|found| found == key))
        .map(str::to_owned)
        .ok_or_else(|| SecretError::Key {
            name: wanted.name.clone(),
            wanted: configured.clone(),
            found: keys.clone(),
        })
}

fn docker_config_of(secret: &Secret, name: &str) -> Result<(String, Vec<u8>), SecretError> {
    let data = secret.data.as_ref();
    [DOCKER_CONFIG_KEY, DOCKER_CONFIG]
        .into_iter()
        .find_map(|key| Some((key.to_owned(), data?.get(key)?.0.clone())))
        .ok_or_else(|| SecretError::Key {
            name: name.to_owned(),
            wanted: format!("{DOCKER_CONFIG} or {DOCKER_CONFIG_KEY}"),
            found: keys(secret),
        })
}

fn keys(secret: &Secret) -> Vec<String> {
    secret
        .data
        .iter()
        .flatten()
        .map(|(key, _)| key.clone())
        .collect()
}

/// Hands made secrets over to the pod: the cluster deletes them with it,
/// whatever becomes of Kiln.
pub(super) async fn give_to(api: &Api<Secret>, made: &[String], pod: &Pod) {
    let owner = json!([{
        "apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid(),
    }]);
    for name in made {
        let patch = Patch::Merge(json!({"metadata": {"ownerReferences": owner}}));
        if let Err(error) = api.patch(name, &PatchParams::default(), &patch).await {
            // Kiln deletes it itself, and if it cannot, the sweep does.
            tracing::debug!(%error, secret = name, "cannot give the secret to its pod");
        }
    }
}

/// Deletes what was made.
pub(super) async fn delete(api: &Api<Secret>, made: &[String]) {
    for name in made {
        if let Err(error) = api.delete(name, &DeleteParams::default()).await {
            tracing::debug!(%error, secret = name, "cannot delete the secret");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(keys: &[&str]) -> Secret {
        let data = keys
            .iter()
            .map(|key| ((*key).to_owned(), ByteString(key.as_bytes().to_vec())));
        Secret {
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

    fn wanted(path: Option<&str>) -> PullSecret {
        PullSecret {
            name: "gcp".into(),
            path: path.map(str::to_owned),
            mount_path: "/secret".into(),
            random_name: false,
        }
    }

    #[test]
    fn the_path_names_the_key_of_an_existing_secret() {
        for (keys, path, key) in [
            (
                &["kaniko-secret"][..],
                Some("kaniko-secret"),
                "kaniko-secret",
            ),
            (&["kaniko-secret"], None, "kaniko-secret"),
            (&["key.json"], Some("/home/me/key.json"), "key.json"),
            (
                &["kaniko-secret"],
                Some("/home/me/key.json"),
                "kaniko-secret",
            ),
        ] {
            assert_eq!(cloud_key_of(&secret(keys), &wanted(path)).unwrap(), key);
        }
    }

    #[test]
    fn a_secret_without_the_key_says_what_it_has() {
        let error = cloud_key_of(&secret(&["a", "b"]), &wanted(Some("c"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the secret gcp has no key c; it has a, b"
        );
    }

    #[test]
    fn both_types_of_docker_secrets_are_understood() {
        for key in ["config.json", ".dockerconfigjson"] {
            let (found, bytes) = docker_config_of(&secret(&[key]), "x").unwrap();
            assert_eq!((found.as_str(), bytes.as_slice()), (key, key.as_bytes()));
        }
        let error = docker_config_of(&secret(&[]), "x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the secret x has no key config.json or .dockerconfigjson; it has none"
        );
    }
}
