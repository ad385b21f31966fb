//! The files of volumes that are made of data: ConfigMaps, Secrets, the downward API.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume};

use super::{Facts, LaunchError, field};
use crate::desired::Name;

/// A file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectedFile {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its mode.
    pub mode: u32,
}

/// Files by their paths in the volume.
pub type VolumeFiles = BTreeMap<String, ProjectedFile>;

/// Default of `defaultMode`.
const MODE: u32 = 0o644;

/// The files of a volume; `None` for one that is a directory of its own.
///
/// # Errors
/// [`LaunchError`]
pub fn volume_files(
    volume: &Volume,
    facts: &Facts<'_>,
) -> Result<Option<VolumeFiles>, LaunchError> {
    let mut files = VolumeFiles::new();
    if let Some(source) = &volume.config_map {
        let mode = mode(source.default_mode, MODE);
        let data = facts.data.configs.get(&in_namespace(facts, &source.name));
        add(
            &mut files,
            (&source.name, data),
            (&source.items, mode),
            source.optional,
        )?;
    } else if let Some(source) = &volume.secret {
        let mode = mode(source.default_mode, MODE);
        let name = source.secret_name.as_deref().unwrap_or_default();
        let data = facts.data.secrets.get(&in_namespace(facts, name));
        add(
            &mut files,
            (name, data),
            (&source.items, mode),
            source.optional,
        )?;
    } else if let Some(source) = &volume.downward_api {
        let mode = mode(source.default_mode, MODE);
        downward(&mut files, source.items.iter().flatten(), mode, facts)?;
    } else if let Some(projected) = &volume.projected {
        let mode = mode(projected.default_mode, MODE);
        for source in projected.sources.iter().flatten() {
            if let Some(map) = &source.config_map {
                let data = facts.data.configs.get(&in_namespace(facts, &map.name));
                add(
                    &mut files,
                    (&map.name, data),
                    (&map.items, mode),
                    map.optional,
                )?;
            }
            if let Some(secret) = &source.secret {
                let data = facts.data.secrets.get(&in_namespace(facts, &secret.name));
                add(
                    &mut files,
                    (&secret.name, data),
                    (&secret.items, mode),
                    secret.optional,
                )?;
            }
            if let Some(api) = &source.downward_api {
                downward(&mut files, api.items.iter().flatten(), mode, facts)?;
            }
            if source.service_account_token.is_some() {
                let what = "serviceAccountToken of a projected volume";
                return Err(LaunchError::Field(what.to_owned()));
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

fn in_namespace(facts: &Facts<'_>, name: &str) -> Name {
    Name::new(&facts.name.namespace, name)
}

fn mode(mode: Option<i32>, default: u32) -> u32 {
    mode.and_then(|mode| u32::try_from(mode).ok())
        .unwrap_or(default)
}

fn add(
    files: &mut VolumeFiles,
    (name, data): (&str, Option<&BTreeMap<String, Vec<u8>>>),
    (items, default): (&Option<Vec<KeyToPath>>, u32),
    optional: Option<bool>,
) -> Result<(), LaunchError> {
    let empty = BTreeMap::new();
    let data = data.unwrap_or(&empty);
    let Some(items) = items else {
        let all = data.iter().map(|(key, bytes)| (key.clone(), bytes.clone()));
        files.extend(all.map(|(key, bytes)| {
            (
                key,
                ProjectedFile {
                    bytes,
                    mode: default,
                },
            )
        }));
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => {
                let mode = mode(item.mode, default);
                let bytes = bytes.clone();
                files.insert(item.path.clone(), ProjectedFile { bytes, mode });
            }
            None if optional == Some(true) => {}
            None => return Err(LaunchError::Key(name.to_owned(), item.key.clone())),
        }
    }
    Ok(())
}

fn downward<'a>(
    files: &mut VolumeFiles,
    items: impl Iterator<Item = &'a DownwardAPIVolumeFile>,
    default: u32,
    facts: &Facts<'_>,
) -> Result<(), LaunchError> {
    for item in items {
        let Some(selector) = &item.field_ref else {
            let what = item.resource_field_ref.as_ref();
            let what = what.map_or_else(|| item.path.clone(), |r| r.resource.clone());
            return Err(LaunchError::Field(what));
        };
        let bytes = field(selector, facts)?.into_bytes();
        let mode = mode(item.mode, default);
        files.insert(item.path.clone(), ProjectedFile { bytes, mode });
    }
    Ok(())
}
