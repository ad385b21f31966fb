//! The command line as it is typed: flags and their help, nothing resolved.
//! Flags are named as in skaffold where they mean the same.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::ui::Output;

/// Build in the cluster, deploy, and see what happens.
///
/// Reads skaffold.yaml or kiln.yaml from the working directory.
#[derive(Debug, Clone, Parser)]
#[command(name = "kiln", version, disable_help_subcommand = true)]
pub struct Kiln {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The definition of the command line; the only one to parse with.
///
/// `--output` holds for every command, but for `kiln kustomize build` it is
/// kustomize's flag of that name. clap knows no exception from a global flag,
/// so each command gets it for itself.
#[must_use]
pub fn definition() -> clap::Command {
    let mut root = Kiln::command();
    let output = root
        .get_arguments()
        .find(|arg| arg.get_id() == "output")
        .cloned();
    root = root.mut_arg("output", |arg| arg.global(false));
    root.mut_subcommands(|command| match &output {
        Some(output) if command.get_name() != "kustomize" => command.arg(output),
        _ => command,
    })
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// How events are shown: auto, plain, or json (one object a line)
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "FORM"
    )]
    pub output: Output,
    /// Log of Kiln's own workings on standard error: error, warn, info, debug, trace
    #[arg(
        short = 'v',
        long,
        global = true,
        default_value = "warn",
        value_name = "LEVEL"
    )]
    pub verbosity: String,
    /// Folder of the user-level settings [default: kiln below the XDG config folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub settings_dir: Option<PathBuf>,
}

/// Which project, and where it goes.
#[derive(Debug, Clone, Args)]
pub struct ProjectArgs {
    /// Configuration file; `-` is standard input [default: kiln.yaml or skaffold.yaml]
    #[arg(short, long, value_name = "FILE")]
    pub filename: Option<PathBuf>,
    /// Only these modules (the names of the file's documents)
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    pub module: Vec<String>,
    /// Activate a profile, or deactivate it with a minus in front
    #[arg(
        short,
        long,
        value_name = "NAME",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub profile: Vec<String>,
    /// Activate profiles by their own conditions
    #[arg(long, default_value = "true", num_args = 0..=1, default_missing_value = "true",
          require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub profile_auto_activation: bool,
    /// Kube-context to use instead of the configured or current one
    #[arg(long, value_name = "NAME")]
    pub kube_context: Option<String>,
    /// Run on this machine, without a cluster
    #[arg(long, conflicts_with = "kube_context")]
    pub local: bool,
    /// Kubeconfig file
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace to deploy to
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
}

impl ProjectArgs {
    /// `kiln delete` of the same project in the same place.
    #[must_use]
    pub fn delete_command(&self) -> String {
        let mut words = vec!["kiln delete".to_owned()];
        let mut flag = |name: &str, value: Option<String>| {
            words.extend(value.map(|value| format!("{name}={value}")));
        };
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let list = |list: &[String]| (!list.is_empty()).then(|| list.join(","));
        flag("--filename", path(&self.filename));
        flag("--module", list(&self.module));
        flag("--profile", list(&self.profile));
        flag("--kube-context", self.kube_context.clone());
        flag("--kubeconfig", path(&self.kubeconfig));
        flag("--namespace", self.namespace.clone());
        if self.local {
            words.push("--local".to_owned());
        }
        words.join(" ")
    }
}

/// How images are built.
#[derive(Debug, Clone, Args)]
pub struct BuildArgs {
    /// Repository to push to instead of the written ones; empty turns it off
    #[arg(short, long, value_name = "REPO")]
    pub default_repo: Option<String>,
    /// Build only images whose name contains this
    #[arg(short, long, value_name = "TEXT", value_delimiter = ',')]
    pub build_image: Vec<String>,
    /// Tag for every image, instead of the tag policy's
    #[arg(short, long, value_name = "TAG")]
    pub tag: Option<String>,
    /// Registry hosts to speak to without TLS
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub insecure_registry: Vec<String>,
    /// Platform to build for, os/arch[/variant]
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub platform: Vec<String>,
    /// How many images are built at once; 0 is no limit [default: the configured number]
    #[arg(long, value_name = "N")]
    pub build_concurrency: Option<usize>,
    /// Ask the registry first whether an image is there already
    #[arg(long, default_value = "true", num_args = 0..=1, default_missing_value = "true",
          require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub cache_artifacts: bool,
    /// Which executor builds where the configuration names kaniko's archived image
    #[arg(long, value_enum, default_value = "kiln", value_name = "WHICH")]
    pub executor: Executor,
}

