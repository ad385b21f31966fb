//! `executor push`: an image that an earlier build wrote into a file goes to registries.

use std::io::Write;
use std::path::Path;

use kiln_registry::{BlobSource, Error, Reference};
use kiln_store::Store;

use super::args::Args;
use super::error::CliError;
use super::log::{Log, Style};
use super::login::split;
use super::{Env, flags, report, settings};
use crate::export::write_digest_files;
use crate::layout::{self, Stored};
use crate::progress::Progress;
use crate::remote::Remote;
use crate::request::ImmutableTags;

const USAGE: &str =
    "executor push FILE|DIR -d IMAGE [-d IMAGE …], with the flags for registries and digest files";

/// Pushes an OCI layout or an archive of `docker save`.
pub(super) fn push(words: &[String], env: &Env, log: &mut dyn Write) -> Result<(), CliError> {
    let (names, given) = split(words);
    let args = Args::parse(&given, &flags::FLAGS)?;
    let [path] = names.as_slice() else {
        return Err(CliError::Usage(USAGE));
    };
    let mut log = Log::new(log, Style::from_args(&args)?);
    let output = settings::output(&args, env)?;
    if output.destinations.is_empty() {
        return Err(CliError::NoDestination);
    }
    let addresses = settings::digest_addresses(&args)?;
    let store = Store::open(&settings::store_dir(&args, env))?;
    let remote = Remote::new(settings::client(&args, env)?).map_err(CliError::Runtime)?;
    let path = Path::new(path);
    let stored = layout::read(path, &store).map_err(|source| CliError::Layout {
        path: path.to_owned(),
        source,
    })?;
    let digest = stored.manifest.digest().clone();
    for destination in &output.destinations {
        let tagged = match destination.tag() {
            Some(_) => destination.clone(),
            None => destination
                .with_tag("latest")
                .unwrap_or_else(|_| destination.clone()),
        };
        match remote.wait(send(&remote, &stored, &tagged)) {
            Err(error @ Error::ImmutableTag { .. })
                if output.immutable_tags == ImmutableTags::Accept =>
            {
                log.progress(&Progress::Note(format!("{error}; it is left as it is")));
                continue;
            }
            result => result.map_err(|source| super::refused(destination, source))?,
        }
        log.progress(&Progress::Pushed {
            image: tagged.to_string(),
            digest: digest.to_string(),
        });
    }
    write_digest_files(&output, &digest).map_err(CliError::Export)?;
    report::images(env, &output, &digest)?;
    report::digests(&addresses, &output, &digest, &remote)?;
    log.finish(&digest.to_string());
    Ok(())
}

/// Blobs first, then the manifests of an index, then the manifest itself.
async fn send(remote: &Remote, stored: &Stored, target: &Reference) -> Result<(), Error> {
    let client = remote.client();
    let silent = kiln_registry::Progress::silent();
    for image in stored.children.iter().chain([stored]) {
        for (descriptor, path) in &image.blobs {
            client
                .push_blob(target, &BlobSource::file(path, descriptor), &silent)
                .await?;
        }
    }
    // Without a tag a manifest goes under its digest.
    let untagged = Reference::parse(&target.name()).unwrap_or_else(|_| target.clone());
    for child in &stored.children {
        client.push_manifest(&untagged, &child.manifest).await?;
    }
    client
        .push_manifest(target, &stored.manifest)
        .await
        .map(drop)
}
