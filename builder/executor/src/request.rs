//! What a build is asked to do: everything that the library needs, read by someone else.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use kiln_dockerfile::Dockerfile;
use kiln_dockerfile::ignore::Patterns;
use kiln_dockerfile::scope::BuildFor;
use kiln_registry::{Compression, Reference, Vendor};
use kiln_sandbox::Rung;

use crate::ignore_path::IgnoredPaths;
use crate::plan::NamedContext;

/// A build.
#[derive(Debug, Clone)]
pub struct Request {
    /// The parsed Dockerfile.
    pub dockerfile: Dockerfile,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// Platforms and `--target`.
    pub build: BuildFor,
    /// The files of the build.
    pub context: Context,
    /// How commands are run.
    pub sandbox: Sandbox,
    /// What of earlier builds is used, and what of this one is kept.
    pub caching: Caching,
    /// What becomes of the image.
    pub output: Output,
    /// `--build-context`, by name in lower case.
    pub contexts: BTreeMap<String, NamedContext>,
}

/// The files of a build.
#[derive(Debug, Clone)]
pub struct Context {
    /// Absolute, without links.
    pub dir: PathBuf,
    /// What is left out, and the file that says so.
    pub ignore: Option<(Patterns, String)>,
    /// Whether RUN sees a writable copy of `dir` at its own path, where a stage mentions that
    /// path: pipeline caches restored into the checkout work that way.
    pub in_run: ContextInRun,
}

/// See [`Context::in_run`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextInRun {
    /// Visible where the stage mentions it.
    Visible,
    /// Never visible: the path lies in the executor's own directory.
    Hidden,
}

impl Sandbox {
    /// What commands must not see below a directory, relative to it. The directory itself is none of
    /// it: a context that was fetched lies in the executor's own directory.
    pub fn hidden_below(&self, dir: &Path) -> impl Iterator<Item = &Path> {
        let below = self.hidden.iter();
        let below = below.filter_map(move |hidden| hidden.strip_prefix(dir).ok());
        below.filter(|path| *path != Path::new(""))
    }
}

/// How commands are run.
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    /// `--isolation`.
    pub isolation: Option<Rung>,
    /// `--jobs`: the most stages that are built at the same time; without, one after another.
    pub jobs: Option<NonZero<usize>>,
    /// Host paths that RUN sees at the same path; never part of the image.
    pub volumes: Vec<PathBuf>,
    /// Host paths that RUN must not see: credentials, the store, the executor itself.
    pub hidden: Vec<PathBuf>,
    /// Paths that are never part of the image (`--ignore-path`).
    pub ignored: IgnoredPaths,
    /// `--secret`, by id.
    pub secrets: BTreeMap<String, Secret>,
    /// The variables that `git` is run with, outside of the sandbox: `PATH`, `HOME`, proxies.
    pub git: BTreeMap<String, String>,
    /// `--ssh`: the sockets of agents, by id.
    pub agents: BTreeMap<String, PathBuf>,
}

/// The value of a secret; it is never shown.
#[derive(Clone)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What of earlier builds is used, and what of this one is kept for later ones.
#[derive(Debug, Clone, Default)]
pub struct Caching {
    /// Whether records of the store count.
    pub records: LocalRecords,
    /// A cache that machines share.
    pub repository: Option<CacheRepository>,
    /// How old a record of the repository may be; any age without.
    pub ttl: Option<std::time::Duration>,
    /// Whether the repository keeps layers of `COPY` and `ADD`.
    pub copies: Kept,
    /// Whether the repository keeps layers of `RUN` and `WORKDIR`.
    pub runs: Kept,
    /// Whether layers are pushed to the repository.
    pub push: PushMode,
}

/// See [`Caching::records`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LocalRecords {
    /// What the store has is not made again.
    #[default]
    Used,
    /// Every step is performed.
    Ignored,
}

/// Where a shared cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheRepository {
    /// A repository of a registry.
    Registry(Reference),
    /// A directory with an OCI layout.
    Layout(PathBuf),
}

/// Whether something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kept {
    /// It is.
    #[default]
    Yes,
    /// It is not.
    No,
}

/// What becomes of the image.
#[derive(Debug, Clone)]
pub struct Output {
    /// Where it is pushed; empty for no push.
    pub destinations: Vec<Reference>,
    /// Whether pushing was asked for. `NoPush` still names the image in a tarball.
    pub push: PushMode,
    /// Whether the destinations are asked before anything is done.
    pub check: CheckPush,
    /// What happens when a tag exists and may not be changed.
    pub immutable_tags: ImmutableTags,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
    /// `--image-format`; that of the base when absent.
    pub vendor: Option<Vendor>,
    /// `--compression`.
    pub compression: Compression,
    /// `--compression-level`.
    pub level: Option<u32>,
    /// `--reproducible`: all times that the build writes are zero.
    pub times: crate::layer::tar::Times,
    /// The time of the image, where `SOURCE_DATE_EPOCH` gives one.
    pub epoch: Option<jiff::Timestamp>,
    /// `--single-snapshot`.
    pub layering: Layering,
    /// `--tar-path`.
    pub tar: Option<PathBuf>,
    /// `--oci-layout-path`.
    pub oci_layout: Option<PathBuf>,
    /// Files that get the digest.
    pub digest_files: Vec<(DigestFile, PathBuf)>,
}

/// Whether the credentials for a push are tried before the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CheckPush {
    /// They are.
    #[default]
    Yes,
    /// `--skip-push-permission-check`.
    No,
}

/// Whether something is pushed: the image, or the layer cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PushMode {
    /// It is.
    #[default]
    Push,
    /// `--no-push`, `--no-push-cache`.
    NoPush,
}

/// See [`Output::immutable_tags`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImmutableTags {
    /// It is an error.
    Fail,
    /// It is a note in the log (`--push-ignore-immutable-tag-errors`).
    Accept,
}

/// How many layers a build adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layering {
    /// One for each step that changes files.
    PerStep,
    /// One for the whole stage (`--single-snapshot`).
    Single,
}

/// What a file about the digest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestFile {
    /// `sha256:…`
    Digest,
    /// `name@sha256:…`, a line for each destination.
    NameDigest,
    /// `name:tag@sha256:…`, a line for each destination.
    NameTagDigest,
}