/// Which executor builds where the configuration names kaniko's archived image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Executor {
    /// Kiln's own.
    Kiln,
    /// The image that the configuration names.
    AsWritten,
}

/// How it is deployed.
#[derive(Debug, Clone, Args)]
pub struct DeployArgs {
    /// Label for every object, key=value
    #[arg(short, long, value_name = "LABEL", value_delimiter = ',')]
    pub label: Vec<String>,
    /// Wait until everything is ready [default: as configured]
    #[arg(long, num_args = 0..=1, default_missing_value = "true",
          require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub status_check: Option<bool>,
    /// Keep waiting when a pod fails beyond repair [default: as configured]
    #[arg(long, num_args = 0..=1, default_missing_value = "true",
          require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub tolerate_failures_until_deadline: Option<bool>,
    /// Delete and create objects that cannot be updated
    #[arg(long)]
    pub force: bool,
    /// On this machine: deploy the rest of the manifests when something in them cannot be done
    #[arg(long)]
    pub skip_unsupported: bool,
    /// The kustomize (or kubectl) binary to render overlays with [default: Kiln's own renderer]
    #[arg(long, value_name = "FILE")]
    pub kustomize_binary: Option<PathBuf>,
}

/// What is shown of what runs.
#[derive(Debug, Clone, Args)]
pub struct FollowArgs {
    /// Follow the logs of what was deployed [default: true for dev]
    #[arg(long, num_args = 0..=1, default_missing_value = "true",
          require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub tail: Option<bool>,
    /// Forward ports: user, services, off; several with commas [default: user for dev]
    #[arg(long, num_args = 0..=1, default_missing_value = "user,services",
          require_equals = true, value_delimiter = ',', value_name = "MODE")]
    pub port_forward: Option<Vec<PortForward>>,
}

/// Which ports are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PortForward {
    /// Those of the configuration.
    User,
    /// Every deployed service.
    Services,
    /// None.
    Off,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Build, deploy, then again after each change
    Dev(DevArgs),
    /// Build and deploy once
    Run(RunArgs),
    /// Build and push images
    Build(BuildCommand),
    /// Deploy images that were built before
    Deploy(DeployCommand),
    /// Print the manifests that would be deployed
    Render(RenderCommand),
    /// Apply manifests that were rendered before
    Apply(ApplyCommand),
    /// Delete what was deployed
    Delete(DeleteCommand),
    /// List the pods of what was deployed
    Ps(PsCommand),
    /// Print the logs of what was deployed
    Logs(LogsCommand),
    /// Run a command in a container of what was deployed
    Exec(ExecCommand),
    /// Show the configuration, or change the user-level settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List what would be sent for an image, largest first
    Context(ContextCommand),
    /// Render kustomizations as kustomize does
    #[command(subcommand)]
    Kustomize(KustomizeCommand),
    /// Serve a registry from a folder
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Print completions for a shell
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

/// `kiln dev`
#[derive(Debug, Clone, Args)]
pub struct DevArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub project: ProjectArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub build: BuildArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub deploy: DeployArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub follow: FollowArgs,
    /// Build and deploy once, show the ports, and end
    #[arg(long)]
    pub once: bool,
    /// Delete what was deployed at the end [default: true on this machine and with skaffold.yaml, false with --once]
    #[arg(long, num_args = 0..=1, default_missing_value = "true",
          require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub cleanup: Option<bool>,
    /// Copy files into containers where the configuration has sync rules
    #[arg(long, default_value = "true", num_args = 0..=1, default_missing_value = "true",
          require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub auto_sync: bool,
    /// Quiet time after a save before work starts, in milliseconds
    #[arg(long, default_value_t = 50, value_name = "MS")]
    pub debounce: u64,
    /// Look for changes every so many milliseconds instead of being told by the kernel
    #[arg(long, value_name = "MS")]
    pub watch_poll: Option<u64>,
}

