//! `--reuse`: where only the pod reaches the registry, the pod finds out that there is nothing to
//! build, before it waits for any context.

use kiln_registry::{Digest, Reference};

use super::error::CliError;
use super::settings::{output, registry_client, wrong};
use super::{Args, Env, refused};
use crate::export;
use crate::remote::Remote;
use crate::request::PushMode;

/// What the registry has.
pub(super) enum Found {
    /// The image, under all its names now.
    Image(Digest),
    /// Nothing; or the registry could not be asked, for this reason. The build will say more.
    Nothing(Option<String>),
}

/// Looks for the image that `--reuse` names. One that is there gets the first destination's name
/// if it has another, and the digest files are written as after a build.
pub(super) fn find(args: &Args, env: &Env) -> Result<Found, CliError> {
    let Some(text) = args.one("reuse") else {
        return Ok(Found::Nothing(None));
    };
    let wanted = Reference::parse(text).map_err(|error| wrong("reuse", text, error.to_string()))?;
    let output = output(args, env)?;
    let Some(destination) = output.destinations.first() else {
        return Err(CliError::NoDestination);
    };
    let client = registry_client(args, env, &output.destinations)?;
    let remote = Remote::new(client).map_err(CliError::Runtime)?;
    let there = match remote.wait(remote.client().head_manifest(&wanted)) {
        Ok(Some(descriptor)) => descriptor.digest,
        Ok(None) => return Ok(Found::Nothing(None)),
        Err(error) => return Ok(Found::Nothing(Some(error.to_string()))),
    };
    if output.push == PushMode::Push && wanted != *destination {
        let named = remote.wait(async {
            let manifest = remote.client().manifest(&wanted).await?;
            remote.client().push_manifest(destination, &manifest).await
        });
        named.map_err(|source| refused(destination, source))?;
    }
    export::write_digest_files(&output, &there).map_err(CliError::Export)?;
    Ok(Found::Image(there))
}
