//! `executor lookup`: what images there are, for a caller that does not reach the registries that
//! this pod reaches.

use std::io::Write;

use kiln_registry::{Platform, Reference};
use serde_json::{Value, json};

use super::error::CliError;
use super::settings::registry_client;
use super::{Args, Env, flags};
use crate::image::ImageConfig;
use crate::remote::Remote;

/// Writes one JSON object a line for each `--image`: its digest with the `ONBUILD` triggers that
/// it has, a digest of `null` where there is no such image, or the reason why nobody can say.
pub(super) fn lookup(words: &[String], env: &Env, output: &mut dyn Write) -> Result<(), CliError> {
    let args = Args::parse(words, &flags::FLAGS)?;
    let names = args.all("image");
    let images: Vec<Reference> = names
        .iter()
        .filter_map(|name| Reference::parse(name).ok())
        .collect();
    let remote = Remote::new(registry_client(&args, env, &images)?).map_err(CliError::Runtime)?;
    for name in names {
        let answer = answer(&remote, name);
        writeln!(output, "{answer}").map_err(CliError::Output)?;
    }
    output.flush().map_err(CliError::Output)
}

fn answer(remote: &Remote, name: &str) -> Value {
    let failed = |error: &dyn std::error::Error| json!({"event": "image", "name": name, "error": chain(error)});
    let reference = match Reference::parse(name) {
        Ok(reference) => reference,
        Err(error) => return failed(&error),
    };
    let descriptor = match remote.wait(remote.client().head_manifest(&reference)) {
        Ok(Some(descriptor)) => descriptor,
        Ok(None) => return json!({"event": "image", "name": name, "digest": null}),
        Err(error) => return failed(&error),
    };
    let pinned = reference.at_digest(descriptor.digest.clone());
    let image = remote.wait(remote.client().image(&pinned, &Platform::host()));
    // Without the configuration the triggers stay unknown; the digest is known all the same.
    let onbuild = image
        .ok()
        .and_then(|image| serde_json::from_slice::<ImageConfig>(&image.config).ok())
        .map(|config| config.config.on_build);
    let digest = descriptor.digest.to_string();
    json!({"event": "image", "name": name, "digest": digest, "onbuild": onbuild})
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