/// `kiln run`
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub project: ProjectArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub build: BuildArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub deploy: DeployArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub follow: FollowArgs,
}

/// `kiln build`
#[derive(Debug, Clone, Args)]
pub struct BuildCommand {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub project: ProjectArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub build: BuildArgs,
    /// Print the result as JSON on standard output, for `kiln deploy -a -`
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the same JSON to a file
    #[arg(long, value_name = "FILE")]
    pub file_output: Option<PathBuf>,
    /// Only compute the references
    #[arg(long)]
    pub dry_run: bool,
}

/// Images that were built before.
#[derive(Debug, Clone, Args)]
pub struct ImagesArgs {
    /// JSON of `kiln build`, a file or `-` for standard input
    #[arg(short = 'a', long, value_name = "FILE")]
    pub build_artifacts: Option<PathBuf>,
    /// An image by hand, name=reference
    #[arg(short, long, value_name = "NAME=REF", value_delimiter = ',')]
    pub images: Vec<String>,
    /// Tag for images that are not given otherwise
    #[arg(short, long, value_name = "TAG")]
    pub tag: Option<String>,
    /// Repository that images were pushed to instead of the written ones
    #[arg(short, long, value_name = "REPO")]
    pub default_repo: Option<String>,
}

/// `kiln deploy`
#[derive(Debug, Clone, Args)]
pub struct DeployCommand {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub project: ProjectArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub images: ImagesArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub deploy: DeployArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub follow: FollowArgs,
}

/// `kiln render`
#[derive(Debug, Clone, Args)]
pub struct RenderCommand {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub project: ProjectArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub images: ImagesArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub deploy: DeployArgs,
    /// Write to a file instead of standard output
    #[arg(short = 'o', long, value_name = "FILE")]
    pub file_output: Option<PathBuf>,
    /// Where digests come from: remote builds or finds the images, tag uses the
    /// tag policy's reference, none leaves images as written
    #[arg(long, value_enum, default_value = "remote", value_name = "SOURCE")]
    pub digest_source: DigestSource,
}

/// Where digests come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DigestSource {
    /// The registry.
    Remote,
    /// Only tags.
    Tag,
    /// Images stay as written.
    None,
}

/// `kiln apply`
#[derive(Debug, Clone, Args)]
pub struct ApplyCommand {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub project: ProjectArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub deploy: DeployArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub follow: FollowArgs,
    /// Manifest files; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub manifests: Vec<PathBuf>,
}

/// `kiln delete`
#[derive(Debug, Clone, Args)]
pub struct DeleteCommand {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub project: ProjectArgs,
    /// Delete namespaces, volume claims and resource definitions too
    #[arg(long)]
    pub all: bool,
    /// Only print what would be deleted
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until it is gone
    #[arg(long)]
    pub wait: bool,
}

/// `kiln ps`
#[derive(Debug, Clone, Args)]
pub struct PsCommand {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub project: ProjectArgs,
}

/// `kiln logs`
#[derive(Debug, Clone, Args)]
pub struct LogsCommand {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub project: ProjectArgs,
    /// Only pods of this name, or of the workload of this name [default: all]
    #[arg(value_name = "POD")]
    pub pod: Option<String>,
    /// Only this container
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Stay for what is written later
    #[arg(long)]
    pub follow: bool,
}

