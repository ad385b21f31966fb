//! Any `WWW-Authenticate` is understood or left out.

use http::{HeaderMap, HeaderValue};
use kiln_registry::client::challenge::choose;

/// Each line is one header.
pub fn run(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(http::header::WWW_AUTHENTICATE, value);
        }
    }
    let _ = format!("{:?}", choose(&headers));
}
