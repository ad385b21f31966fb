//! `--cache` and the flags around it.

use std::path::PathBuf;
use std::time::Duration;

use kiln_registry::Reference;

use super::{CliError, wrong};
use crate::cli::args::Args;
use crate::request::{CacheRepository, Caching, Kept, LocalRecords, Output, PushMode};

/// kaniko's default of `--cache-ttl`: two weeks.
const TTL: Duration = Duration::from_secs(14 * 24 * 3600);

/// What the flags say. Records of the store are used unless `--cache=false` says otherwise; a
/// shared cache is used with `--cache`.
pub(super) fn caching(
    args: &Args,
    output: &Output,
    notes: &mut Vec<String>,
) -> Result<Caching, CliError> {
    let records = if args.is_given("cache") && !args.is_on("cache") {
        LocalRecords::Ignored
    } else {
        LocalRecords::Used
    };
    let repository = if args.is_on("cache") {
        repository(args, output, notes)?
    } else {
        None
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
        runs: kept(args, "cache-run-layers"),
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

/// Go's durations: `336h`, `1h30m`, `90s`.
fn ttl(args: &Args) -> Result<Duration, CliError> {
    let Some(text) = args.one("cache-ttl").filter(|text| !text.is_empty()) else {
        return Ok(TTL);
    };
    duration(text).ok_or_else(|| {
        wrong(
            "cache-ttl",
            text,
            "expected a duration such as 336h or 1h30m",
        )
    })
}

fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "h" => 3600,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        total += Duration::from_secs(number.checked_mul(seconds)?);
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_in_go() {
        for (text, seconds) in [
            ("336h", Some(1_209_600)),
            ("1h30m", Some(5400)),
            ("90s", Some(90)),
            ("5", None),
            ("h", None),
            ("2d", None),
            ("", None),
        ] {
            assert_eq!(
                duration(text).map(|found| found.as_secs()),
                seconds,
                "{text}"
            );
        }
    }
}
