//! Probes and hooks: commands in a container, requests to a pod.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerPort, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kiln_sandbox::container::{Confinement, Entry};
use kiln_sandbox::step::Process;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::container;
use super::host::Host;
use crate::network::{health, reach, secure};

/// Whom to ask.
pub(super) struct Asked {
    pub ip: Ipv4Addr,
    pub init: Option<u32>,
    pub ports: Vec<ContainerPort>,
    pub process: Option<(Process, Confinement)>,
    pub host: Host,
}

impl Asked {
    /// Asked through the machine, which the pod shares its network with.
    fn on_host(&self) -> Option<&Host> {
        reach::is_on_machine(self.ip.into()).then_some(&self.host)
    }
}

/// Asks a probe's question.
pub(super) async fn probe(probe: Option<Probe>, asked: Asked) -> Result<(), String> {
    let Some(probe) = probe else { return Ok(()) };
    let seconds = probe
        .timeout_seconds
        .and_then(|n| u64::try_from(n).ok())
        .unwrap_or(1);
    let patience = Duration::from_secs(seconds.max(1));
    let answer = async {
        if let Some(exec) = probe.exec {
            run(exec.command.unwrap_or_default(), &asked, patience).await
        } else if let Some(get) = probe.http_get {
            // Kubernetes documentation, "Define a liveness HTTP request".
            match http_get(&get, &asked).await? {
                200..=399 => Ok(()),
                status => Err(format!("status {status}")),
            }
        } else if let Some(socket) = probe.tcp_socket {
            connect(&socket.port, socket.host.as_deref(), &asked)
                .await
                .map(drop)
        } else if let Some(grpc) = probe.grpc {
            let port = IntOrString::Int(grpc.port);
            let stream = connect(&port, None, &asked).await?;
            health::check(stream, &grpc.service.unwrap_or_default()).await
        } else {
            Ok(())
        }
    };
    let late = |_| Err(format!("no answer within {} s", patience.as_secs()));
    tokio::time::timeout(patience, answer)
        .await
        .unwrap_or_else(late)
}

/// Longest time of a hook: the pod's grace period ends it earlier, where it is one of stopping.
const HOOK: Duration = Duration::from_hours(1);

/// Runs a hook to its end.
pub(super) async fn hook(hook: Option<LifecycleHandler>, asked: Asked) -> Result<(), String> {
    let Some(hook) = hook else { return Ok(()) };
    if let Some(exec) = hook.exec {
        run(exec.command.unwrap_or_default(), &asked, HOOK).await
    } else if let Some(get) = hook.http_get {
        // Whatever the status: the kubelet (pkg/kubelet/lifecycle) does not look at it.
        http_get(&get, &asked).await.map(drop)
    } else if let Some(sleep) = hook.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(())
    } else if let Some(socket) = hook.tcp_socket {
        connect(&socket.port, socket.host.as_deref(), &asked)
            .await
            .map(drop)
    } else {
        Ok(())
    }
}

/// A command in the container.
async fn run(command: Vec<String>, asked: &Asked, patience: Duration) -> Result<(), String> {
    let (Some(init), Some((process, confinement))) = (asked.init, asked.process.clone()) else {
        return Err("the container does not run".to_owned());
    };
    let output = container::nowhere().map_err(|error| error.to_string())?;
    let entry = entry(init, (process, confinement), command);
    let started = container::enter(entry, output, asked.on_host());
    let started = started.map_err(|error| error.to_string())?;
    let signals = started.signals();
    let mut ended = tokio::task::spawn_blocking(move || started.wait(|_| ()));
    let Ok(result) = tokio::time::timeout(patience, &mut ended).await else {
        signals.kill();
        return Err("it took too long".to_owned());
    };
    match result {
        Ok(Ok(exit)) if exit.success() => Ok(()),
        Ok(Ok(exit)) => Err(format!("exit code {}", exit.code())),
        Ok(Err(error)) => Err(super::pod::chain(&error)),
        Err(error) => Err(error.to_string()),
    }
}

/// A command where a container runs.
pub(super) fn entry(
    init: u32,
    (mut process, confinement): (Process, Confinement),
    command: Vec<String>,
) -> Entry {
    process.argv = command.into_iter().map(Into::into).collect();
    Entry {
        init,
        process,
        confinement,
    }
}

async fn connect(
    port: &IntOrString,
    host: Option<&str>,
    asked: &Asked,
) -> Result<TcpStream, String> {
    let port = number(port, &asked.ports).ok_or("there is no such port")?;
    let ip = match host {
        None | Some("") => asked.ip.into(),
        Some(host) => host.parse().map_err(|_| format!("{host} is no address"))?,
    };
    let to = SocketAddr::new(ip, port);
    let stream = match asked.on_host() {
        Some(host) => host.connect(to).await,
        None => TcpStream::connect(to).await,
    };
    stream.map_err(|error| error.to_string())
}

fn number(port: &IntOrString, ports: &[ContainerPort]) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let named = ports.iter().find(|port| port.name.as_ref() == Some(name));
            let named = named.and_then(|port| u16::try_from(port.container_port).ok());
            named.or_else(|| name.parse().ok())
        }
    }
}

/// The status of the answer.
async fn http_get(get: &HTTPGetAction, asked: &Asked) -> Result<u16, String> {
    let stream = connect(&get.port, get.host.as_deref(), asked).await?;
    let request = request(get, asked);
    if get.scheme.as_deref() == Some("HTTPS") {
        converse(secure::connect(stream).await?, &request).await
    } else {
        converse(stream, &request).await
    }
}

fn request(get: &HTTPGetAction, asked: &Asked) -> String {
    let path = get
        .path
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let given = get.http_headers.clone().unwrap_or_default();
    let host = given
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("host"));
    let host = host.map_or_else(|| asked.ip.to_string(), |header| header.value.clone());
    let mut request = format!(
        "GET {slash}{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kube-probe/kiln\r\nAccept: */*\r\nConnection: close\r\n"
    );
    for header in given {
        if !header.name.eq_ignore_ascii_case("host") {
            request.push_str(&format!("{}: {}\r\n", header.name, header.value));
        }
    }
    request.push_str("\r\n");
    request
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> Result<u16, String> {
    let failed = |error: std::io::Error| error.to_string();
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    // TLS keeps what is written until it is told that this is all.
    stream.flush().await.map_err(failed)?;
    // `HTTP/1.1 200`
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.map_err(failed)?;
    let status = std::str::from_utf8(&head[9..])
        .ok()
        .and_then(|text| text.parse::<u16>().ok());
    status.ok_or_else(|| "no HTTP answer".to_owned())
}
