//! The pods' name server: names of services itself, all others by the machine's own servers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::addresses::BRIDGE;
use super::zone::Answer;
use crate::node::host::Host;

/// Looks a name up in the zone.
pub type LookUp = Arc<dyn Fn(&str) -> Answer + Send + Sync>;

/// Seconds that an answer is good for: pods come and go.
const TTL: u32 = 2;
/// Until another server is asked.
const PATIENCE: Duration = Duration::from_secs(3);
/// The largest message.
const MESSAGE: usize = 64 << 10;

/// Answers until it is dropped.
///
/// # Errors
/// When port 53 of the bridge cannot be had.
pub async fn serve(zone: LookUp, host: Host) -> io::Result<()> {
    let udp = Arc::new(UdpSocket::bind((BRIDGE, 53)).await?);
    let tcp = TcpListener::bind((BRIDGE, 53)).await?;
    let mut buffer = vec![0; MESSAGE];
    loop {
        tokio::select! {
            received = udp.recv_from(&mut buffer) => {
                let Ok((length, client)) = received else { continue };
                let (query, udp) = (buffer[..length].to_vec(), Arc::clone(&udp));
                let (zone, host) = (Arc::clone(&zone), host.clone());
                tokio::spawn(async move {
                    if let Some(answer) = answer(&query, &zone, &host).await {
                        // The client asks again.
                        drop(udp.send_to(&answer, client).await);
                    }
                });
            }
            accepted = tcp.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (zone, host) = (Arc::clone(&zone), host.clone());
                tokio::spawn(async move {
                    drop(over_tcp(stream, &zone, &host).await);
                });
            }
        }
    }
}

/// Messages with their lengths in front (RFC 1035, 4.2.2).
async fn over_tcp(mut stream: TcpStream, zone: &LookUp, host: &Host) -> io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await?;
        let Some(answer) = answer(&query, zone, host).await else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_u16(length).await?;
        stream.write_all(&answer).await?;
    }
}

/// The answer to a message; none to what is no query.
async fn answer(bytes: &[u8], zone: &LookUp, host: &Host) -> Option<Vec<u8>> {
    let query = Message::from_vec(bytes).ok()?;
    let question = query.queries.first()?.clone();
    let name = question.name().to_ascii().to_lowercase();
    let found = zone(name.trim_end_matches('.'));
    if found == Answer::NotOurs {
        return match upstream(bytes, host).await {
            Some(answer) => Some(answer),
            None => respond(&query, ResponseCode::ServFail, Vec::new()),
        };
    }
    let record = |data: RData| Record::from_rdata(question.name().clone(), TTL, data);
    match found {
        Answer::Nothing | Answer::NotOurs => respond(&query, ResponseCode::NXDomain, Vec::new()),
        Answer::Addresses(addresses) => {
            let wanted = matches!(question.query_type(), RecordType::A | RecordType::ANY);
            let addresses = addresses.into_iter().filter(|_| wanted);
            let records = addresses.map(|ip| record(RData::A(A(ip)))).collect();
            respond(&query, ResponseCode::NoError, records)
        }
        Answer::Alias(other) => {
            let target = Name::from_ascii(format!("{}.", other.trim_end_matches('.'))).ok()?;
            let records = vec![record(RData::CNAME(CNAME(target)))];
            respond(&query, ResponseCode::NoError, records)
        }
    }
}

fn respond(query: &Message, code: ResponseCode, records: Vec<Record>) -> Option<Vec<u8>> {
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.response_code = code;
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.authoritative = true;
    response.add_queries(query.queries.iter().cloned());
    response.answers = records;
    response.to_vec().ok()
}

/// Asks the machine's name servers in turn.
async fn upstream(query: &[u8], host: &Host) -> Option<Vec<u8>> {
    for server in servers() {
        let socket = host.udp().await.ok()?;
        let ask = async {
            socket
                .send_to(query, SocketAddr::new(server, 53))
                .await
                .ok()?;
            let mut buffer = vec![0; MESSAGE];
            let (length, _) = socket.recv_from(&mut buffer).await.ok()?;
            buffer.truncate(length);
            Some(buffer)
        };
        if let Ok(Some(answer)) = tokio::time::timeout(PATIENCE, ask).await {
            return Some(answer);
        }
    }
    None
}

fn servers() -> Vec<IpAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let lines = text.lines();
    lines
        .filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok())
        .collect()
}
