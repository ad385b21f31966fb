//! The program `warmer`: fetches base images onto a volume, for builds with `--cache-dir`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use kiln_dockerfile::platform::Platform as BuildPlatform;
use kiln_dockerfile::scope::BuildFor;
use kiln_registry::{Descriptor, Platform, Reference};

use super::args::{ArgError, Args};
use super::error::{CliError, chain};
use super::flags::{Effect, Flag, Kind};
use super::log::{Log, Style};
use super::settings::{self, wrong};
use super::{Env, Streams, text};
use crate::base_cache::{BaseCache, unfinished};
use crate::fetch;
use crate::image::ImageConfig;
use crate::layout;
use crate::plan;
use crate::progress::Progress;
use crate::remote::Remote;

/// kaniko's default.
const CACHE_DIR: &str = "/cache";
const LONGEST_DOCKERFILE: u64 = 16 << 20;

const fn flag(name: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        kind,
        effect: Effect::Works,
        help,
    }
}

const fn short(name: &'static str, short: char, kind: Kind, help: &'static str) -> Flag {
    Flag {
        short: Some(short),
        ..flag(name, kind, help)
    }
}

const OFF: Kind = Kind::Switch(false);

/// kaniko's flags for its warmer.
static FLAGS: [Flag; 22] = [
    short("image", 'i', Kind::Many, "an image to fetch"),
    short(
        "dockerfile",
        'd',
        Kind::One,
        "fetch every image that this Dockerfile names after FROM",
    ),
    flag("build-arg", Kind::Many, "NAME=VALUE for the Dockerfile"),
    short(
        "cache-dir",
        'c',
        Kind::One,
        "where to put them, /cache without",
    ),
    short("force", 'f', OFF, "fetch what is there already"),
    flag(
        "cache-ttl",
        Kind::One,
        "how old an entry may become, 336h without",
    ),
    flag(
        "custom-platform",
        Kind::One,
        "os/architecture[/variant], this machine's without",
    ),
    Flag {
        effect: Effect::Alias("custom-platform"),
        ..flag("customPlatform", Kind::One, "old spelling")
    },
    flag("insecure-pull", OFF, "allow http for all registries"),
    flag(
        "skip-tls-verify-pull",
        OFF,
        "accept any certificate of all registries",
    ),
    flag(
        "insecure-registry",
        Kind::Many,
        "allow http for this registry",
    ),
    flag(
        "skip-tls-verify-registry",
        Kind::Many,
        "accept any certificate of this registry",
    ),
    flag(
        "registry-certificate",
        Kind::Many,
        "HOST=FILE: a CA for this registry",
    ),
    flag(
        "registry-client-cert",
        Kind::Many,
        "HOST=CERT,KEY: a client certificate for this registry",
    ),
    flag("registry-map", Kind::Many, "HOST=MIRROR[;HOST=MIRROR…]"),
    flag(
        "registry-mirror",
        Kind::Many,
        "a mirror of Docker Hub: HOST[/PATH]",
    ),
    flag(
        "registry-host",
        Kind::Many,
        "HOST=ADDRESS: connections to this registry go there, names stay",
    ),
    flag(
        "skip-default-registry-fallback",
        OFF,
        "fail when no mirror has the image",
    ),
    flag(
        "credential-helpers",
        Kind::Many,
        "built-in helpers to ask; all without, none when empty",
    ),
    short(
        "verbosity",
        'v',
        Kind::One,
        "panic, fatal, error, warn, info, debug or trace",
    ),
    flag("log-format", Kind::One, "text, color or json"),
    flag("log-timestamp", OFF, "the time before each line"),
];