/// `kiln exec`
#[derive(Debug, Clone, Args)]
pub struct ExecCommand {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub project: ProjectArgs,
    /// Pass standard input on, which is done in any case; for the habit of typing `-it`
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give the command a terminal: keys reach it as they are typed, Ctrl-C included
    #[arg(short, long)]
    pub tty: bool,
    /// The container [default: the pod's first]
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// A pod, or the workload whose first pod is meant
    #[arg(value_name = "POD")]
    pub pod: String,
    /// The command
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `kiln config`
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Print the configuration that results from file, profiles and defaults
    Print {
        #[command(flatten)]
        #[allow(missing_docs)]
        project: ProjectArgs,
    },
    /// Set a user-level setting, for example default-repo
    Set {
        /// Its name
        name: String,
        /// Its value
        value: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        scope: SettingScope,
    },
    /// Remove a user-level setting
    Unset {
        /// Its name
        name: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        scope: SettingScope,
    },
    /// Print the user-level settings
    List {
        #[command(flatten)]
        #[allow(missing_docs)]
        scope: SettingScope,
    },
}

/// Where a user-level setting holds.
#[derive(Debug, Clone, Args)]
pub struct SettingScope {
    /// In every kube-context
    #[arg(short, long)]
    pub global: bool,
    /// In this kube-context [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub kube_context: Option<String>,
}

/// `kiln context`
#[derive(Debug, Clone, Args)]
pub struct ContextCommand {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub project: ProjectArgs,
    /// The image, by its name or the end of it
    pub image: String,
}

/// `kiln kustomize`
#[derive(Debug, Clone, Subcommand)]
pub enum KustomizeCommand {
    /// Print the documents of a kustomization; takes the flags of `kustomize build`
    Build(Box<KustomizeBuildArgs>),
}

/// `kiln kustomize build`
#[derive(Debug, Clone, Args)]
pub struct KustomizeBuildArgs {
    /// Folder of the kustomization, or the address of one in a git repository
    #[arg(value_name = "DIR", default_value = ".")]
    pub target: String,
    /// Write to this file instead of standard output; a folder gets a file per object
    #[arg(short = 'o', long = "output", value_name = "PATH")]
    pub output_path: Option<PathBuf>,
    /// Which files may be read
    #[arg(
        long,
        value_enum,
        default_value = "LoadRestrictionsRootOnly",
        value_name = "WHICH"
    )]
    pub load_restrictor: LoadRestrictor,
    /// Order of the documents where the kustomization asks for none [default: legacy]
    #[arg(long, value_enum, value_name = "ORDER")]
    pub reorder: Option<Reorder>,
    /// Label everything with app.kubernetes.io/managed-by
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true",
          require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub enable_managedby_label: bool,
    /// The kustomize (or kubectl) binary to render with [default: Kiln's own renderer,
    /// and for charts, plugins and functions the one from PATH]
    #[arg(long, value_name = "FILE")]
    pub kustomize_binary: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub program: KustomizeProgramArgs,
}

/// Flags for what only kustomize itself does; it gets them as they are.
#[derive(Debug, Clone, Args)]
pub struct KustomizeProgramArgs {
    /// Inflate helm charts (only the kustomize binary does)
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true",
          require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub enable_helm: bool,
    /// The helm binary
    #[arg(long, value_name = "FILE")]
    pub helm_command: Option<String>,
    /// API versions that charts see
    #[arg(long, value_name = "VERSION")]
    pub helm_api_versions: Vec<String>,
    /// Kubernetes version that charts see
    #[arg(long, value_name = "VERSION")]
    pub helm_kube_version: Option<String>,
    /// Let helm say what it does
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true",
          require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub helm_debug: bool,
    /// Run plugins and functions (only the kustomize binary does)
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true",
          require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub enable_alpha_plugins: bool,
    /// Run functions that are programs (only the kustomize binary does)
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true",
          require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub enable_exec: bool,
    /// Variable for functions, NAME or NAME=VALUE
    #[arg(short, long, value_name = "VARIABLE")]
    pub env: Vec<String>,
    /// Storage for functions
    #[arg(long, value_name = "MOUNT")]
    pub mount: Vec<String>,
    /// Let functions that ask for it use the network
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true",
          require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub network: bool,
    /// The docker network of functions
    #[arg(long, value_name = "NAME")]
    pub network_name: Option<String>,
    /// Run functions as the current user
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true",
          require_equals = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub as_current_user: bool,
}

