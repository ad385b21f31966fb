//! What names mean. Pure.
//!
//! Source: Kubernetes DNS-Based Service Discovery specification 1.1.0.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::desired::{Name, Service};
use crate::network::endpoints::{Backend, members};
use crate::network::reach;

/// The cluster's domain.
pub const DOMAIN: &str = "cluster.local";

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Addresses, perhaps none.
    Addresses(Vec<Ipv4Addr>),
    /// Another name.
    Alias(String),
    /// There is no such name in this zone.
    Nothing,
    /// The name belongs to others.
    NotOurs,
}

/// Looks a name up: lower case, without the dot at its end. Pods' own search lists make short
/// names long (`ndots:5`), so that only full ones arrive; `name`, `name.namespace` and
/// `name.namespace.svc` are understood too, for programs that read no search list.
#[must_use]
pub fn look_up(
    name: &str,
    services: &[Service],
    addresses: &BTreeMap<Name, Ipv4Addr>,
    pods: &[Backend],
) -> Answer {
    let inside = name
        .strip_suffix(DOMAIN)
        .and_then(|rest| rest.strip_suffix('.'));
    let labels: Vec<&str> = inside.unwrap_or(name).split('.').collect();
    let (host, service) = match (labels.as_slice(), inside.is_some()) {
        ([service, namespace, "svc"], _) => (None, Name::new(*namespace, *service)),
        ([host, service, namespace, "svc"], _) => (Some(*host), Name::new(*namespace, *service)),
        (_, true) => return Answer::Nothing,
        ([service, namespace], false) => (None, Name::new(*namespace, *service)),
        ([service], false) => {
            let mut named = services.iter().filter(|known| known.name.name == *service);
            match (named.next(), named.next()) {
                (Some(only), None) => (None, only.name.clone()),
                _ => return Answer::NotOurs,
            }
        }
        _ => return Answer::NotOurs,
    };
    let Some(found) = services.iter().find(|known| known.name == service) else {
        let ours = inside.is_some() || labels.last() == Some(&"svc");
        return if ours {
            Answer::Nothing
        } else {
            Answer::NotOurs
        };
    };
    if let Some(other) = &found.external {
        return Answer::Alias(other.clone());
    }
    match host {
        Some(host) => of_pod(host, found, pods),
        None if found.headless => {
            let pods = members(found, pods).map(|pod| pod.ip);
            Answer::Addresses(pods.filter(|ip| !on_machine(*ip)).collect())
        }
        None => Answer::Addresses(addresses.get(&service).copied().into_iter().collect()),
    }
}

fn of_pod(host: &str, service: &Service, pods: &[Backend]) -> Answer {
    let named = |pod: &&Backend| {
        pod.host.0 == host && pod.host.1.as_deref() == Some(service.name.name.as_str())
    };
    match members(service, pods).find(named) {
        Some(pod) if !on_machine(pod.ip) => Answer::Addresses(vec![pod.ip]),
        _ => Answer::Nothing,
    }
}

/// Other pods do not get there by that address; a service with an address of its own leads there.
fn on_machine(ip: Ipv4Addr) -> bool {
    reach::is_on_machine(ip.into())
}
