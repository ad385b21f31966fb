//! From the command line to an [`Engine`]: the configuration is read, the
//! context chosen, settings are looked up, the registry client is made. The
//! cluster itself is not asked anything yet.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use kiln_builder::Graph;
use kiln_builder::cluster::ExecutorPolicy;
use kiln_schemas::event::{Event, Events};
use kiln_schemas::model::{Platform, Project};
use tokio::sync::OnceCell;

use super::local::Local;
use super::{Engine, Shared, follow, inputs, registries};
use crate::args::{BuildArgs, DeployArgs, Executor, FollowArgs, PortForward, ProjectArgs};
use crate::commands::Call;
use crate::error::{CommandError, Kind};
use crate::{kubernetes, project};

/// What the command line decides, apart from which project is meant.
#[derive(Debug, Clone)]
pub struct Choices {
    /// The command's name.
    pub command: &'static str,
    /// Whether this command deploys.
    pub deploy: bool,
    /// Whether files are synced.
    pub sync: bool,
    /// `--cleanup`
    pub cleanup: Option<bool>,
    /// The command that deletes what this one deploys.
    pub delete: String,
    /// `--kube-context`
    pub kube_context: Option<String>,
    /// `--namespace`
    pub namespace: Option<String>,
    /// `--default-repo`; an empty one turns it off.
    pub default_repo: Option<String>,
    /// `--build-image`
    pub build_image: Vec<String>,
    /// `--tag`
    pub tag: Option<String>,
    /// `--insecure-registry`
    pub insecure_registries: Vec<String>,
    /// `--platform`
    pub platforms: Vec<Platform>,
    /// `--build-concurrency`
    pub concurrency: Option<usize>,
    /// `--cache-artifacts`
    pub cache_artifacts: bool,
    /// `--executor`
    pub executor: ExecutorPolicy,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--status-check`
    pub status_check: Option<bool>,
    /// `--tolerate-failures-until-deadline`
    pub tolerate_failures: Option<bool>,
    /// `--force`
    pub force: bool,
    /// `--local`
    pub local: bool,
    /// `--skip-unsupported`
    pub skip_unsupported: bool,
    /// `--kustomize-binary`
    pub kustomize_binary: Option<PathBuf>,
    /// Whether logs are followed.
    pub tail: bool,
    /// Which ports are forwarded.
    pub forward: Vec<PortForward>,
    wrong: Option<String>,
}

impl Choices {
    fn new(command: &'static str, project: &ProjectArgs) -> Self {
        Self {
            command,
            deploy: false,
            sync: false,
            cleanup: None,
            delete: project.delete_command(),
            kube_context: project.kube_context.clone(),
            namespace: project.namespace.clone(),
            default_repo: None,
            build_image: Vec::new(),
            tag: None,
            insecure_registries: Vec::new(),
            platforms: Vec::new(),
            concurrency: None,
            cache_artifacts: true,
            executor: ExecutorPolicy::Kiln,
            labels: BTreeMap::new(),
            status_check: None,
            tolerate_failures: None,
            force: false,
            local: project.local,
            skip_unsupported: false,
            kustomize_binary: None,
            tail: false,
            forward: Vec::new(),
            wrong: None,
        }
    }

    /// `kiln dev` and `kiln run`.
    pub fn for_loop(
        command: &'static str,
        project: &ProjectArgs,
        build: &BuildArgs,
        deploy: &DeployArgs,
        follow: &FollowArgs,
    ) -> Self {
        Self::for_build(command, project, build)
            .deploying(deploy)
            .following(follow)
    }

    /// `kiln build`.
    pub fn for_build(command: &'static str, project: &ProjectArgs, args: &BuildArgs) -> Self {
        let mut choices = Self::new(command, project);
        choices.default_repo.clone_from(&args.default_repo);
        choices.build_image.clone_from(&args.build_image);
        choices.tag.clone_from(&args.tag);
        choices
            .insecure_registries
            .clone_from(&args.insecure_registry);
        if let Some(tag) = args.tag.as_ref().filter(|tag| !is_tag(tag)) {
            choices.wrong = Some(format!("--tag {tag:?} is not a tag"));
        }
        choices.concurrency = args.build_concurrency;
        choices.cache_artifacts = args.cache_artifacts;
        choices.executor = match args.executor {
            Executor::Kiln => ExecutorPolicy::Kiln,
            Executor::AsWritten => ExecutorPolicy::AsWritten,
        };
        for text in &args.platform {
            match Platform::parse(text) {
                Some(platform) => choices.platforms.push(platform),
                None => choices.wrong = Some(format!("--platform {text} is not os/arch[/variant]")),
            }
        }
        choices
    }

    /// `kiln deploy` and `kiln apply`.
    pub fn for_deploy(
        command: &'static str,
        project: &ProjectArgs,
        deploy: &DeployArgs,
        follow: &FollowArgs,
    ) -> Self {
        Self::new(command, project)
            .deploying(deploy)
            .following(follow)
    }

    /// `kiln render`.
    pub fn for_render(project: &ProjectArgs, deploy: &DeployArgs) -> Self {
        let mut choices = Self::new("render", project).deploying(deploy);
        choices.deploy = false;
        choices
    }

    /// `kiln delete`.
    pub fn for_delete(project: &ProjectArgs) -> Self {
        Self::new("delete", project)
    }

    /// `kiln ps`, `kiln logs` and `kiln exec`.
    pub fn for_look(command: &'static str, project: &ProjectArgs) -> Self {
        Self::new(command, project)
    }

    /// `kiln context`.
    pub fn for_context(project: &ProjectArgs) -> Self {
        Self::new("context", project)
    }

    /// Turns file sync on or off.
    #[must_use]
    pub fn with_sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    /// Sets `--cleanup`.
    #[must_use]
    pub fn with_cleanup(mut self, cleanup: Option<bool>) -> Self {
        self.cleanup = cleanup;
        self
    }

    /// Sets `--default-repo`.
    #[must_use]
    pub fn with_default_repo(mut self, repo: Option<String>) -> Self {
        self.default_repo = repo;
        self
    }

    fn deploying(mut self, args: &DeployArgs) -> Self {
        self.deploy = true;
        for label in &args.label {
            match label.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    self.labels.insert(key.to_owned(), value.to_owned());
                }
                _ => self.wrong = Some(format!("--label {label} is not KEY=VALUE")),
            }
        }
        self.status_check = args.status_check;
        self.tolerate_failures = args.tolerate_failures_until_deadline;
        self.force = args.force;
        self.skip_unsupported = args.skip_unsupported;
        self.kustomize_binary.clone_from(&args.kustomize_binary);
        self
    }

    fn following(mut self, args: &FollowArgs) -> Self {
        let dev = self.command == "dev";
        self.tail = args.tail.unwrap_or(dev);
        let default = if dev {
            vec![PortForward::User]
        } else {
            Vec::new()
        };
        self.forward = args.port_forward.clone().unwrap_or(default);
        self
    }
}

/// Makes engines of one command line; `dev` makes a new one whenever the
/// configuration changes.
pub struct Setup<'a> {
    call: &'a Call,
    args: &'a ProjectArgs,
}

impl<'a> Setup<'a> {
    /// For the project that the arguments mean.
    pub fn new(call: &'a Call, args: &'a ProjectArgs) -> Self {
        Self { call, args }
    }

    /// Reads everything and puts it together.
    pub fn engine(&self, mut choices: Choices) -> Result<Shared, CommandError> {
        if let Some(wrong) = &choices.wrong {
            return Err(CommandError::new(Kind::Usage, wrong.clone()));
        }
        let env = &self.call.env;
        let events = &self.call.events;
        let given = choices.kube_context.as_deref();
        let mut kubeconfigs = kubernetes::read(env, self.args.kubeconfig.as_deref(), given)?;
        let current = kubeconfigs.as_ref().and_then(|k| k.context.clone());
        let reading = project::read(env, self.args, choices.command, current.as_deref())?;
        let project = reading.project;
        if let (Some(kubeconfigs), None, Some(configured)) =
            (&mut kubeconfigs, given, configured_context(&project)?)
        {
            kubeconfigs.context = Some(configured);
        }
        let context = kubeconfigs.as_ref().and_then(|k| k.context.clone());
        let local = Local::choose(env, &mut choices, &project, context.as_deref())?;
        let place = local.as_ref().map(Local::place);
        started(
            events,
            &choices,
            &project,
            place.or_else(|| context.clone()),
        );
        for note in &reading.notes {
            let hint = note.help.clone();
            events.emit(Event::Warning {
                message: note.to_string(),
                hint,
            });
        }
        let settings = registries::settings(env, &self.call.global, context.as_deref(), events)?;
        let default_repo = registries::default_repo(&choices, &settings);
        let docker_config = registries::docker_config(env);
        let registry =
            registries::client(env, &project, &choices, &settings, docker_config.as_deref())?;
        let graph = graph(&project, &choices)?;
        let configuration = project
            .files
            .iter()
            .map(|path| (path.clone(), std::fs::read(path).ok()))
            .collect();
        let memory = inputs::Memory::load(env.cache_dir().as_deref(), &project);
        Ok(Arc::new(Engine {
            env: env.clone(),
            choices,
            graph,
            events: events.clone(),
            settings,
            default_repo,
            registry,
            docker_config,
            kubeconfigs,
            connected: OnceCell::new(),
            cluster: OnceCell::new(),
            hosting: OnceCell::new(),
            backends: tokio::sync::Mutex::default(),
            memory: tokio::sync::Mutex::new(memory),
            follow: tokio::sync::Mutex::new(follow::Following::default()),
            configuration,
            watching_said: Mutex::new(false),
            said: Mutex::default(),
            id: run_id(),
            local,
            project,
        }))
    }
}

/// The context that the configuration names. Modules that disagree are an
/// error, because there is one loop.
fn configured_context(project: &Project) -> Result<Option<String>, CommandError> {
    let mut named = project
        .modules
        .iter()
        .filter_map(|m| m.deploy.kube_context.clone());
    let first = named.next();
    match (&first, named.find(|other| Some(other) != first.as_ref())) {
        (Some(one), Some(other)) => {
            let message = format!("the modules name two kube-contexts, {one} and {other}");
            Err(CommandError::new(Kind::Config, message).hint("run them one by one with --module"))
        }
        _ => Ok(first),
    }
}

fn started(events: &Events, choices: &Choices, project: &Project, context: Option<String>) {
    events.emit(Event::Started {
        command: choices.command.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        project: project.name.clone(),
        context,
        namespace: choices.namespace.clone(),
    });
}

/// The images that the command is about and those that they require.
fn graph(project: &Project, choices: &Choices) -> Result<Graph, CommandError> {
    let all: Vec<(String, Vec<String>)> = project
        .artifacts()
        .map(|(_, a)| {
            (
                a.image.clone(),
                a.requires.iter().map(|r| r.image.clone()).collect(),
            )
        })
        .collect();
    let whole =
        Graph::new(all.clone()).map_err(|error| CommandError::from_error(Kind::Config, &error))?;
    if choices.build_image.is_empty() {
        return Ok(whole);
    }
    let mut wanted: Vec<String> = Vec::new();
    // Backwards, so that what an image requires is decided after the image.
    for name in whole.order().iter().rev() {
        let named = choices
            .build_image
            .iter()
            .any(|text| name.contains(text.as_str()));
        let required = wanted
            .iter()
            .any(|image| whole.requires(image).contains(name));
        if named || required {
            wanted.push(name.clone());
        }
    }
    if wanted.is_empty() {
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        return Err(
            CommandError::new(Kind::Usage, "no image is called as --build-image says")
                .hint(format!("the project builds: {}", names.join(", "))),
        );
    }
    let chosen = all.into_iter().filter(|(name, _)| wanted.contains(name));
    Graph::new(chosen).map_err(|error| CommandError::from_error(Kind::Config, &error))
}

/// A tag as the OCI distribution specification has it:
/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
fn is_tag(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128
        && text.starts_with(plain)
        && text.chars().all(|c| plain(c) || matches!(c, '.' | '-'))
}

/// Unique for one run of Kiln: time and process.
fn run_id() -> String {
    let now = jiff::Timestamp::now().as_millisecond();
    format!("{now:x}-{:x}", std::process::id())
}
