//! Services.

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{ManifestError, One, Reading};
use crate::desired::{Protocol, Service, ServicePort, Target};

pub(super) fn read(one: &One<'_>, reading: &mut Reading) -> Result<(), ManifestError> {
    let service: v1::Service = one.typed()?;
    let spec = service.spec.unwrap_or_default();
    let mut list = |what: String| {
        let line = format!("{}: {what}", one.shown());
        reading.unsupported.push(line);
    };
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        list("sessionAffinity ClientIP: requests go to the pods in turn".to_owned());
    }
    if spec.external_ips.is_some_and(|ips| !ips.is_empty()) {
        list("externalIPs: a single machine has no others".to_owned());
    }
    let mut ports = Vec::new();
    for port in spec.ports.into_iter().flatten() {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some(other) => {
                list(format!("port {}: protocol {other}", port.port));
                continue;
            }
        };
        let number = u16::try_from(port.port).unwrap_or_default();
        ports.push(ServicePort {
            name: port.name,
            protocol,
            port: number,
            target: port.target_port.map_or(Target::Number(number), target),
        });
    }
    reading.desired.services.push(Service {
        name: one.name.clone(),
        selector: spec.selector.unwrap_or_default(),
        headless: spec.cluster_ip.as_deref() == Some("None"),
        not_ready_too: spec.publish_not_ready_addresses == Some(true),
        external: match spec.type_.as_deref() {
            Some("ExternalName") => spec.external_name,
            _ => None,
        },
        ports,
    });
    Ok(())
}

/// A port by number or name.
pub(super) fn target(port: IntOrString) -> Target {
    match port {
        IntOrString::Int(number) => Target::Number(u16::try_from(number).unwrap_or_default()),
        IntOrString::String(name) => match name.parse() {
            Ok(number) => Target::Number(number),
            Err(_) => Target::Name(name),
        },
    }
}
