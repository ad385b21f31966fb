//! Everything that a pod refers to has to be there, unless it is optional.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::ManifestError;
use crate::desired::{Data, Desired, Name, Workload};

pub(super) fn check(desired: &Desired) -> Result<(), ManifestError> {
    for workload in &desired.workloads {
        if let Some(spec) = &workload.template.spec {
            Checker {
                data: &desired.data,
                workload,
            }
            .pod(spec)?;
        }
    }
    Ok(())
}

struct Checker<'a> {
    data: &'a Data,
    workload: &'a Workload,
}

impl Checker<'_> {
    fn pod(&self, spec: &PodSpec) -> Result<(), ManifestError> {
        let init = spec.init_containers.iter().flatten();
        for container in init.chain(&spec.containers) {
            self.container(container)?;
        }
        for volume in spec.volumes.iter().flatten() {
            if let Some(source) = &volume.config_map {
                self.object("ConfigMap", &source.name, source.optional)?;
            }
            if let Some(source) = &volume.secret {
                let name = source.secret_name.as_deref().unwrap_or_default();
                self.object("Secret", name, source.optional)?;
            }
            for source in volume
                .projected
                .iter()
                .flat_map(|p| p.sources.iter().flatten())
            {
                if let Some(map) = &source.config_map {
                    self.object("ConfigMap", &map.name, map.optional)?;
                }
                if let Some(secret) = &source.secret {
                    self.object("Secret", &secret.name, secret.optional)?;
                }
            }
            if let Some(claim) = &volume.persistent_volume_claim
                && !claim.claim_name.contains(crate::launch::POD_NAME)
            {
                self.object("PersistentVolumeClaim", &claim.claim_name, None)?;
            }
        }
        Ok(())
    }

    fn container(&self, container: &Container) -> Result<(), ManifestError> {
        for source in container.env_from.iter().flatten() {
            if let Some(map) = &source.config_map_ref {
                self.object("ConfigMap", &map.name, map.optional)?;
            }
            if let Some(secret) = &source.secret_ref {
                self.object("Secret", &secret.name, secret.optional)?;
            }
        }
        for variable in container.env.iter().flatten() {
            let Some(from) = &variable.value_from else {
                continue;
            };
            if let Some(key) = &from.config_map_key_ref {
                self.key("ConfigMap", &key.name, &key.key, key.optional)?;
            }
            if let Some(key) = &from.secret_key_ref {
                self.key("Secret", &key.name, &key.key, key.optional)?;
            }
        }
        Ok(())
    }

    fn object(
        &self,
        kind: &'static str,
        name: &str,
        optional: Option<bool>,
    ) -> Result<(), ManifestError> {
        let full = Name::new(&self.workload.name.namespace, name);
        let there = match kind {
            "ConfigMap" => self.data.configs.contains_key(&full),
            "Secret" => self.data.secrets.contains_key(&full),
            _ => self.data.claims.contains(&full),
        };
        if there || optional == Some(true) {
            return Ok(());
        }
        Err(ManifestError::Missing {
            object: self.shown(),
            kind,
            name: name.to_owned(),
        })
    }

    fn key(
        &self,
        kind: &'static str,
        name: &str,
        key: &str,
        optional: Option<bool>,
    ) -> Result<(), ManifestError> {
        self.object(kind, name, optional)?;
        let full = Name::new(&self.workload.name.namespace, name);
        let data = match kind {
            "ConfigMap" => self.data.configs.get(&full),
            _ => self.data.secrets.get(&full),
        };
        if optional == Some(true) || data.is_some_and(|data| data.contains_key(key)) {
            return Ok(());
        }
        Err(ManifestError::MissingKey {
            object: self.shown(),
            kind,
            name: name.to_owned(),
            key: key.to_owned(),
        })
    }

    fn shown(&self) -> String {
        format!("{} {}", self.workload.kind, self.workload.name.name)
    }
}
