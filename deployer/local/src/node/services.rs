//! Services at work: their addresses, their proxies, and the directory that names and proxies
//! read.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use kiln_sandbox::Confinement;
use kiln_sandbox::step::Process;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

use super::host::Host;
use crate::desired::{Desired, Name, Protocol, Service, ServicePort};
use crate::network::addresses::Addresses;
use crate::network::endpoints::{Backend, endpoints};
use crate::network::proxy::{self, Pick};
use crate::network::resolver::LookUp;
use crate::network::zone;

/// What there is, as names and proxies see it.
#[derive(Debug, Default, Clone)]
pub(super) struct Contents {
    pub services: Vec<Service>,
    pub addresses: BTreeMap<Name, Ipv4Addr>,
    pub pods: Vec<Backend>,
    pub desired: Arc<Desired>,
    /// The init of each running container: pod, container, process id.
    pub inits: Vec<(Name, String, u32)>,
    /// How commands in them are run.
    pub processes: BTreeMap<(Name, String), (Process, Confinement)>,
}

/// Shared by everything that looks something up.
#[derive(Debug, Clone, Default)]
pub(super) struct Directory(Arc<RwLock<Contents>>);

impl Directory {
    pub(super) fn read<T>(&self, look: impl FnOnce(&Contents) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn write<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Picks the pods of a service's port in turn.
    pub(super) fn pick(&self, service: Name, port: ServicePort) -> Pick {
        let (directory, turn) = (self.clone(), AtomicUsize::new(0));
        Arc::new(move || {
            let all = directory.read(|contents| {
                let found = contents.services.iter().find(|known| known.name == service);
                found.map(|found| endpoints(found, &port, &contents.pods))
            })?;
            in_turn(&all, &turn)
        })
    }
}

fn in_turn(all: &[SocketAddrV4], turn: &AtomicUsize) -> Option<SocketAddrV4> {
    let count = all.len().max(1);
    all.get(turn.fetch_add(1, Ordering::Relaxed) % count)
        .copied()
}

/// The services of a holder.
pub(super) struct Services {
    directory: Directory,
    addresses: Addresses,
    proxies: BTreeMap<(Name, u16, Protocol), (ServicePort, JoinHandle<()>)>,
    host: Host,
}

impl Services {
    pub(super) fn new(host: Host) -> Self {
        Self {
            directory: Directory::default(),
            addresses: Addresses::default(),
            proxies: BTreeMap::new(),
            host,
        }
    }

    pub(super) fn directory(&self) -> Directory {
        self.directory.clone()
    }

    /// What names mean.
    pub(super) fn zone(&self) -> LookUp {
        let directory = self.directory.clone();
        Arc::new(move |name| {
            directory.read(|contents| {
                zone::look_up(
                    name,
                    &contents.services,
                    &contents.addresses,
                    &contents.pods,
                )
            })
        })
    }

    /// Gives services their addresses and proxies.
    pub(super) fn set_desired(&mut self, desired: &Desired) {
        let mut addresses = BTreeMap::new();
        for service in &desired.services {
            if !service.headless && service.external.is_none() {
                let address = self.addresses.of_service(&service.name);
                addresses.insert(service.name.clone(), address);
            }
        }
        let mut wanted = BTreeMap::new();
        for service in &desired.services {
            if let Some(address) = addresses.get(&service.name) {
                for port in &service.ports {
                    let key = (service.name.clone(), port.port, port.protocol);
                    wanted.insert(key, (*address, port.clone()));
                }
            }
        }
        self.directory.write(|contents| {
            contents.services.clone_from(&desired.services);
            contents.addresses = addresses;
            contents.desired = Arc::new(desired.clone());
        });
        self.proxies.retain(|key, (port, task)| {
            let same = wanted.get(key).is_some_and(|(_, now)| now == port);
            if !same {
                task.abort();
            }
            same
        });
        for (key, (address, port)) in wanted {
            if !self.proxies.contains_key(&key) {
                let pick = self.directory.pick(key.0.clone(), port.clone());
                let task = tokio::spawn(serve(address, port.clone(), pick, self.host.clone()));
                self.proxies.insert(key, (port, task));
            }
        }
    }

    /// Says which pods there are.
    pub(super) fn set_pods(&self, pods: impl Iterator<Item = Backend>) {
        let pods = pods.collect();
        self.directory.write(|contents| contents.pods = pods);
    }
}

async fn serve(address: Ipv4Addr, port: ServicePort, pick: Pick, host: Host) {
    // A proxy of the same port that was just stopped may not be gone yet.
    for _ in 0..100 {
        let served = match port.protocol {
            Protocol::Tcp => match TcpListener::bind((address, port.port)).await {
                Ok(listener) => {
                    proxy::tcp(listener, Arc::clone(&pick), host.clone()).await;
                    Some(())
                }
                Err(_) => None,
            },
            Protocol::Udp => match UdpSocket::bind((address, port.port)).await {
                Ok(socket) => {
                    proxy::udp(socket, Arc::clone(&pick), host.clone()).await;
                    Some(())
                }
                Err(_) => None,
            },
        };
        if served.is_some() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
