//! From flags and environment to a [`Request`], a client and a store: the only place of the
//! crate that reads files which the user names.

mod caching;
mod context;
mod jobs;
mod registry;
mod sandbox;
mod secrets;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kiln_dockerfile::platform::Platform;
use kiln_dockerfile::scope::BuildFor;
use kiln_registry::{Client, Compression, Reference, Vendor};
use kiln_store::Store;

pub(super) use caching::ttl;
use context::{Fetched, Opened};

use super::args::Args;
use super::error::CliError;
use super::{Env, flags, receive};
use crate::layer::tar::Times;
use crate::plan;
use crate::remote::Remote;
use crate::request::{
    CheckPush, Context, DigestFile, ImmutableTags, Layering, Output, PushMode, Request,
};

/// Where the executor lives without `--kaniko-dir` and `KANIKO_DIR`.
const KANIKO_DIR: &str = "/kaniko";

/// Flags that name files for the digest.
const DIGEST_FILES: [(&str, DigestFile); 3] = [
    ("digest-file", DigestFile::Digest),
    ("image-name-with-digest-file", DigestFile::NameDigest),
    ("image-name-tag-with-digest-file", DigestFile::NameTagDigest),
];

/// Everything that a build needs.
pub(super) struct Settings {
    pub(super) request: Request,
    /// The Dockerfile's name, for messages.
    pub(super) dockerfile: String,
    pub(super) notes: Vec<String>,
    /// Holds an unpacked context.
    _context: Option<Fetched>,
}

pub(super) fn wrong(flag: &'static str, value: &str, expected: impl Into<String>) -> CliError {
    CliError::Value {
        flag,
        value: value.to_owned(),
        expected: expected.into(),
    }
}

/// Waits for the context of a build pod.
pub(super) fn await_context(args: &Args) -> Result<(), CliError> {
    let limit = match args.one("await-timeout") {
        Some(text) => {
            let seconds = text.trim_end_matches('s').parse();
            Duration::from_secs(
                seconds.map_err(|_| wrong("await-timeout", text, "expected seconds"))?,
            )
        }
        None => receive::DEFAULT_WAIT,
    };
    receive::wait(&receive::marker(&context_dir(args)?), limit)
}

/// Where the context of a build pod arrives.
pub(super) fn context_dir(args: &Args) -> Result<PathBuf, CliError> {
    context::directory(args)
}

fn kaniko_dir(args: &Args, env: &Env) -> PathBuf {
    let flag = args.one("kaniko-dir").filter(|dir| !dir.is_empty());
    let named = flag.or_else(|| env.get("KANIKO_DIR").map(String::as_str));
    let named = named.filter(|dir| !dir.is_empty());
    absolute(named.unwrap_or(KANIKO_DIR))
}

/// Commands start in other directories than this program.
fn absolute(path: &str) -> PathBuf {
    // The working directory is missing or out of sight only where no relative path leads anywhere.
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}

/// `--store-dir`, or `store` in the executor's own directory; for an ordinary user a part of it.
pub(super) fn store_dir(args: &Args, env: &Env) -> PathBuf {
    let flag = args.one("store-dir").filter(|dir| !dir.is_empty());
    let whole = flag.map_or_else(|| kaniko_dir(args, env).join("store"), absolute);
    crate::store_of_this_user(whole)
}

/// The client for all registries of a build.
pub(super) fn client(args: &Args, env: &Env) -> Result<Client, CliError> {
    let output = output(args, env)?;
    // What there is to note is noted when the build is resolved.
    let caching = caching::caching(args, &output, &mut Vec::new())?;
    let mut pushed = output.destinations;
    // The settings for destinations hold for the cache as well (kaniko).
    if let Some(crate::request::CacheRepository::Registry(repository)) = caching.repository {
        pushed.push(repository);
    }
    registry::client(args, env, &pushed)
}

/// A client for these destinations alone.
pub(super) fn registry_client(
    args: &Args,
    env: &Env,
    destinations: &[Reference],
) -> Result<Client, CliError> {
    registry::client(args, env, destinations)
}

