//! The network of the holder: a bridge, a namespace and an address for each pod, names, services.

pub mod addresses;
pub mod endpoints;
pub mod health;
pub mod links;
pub mod proxy;
pub mod reach;
pub mod resolv;
pub mod resolver;
pub mod secure;
pub mod zone;
