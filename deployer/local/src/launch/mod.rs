//! What a container is started with. Pure, but for the look-up of a user's name in the image.

mod environment;
mod files;
mod identity;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector};

pub use environment::{environment, expand};
pub use files::{ProjectedFile, VolumeFiles, volume_files};
pub use identity::{Identity, identity};

use crate::desired::{Data, Image, Labels, Name, Protocol};

/// Stands for the pod's name in the name of a claim that a StatefulSet's template makes.
pub const POD_NAME: &str = "$(POD)";

/// What a pod knows of itself and of its surroundings.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Its name.
    pub name: &'a Name,
    /// Unique text.
    pub uid: String,
    /// Its address; the machine's own where it shares the network.
    pub ip: Ipv4Addr,
    /// The bridge's address: what a cluster calls the node.
    pub host_ip: Ipv4Addr,
    /// Labels of the pod.
    pub labels: &'a Labels,
    /// Annotations of the pod.
    pub annotations: &'a Labels,
    /// Name of its service account.
    pub service_account: &'a str,
    /// Services of its namespace with their addresses and ports.
    pub services: &'a [ServiceAddress],
    /// What it reads.
    pub data: &'a Data,
}

/// A service: its name, its address, and its ports with their names.
pub type ServiceAddress = (String, Ipv4Addr, Vec<(Option<String>, Protocol, u16)>);

/// Why a container cannot be started as its manifest says.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LaunchError {
    /// There is no such image.
    #[error("the image {0} is not here")]
    NoImage(String),
    /// Neither the manifest nor the image has a command.
    #[error("neither the manifest nor the image names a command")]
    NoCommand,
    /// A field of the downward API that this machine does not know.
    #[error("the field {0} is not to be had here")]
    Field(String),
    /// A key of a ConfigMap or Secret.
    #[error("{0} has no key {1}")]
    Key(String, String),
    /// A user that the image does not know.
    #[error("the image has no user {0}")]
    User(String),
    /// `runAsNonRoot` and a root user.
    #[error("runAsNonRoot is set, and the container would run as root")]
    Root,
    /// A volume mount without a volume.
    #[error("there is no volume {0}")]
    Volume(String),
}

/// The command of a container: the manifest's words over the image's (Kubernetes documentation,
/// "Define a Command and Arguments for a Container").
///
/// # Errors
/// [`LaunchError::NoCommand`]
pub fn command(
    container: &Container,
    image: &Image,
    env: &[(String, String)],
) -> Result<Vec<String>, LaunchError> {
    let given = |words: &Option<Vec<String>>| words.clone().filter(|words| !words.is_empty());
    let known: BTreeMap<&str, &str> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expanded = |words: Vec<String>| -> Vec<String> {
        words.iter().map(|word| expand(word, &known)).collect()
    };
    let mut argv = match given(&container.command) {
        Some(command) => expanded(command),
        None => image.entrypoint.clone(),
    };
    match (given(&container.args), given(&container.command)) {
        (Some(args), _) => argv.extend(expanded(args)),
        (None, None) => argv.extend(image.cmd.clone()),
        (None, Some(_)) => {}
    }
    if argv.is_empty() {
        return Err(LaunchError::NoCommand);
    }
    Ok(argv)
}

/// The value of a downward API field (Kubernetes documentation, "Available fields").
///
/// # Errors
/// [`LaunchError::Field`]
pub fn field(selector: &ObjectFieldSelector, facts: &Facts<'_>) -> Result<String, LaunchError> {
    let path = selector.field_path.as_str();
    let text = match path {
        "metadata.name" => facts.name.name.clone(),
        "metadata.namespace" => facts.name.namespace.clone(),
        "metadata.uid" => facts.uid.clone(),
        "spec.nodeName" => "local".to_owned(),
        "spec.serviceAccountName" => facts.service_account.to_owned(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.to_string(),
        "status.podIP" | "status.podIPs" => facts.ip.to_string(),
        "metadata.labels" => lines(facts.labels),
        "metadata.annotations" => lines(facts.annotations),
        _ => {
            let keyed = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix("']");
            let value = match (keyed("metadata.labels['"), keyed("metadata.annotations['")) {
                (Some(key), _) => facts.labels.get(key),
                (_, Some(key)) => facts.annotations.get(key),
                _ => return Err(LaunchError::Field(path.to_owned())),
            };
            value.cloned().unwrap_or_default()
        }
    };
    Ok(text)
}

/// `key="value"` lines, as the kubelet writes them.
fn lines(labels: &Labels) -> String {
    let lines = labels.iter().map(|(key, value)| format!("{key}={value:?}"));
    lines.collect::<Vec<_>>().join("\n")
}