/// `--destination`
pub(super) fn destinations(args: &Args) -> Result<Vec<Reference>, CliError> {
    const FLAG: &str = "destination";
    let parsed = args.all(FLAG).iter().map(|text| {
        let name = Reference::parse(text).map_err(|error| wrong(FLAG, text, error.to_string()))?;
        if name.digest().is_some() {
            let why = "a digest cannot be pushed to, it follows from the image: give a tag alone";
            return Err(wrong(FLAG, text, why));
        }
        Ok(name)
    });
    parsed.collect()
}

/// Reads everything else.
pub(super) fn resolve(
    args: &Args,
    env: &Env,
    store: &Store,
    remote: &Remote,
) -> Result<Settings, CliError> {
    let mut notes = Vec::new();
    snapshot_mode(args)?;
    let store_dir = &store_dir(args, env);
    let mut output = output(args, env)?;
    let build = build_for(args)?;
    let build_args = build_args(args, env);
    output.epoch = epoch(&build_args)?;
    let contexts = context::named(args)?;
    let opened = context::open(args, env, store, remote)?;
    let (dockerfile_path, dockerfile) = context::dockerfile(args, &opened, remote)?;
    let ignore = context::ignore(&dockerfile_path, &opened)?;
    let Opened { dir, fetched } = opened;
    let caching = caching::caching(args, &output, &mut notes)?;
    let sandbox = sandbox::sandbox(args, env, (store_dir, &dir), &mut notes)?;
    let own = kaniko_dir(args, env);
    let shown = context::shown(&dockerfile_path, &dir);
    let context = Context {
        ignore,
        in_run: if dir.starts_with(&own) || fetched.is_some() {
            crate::request::ContextInRun::Hidden
        } else {
            crate::request::ContextInRun::Visible
        },
        dir,
    };
    Ok(Settings {
        request: Request {
            dockerfile,
            build_args,
            build,
            context,
            sandbox,
            caching,
            output,
            contexts,
        },
        dockerfile: shown,
        notes,
        _context: fetched,
    })
}

/// `NAME=VALUE`, or `NAME` with the value of the environment (nothing when it is not set there).
pub(super) fn build_args(args: &Args, env: &Env) -> BTreeMap<String, String> {
    args.all("build-arg")
        .iter()
        .filter_map(|arg| match arg.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            None => env.get(arg).map(|value| (arg.clone(), value.clone())),
        })
        .collect()
}

/// The time of the image.
fn epoch(build_args: &BTreeMap<String, String>) -> Result<Option<jiff::Timestamp>, CliError> {
    let Some(text) = build_args.get(plan::EPOCH).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let time = text
        .parse()
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let expected = "SOURCE_DATE_EPOCH is a number of seconds since 1970";
    time.map(Some)
        .ok_or_else(|| wrong("build-arg", text, expected))
}

fn build_for(args: &Args) -> Result<BuildFor, CliError> {
    let host = kiln_registry::Platform::host();
    let host = Platform::parse(&format!("{}/{}", host.os, host.architecture))
        .map_err(|error| wrong("custom-platform", &host.architecture, error.to_string()))?;
    let target = match args.one("custom-platform").filter(|text| !text.is_empty()) {
        Some(text) => Platform::parse(text)
            .map_err(|error| wrong("custom-platform", text, error.to_string()))?,
        None => host.clone(),
    };
    // kaniko's fork takes a list, of which the first is pushed.
    let stage = args
        .all("target")
        .first()
        .and_then(|list| list.split(',').next());
    let stage = stage.filter(|stage| !stage.is_empty()).map(str::to_owned);
    Ok(BuildFor {
        build: host,
        target,
        stage,
    })
}

/// It has no effect, but a wrong one was meant as something else.
fn snapshot_mode(args: &Args) -> Result<(), CliError> {
    const FLAG: &str = "snapshot-mode";
    match args.one(FLAG) {
        None | Some("" | "full" | "redo" | "time") => Ok(()),
        Some(other) => Err(wrong(FLAG, other, "expected full, redo or time")),
    }
}

fn pairs(args: &Args, flag: &'static str) -> Result<BTreeMap<String, String>, CliError> {
    args.all(flag)
        .iter()
        .map(|text| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(wrong(flag, text, "expected NAME=VALUE")),
        })
        .collect()
}