/// Runs the warmer with these arguments (without the program's name) and returns its exit code: 0 unless no image at
/// all could be fetched.
#[must_use]
pub fn main_with(args: &[OsString], env: &Env, streams: Streams<'_>) -> u8 {
    let Streams { output, log, .. } = streams;
    let result = text(args).and_then(|words| match words.first().map(String::as_str) {
        Some("help") => Err(ArgError::Help.into()),
        Some("version") => {
            writeln!(output, "{}", env!("CARGO_PKG_VERSION")).map_err(CliError::Output)
        }
        _ => warm(&words, env, log),
    });
    let result = match result {
        Err(CliError::Args(ArgError::Help)) => {
            write!(output, "{}", help()).map_err(CliError::Output)
        }
        result => result,
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            // When even the log is gone, the exit code is what is left.
            let _ = writeln!(log, "{}", chain(&error));
            error.exit_code()
        }
    }
}

fn help() -> String {
    let lines = FLAGS.iter().map(|flag| {
        let letter = flag
            .short
            .map_or_else(|| "   ".to_owned(), |letter| format!("-{letter},"));
        format!("  {letter} --{:34} {}\n", flag.name, flag.help)
    });
    format!(
        "Fetches base images onto a volume.\n\nusage: warmer [flags]\n\nflags:\n{}",
        lines.collect::<String>()
    )
}

fn warm(words: &[String], env: &Env, log: &mut dyn std::io::Write) -> Result<(), CliError> {
    let args = Args::parse(words, &FLAGS)?;
    let mut log = Log::new(log, Style::from_args(&args)?);
    let remote =
        Remote::new(settings::registry_client(&args, env, &[])?).map_err(CliError::Runtime)?;
    let dir = args
        .one("cache-dir")
        .filter(|dir| !dir.is_empty())
        .unwrap_or(CACHE_DIR);
    let cache = BaseCache::new(PathBuf::from(dir), settings::ttl(&args)?);
    let platform = platform(&args)?;
    let images = images(&args, env, &remote)?;
    if images.is_empty() {
        return Err(CliError::Usage(
            "warmer -i IMAGE [-i IMAGE …] or -d DOCKERFILE, and -c DIR",
        ));
    }
    let mut failed = 0;
    for image in &images {
        match one(
            &remote,
            (image, &platform),
            (&cache, Path::new(dir)),
            args.is_on("force"),
        ) {
            Ok(text) => log.progress(&Progress::Note(text)),
            Err(error) => {
                failed += 1;
                log.progress(&Progress::Warning(chain(&error)));
            }
        }
    }
    if failed == images.len() {
        return Err(CliError::NothingWarmed(failed));
    }
    Ok(())
}

fn platform(args: &Args) -> Result<Platform, CliError> {
    let Some(text) = args.one("custom-platform").filter(|text| !text.is_empty()) else {
        return Ok(Platform::host());
    };
    let parsed = BuildPlatform::parse(text)
        .map_err(|error| wrong("custom-platform", text, error.to_string()))?;
    let text = parsed.to_string();
    let mut parts = text.split('/');
    let mut platform = Platform::new(
        parts.next().unwrap_or("linux"),
        parts.next().unwrap_or_default(),
    );
    platform.variant = parts.next().map(str::to_owned);
    Ok(platform)
}

/// What `--image` and the Dockerfile name.
fn images(args: &Args, env: &Env, remote: &Remote) -> Result<BTreeSet<Reference>, CliError> {
    let mut found = BTreeSet::new();
    for text in args.all("image") {
        found.insert(
            Reference::parse(text).map_err(|error| wrong("image", text, error.to_string()))?,
        );
    }
    let Some(name) = args.one("dockerfile").filter(|name| !name.is_empty()) else {
        return Ok(found);
    };
    let text = if name.starts_with("https://") || name.starts_with("http://") {
        let url = name
            .parse()
            .map_err(|_| wrong("dockerfile", name, "this is not an address"))?;
        fetch::text(remote, &url, LONGEST_DOCKERFILE).map_err(|source| CliError::Fetch {
            what: "the Dockerfile",
            place: fetch::shown(name),
            source: Box::new(source),
        })?
    } else {
        fs::read_to_string(name).map_err(|source| CliError::Read {
            what: "the Dockerfile",
            path: PathBuf::from(name),
            source,
        })?
    };
    let dockerfile = kiln_dockerfile::parse(&text).map_err(|error| CliError::Parse {
        dockerfile: name.to_owned(),
        error: Box::new(error),
    })?;
    let arguments = settings::build_args(args, env);
    found.extend(named_images(&dockerfile, &arguments)?);
    Ok(found)
}

