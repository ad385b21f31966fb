//! The bridge and the pods' links, made over netlink.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use futures_util::TryStreamExt;
use kiln_sandbox::namespace;
use rtnetlink::packet_route::route::{RouteScope, RouteType};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::addresses::{BRIDGE, PREFIX, SERVICES};

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The kernel's answer over netlink.
    #[error("cannot {what}")]
    Netlink {
        /// What was asked for.
        what: &'static str,
        /// Its answer.
        #[source]
        source: rtnetlink::Error,
    },
    /// A namespace or a thread.
    #[error("cannot make a network namespace")]
    Namespace(#[source] io::Error),
    /// A link that was just made.
    #[error("the link {0} is gone")]
    Gone(String),
}

fn failed(what: &'static str) -> impl FnOnce(rtnetlink::Error) -> LinkError {
    move |source| LinkError::Netlink { what, source }
}

/// The loopback device of every network namespace.
const LOOPBACK: u32 = 1;
/// The bridge's hardware address, of the locally administered kind. Without one of its own a
/// bridge takes the lowest of its ports, which changes as pods come: others then go on sending to
/// the old one until their entry for it is given up, a minute or two later.
const BRIDGE_HARDWARE: [u8; 6] = [0x02, 0x6b, 0x69, 0x6c, 0x6e, 0x00];
/// The kernel's table of local addresses.
const LOCAL_TABLE: u32 = 255;

/// The holder's side of the network.
#[derive(Debug, Clone)]
pub struct Links {
    handle: Handle,
    bridge: u32,
}

/// A pod's network namespace; it lives as long as this value or a process in it.
#[derive(Debug)]
pub struct PodNetwork {
    namespace: OwnedFd,
}

impl PodNetwork {
    /// A path by which a process of this holder can open it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let fd = self.namespace.as_raw_fd();
        PathBuf::from(format!("/proc/{}/fd/{fd}", std::process::id()))
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &OwnedFd {
        &self.namespace
    }
}

impl Links {
    /// Makes the bridge and takes all addresses of services for this machine.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn start() -> Result<Self, LinkError> {
        let handle = connect()?;
        let bridge = LinkBridge::new("kiln0")
            .address(BRIDGE_HARDWARE.to_vec())
            .up()
            .build();
        let add = handle.link().add(bridge).execute().await;
        add.map_err(failed("make a bridge"))?;
        let bridge = index(&handle, "kiln0").await?;
        let address = handle.address().add(bridge, IpAddr::V4(BRIDGE), PREFIX);
        let address = address.execute().await;
        address.map_err(failed("give the bridge its address"))?;
        let services = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(SERVICES.0, SERVICES.1)
            .output_interface(LOOPBACK)
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .table_id(LOCAL_TABLE)
            .build();
        let route = handle.route().add(services).execute().await;
        route.map_err(failed("take the services' addresses"))?;
        Ok(Self { handle, bridge })
    }

    /// Makes a network namespace with a link to the bridge. `number` is unique among the pods.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn attach(&self, number: u64, ip: Ipv4Addr) -> Result<PodNetwork, LinkError> {
        let (ours, theirs) = (format!("v{number}"), format!("p{number}"));
        let (made, namespace) = tokio::sync::oneshot::channel();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let inside = theirs.clone();
        // The namespace is entered by a thread of its own, which ends with it set up.
        let thread = tokio::task::spawn_blocking(move || {
            std::thread::spawn(move || set_up(made, &wait, &inside, ip))
                .join()
                .unwrap_or_else(|_| Err(LinkError::Namespace(io::ErrorKind::Other.into())))
        });
        let Ok(namespace) = namespace.await else {
            return Err(joined(thread.await)
                .err()
                .unwrap_or(LinkError::Gone(theirs)));
        };
        let veth = LinkVeth::new(&ours, &theirs)
            .controller(self.bridge)
            .up()
            .build();
        let add = self.handle.link().add(veth).execute().await;
        add.map_err(failed("make a pair of links"))?;
        let peer = index(&self.handle, &theirs).await?;
        let moved = LinkUnspec::new_with_index(peer)
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let moved = self.handle.link().set(moved).execute().await;
        moved.map_err(failed("move a link into a pod"))?;
        // The thread is gone only with an error, which follows.
        let _ = go.send(());
        joined(thread.await)?;
        Ok(PodNetwork { namespace })
    }
}

fn joined(result: Result<Result<(), LinkError>, tokio::task::JoinError>) -> Result<(), LinkError> {
    result.unwrap_or_else(|error| Err(LinkError::Namespace(io::Error::other(error))))
}

fn connect() -> Result<Handle, LinkError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Namespace)?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn index(handle: &Handle, name: &str) -> Result<u32, LinkError> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let found = links.try_next().await.map_err(failed("find a link"))?;
    let found = found.ok_or_else(|| LinkError::Gone(name.to_owned()))?;
    Ok(found.header.index)
}

/// The pod's side, on a thread of its own.
fn set_up(
    made: tokio::sync::oneshot::Sender<OwnedFd>,
    wait: &std::sync::mpsc::Receiver<()>,
    link: &str,
    ip: Ipv4Addr,
) -> Result<(), LinkError> {
    let namespace = namespace::own_network().map_err(LinkError::Namespace)?;
    // Nobody waits any more: the pod was given up.
    if made.send(namespace).is_err() || wait.recv().is_err() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LinkError::Namespace)?;
    runtime.block_on(async {
        let handle = connect()?;
        let index = index(&handle, link).await?;
        let up = LinkUnspec::new_with_index(index).name("eth0").up().build();
        let up = handle.link().set(up).execute().await;
        up.map_err(failed("bring a pod's link up"))?;
        let address = handle.address().add(index, IpAddr::V4(ip), PREFIX);
        let address = address.execute().await;
        address.map_err(failed("give a pod its address"))?;
        // Services are reached through the bridge; the rest of the world is not there.
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(SERVICES.0, SERVICES.1)
            .gateway(BRIDGE)
            .build();
        let route = handle.route().add(route).execute().await;
        route.map_err(failed("give a pod its route"))
    })
}