/// Which files a kustomization may read, under kustomize's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LoadRestrictor {
    /// Those in and below its folder.
    #[value(name = "LoadRestrictionsRootOnly")]
    RootOnly,
    /// All.
    #[value(name = "LoadRestrictionsNone")]
    None,
}

/// In which order documents are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Reorder {
    /// By kind, so that what others need comes first.
    Legacy,
    /// As they are listed.
    None,
}

impl KustomizeBuildArgs {
    /// The flags as `kustomize build` takes them, without the target and
    /// where the result goes.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let switch = |on: bool, flag: &str| on.then(|| flag.to_owned());
        let values = |flag: &'static str, given: &[String]| {
            let all = given.iter().map(move |value| format!("{flag}={value}"));
            all.collect::<Vec<_>>()
        };
        let program = &self.program;
        let mut flags = Vec::new();
        if self.load_restrictor == LoadRestrictor::None {
            flags.push("--load-restrictor=LoadRestrictionsNone".to_owned());
        }
        flags.extend(self.reorder.map(|order| match order {
            Reorder::Legacy => "--reorder=legacy".to_owned(),
            Reorder::None => "--reorder=none".to_owned(),
        }));
        let switches = [
            (self.enable_managedby_label, "--enable-managedby-label"),
            (program.enable_helm, "--enable-helm"),
            (program.helm_debug, "--helm-debug"),
            (program.enable_alpha_plugins, "--enable-alpha-plugins"),
            (program.enable_exec, "--enable-exec"),
            (program.network, "--network"),
            (program.as_current_user, "--as-current-user"),
        ];
        flags.extend(switches.iter().filter_map(|(on, flag)| switch(*on, flag)));
        flags.extend(values("--helm-command", program.helm_command.as_slice()));
        flags.extend(values("--helm-api-versions", &program.helm_api_versions));
        flags.extend(values(
            "--helm-kube-version",
            program.helm_kube_version.as_slice(),
        ));
        flags.extend(values("--env", &program.env));
        flags.extend(values("--mount", &program.mount));
        flags.extend(values("--network-name", program.network_name.as_slice()));
        flags
    }
}

/// `kiln registry`
#[derive(Debug, Clone, Subcommand)]
pub enum RegistryCommand {
    /// Serve until Ctrl-C
    Serve(ServeArgs),
    /// Remove what no tag leads to any more
    Collect(CollectArgs),
}

/// `kiln registry serve`
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Folder of the registry; it is made when it is missing
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Where to listen; port 0 chooses one
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDRESS")]
    pub listen: std::net::SocketAddr,
    /// Certificate, then its intermediates, in PEM format [default: plain http]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Users and passwords, as `htpasswd -B` writes them [default: everyone may do everything]
    #[arg(long, value_name = "FILE")]
    pub htpasswd: Option<PathBuf>,
    /// How users log in
    #[arg(long, value_enum, default_value = "token", value_name = "HOW")]
    pub login: RegistryLogin,
    /// Let everyone pull; only pushing needs a login
    #[arg(long, requires = "htpasswd")]
    pub anonymous_pull: bool,
    /// Remove garbage every so many hours [default: never]
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=8760))]
    pub collect_every: Option<u64>,
}

/// How users of a registry log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RegistryLogin {
    /// Once, for a token.
    Token,
    /// With each request.
    Basic,
}

/// `kiln registry collect`
#[derive(Debug, Clone, Args)]
pub struct CollectArgs {
    /// Folder of the registry; it must not be served meanwhile
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Leave what is younger than so many minutes
    #[arg(long, default_value_t = 60, value_name = "MINUTES")]
    pub grace: u64,
    /// Remove manifests without a tag as well
    #[arg(long)]
    pub untagged: bool,
}
