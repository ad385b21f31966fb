//! `ADD` of addresses of the web.

use std::io::{self, Write};

use kiln_store::{Digest, StoreError};
use url::Url;

use super::copy::Given;
use super::{Session, StepError, io_error};
use crate::layer::delta::{Content, Kind, Meta, Node};
use crate::plan;

/// Mode of a downloaded file without `--chmod`.
const MODE: u32 = 0o600;
/// The name of a file whose address has none (BuildKit's).
const UNNAMED: &str = "__unnamed__";
/// Secrets with these names and the address' host hold credentials for it
/// (<https://docs.docker.com/build/building/secrets/#http-authentication>): a token, and a whole
/// header.
const TOKEN: &str = "HTTP_AUTH_TOKEN_";
const HEADER: &str = "HTTP_AUTH_HEADER_";

impl Session<'_> {
    /// Fetches an address into the store and returns it as a file, named as the address ends.
    pub(super) fn download(&self, address: &str, op: &plan::Copy) -> Result<Given, StepError> {
        let url = Url::parse(address).map_err(|error| StepError::Address {
            address: address.to_owned(),
            why: error.to_string(),
        })?;
        let expected = match &op.checksum {
            Some(text) => Some(
                text.parse::<Digest>()
                    .map_err(|_| StepError::Checksum { text: text.clone() })?,
            ),
            None => None,
        };
        let failed = |source| StepError::Download {
            address: address.to_owned(),
            source: Box::new(source),
        };
        let mut blob = self.store.write_blob()?;
        let authorization = self.authorization(&url);
        let client = self.remote.client();
        let (time, written) = self
            .remote
            .wait_while_wanted(async {
                let mut download = client.download(&url, authorization.as_deref()).await?;
                let time = download.last_modified().unwrap_or_default();
                let mut written: io::Result<()> = Ok(());
                while let Some(bytes) = download.chunk().await? {
                    written = blob.write_all(&bytes);
                    if written.is_err() {
                        break;
                    }
                }
                Ok((time, written))
            })
            .ok_or(StepError::Cancelled)?
            .map_err(failed)?;
        written.map_err(io_error(format!("cannot keep what {address} sent")))?;
        let (_, size, path) = blob
            .commit(expected.as_ref())
            .map_err(|error| match error {
                StoreError::Mismatch { expected, found } => StepError::Changed {
                    address: address.to_owned(),
                    found: found.to_string(),
                    expected: expected.to_string(),
                },
                other => other.into(),
            })?;
        let meta = Meta {
            mode: MODE,
            uid: 0,
            gid: 0,
            mtime: time,
        };
        let mut node = Node::new(Kind::File(size), meta);
        node.content = Some(Content::Host(path));
        let name = name(&url);
        Ok(Given::File { name, node })
    }

    /// The `Authorization` header for a host, from the build's secrets.
    fn authorization(&self, url: &Url) -> Option<String> {
        let host = url.host_str()?;
        let secret = |name: &str| {
            let secret = self.request.sandbox.secrets.get(&format!("{name}{host}"))?;
            Some(String::from_utf8_lossy(&secret.0).trim().to_owned())
        };
        secret(HEADER).or_else(|| secret(TOKEN).map(|token| format!("Bearer {token}")))
    }
}

/// The last part of the path, decoded.
fn name(url: &Url) -> String {
    let last = url.path().trim_end_matches('/').rsplit('/').next();
    let name = decoded(last.unwrap_or_default());
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        UNNAMED.to_owned()
    } else {
        name
    }
}

/// `%41` becomes `A` (RFC 3986, 2.1); what is no such triplet stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_as_its_address_ends() {
        for (address, expected) in [
            ("http://h/a/b.txt?x=1#y", "b.txt"),
            ("http://h/dir/", "dir"),
            ("http://h/a%20b", "a b"),
            ("http://h/100%", "100%"),
            ("http://h/%2e%2e", UNNAMED),
            ("http://h/x%2Fy", UNNAMED),
            ("http://h", UNNAMED),
        ] {
            assert_eq!(name(&Url::parse(address).unwrap()), expected, "{address}");
        }
    }
}
