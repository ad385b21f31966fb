//! Who has which address. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::desired::Name;

/// The bridge, which is every pod's gateway and name server.
pub const BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// Bits of the pods' network.
pub const PREFIX: u8 = 16;
/// The services' network.
pub const SERVICES: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 89, 0, 0), 16);

/// Addresses that are in use.
#[derive(Debug, Default)]
pub struct Addresses {
    services: BTreeMap<Name, Ipv4Addr>,
}

impl Addresses {
    /// The address of a service; the same for the same name.
    pub fn of_service(&mut self, name: &Name) -> Ipv4Addr {
        if let Some(address) = self.services.get(name) {
            return *address;
        }
        let first = u32::from(SERVICES.0) + 10;
        let free = (first..).map(Ipv4Addr::from);
        let address = free
            .into_iter()
            .find(|address| !self.services.values().any(|used| used == address))
            .unwrap_or(SERVICES.0);
        self.services.insert(name.clone(), address);
        address
    }
}

/// The address of the pod with this number. Numbers go round after 65,000: by then the first is
/// long gone.
#[must_use]
pub fn of_pod(number: u64) -> Ipv4Addr {
    const COUNT: u64 = 65_000;
    let offset = u32::try_from(number % COUNT).unwrap_or_default();
    Ipv4Addr::from(u32::from(BRIDGE) + 9 + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_keeps_its_address_and_pods_get_fresh_ones() {
        let mut addresses = Addresses::default();
        let a = addresses.of_service(&Name::new("n", "a"));
        let b = addresses.of_service(&Name::new("n", "b"));
        assert_ne!(a, b);
        assert_eq!(addresses.of_service(&Name::new("n", "a")), a);
        assert_ne!(of_pod(0), of_pod(1));
        assert_eq!(of_pod(0), Ipv4Addr::new(10, 88, 0, 10));
    }
}
