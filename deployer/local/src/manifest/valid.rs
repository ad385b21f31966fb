//! What an API server would not take. Names and keys become names of files and folders here, so
//! that these rules are what keeps them in their places. Pure.
//!
//! Source: Kubernetes documentation, "Object Names and IDs"; `k8s.io/apimachinery/pkg/util/validation`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};

use super::{ManifestError, One};

/// A word in a place where only certain ones are allowed.
struct Checked<'a> {
    object: String,
    field: &'a str,
}

const SUBDOMAIN: &str = "lower case letters, digits, `-` and `.`, beginning and ending with a letter or digit, 253 at most";
const LABEL: &str =
    "lower case letters, digits and `-`, beginning and ending with a letter or digit, 63 at most";
const KEY: &str = "letters, digits, `-`, `_` and `.`, not beginning with `..`, 253 at most";
const PATH: &str = "a relative path without `..`";

impl Checked<'_> {
    fn is(&self, right: bool, word: &str, rule: &'static str) -> Result<(), ManifestError> {
        if right {
            return Ok(());
        }
        Err(ManifestError::Word {
            object: self.object.clone(),
            field: self.field.to_owned(),
            word: word.to_owned(),
            rule,
        })
    }
}

fn is_label(word: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !word.is_empty()
        && word.len() <= 63
        && word.chars().all(inner)
        && !word.starts_with('-')
        && !word.ends_with('-')
}

fn is_subdomain(word: &str) -> bool {
    // Its parts may be longer than a label.
    let part = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty()
            && part.chars().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    word.len() <= 253 && word.split('.').all(part)
}

fn is_key(word: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !word.is_empty()
        && word.len() <= 253
        && word.chars().all(inner)
        && word != "."
        && !word.starts_with("..")
}

fn is_inside(path: &str) -> bool {
    let leads_out = path.split('/').any(|part| part == "..");
    !path.is_empty() && !path.starts_with('/') && !path.starts_with("..") && !leads_out
}

/// The object's own names.
pub(super) fn names(one: &One<'_>) -> Result<(), ManifestError> {
    let checked = |field| Checked {
        object: one.shown(),
        field,
    };
    let name = &one.name.name;
    checked("metadata.name").is(is_subdomain(name), name, SUBDOMAIN)?;
    let namespace = &one.name.namespace;
    checked("metadata.namespace").is(is_label(namespace), namespace, LABEL)
}

/// The keys of a ConfigMap or Secret.
pub(super) fn keys<'a>(
    one: &One<'_>,
    keys: impl Iterator<Item = &'a String>,
) -> Result<(), ManifestError> {
    let checked = Checked {
        object: one.shown(),
        field: "the key",
    };
    for key in keys {
        checked.is(is_key(key), key, KEY)?;
    }
    Ok(())
}

/// A pod's template.
pub(super) fn pod(one: &One<'_>, spec: &PodSpec) -> Result<(), ManifestError> {
    if spec.containers.is_empty() {
        return Err(ManifestError::NoContainers(one.shown()));
    }
    let checked = |field| Checked {
        object: one.shown(),
        field,
    };
    for (field, word) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        // An empty one is as good as none.
        if let Some(word) = word.as_ref().filter(|word| !word.is_empty()) {
            checked(field).is(is_label(word), word, LABEL)?;
        }
    }
    let init = spec.init_containers.iter().flatten();
    let mut known = BTreeSet::new();
    for Container { name, .. } in init.chain(&spec.containers) {
        checked("the container's name").is(is_label(name), name, LABEL)?;
        let once = "each name once in a pod";
        checked("the container's name").is(known.insert(name), name, once)?;
    }
    for volume in spec.volumes.iter().flatten() {
        let name = &volume.name;
        checked("the volume's name").is(is_label(name), name, LABEL)?;
        if let Some(claim) = &volume.persistent_volume_claim {
            let name = claim.claim_name.replace(crate::launch::POD_NAME, "pod");
            checked("claimName").is(is_subdomain(&name), &claim.claim_name, SUBDOMAIN)?;
        }
        for path in paths(volume) {
            checked("the path of a volume's item").is(is_inside(path), path, PATH)?;
        }
    }
    Ok(())
}

/// Where a volume puts its files.
fn paths(volume: &Volume) -> impl Iterator<Item = &String> {
    let map = volume.config_map.iter();
    let map = map.flat_map(|source| source.items.iter().flatten());
    let secret = volume.secret.iter();
    let secret = secret.flat_map(|source| source.items.iter().flatten());
    let api = volume.downward_api.iter();
    let api = api.flat_map(|source| source.items.iter().flatten());
    let projected = volume.projected.iter();
    let projected = projected.flat_map(|source| source.sources.iter().flatten());
    let projected = projected.flat_map(|source| {
        let map = source.config_map.iter();
        let map = map.flat_map(|source| source.items.iter().flatten());
        let secret = source.secret.iter();
        let secret = secret.flat_map(|source| source.items.iter().flatten());
        let api = source.downward_api.iter();
        let api = api.flat_map(|source| source.items.iter().flatten());
        let keyed = map.chain(secret).map(|item| &item.path);
        keyed.chain(api.map(|item| &item.path))
    });
    let keyed = map.chain(secret).map(|item| &item.path);
    keyed.chain(api.map(|item| &item.path)).chain(projected)
}
