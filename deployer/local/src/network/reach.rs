//! The way to a pod: over the bridge, or through the machine for one that shares its network.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::{TcpStream, UdpSocket};

use crate::node::host::Host;

/// The address of a pod that shares the machine's network. Its real ones are of no use to other
/// pods, whose way out does not lead back in; this one is right for whoever shares it too.
pub const ON_MACHINE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Whether an address belongs to a pod that shares the machine's network.
#[must_use]
pub fn is_on_machine(ip: IpAddr) -> bool {
    ip.is_loopback()
}

/// Connects to a pod's port.
///
/// # Errors
/// When nobody answers there.
pub async fn connect(to: SocketAddr, host: &Host) -> io::Result<TcpStream> {
    if is_on_machine(to.ip()) {
        host.connect(to).await
    } else {
        TcpStream::connect(to).await
    }
}

/// A socket for datagrams to a pod's port and back.
///
/// # Errors
/// When there is none to be had.
pub async fn datagrams(to: SocketAddr, host: &Host) -> io::Result<UdpSocket> {
    let socket = if is_on_machine(to.ip()) {
        host.udp().await?
    } else {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?
    };
    socket.connect(to).await?;
    Ok(socket)
}
