//! Which pods stand behind a service. Pure.

use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::PodSpec;

use crate::desired::{Labels, Name, Protocol, Service, ServicePort, Target};

/// A pod as services see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Its name.
    pub name: Name,
    /// Its labels.
    pub labels: Labels,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Whether it takes requests.
    pub ready: bool,
    /// `hostname` and `subdomain`, by which a headless service names it.
    pub host: (String, Option<String>),
    /// Named ports of its containers.
    pub ports: Vec<(String, Protocol, u16)>,
}

/// The named ports of a pod.
#[must_use]
pub fn named_ports(spec: &PodSpec) -> Vec<(String, Protocol, u16)> {
    let init = spec.init_containers.iter().flatten();
    let containers = init.chain(&spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let protocol = match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                _ => Protocol::Tcp,
            };
            let number = u16::try_from(port.container_port).ok()?;
            Some((port.name.clone()?, protocol, number))
        })
        .collect()
}

/// The ports that a pod takes of the machine: all that it names, when it shares its network.
pub fn host_ports(spec: &PodSpec) -> impl Iterator<Item = u16> {
    let shares = spec.host_network == Some(true);
    let init = spec.init_containers.iter().flatten();
    let containers = init.chain(&spec.containers).filter(move |_| shares);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(|port| u16::try_from(port.container_port).ok())
}

/// The pods of a service.
pub fn members<'a>(service: &'a Service, pods: &'a [Backend]) -> impl Iterator<Item = &'a Backend> {
    pods.iter().filter(move |pod| {
        !service.selector.is_empty()
            && pod.name.namespace == service.name.namespace
            && (pod.ready || service.not_ready_too)
            && matches(&service.selector, &pod.labels)
    })
}

/// Whether labels have all that a selector wants.
#[must_use]
pub fn matches(selector: &Labels, labels: &Labels) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// Where a pod listens for a port.
#[must_use]
pub fn resolve(target: &Target, protocol: Protocol, pod: &Backend) -> Option<SocketAddrV4> {
    let number = match target {
        Target::Number(number) => *number,
        Target::Name(name) => {
            let mut ports = pod.ports.iter();
            ports
                .find(|(other, of, _)| other == name && *of == protocol)?
                .2
        }
    };
    Some(SocketAddrV4::new(pod.ip, number))
}

/// Where requests to a port of a service may go.
#[must_use]
pub fn endpoints(service: &Service, port: &ServicePort, pods: &[Backend]) -> Vec<SocketAddrV4> {
    members(service, pods)
        .filter_map(|pod| resolve(&port.target, port.protocol, pod))
        .collect()
}