/// What happens with the image.
pub(super) fn output(args: &Args, env: &Env) -> Result<Output, CliError> {
    let variable = flags::variable(env, "KANIKO_NO_PUSH")?;
    let no_push = if args.is_given("no-push") {
        args.is_on("no-push")
    } else {
        variable == Some(true)
    };
    let destinations = destinations(args)?;
    if destinations.is_empty() && !no_push && !args.is_on("dryrun") {
        return Err(CliError::NoDestination);
    }
    let digest_files = digest_files(args)?;
    let compression = match args.one("compression") {
        None | Some("" | "gzip") => Compression::Gzip,
        Some("zstd") => Compression::Zstd,
        Some(other) => return Err(wrong("compression", other, "expected gzip or zstd")),
    };
    let vendor = match args.one("image-format") {
        None | Some("") => None,
        Some("docker") => Some(Vendor::Docker),
        Some("oci") => Some(Vendor::Oci),
        Some(other) => return Err(wrong("image-format", other, "expected docker or oci")),
    };
    if compression == Compression::Zstd && vendor == Some(Vendor::Docker) {
        let why =
            "Docker's format has no zstd layers: use --image-format=oci or --compression=gzip";
        return Err(wrong("compression", "zstd", why));
    }
    let tar = args.one("tar-path").filter(|path| !path.is_empty());
    if let Some(path) = tar
        && (vendor == Some(Vendor::Oci) || compression == Compression::Zstd)
    {
        let other = match vendor {
            Some(Vendor::Oci) => "--image-format=oci",
            _ => "--compression=zstd",
        };
        let why = format!(
            "an archive for `docker load` holds Docker's format with gzip: leave out {other}, or use --oci-layout-path"
        );
        return Err(wrong("tar-path", path, why));
    }
    Ok(Output {
        destinations,
        push: if no_push {
            PushMode::NoPush
        } else {
            PushMode::Push
        },
        check: if args.is_on("skip-push-permission-check") {
            CheckPush::No
        } else {
            CheckPush::Yes
        },
        immutable_tags: if args.is_on("push-ignore-immutable-tag-errors") {
            ImmutableTags::Accept
        } else {
            ImmutableTags::Fail
        },
        labels: pairs(args, "label")?,
        annotations: pairs(args, "annotation")?,
        vendor,
        compression,
        level: level(args)?,
        times: if args.is_on("reproducible") {
            Times::Zero
        } else {
            Times::Kept
        },
        epoch: None,
        layering: if args.is_on("single-snapshot") {
            Layering::Single
        } else {
            Layering::PerStep
        },
        tar: tar.map(PathBuf::from),
        oci_layout: args
            .one("oci-layout-path")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        digest_files,
    })
}

/// kaniko takes -1, its default, for "the compressor's own".
fn level(args: &Args) -> Result<Option<u32>, CliError> {
    match args.one("compression-level") {
        None | Some("-1" | "0") => Ok(None),
        Some(text) => {
            let level = text.parse().ok().filter(|level| (1..=22).contains(level));
            level
                .map(Some)
                .ok_or_else(|| wrong("compression-level", text, "expected 1 to 22"))
        }
    }
}

fn digest_files(args: &Args) -> Result<Vec<(DigestFile, PathBuf)>, CliError> {
    let mut files = Vec::new();
    for (flag, kind) in DIGEST_FILES {
        match args.one(flag) {
            None | Some("") => {}
            Some(value) if kind != DigestFile::Digest && !args.is_given("destination") => {
                let why = "it gets the names of destinations: give --destination";
                return Err(wrong(flag, value, why));
            }
            Some(url) if is_address(url) => {}
            Some(path) => files.push((kind, PathBuf::from(path))),
        }
    }
    Ok(files)
}

fn is_address(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// Digest files that are addresses: they get a PUT.
pub(super) fn digest_addresses(args: &Args) -> Result<Vec<(DigestFile, url::Url)>, CliError> {
    let mut addresses = Vec::new();
    for (flag, kind) in DIGEST_FILES {
        if let Some(text) = args.one(flag).filter(|text| is_address(text)) {
            let url = text
                .parse()
                .map_err(|_| wrong(flag, text, "this is not an address"))?;
            addresses.push((kind, url));
        }
    }
    Ok(addresses)
}
