//! Pushes to all destinations: blobs in parallel, then manifests.

use kiln_registry::{BlobSource, Error, Reference};
use kiln_store::Store;

use super::{ExportError, Finished, file};
use crate::progress::Progress;
use crate::remote::{KnownLayer, Origin, Remote};
use crate::request::{ImmutableTags, Output};
use crate::runner::Report;

/// Sends what the destinations do not have.
pub(super) fn push(
    finished: &Finished,
    output: &Output,
    (store, remote): (&Store, &Remote),
    report: Report<'_>,
) -> Result<(), ExportError> {
    let mut pushed: Vec<&Reference> = Vec::new();
    for destination in &output.destinations {
        let is_new = !pushed
            .iter()
            .any(|known| known.name() == destination.name());
        if is_new {
            blobs(finished, destination, (store, remote))?;
        }
        let failed = |source| failed(destination, source);
        let target = match destination.tag() {
            Some(_) => destination.clone(),
            None => destination
                .with_tag("latest")
                .unwrap_or_else(|_| destination.clone()),
        };
        match remote.wait(remote.client().push_manifest(&target, &finished.manifest)) {
            Err(error @ Error::ImmutableTag { .. })
                if output.immutable_tags == ImmutableTags::Accept =>
            {
                report(Progress::Note(format!("{error}; it is left as it is")));
                continue;
            }
            result => result.map_err(failed)?,
        }
        report(Progress::Pushed {
            image: target.to_string(),
            digest: finished.manifest.digest().to_string(),
        });
        pushed.push(destination);
    }
    Ok(())
}

fn blobs(
    finished: &Finished,
    destination: &Reference,
    (store, remote): (&Store, &Remote),
) -> Result<(), ExportError> {
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (descriptor, source) in &finished.layers {
            if descriptor.media_type.is_foreign() {
                continue; // it stays where it is
            }
            threads
                .push(scope.spawn(move || layer(source, descriptor, destination, (store, remote))));
        }
        threads.push(scope.spawn(|| {
            let config = BlobSource::bytes(finished.config.clone());
            send(remote, destination, &config)
        }));
        let results: Vec<_> = threads
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        results.into_iter().try_for_each(|result| match result {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn layer(
    layer: &KnownLayer,
    descriptor: &kiln_registry::Descriptor,
    destination: &Reference,
    (store, remote): (&Store, &Remote),
) -> Result<(), ExportError> {
    let client = remote.client();
    let digest = &descriptor.digest;
    let failed = |source| failed(destination, source);
    if remote
        .wait(client.blob_exists(destination, digest))
        .map_err(failed)?
    {
        return Ok(());
    }
    if let Origin::Repository(origin) = &layer.origin
        && origin.registry() == destination.registry()
    {
        let answer = remote.wait(client.mount_blob(destination, origin, digest));
        if matches!(answer, Ok(kiln_registry::Mount::Mounted)) {
            return Ok(());
        }
        // Not mounted, for whatever reason: the bytes are sent.
    }
    let path = file::blob(layer, descriptor, (store, remote))?;
    send(remote, destination, &BlobSource::file(path, descriptor))
}

fn send(remote: &Remote, destination: &Reference, blob: &BlobSource) -> Result<(), ExportError> {
    let progress = kiln_registry::Progress::silent();
    remote
        .wait(remote.client().push_blob(destination, blob, &progress))
        .map(drop)
        .map_err(|source| failed(destination, source))
}

fn failed(destination: &Reference, source: kiln_registry::Error) -> ExportError {
    ExportError::Push {
        destination: destination.to_string(),
        source: Box::new(source),
    }
}
