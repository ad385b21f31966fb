//! All flags: kaniko's (of the maintained fork, v1.28) and Kiln's own.
//!
//! A flag has its effect, is refused with the reason, or (where kaniko's purpose for it does not
//! exist here) is accepted with a note in the log. None is ignored in silence.

use std::fmt::Write as _;

use super::Env;
use super::args::{Args, boolean};
use super::error::CliError;

/// What values a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// None, or `=true`, `=false`; with its default.
    Switch(bool),
    /// One; the last one counts.
    One,
    /// Any number.
    Many,
}

/// What a flag does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// What its help says.
    Works,
    /// Another spelling of this flag.
    Alias(&'static str),
    /// Nothing, for this reason.
    None(&'static str),
    /// An error, for this reason.
    Refused(&'static str),
}

/// A flag.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// The short form.
    pub short: Option<char>,
    /// Its values.
    pub kind: Kind,
    /// What it does.
    pub effect: Effect,
    /// For `--help`.
    pub help: &'static str,
}

impl Flag {
    /// The name that values are kept under.
    pub fn canonical(&self) -> &'static str {
        match self.effect {
            Effect::Alias(name) => name,
            _ => self.name,
        }
    }

    /// Why it is refused, when it is.
    pub fn refused(&self) -> Option<&'static str> {
        match self.effect {
            Effect::Refused(why) => Some(why),
            _ => None,
        }
    }
}

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
        name,
        short: Some(short),
        kind,
        effect: Effect::Works,
        help,
    }
}

const fn alias(name: &'static str, of: &'static str, kind: Kind) -> Flag {
    Flag {
        name,
        short: None,
        kind,
        effect: Effect::Alias(of),
        help: "old spelling",
    }
}

const fn none(name: &'static str, kind: Kind, why: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        kind,
        effect: Effect::None(why),
        help: "accepted, no effect",
    }
}

const fn refused(name: &'static str, kind: Kind, why: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        kind,
        effect: Effect::Refused(why),
        help: "refused",
    }
}

const ON: Kind = Kind::Switch(true);
const OFF: Kind = Kind::Switch(false);
const EXACT: &str = "changes are found exactly and without reading files in every mode";
const NOTHING_LEFT: &str = "a build leaves nothing behind in this container";

/// kaniko's variables whose purpose does not exist here.
const IDLE_VARIABLES: [(&str, &str); 3] = [
    ("SNAPSHOT_TIMEOUT_DURATION", EXACT),
    ("KANIKO_TELEMETRY_ENDPOINT", "nothing is reported to anyone"),
    ("KANIKO_IGNORE_ASSERTIONS", "there are none to ignore"),
];
/// Those of them that are on or off.
const IDLE_SWITCHES: [(&str, &str); 4] = [
    ("KANIKO_CLEANUP", NOTHING_LEFT),
    ("KANIKO_PRE_CLEANUP", NOTHING_LEFT),
    ("KANIKO_PRESERVE_CONTEXT", "the context is never changed"),
    ("KANIKO_PRINT_PLAN", "--dryrun prints the plan"),
];
/// What the names of kaniko's switches for single features begin with.
const FEATURES: &str = "FF_KANIKO_";

