//! Passes connections and datagrams on to where their service's pods are.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::reach;
use crate::node::host::Host;

/// Names the next pod; `None` while there is none.
pub type Pick = Arc<dyn Fn() -> Option<SocketAddrV4> + Send + Sync>;

/// Pods that are tried for one connection.
const ATTEMPTS: usize = 3;
/// A UDP client that is silent so long is forgotten.
const SILENCE: Duration = Duration::from_mins(1);
/// The largest datagram.
const DATAGRAM: usize = 64 << 10;

/// Serves a TCP port until it is dropped.
pub async fn tcp(listener: TcpListener, pick: Pick, host: Host) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let (pick, host) = (Arc::clone(&pick), host.clone());
                tokio::spawn(async move {
                    // Either side may end it at any time.
                    drop(pass(client, &pick, &host).await);
                });
            }
            // No descriptor is left; some will be.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn pass(mut client: TcpStream, pick: &Pick, host: &Host) -> io::Result<()> {
    client.set_nodelay(true)?;
    for _ in 0..ATTEMPTS {
        let Some(to) = pick() else { break };
        if let Ok(mut server) = reach::connect(SocketAddr::V4(to), host).await {
            server.set_nodelay(true)?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await?;
            return Ok(());
        }
    }
    // As a closed port answers.
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO))?;
    Ok(())
}

/// Serves a UDP port until it is dropped.
pub async fn udp(socket: UdpSocket, pick: Pick, host: Host) {
    let socket = Arc::new(socket);
    let mut clients: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let (gone, mut left) = tokio::sync::mpsc::unbounded_channel::<SocketAddr>();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        tokio::select! {
            Some(client) = left.recv() => {
                clients.remove(&client);
            }
            received = socket.recv_from(&mut buffer) => {
                let Ok((length, client)) = received else { continue };
                if let Entry::Vacant(new) = clients.entry(client) {
                    let Some(server) = open(&pick, &host).await else { continue };
                    tokio::spawn(back(Arc::clone(&server), Arc::clone(&socket), client, gone.clone()));
                    new.insert(server);
                }
                // A datagram may be lost anywhere.
                drop(clients[&client].send(&buffer[..length]).await);
            }
        }
    }
}

async fn open(pick: &Pick, host: &Host) -> Option<Arc<UdpSocket>> {
    let to = SocketAddr::V4(pick()?);
    let socket = reach::datagrams(to, host).await.ok()?;
    Some(Arc::new(socket))
}

/// Answers of one pod to one client.
async fn back(
    server: Arc<UdpSocket>,
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    gone: tokio::sync::mpsc::UnboundedSender<SocketAddr>,
) {
    let mut buffer = vec![0; DATAGRAM];
    while let Ok(Ok(length)) = tokio::time::timeout(SILENCE, server.recv(&mut buffer)).await {
        drop(socket.send_to(&buffer[..length], client).await);
    }
    // The proxy is gone.
    let _ = gone.send(client);
}
