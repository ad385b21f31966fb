//! `images` and `tags`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// One image.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageSection {
    /// The name that manifests use, without tag and digest.
    pub name: String,
    /// The context folder. Default: `.`
    pub context: Option<String>,
    /// The Dockerfile, below the context. Default: `Dockerfile`
    pub dockerfile: Option<String>,
    /// The stage to build. Default: the last one.
    pub target: Option<String>,
    /// Build arguments; values may be Go templates over the environment. An
    /// argument without a value is taken from the build container's
    /// environment.
    #[serde(default)]
    pub args: BTreeMap<String, Option<String>>,
    /// Labels of the image; values may be Go templates.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Images to build first, by the build argument that carries their
    /// reference: `requires: {BASE: shop/base}` with `ARG BASE` and
    /// `FROM $BASE`.
    #[serde(default)]
    pub requires: BTreeMap<String, String>,
    /// Platforms, as os/arch[/variant]. Default: those of `build`, and then
    /// the node's.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// The layer cache in the registry; `cache: {}` switches it on.
    pub cache: Option<LayerCache>,
    /// Further flags for the executor, after those of `build.executor`.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Files that are copied into running containers instead of a build.
    pub sync: Option<SyncSection>,
    /// What causes a build besides the files that the Dockerfile reads.
    #[serde(default)]
    pub watch: WatchSection,
    /// Commands on this machine around the image's build.
    #[serde(default)]
    pub hooks: Hooks,
}

/// The executor's layer cache.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LayerCache {
    /// Repository of the cached layers. Default: the image's own with `/cache`.
    pub repo: Option<String>,
    /// How long a layer is used, for example `336h`.
    pub ttl: Option<String>,
    /// Whether layers of COPY are cached. Default: false
    #[serde(default)]
    pub copy: bool,
    /// Whether layers of RUN are cached. Default: true
    pub run: Option<bool>,
}

/// What is watched for an image.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WatchSection {
    /// Further files whose change causes a build: globs.
    #[serde(default)]
    pub extra: Vec<String>,
    /// Files whose change does not: globs below the context.
    #[serde(default)]
    pub ignore: Vec<String>,
}

/// File sync. Without `rules` and `infer`, every file is inferred.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyncSection {
    /// Globs below the context, with a destination each.
    #[serde(default)]
    pub rules: Vec<SyncEntry>,
    /// Globs below the context; the Dockerfile's COPY says where they go.
    #[serde(default)]
    pub infer: Vec<String>,
    /// Commands on this machine around a sync.
    #[serde(default)]
    pub hooks: Hooks,
}

/// One rule of file sync.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyncEntry {
    /// Glob below the context.
    pub src: String,
    /// Folder in the container; a relative one is below its working folder.
    pub dest: String,
    /// Prefix to cut off the file's path.
    #[serde(default)]
    pub strip: String,
}

/// Commands before and after something.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hooks {
    /// Before; one that fails stops what follows.
    #[serde(default)]
    pub before: Vec<HookCommand>,
    /// After success.
    #[serde(default)]
    pub after: Vec<HookCommand>,
}

/// A command on this machine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HookCommand {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Only on these systems: linux, darwin, windows. Default: on all.
    #[serde(default)]
    pub os: Vec<String>,
    /// Where it runs. Default: the project's folder.
    pub dir: Option<String>,
    /// Files and folders that it reads. They are watched.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Files that it makes, for a hook before an image's build: it is skipped
    /// while all of them are newer than every input.
    #[serde(default)]
    pub outputs: Vec<String>,
}

/// How images are tagged: exactly one of the fields.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TagSection {
    /// A digest over everything that decides the image; the default.
    pub content: Option<Empty>,
    /// From git.
    pub git: Option<GitTag>,
    /// The time of the build.
    pub date: Option<DateTag>,
    /// A Go template over the environment and IMAGE_NAME.
    pub template: Option<String>,
}

/// Has no fields.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// A tag from git; `-dirty` is added when the context has changes.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GitTag {
    /// What of git. Default: tags
    #[serde(default)]
    pub variant: GitTagVariant,
    /// Put in front.
    #[serde(default)]
    pub prefix: String,
    /// Do not add `-dirty`. Default: false
    #[serde(default)]
    pub ignore_changes: bool,
}

/// What of git a tag shows.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GitTagVariant {
    /// `git describe --tags --always`
    #[default]
    Tags,
    /// The commit's hash.
    Commit,
    /// The commit's short hash.
    ShortCommit,
    /// The hash of the context's tree.
    Tree,
    /// Its short form.
    ShortTree,
    /// The branch.
    Branch,
}

/// A tag from the time of the build.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DateTag {
    /// Go's reference-time layout. Default: `2006-01-02_15-04-05.999_MST`
    pub format: Option<String>,
    /// Name of a time zone. Default: this machine's.
    pub timezone: Option<String>,
}
