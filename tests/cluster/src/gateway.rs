//! A way in: ports of the cluster's network on this machine's loopback, so that
//! a browser sees what is forwarded in there.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use crate::api::enter;
use crate::error::Error;
use crate::network::Network;

/// Listens on 127.0.0.1:`port` and hands every connection on to the same
/// address and port inside `network`. Ends only with an error.
pub(crate) fn open(network: &Network, port: u16) -> Result<(), Error> {
    let failed = |action: &str| {
        let action = format!("{action} 127.0.0.1:{port}");
        move |source: io::Error| Error::Gateway { action, source }
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(failed("listen on"))?;
    for connection in listener.incoming() {
        let outer = connection.map_err(failed("accept a connection on"))?;
        let network = network.clone();
        thread::spawn(move || {
            // Nobody listens in there, or no longer: the connection is closed,
            // which is what its other end would have seen.
            if let Ok(inner) = connect(&network, port) {
                carry(&outer, &inner);
            }
        });
    }
    Ok(())
}

/// Sockets belong to the network of the thread that makes them.
fn connect(network: &Network, port: u16) -> Result<TcpStream, Error> {
    enter(network)?;
    TcpStream::connect(("127.0.0.1", port)).map_err(|source| Error::Gateway {
        action: format!("connect to 127.0.0.1:{port} in the cluster's network"),
        source,
    })
}

fn carry(outer: &TcpStream, inner: &TcpStream) {
    thread::scope(|scope| {
        scope.spawn(|| copy(outer, inner));
        copy(inner, outer);
    });
}

/// One direction, up to its end or a broken connection.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    drop(io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Write));
}
