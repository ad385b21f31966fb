//! `--cache` and the flags around it.

use std::path::PathBuf;
use std::time::Duration;

use kiln_dockerfile::duration;
use kiln_registry::Reference;

use super::{CliError, wrong};
use crate::cli::args::Args;
use crate::request::{CacheRepository, Caching, Kept, LocalRecords, Output, PushMode};

/// kaniko's default of `--cache-ttl`: two weeks.
const TTL: Duration = Duration::from_secs(14 * 24 * 3600);

/// What the flags say. Records of the store are used unless `--cache=false` says otherwise; a
/// shared cache is used with `--cache`. Who wants RUN performed in every build cannot use what was
/// kept of the steps after it either, as that was made of what another RUN left.
pub(super) fn caching(
    args: &Args,
    output: &Output,
    notes: &mut Vec<String>,
) -> Result<Caching, CliError> {
    let runs = kept(args, "cache-run-layers");
    let without_cache = args.is_given("cache") && !args.is_on("cache");
    let records = if without_cache || runs == Kept::No {
        LocalRecords::Ignored
    } else {
        LocalRecords::Used
    };
    let repository = match (args.is_on("cache"), runs) {
        (false, _) => None,
        (true, Kept::Yes) => repository(args, output, notes)?,
        (true, Kept::No) => {
            notes.push(
                "--cache-run-layers=false: every step is performed, and the layer cache is neither read nor filled"
                    .to_owned(),
            );
            None
        }
    };
    let push = if args.is_on("no-push-cache") {
        PushMode::NoPush
    } else {
        PushMode::Push
    };
    Ok(Caching {
        records,
        repository,
        ttl: Some(ttl(args)?),
        copies: kept(args, "cache-copy-layers"),
        runs,
        push,
    })
}

/// Both kinds are kept unless a flag says otherwise. kaniko leaves copies out by default, because
/// its keys of them cost a whole build; here they cost a mount.
fn kept(args: &Args, flag: &'static str) -> Kept {
    if args.is_given(flag) && !args.is_on(flag) {
        Kept::No
    } else {
        Kept::Yes
    }
}

/// `oci:<path>`, `dir:<path>` or a path is a directory, anything else a repository; without the
/// flag it is `<first destination>/cache`.
fn repository(
    args: &Args,
    output: &Output,
    notes: &mut Vec<String>,
) -> Result<Option<CacheRepository>, CliError> {
    let text = args.one("cache-repo").unwrap_or_default();
    if text.is_empty() {
        let Some(destination) = output.destinations.first() else {
            notes.push(
                "--cache: without a destination only this machine's store is used; name a shared cache with --cache-repo"
                    .to_owned(),
            );
            return Ok(None);
        };
        let name = format!("{}/cache", destination.name());
        let reference = Reference::parse(&name)
            .map_err(|error| wrong("cache-repo", &name, error.to_string()))?;
        return Ok(Some(CacheRepository::Registry(reference)));
    }
    let path = ["oci:", "dir:"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .or_else(|| text.starts_with(['/', '.']).then_some(text));
    if let Some(path) = path {
        if path.is_empty() {
            return Err(wrong("cache-repo", text, "expected a path after the colon"));
        }
        return Ok(Some(CacheRepository::Layout(PathBuf::from(path))));
    }
    let reference =
        Reference::parse(text).map_err(|error| wrong("cache-repo", text, error.to_string()))?;
    Ok(Some(CacheRepository::Registry(reference)))
}

/// How old what is cached may be.
pub(in crate::cli) fn ttl(args: &Args) -> Result<Duration, CliError> {
    let Some(text) = args.one("cache-ttl").filter(|text| !text.is_empty()) else {
        return Ok(TTL);
    };
    duration::parse(text).ok_or_else(|| {
        wrong(
            "cache-ttl",
            text,
            "expected a duration such as 336h, 1h30m or 1.5h",
        )
    })
}
