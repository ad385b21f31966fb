//! ConfigMaps and Secrets.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::{ManifestError, One, Reading, valid};

pub(super) fn config_map(one: &One<'_>, reading: &mut Reading) -> Result<(), ManifestError> {
    let map: ConfigMap = one.typed()?;
    let mut data: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (key, text) in map.data.unwrap_or_default() {
        data.insert(key, text.into_bytes());
    }
    for (key, bytes) in map.binary_data.unwrap_or_default() {
        data.insert(key, bytes.0);
    }
    valid::keys(one, data.keys())?;
    reading.desired.data.configs.insert(one.name.clone(), data);
    Ok(())
}

pub(super) fn secret(one: &One<'_>, reading: &mut Reading) -> Result<(), ManifestError> {
    let secret: Secret = one.typed()?;
    let mut data: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (key, bytes) in secret.data.unwrap_or_default() {
        data.insert(key, bytes.0);
    }
    // `stringData` wins over `data` (Kubernetes API, Secret).
    for (key, text) in secret.string_data.unwrap_or_default() {
        data.insert(key, text.into_bytes());
    }
    valid::keys(one, data.keys())?;
    reading.desired.data.secrets.insert(one.name.clone(), data);
    Ok(())
}
