//! The question of a gRPC probe (gRPC Health Checking Protocol).

use http::{Method, Request, Version};
use tokio::net::TcpStream;

/// `ServingStatus.SERVING`, field 1 of `HealthCheckResponse`, behind the message's prefix of five
/// bytes.
const SERVING: [u8; 2] = [0x08, 0x01];

/// Asks a server whether a service is healthy.
///
/// # Errors
/// What is wrong, in words.
pub async fn check(stream: TcpStream, service: &str) -> Result<(), String> {
    let failed = |error: h2::Error| error.to_string();
    let (client, connection) = h2::client::handshake(stream).await.map_err(failed)?;
    let driver = tokio::spawn(connection);
    let answer = ask(client, service).await;
    driver.abort();
    answer
}

async fn ask(client: h2::client::SendRequest<bytes::Bytes>, service: &str) -> Result<(), String> {
    let failed = |error: h2::Error| error.to_string();
    let mut client = client.ready().await.map_err(failed)?;
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri("http://probe/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(|error| error.to_string())?;
    let (response, mut body) = client.send_request(request, false).map_err(failed)?;
    body.send_data(message(service).into(), true)
        .map_err(failed)?;
    let mut stream = response.await.map_err(failed)?.into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.map_err(failed)?;
        bytes.extend_from_slice(&piece);
        // The window is given back by hand.
        drop(stream.flow_control().release_capacity(piece.len()));
    }
    if bytes.get(5..7) == Some(&SERVING) {
        Ok(())
    } else {
        Err("it does not say SERVING".to_owned())
    }
}

/// A `HealthCheckRequest` with its prefix: not compressed, length, field 1 as a string.
fn message(service: &str) -> Vec<u8> {
    let mut body = Vec::new();
    if let (false, Ok(length)) = (service.is_empty(), u8::try_from(service.len())) {
        body.extend([0x0a, length]);
        body.extend(service.as_bytes());
    }
    let mut message = vec![0, 0, 0, 0, u8::try_from(body.len()).unwrap_or_default()];
    message.append(&mut body);
    message
}
