//! Ports of this machine that lead to workloads.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::host::Host;
use super::services::{Contents, Directory};
use crate::desired::{Desired, Forward, Protocol, ServicePort, Target, Workload};
use crate::network::endpoints::{Backend, endpoints, host_ports, matches, named_ports, resolve};
use crate::network::proxy::{self, Pick};
use crate::protocol::Listening;

/// The forwards of a holder.
pub(super) struct Forwards {
    host: Host,
    active: BTreeMap<String, (Forward, Listening, Option<JoinHandle<()>>)>,
}

impl Forwards {
    pub(super) fn new(host: Host) -> Self {
        Self {
            host,
            active: BTreeMap::new(),
        }
    }

    pub(super) fn listening(&self) -> Vec<Listening> {
        let all = self.active.values();
        all.map(|(_, listening, _)| listening.clone()).collect()
    }

    /// Brings the listeners in line. One that is still wanted keeps its port.
    pub(super) async fn set(&mut self, desired: &Desired, directory: &Directory) -> Vec<Listening> {
        // In their order: what the user names has the first choice of ports.
        let wanted: Vec<(String, &Forward)> = desired
            .forwards
            .iter()
            .map(|forward| (key(forward), forward))
            .collect();
        self.active.retain(|key, (forward, listening, task)| {
            // One that found its port taken tries again.
            let named = wanted.iter().any(|(other, _)| other == key);
            let is_there = directory.read(|contents| is_there(forward, contents));
            let keep = named && listening.local.is_ok() && task.is_some() == is_there.is_none();
            if let (false, Some(task)) = (keep, task) {
                task.abort();
            }
            keep
        });
        for (key, forward) in wanted {
            if self.active.contains_key(&key) {
                continue;
            }
            let Some(started) = self.start(forward, directory).await else {
                continue;
            };
            self.active.insert(key, started);
        }
        self.listening()
    }

    /// `None` for a UDP port: only TCP is forwarded.
    async fn start(
        &self,
        forward: &Forward,
        directory: &Directory,
    ) -> Option<(Forward, Listening, Option<JoinHandle<()>>)> {
        let number = directory.read(|contents| own_number(forward, contents))?;
        if let Some(there) = directory.read(|contents| is_there(forward, contents)) {
            let local = Ok(format!("{}:{there}", forward.address));
            return Some((forward.clone(), listening(forward, local), None));
        }
        let taken = directory.read(|contents| taken(&contents.desired));
        let listener = self.listen(forward, number, &taken).await;
        let local = match &listener {
            Ok(listener) => listener.local_addr().map(|address| address.to_string()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        let task = listener.ok().map(|listener| {
            tokio::spawn(proxy::tcp(
                listener,
                pick(forward.clone(), directory.clone()),
                self.host.clone(),
            ))
        });
        let wish = forward.local_port.unwrap_or(number);
        let local = local.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("port {wish} of {} is in use", forward.address)
            }
            _ => format!("port {wish} of {}: {error}", forward.address),
        });
        Some((forward.clone(), listening(forward, local), task))
    }

    /// The port that was asked for; else the port's own number, or any, but for those that are
    /// `taken` by pods that may still be starting.
    async fn listen(
        &self,
        forward: &Forward,
        number: u16,
        taken: &BTreeSet<u16>,
    ) -> io::Result<TcpListener> {
        let address: IpAddr = forward.address.parse().map_err(io::Error::other)?;
        if let Some(port) = forward.local_port {
            return self.host.listen(SocketAddr::new(address, port)).await;
        }
        // Numbers below 1024 are not for everybody; 80 becomes 8080.
        let own = if number < 1024 { number + 8000 } else { number };
        for port in (own..own.saturating_add(20)).filter(|port| !taken.contains(port)) {
            match self.host.listen(SocketAddr::new(address, port)).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                other => return other,
            }
        }
        self.host.listen(SocketAddr::new(address, 0)).await
    }
}

fn listening(forward: &Forward, local: Result<String, String>) -> Listening {
    Listening {
        kind: forward.kind.clone(),
        name: forward.name.clone(),
        port: match &forward.port {
            Target::Number(number) => number.to_string(),
            Target::Name(name) => name.clone(),
        },
        local,
    }
}

/// Ports that pods take of the machine.
fn taken(desired: &Desired) -> BTreeSet<u16> {
    let specs = desired.workloads.iter();
    let specs = specs.filter_map(|workload| workload.template.spec.as_ref());
    specs.flat_map(host_ports).collect()
}

/// The port of the machine on which a service's pods listen by themselves, where that is one that
/// would do: they share its network, and nothing has to be forwarded.
fn is_there(forward: &Forward, contents: &Contents) -> Option<u16> {
    let port = service_port(forward, contents)?;
    let mut services = contents.services.iter();
    let service = services.find(|service| service.name == forward.name)?;
    let own = |workload: &&Workload| {
        let labels = workload.template.metadata.as_ref();
        let labels = labels.and_then(|metadata| metadata.labels.clone());
        workload.name.namespace == service.name.namespace
            && !service.selector.is_empty()
            && matches(&service.selector, &labels.unwrap_or_default())
    };
    let workload = contents.desired.workloads.iter().find(own)?;
    let spec = workload.template.spec.as_ref()?;
    let number = match &port.target {
        Target::Number(number) => *number,
        Target::Name(name) => {
            let mut named = named_ports(spec).into_iter();
            named.find(|(known, _, _)| known == name)?.2
        }
    };
    let shares = spec.host_network == Some(true);
    (shares && forward.local_port.is_none_or(|wish| wish == number)).then_some(number)
}

fn key(forward: &Forward) -> String {
    format!("{forward:?}")
}

/// The number of the port that is forwarded.
fn own_number(forward: &Forward, contents: &Contents) -> Option<u16> {
    if let Some(port) = service_port(forward, contents) {
        return (port.protocol == Protocol::Tcp).then_some(port.port);
    }
    match &forward.port {
        Target::Number(number) => Some(*number),
        Target::Name(_) => forward.local_port.or(Some(8080)),
    }
}

fn service_port(forward: &Forward, contents: &Contents) -> Option<ServicePort> {
    if !forward.kind.eq_ignore_ascii_case("service") {
        return None;
    }
    let mut services = contents.services.iter();
    let service = services.find(|service| service.name == forward.name)?;
    let is = |port: &&ServicePort| match &forward.port {
        Target::Number(number) => port.port == *number,
        Target::Name(name) => port.name.as_ref() == Some(name),
    };
    service.ports.iter().find(is).cloned()
}

fn pick(forward: Forward, directory: Directory) -> Pick {
    let turn = AtomicUsize::new(0);
    Arc::new(move || {
        let all = directory.read(|contents| targets(&forward, contents));
        let count = all.len().max(1);
        all.get(turn.fetch_add(1, Ordering::Relaxed) % count)
            .copied()
    })
}

fn targets(forward: &Forward, contents: &Contents) -> Vec<SocketAddrV4> {
    if let Some(port) = service_port(forward, contents) {
        let mut services = contents.services.iter();
        let service = services.find(|service| service.name == forward.name);
        return service.map_or_else(Vec::new, |service| {
            endpoints(service, &port, &contents.pods)
        });
    }
    let belongs = |pod: &&Backend| {
        pod.name.namespace == forward.name.namespace
            && pod.ready
            && super::logs::is_wanted(Some(&forward.name.name), &pod.name.name)
    };
    let pods = contents.pods.iter().filter(belongs);
    pods.filter_map(|pod| resolve(&forward.port, Protocol::Tcp, pod))
        .collect()
}