/// The images that the stages of a Dockerfile name, found by planning each as if all bases were empty.
fn named_images(
    dockerfile: &kiln_dockerfile::Dockerfile,
    build_args: &BTreeMap<String, String>,
) -> Result<BTreeSet<Reference>, CliError> {
    let host = Platform::host();
    let text = format!("{}/{}", host.os, host.architecture);
    let host = BuildPlatform::parse(&text)
        .map_err(|error| wrong("custom-platform", &text, error.to_string()))?;
    let contexts = BTreeMap::new();
    let mut found = BTreeSet::new();
    for stage in 0..dockerfile.stages.len() {
        let build = BuildFor {
            build: host.clone(),
            target: host.clone(),
            stage: Some(stage.to_string()),
        };
        let input = plan::Input {
            dockerfile,
            build_args,
            build: &build,
            contexts: &contexts,
        };
        let mut images = plan::Images::new();
        while let Ok(plan::Outcome::Needs(keys)) = plan::plan(input, &images) {
            images.extend(keys.into_iter().map(|key| (key, ImageConfig::default())));
        }
        found.extend(
            images
                .keys()
                .filter_map(|key| Reference::parse(&key.name).ok()),
        );
    }
    Ok(found)
}

/// Fetches one image and says what became of it.
fn one(
    remote: &Remote,
    (name, platform): (&Reference, &Platform),
    (cache, dir): (&BaseCache, &Path),
    force: bool,
) -> Result<String, CliError> {
    let pull = |source| CliError::Warm {
        image: name.to_string(),
        source: Box::new(source),
    };
    let image = remote
        .wait(remote.client().image(name, platform))
        .map_err(pull)?;
    let digest = image.manifest.digest().clone();
    let entry = cache.entry(&digest);
    if !force && cache.is_fresh(&digest) {
        return Ok(format!("{name} is in {} already", entry.display()));
    }
    let aside = unfinished(dir, &digest);
    let write = |path: &Path| {
        let path = path.to_owned();
        move |source| CliError::Write { path, source }
    };
    let blobs = aside.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(write(&blobs))?;
    let result = fill(remote, &image, &aside).and_then(|()| {
        // A reader has the old entry open, or finds the new one.
        if entry.exists() {
            let old = if entry.is_dir() {
                fs::remove_dir_all(&entry)
            } else {
                fs::remove_file(&entry)
            };
            old.map_err(write(&entry))?;
        }
        fs::rename(&aside, &entry).map_err(write(&entry))
    });
    if let Err(error) = result {
        let _ = fs::remove_dir_all(&aside);
        // Another warmer was faster with the same image.
        if !cache.is_fresh(&digest) {
            return Err(error);
        }
    }
    Ok(format!("{name} is in {}", entry.display()))
}

fn fill(remote: &Remote, image: &kiln_registry::Image, dir: &Path) -> Result<(), CliError> {
    let manifest: Descriptor = image.manifest.descriptor();
    for (digest, bytes) in [
        (&manifest.digest, image.manifest.bytes()),
        (&image.body.config.digest, &image.config),
    ] {
        let path = layout::blob_path(dir, digest);
        fs::write(&path, bytes).map_err(|source| CliError::Write { path, source })?;
    }
    for layer in image
        .body
        .layers
        .iter()
        .filter(|layer| !layer.media_type.is_foreign())
    {
        let path = layout::blob_path(dir, &layer.digest);
        let fetched = remote.client().blob_to_file(&image.reference, layer, &path);
        remote.wait(fetched).map_err(|source| CliError::Warm {
            image: image.reference.to_string(),
            source: Box::new(source),
        })?;
    }
    layout::write_index(dir, &manifest).map_err(|source| CliError::Layout {
        path: dir.to_owned(),
        source,
    })
}
