//! What is told to others after the push: digests by PUT, and Skaffold's and Cloud Build's list of images.

use std::fs;
use std::path::Path;

use http::Method;
use kiln_registry::{Digest, ServiceRequest};
use serde_json::json;
use url::Url;

use super::Env;
use super::error::CliError;
use crate::export::digest_text;
use crate::remote::Remote;
use crate::request::{DigestFile, Output};

/// Sends what a file would have got to each address.
pub(super) fn digests(
    addresses: &[(DigestFile, Url)],
    output: &Output,
    digest: &Digest,
    remote: &Remote,
) -> Result<(), CliError> {
    for (kind, url) in addresses {
        let request = ServiceRequest::new(Method::PUT, url.clone())
            .header("content-type", "text/plain")
            .body(digest_text(*kind, output, digest));
        let sent = async {
            let answer = remote.client().service(&request).await?;
            if answer.status().is_success() {
                Ok(())
            } else {
                Err(answer.refusal().await)
            }
        };
        remote.wait(sent).map_err(|source| CliError::SendDigest {
            place: url.to_string(),
            source: Box::new(source),
        })?;
    }
    Ok(())
}

/// `$BUILDER_OUTPUT/images`: a line of JSON for each destination (Cloud Build's builder contract).
pub(super) fn images(env: &Env, output: &Output, digest: &Digest) -> Result<(), CliError> {
    let Some(dir) = env.get("BUILDER_OUTPUT").filter(|dir| !dir.is_empty()) else {
        return Ok(());
    };
    let lines: String = output
        .destinations
        .iter()
        .map(|name| format!("{}:{}", name.name(), name.tag_or_latest()))
        .map(|name| format!("{}\n", json!({"name": name, "digest": digest})))
        .collect();
    let path = Path::new(dir).join("images");
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(&path, lines))
        .map_err(|source| CliError::Write { path, source })
}
