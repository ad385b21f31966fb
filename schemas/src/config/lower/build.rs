//! `build`: the pods that build.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Lowering, below};
use crate::config::Document;
use crate::config::build::{BuildSection, Cache};
use crate::model::{Build, ClusterBuild, DockerConfig, PullSecret};

const BUILD_TIMEOUT: Duration = Duration::from_mins(20);
const BASE_DIGEST_TTL: Duration = Duration::from_mins(10);
const SECRET_MOUNT: &str = "/secret";

impl Lowering<'_> {
    pub(super) fn build(&self, document: &Document) -> Build {
        let section = &document.build;
        let artifacts = document.images.iter().enumerate();
        Build {
            artifacts: artifacts
                .map(|(index, image)| self.artifact(image, index, document))
                .collect(),
            tags: self.tags(document.tags.as_ref()),
            insecure_registries: document
                .registries
                .iter()
                .filter(|(_, host)| host.insecure)
                .map(|(name, _)| name.clone())
                .collect(),
            platforms: self.platforms(&section.platforms, "/build/platforms"),
            hooks: self.hooks(&section.hooks, "/build/hooks"),
            cluster: self.cluster(section),
            base_digest_ttl: self.duration(
                section.base_digest_ttl.as_deref(),
                "/build/baseDigestTtl",
                BASE_DIGEST_TTL,
            ),
        }
    }

    fn cluster(&self, section: &BuildSection) -> ClusterBuild {
        let caches = section.caches.iter();
        ClusterBuild {
            namespace: section.namespace.clone(),
            timeout: self.duration(section.timeout.as_deref(), "/build/timeout", BUILD_TIMEOUT),
            concurrency: section.concurrency,
            http_proxy: None,
            https_proxy: None,
            pull_secret: self.cloud_key(section),
            docker_config: self.registry_credentials(section),
            volumes: caches
                .map(|(name, cache)| self.cache_volume(name, cache))
                .collect(),
            resources: None,
            service_account: None,
            tolerations: Vec::new(),
            node_selector: BTreeMap::new(),
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            run_as_user: None,
            pod_template: section.pod.clone().map(Value::Object),
        }
    }

    fn cache_volume(&self, name: &str, cache: &Cache) -> Value {
        let at = below("/build/caches", name);
        if !cache.path.starts_with('/') {
            let message = format!("`{}` is not absolute", cache.path);
            let help = "a cache lies at the same path for every RUN";
            self.error(&format!("{at}/path"), message, Some(help.to_owned()));
        }
        let mut places = Vec::new();
        if let Some(claim) = &cache.claim {
            places.push(json!({"name": name, "persistentVolumeClaim": {"claimName": claim}}));
        }
        if let Some(path) = &cache.host_path {
            let host_path = json!({"path": path, "type": "DirectoryOrCreate"});
            places.push(json!({"name": name, "hostPath": host_path}));
        }
        if cache.empty_dir.is_some() {
            places.push(json!({"name": name, "emptyDir": {}}));
        }
        if places.len() != 1 {
            let message =
                format!("cache `{name}` needs exactly one of claim, hostPath and emptyDir");
            self.error(&at, message, None);
        }
        places.into_iter().next().unwrap_or(Value::Null)
    }

    fn registry_credentials(&self, section: &BuildSection) -> Option<DockerConfig> {
        let credentials = section.secrets.registry.as_ref()?;
        if credentials.secret.is_some() == credentials.file.is_some() {
            let message = "`registry` needs either `secret` or `file`";
            self.error("/build/secrets/registry", message, None);
        }
        Some(DockerConfig {
            secret_name: credentials.secret.clone(),
            path: credentials.file.as_deref().map(|file| self.path(file)),
            random_name: credentials.file.is_some(),
        })
    }

    fn cloud_key(&self, section: &BuildSection) -> Option<PullSecret> {
        let key = section.secrets.cloud.as_ref()?;
        if key.secret.is_some() == key.file.is_some() {
            let message = "`cloud` needs either `secret` or `file`";
            self.error("/build/secrets/cloud", message, None);
        }
        if key.file.is_some() && key.key.is_some() {
            let message = "`key` names a key in an existing `secret`";
            self.error(
                "/build/secrets/cloud/key",
                message,
                Some("remove it".to_owned()),
            );
        }
        let file = key
            .file
            .as_deref()
            .map(|file| self.path(file).to_string_lossy().into_owned());
        let name = key.secret.clone().unwrap_or_else(|| "cloud-key".to_owned());
        Some(PullSecret {
            path: file
                .or_else(|| key.key.clone())
                .or_else(|| Some(name.clone())),
            name,
            mount_path: key
                .mount_path
                .clone()
                .unwrap_or_else(|| SECRET_MOUNT.to_owned()),
            random_name: key.file.is_some(),
        })
    }
}
