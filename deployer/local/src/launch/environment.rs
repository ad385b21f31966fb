//! The environment of a container.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{Container, EnvVar};

use super::{Facts, LaunchError, field};
use crate::desired::{Image, Name, Protocol};

/// The whole environment: the image's, the services', `envFrom`, `env`, each over the former.
///
/// # Errors
/// [`LaunchError`]
pub fn environment(
    container: &Container,
    image: &Image,
    service_links: bool,
    facts: &Facts<'_>,
) -> Result<Vec<(String, String)>, LaunchError> {
    let mut env: Vec<(String, String)> = Vec::new();
    for pair in &image.env {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        set(&mut env, name, value.to_owned());
    }
    if !env.iter().any(|(name, _)| name == "PATH") {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        set(&mut env, "PATH", path.to_owned());
    }
    set(&mut env, "HOSTNAME", facts.name.name.clone());
    if service_links {
        links(facts, &mut env);
    }
    // What `$(NAME)` may refer to: the manifest's own variables and the services'.
    let mut known: BTreeMap<String, String> = env.iter().cloned().collect();
    for (name, value) in from_objects(container, facts) {
        known.insert(name.clone(), value.clone());
        set(&mut env, &name, value);
    }
    for variable in container.env.iter().flatten() {
        let Some(value) = value(variable, facts, &known)? else {
            continue;
        };
        known.insert(variable.name.clone(), value.clone());
        set(&mut env, &variable.name, value);
    }
    Ok(env)
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: String) {
    match env.iter_mut().find(|(other, _)| other == name) {
        Some((_, old)) => *old = value,
        None => env.push((name.to_owned(), value)),
    }
}

/// `envFrom`. Objects that are missing here are optional: the others were refused before.
fn from_objects(container: &Container, facts: &Facts<'_>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let namespace = &facts.name.namespace;
        let map = source.config_map_ref.as_ref();
        let map = map.and_then(|map| facts.data.configs.get(&Name::new(namespace, &map.name)));
        let secret = source.secret_ref.as_ref();
        let secret =
            secret.and_then(|secret| facts.data.secrets.get(&Name::new(namespace, &secret.name)));
        for (key, bytes) in map.into_iter().chain(secret).flatten() {
            let text = String::from_utf8_lossy(bytes).into_owned();
            pairs.push((format!("{prefix}{key}"), text));
        }
    }
    pairs
}

fn value(
    variable: &EnvVar,
    facts: &Facts<'_>,
    known: &BTreeMap<String, String>,
) -> Result<Option<String>, LaunchError> {
    let Some(from) = &variable.value_from else {
        let known = known
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        let text = variable.value.as_deref().unwrap_or_default();
        return Ok(Some(expand(text, &known)));
    };
    let namespace = &facts.name.namespace;
    if let Some(selector) = &from.field_ref {
        return field(selector, facts).map(Some);
    }
    if let Some(key) = &from.config_map_key_ref {
        let data = facts.data.configs.get(&Name::new(namespace, &key.name));
        return pick(data, (&key.name, &key.key), key.optional == Some(true));
    }
    if let Some(key) = &from.secret_key_ref {
        let data = facts.data.secrets.get(&Name::new(namespace, &key.name));
        return pick(data, (&key.name, &key.key), key.optional == Some(true));
    }
    if let Some(resource) = &from.resource_field_ref {
        return Err(LaunchError::Field(resource.resource.clone()));
    }
    Ok(None)
}

fn pick(
    data: Option<&BTreeMap<String, Vec<u8>>>,
    (name, key): (&str, &str),
    optional: bool,
) -> Result<Option<String>, LaunchError> {
    match data.and_then(|data| data.get(key)) {
        Some(bytes) => Ok(Some(String::from_utf8_lossy(bytes).into_owned())),
        None if optional => Ok(None),
        None => Err(LaunchError::Key(name.to_owned(), key.to_owned())),
    }
}

/// `NAME_SERVICE_HOST` and its like (Kubernetes documentation, "Environment variables" of
/// services).
fn links(facts: &Facts<'_>, env: &mut Vec<(String, String)>) {
    for (name, ip, ports) in facts.services {
        let prefix = name.to_uppercase().replace('-', "_");
        let Some((_, _, first)) = ports.first() else {
            continue;
        };
        set(env, &format!("{prefix}_SERVICE_HOST"), ip.to_string());
        set(env, &format!("{prefix}_SERVICE_PORT"), first.to_string());
        for (port_name, protocol, port) in ports {
            if let Some(port_name) = port_name {
                let port_name = port_name.to_uppercase().replace('-', "_");
                let key = format!("{prefix}_SERVICE_PORT_{port_name}");
                set(env, &key, port.to_string());
            }
            let word = match protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
            };
            let key = format!("{prefix}_PORT_{port}_{}", word.to_uppercase());
            set(env, &key, format!("{word}://{ip}:{port}"));
        }
    }
}

/// Replaces `$(NAME)`; `$$` is a dollar, and what is not known stays (Kubernetes API, `command`).
#[must_use]
pub fn expand(text: &str, known: &BTreeMap<&str, &str>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match known.get(name) {
                Some(value) => out.push_str(value),
                // Writing to a String cannot fail.
                None => drop(write!(out, "$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}