/// Whether a variable is on, as Go's `strconv.ParseBool` has it; one that is empty counts as not set. kaniko takes
/// its default for what it cannot read, and pushes where `KANIKO_NO_PUSH=yes` says not to.
pub(super) fn variable(env: &Env, name: &str) -> Result<Option<bool>, CliError> {
    let Some(value) = env.get(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let wrong = || CliError::Variable {
        name: name.to_owned(),
        value: value.clone(),
        expected: "expected true or false",
    };
    boolean(value).map(Some).ok_or_else(wrong)
}

/// Every flag, in the order of kaniko's own help, then Kiln's.
pub static FLAGS: [Flag; 79] = [
    short(
        "dockerfile",
        'f',
        Kind::One,
        "path of the Dockerfile (here, or in the context)",
    ),
    short(
        "context",
        'c',
        Kind::One,
        "directory (PATH, dir://), archive (tar://, tar://stdin, https://, gs://, s3://) or repository (git://)",
    ),
    flag(
        "context-sub-path",
        Kind::One,
        "directory within the context",
    ),
    flag(
        "bucket",
        Kind::One,
        "bucket with a context.tar.gz; the same as --context gs://BUCKET",
    ),
    short("destination", 'd', Kind::Many, "where the image is pushed"),
    flag(
        "build-arg",
        Kind::Many,
        "NAME=VALUE, or NAME to take it from the environment",
    ),
    flag(
        "label",
        Kind::Many,
        "NAME=VALUE in the image's configuration",
    ),
    flag("annotation", Kind::Many, "NAME=VALUE in the manifest"),
    flag("target", Kind::Many, "the stage to build"),
    flag(
        "custom-platform",
        Kind::One,
        "os/architecture[/variant] of the image",
    ),
    alias("customPlatform", "custom-platform", Kind::One),
    none("snapshot-mode", Kind::One, EXACT),
    alias("snapshotMode", "snapshot-mode", Kind::One),
    flag("single-snapshot", OFF, "one layer for the whole stage"),
    none("use-new-run", OFF, EXACT),
    flag("reproducible", OFF, "zero all times that the build writes"),
    none(
        "ignore-var-run",
        ON,
        "what is mounted below /var/run never gets into the image, the rest belongs to it",
    ),
    none(
        "whitelist-var-run",
        ON,
        "what is mounted below /var/run never gets into the image, the rest belongs to it",
    ),
    flag(
        "ignore-path",
        Kind::Many,
        "an absolute path that RUN adds nothing below to the image; a part of it may be a pattern",
    ),
    flag(
        "cache",
        OFF,
        "use and fill a layer cache in --cache-repo; =false: not even this machine's store",
    ),
    flag(
        "cache-repo",
        Kind::One,
        "repository, oci:PATH or a directory of the layer cache; DESTINATION/cache without",
    ),
    flag(
        "cache-dir",
        Kind::One,
        "base images that the warmer fetched, /cache without; read with --cache",
    ),
    flag(
        "cache-copy-layers",
        ON,
        "keep layers of COPY and ADD in --cache-repo",
    ),
    flag(
        "cache-run-layers",
        ON,
        "keep layers of RUN and WORKDIR in --cache-repo; =false: perform every step",
    ),
    flag(
        "cache-ttl",
        Kind::One,
        "how old a layer of --cache-repo may be, 336h without",
    ),
    none("compressed-caching", ON, "layers are never held in memory"),
    flag(
        "no-push-cache",
        OFF,
        "read --cache-repo and leave it as it is",
    ),
    flag("compression", Kind::One, "gzip or zstd"),
    flag(
        "compression-level",
        Kind::One,
        "of the compressor; its fast default without",
    ),
    flag(
        "image-format",
        Kind::One,
        "docker or oci; that of the base without",
    ),
    flag("no-push", OFF, "build only"),
    flag("tar-path", Kind::One, "write an archive for `docker load`"),
    alias("tarPath", "tar-path", Kind::One),
    flag(
        "oci-layout-path",
        Kind::One,
        "write an OCI layout directory",
    ),
    flag(
        "digest-file",
        Kind::One,
        "file for the digest, written after the push",
    ),
    flag(
        "image-name-with-digest-file",
        Kind::One,
        "file for NAME@DIGEST",
    ),
    flag(
        "image-name-tag-with-digest-file",
        Kind::One,
        "file for NAME:TAG@DIGEST",
    ),
    flag(
        "push-retry",
        Kind::One,
        "further tries of a request that failed, also where the connection was refused",
    ),
    flag(
        "push-ignore-immutable-tag-errors",
        OFF,
        "a tag that may not be changed is no error",
    ),
    none(
        "image-fs-extract-retry",
        Kind::One,
        "a download that breaks off is resumed by itself",
    ),
    flag(
        "image-download-retry",
        Kind::One,
        "further tries of a request that failed, also where the connection was refused",
    ),
    flag(
        "skip-push-permission-check",
        OFF,
        "do not try the credentials before the build",
    ),
    flag("insecure", OFF, "allow http for destinations"),
    flag("insecure-pull", OFF, "allow http for all registries"),
    flag(
        "insecure-registry",
        Kind::Many,
        "allow http for this registry",
    ),
    flag(
        "skip-tls-verify",
        OFF,
        "accept any certificate of destinations",
    ),
    flag(
        "skip-tls-verify-pull",
        OFF,
        "accept any certificate of all registries",
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
    flag(
        "registry-mirror",
        Kind::Many,
        "a mirror of Docker Hub: HOST[/PATH]",
    ),
    flag("registry-map", Kind::Many, "HOST=MIRROR[;HOST=MIRROR…]"),
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
        "built-in helpers to ask: env, google, ecr, acr, gitlab; all without, none when empty",
    ),
    flag(
        "secret",
        Kind::Many,
        "id=ID[,src=FILE][,env=NAME] for RUN --mount=type=secret; the variable or file ID without",
    ),
    flag(
        "ssh",
        Kind::Many,
        "ID[=SOCKET] of an agent, for RUN --mount=type=ssh",
    ),
    flag(
        "build-context",
        Kind::Many,
        "NAME=DIRECTORY or NAME=docker-image://IMAGE, for FROM, COPY --from and RUN --mount=from",
    ),
    flag(
        "git",
        Kind::Many,
        "KEY=VALUE for git contexts: branch, single-branch, depth, recurse-submodules, insecure-skip-tls",
    ),
    flag(
        "kaniko-dir",
        Kind::One,
        "the executor's own directory, /kaniko without",
    ),
    none("force", OFF, "the machine's own files are never changed"),
    none("cleanup", OFF, NOTHING_LEFT),
    none("pre-cleanup", OFF, NOTHING_LEFT),
    none("preserve-context", OFF, "the context is never changed"),
    refused(
        "materialize",
        OFF,
        "the image's files are never put into this container: use --oci-layout-path",
    ),
    flag("dryrun", OFF, "print the plan and do nothing"),
    short(
        "verbosity",
        'v',
        Kind::One,
        "panic, fatal, error, warn, info, debug or trace",
    ),
    flag("log-format", Kind::One, "text, color or json"),
    flag("log-timestamp", OFF, "the time before each line"),
    none(
        "force-build-metadata",
        OFF,
        "every instruction is in the history anyway",
    ),
    none(
        "skip-unused-stages",
        OFF,
        "stages that nothing needs are never built",
    ),
    flag(
        "isolation",
        Kind::One,
        "userns-pod, userns, rootless, chroot, in-place or none; the best possible without",
    ),
    flag(
        "jobs",
        Kind::One,
        "how many stages are built at the same time; without, one for each processor and 2 GiB of limited memory, or one where the pod has volumes",
    ),
    flag(
        "store-dir",
        Kind::One,
        "blobs, layers and caches that builds share; DIR/store of --kaniko-dir without",
    ),
    flag(
        "await-context",
        OFF,
        "wait until `executor receive` has the whole context",
    ),
    flag(
        "await-timeout",
        Kind::One,
        "seconds to wait for the context, 600 without",
    ),
    flag(
        "image",
        Kind::Many,
        "of `executor lookup`: the image to ask for",
    ),
    flag(
        "reuse",
        Kind::One,
        "IMAGE: when the registry has it, name it as the first destination and build nothing",
    ),
    flag("progress", Kind::One, "plain or json"),
];

/// What the log says about flags that were given.
#[derive(Debug, PartialEq, Eq)]
pub struct Notes {
    /// Flags whose purpose in kaniko does not exist here, one note each.
    pub idle: Vec<String>,
}

/// What there is to say about the flags that were given.
///
/// # Errors
/// A switch that is neither on nor off.
pub fn notes(args: &Args, env: &Env) -> Result<Notes, CliError> {
    let without = |name: &str, why: &str| format!("the variable {name} has no effect here: {why}");
    let mut variables: Vec<String> = IDLE_VARIABLES
        .iter()
        .filter(|(name, _)| env.contains_key(*name))
        .map(|(name, why)| without(name, why))
        .collect();
    for (name, why) in IDLE_SWITCHES {
        if variable(env, name)? == Some(true) {
            variables.push(without(name, why));
        }
    }
    for name in env.keys().filter(|name| name.starts_with(FEATURES)) {
        if variable(env, name)?.is_some() {
            variables.push(without(name, "Kiln has no such switch"));
        }
    }
    let flags = FLAGS.iter().filter(|flag| args.is_given(flag.name));
    let idle = flags
        .filter_map(|flag| match flag.effect {
            Effect::None(why) => Some(format!("--{} has no effect here: {why}", flag.name)),
            _ => None,
        })
        .chain(variables)
        .collect();
    Ok(Notes { idle })
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = "Builds an image from a Dockerfile and pushes it.\n\n\
        usage: executor [flags]\n       executor login REGISTRY -u USER -p PASSWORD|--password-stdin\n       executor push FILE|DIR -d IMAGE [flags]\n       executor receive DIR          unpack a tar from standard input, then write DIR.complete;\n                                     with --follow also print the log of the build\n       \
        executor receive-wait FILE    wait until FILE is there\n       executor lookup --image NAME  ask the registry for digest and triggers\n       executor version\n\nflags:\n"
        .to_owned();
    for flag in &FLAGS {
        let letter = flag
            .short
            .map_or_else(|| "   ".to_owned(), |letter| format!("-{letter},"));
        let note = match flag.effect {
            Effect::Works => flag.help.to_owned(),
            Effect::Alias(of) => format!("the same as --{of}"),
            Effect::None(why) => format!("no effect: {why}"),
            Effect::Refused(why) => format!("refused: {why}"),
        };
        let _ = writeln!(text, "  {letter} --{:34} {note}", flag.name);
    }
    text
}
