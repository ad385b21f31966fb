//! The local end of a forward.

use std::io::ErrorKind;

use tokio::net::TcpListener;

use super::{ForwardError, Target};

/// Ports below this need privileges, so others stand in for them.
const PRIVILEGED: u16 = 1024;

/// Where the search for a stand-in begins (skaffold's range).
const STAND_IN: u16 = 4503;

/// How many ports after the first are tried before the system chooses one.
const TRIES: u16 = 30;

/// Listens on the port that the user named, else on the resource's own or the
/// next free one.
pub(super) async fn bind(target: &Target, remote: u16) -> Result<TcpListener, ForwardError> {
    let listen = |port: u16| TcpListener::bind((target.address.as_str(), port));
    if let Some(port) = target.local_port {
        return listen(port).await.map_err(|source| match source.kind() {
            ErrorKind::AddrInUse => ForwardError::Occupied {
                address: target.address.clone(),
                port,
                resource: target.resource(),
            },
            _ => ForwardError::Listen {
                address: format!("{}:{port}", target.address),
                resource: target.resource(),
                source,
            },
        });
    }
    for port in candidates(remote) {
        match listen(port).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            bound => return bound.map_err(|source| failed(target, source)),
        }
    }
    listen(0).await.map_err(|source| failed(target, source))
}

fn failed(target: &Target, source: std::io::Error) -> ForwardError {
    ForwardError::Listen {
        address: target.address.clone(),
        resource: target.resource(),
        source,
    }
}

fn candidates(remote: u16) -> impl Iterator<Item = u16> {
    let first = if remote < PRIVILEGED {
        STAND_IN
    } else {
        remote
    };
    first..=first.saturating_add(TRIES)
}

#[cfg(test)]
mod tests {
    use kiln_schemas::model::ForwardPort;

    use super::*;

    fn target(local_port: Option<u16>) -> Target {
        Target {
            kind: "service".into(),
            name: "web".into(),
            namespace: "shop".into(),
            port: ForwardPort::Number(80),
            address: "127.0.0.1".into(),
            local_port,
        }
    }

    #[tokio::test]
    async fn a_port_that_was_asked_for_and_is_taken_is_an_error() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind(&target(Some(port)), 80).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("port {port} on 127.0.0.1 is in use, and service/web is to be forwarded to it")
        );
    }

    #[tokio::test]
    async fn the_next_free_port_is_taken_when_none_was_asked_for() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let other = bind(&target(None), port)
            .await
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        assert_ne!(other, port);
    }

    #[test]
    fn privileged_ports_have_stand_ins() {
        assert_eq!(candidates(80).next(), Some(4503));
        assert_eq!(candidates(8080).next(), Some(8080));
        assert_eq!(candidates(65535).collect::<Vec<_>>(), [65535]);
    }
}
