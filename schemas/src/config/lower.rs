//! A checked document becomes a module of the model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::build::{BuildSection, Cache, RegistryHost};
use super::deploy::{DeploySection, ForwardEntry, KindEntry, LogLine, PortSpec};
use super::image::{
    GitTagVariant, HookCommand, Hooks, ImageSection, LayerCache, SyncSection, TagSection,
};
use super::{Document, Texts};
use crate::diagnostic::Diagnostic;
use crate::duration;
use crate::environment::Environment;
use crate::fields::template_finding;
use crate::model::{
    Artifact, ArtifactCache, Build, BuildArg, ClusterBuild, Deploy, DockerConfig, EnvVar,
    ExecutorChoice, ExecutorFlags, Forward, ForwardPort, GitVariant, HookPair, HostHook, KindRule,
    Kustomization, LogPrefix, Logs, Manifests, ManualSync, Module, Platform, PullSecret,
    RemoteManifest, RenderHook, Requirement, ResourceSelector, StatusCheck, Sync, SyncRules,
    TagPolicy, Template, UploadLimits,
};
use crate::report::Report;
use crate::template;
use crate::yaml::{Node, Span};

const BUILD_TIMEOUT: Duration = Duration::from_mins(20);
const BASE_DIGEST_TTL: Duration = Duration::from_mins(10);
const STATUS_TIMEOUT: Duration = Duration::from_mins(10);
const DATE_FORMAT: &str = "2006-01-02_15-04-05.999_MST";
const TERMINATION_LOG: &str = "/dev/termination-log";
const SECRET_MOUNT: &str = "/secret";

/// One document on its way into the model.
pub(super) struct Lowering<'a> {
    /// The tree, for the places of findings.
    pub(super) node: &'a Node,
    /// The folder that relative paths are below, absolute.
    pub(super) folder: &'a Path,
    /// For `~` in paths.
    pub(super) environment: &'a Environment,
    /// Where findings go.
    pub(super) report: &'a Report,
}

impl Lowering<'_> {
    /// The module of a document; `name` is the one it has.
    pub(super) fn module(&self, document: &Document, name: String) -> Module {
        Module {
            name,
            dir: self.folder.to_owned(),
            build: self.build(document),
            manifests: self.manifests(&document.deploy),
            deploy: self.deploy(&document.deploy),
            forward: document
                .forward
                .iter()
                .enumerate()
                .map(|(index, entry)| self.forward(entry, index))
                .collect(),
            resource_selector: ResourceSelector {
                allow: document
                    .deploy
                    .kinds
                    .rewrite
                    .iter()
                    .map(kind_rule)
                    .collect(),
                deny: document.deploy.kinds.leave.iter().map(kind_rule).collect(),
            },
        }
    }

    /// The place of a node, or of the closest one above it.
    pub(super) fn place(&self, pointer: &str) -> &Span {
        let mut pointer = pointer;
        loop {
            if let Some(node) = self.node.pointer(pointer) {
                return &node.span;
            }
            pointer = pointer.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }

    pub(super) fn error(&self, pointer: &str, message: impl Into<String>, help: Option<String>) {
        let mut finding = Diagnostic::at(self.place(pointer), message);
        finding.help = help;
        self.report.error(finding);
    }

    fn template(&self, text: &str, pointer: &str) -> Template {
        let template = Template(text.to_owned());
        if let Err(error) = template::check(&template) {
            self.report
                .error(template_finding(&error, self.place(pointer)));
        }
        template
    }

    fn texts(&self, texts: &Texts, at: &str) -> Vec<Template> {
        let texts = texts.0.iter().enumerate();
        texts
            .map(|(index, text)| self.template(text, &format!("{at}/{index}")))
            .collect()
    }

    fn templates(&self, map: &BTreeMap<String, String>, at: &str) -> BTreeMap<String, Template> {
        let entries = map.iter();
        entries
            .map(|(key, text)| (key.clone(), self.template(text, &below(at, key))))
            .collect()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.environment.resolve(self.folder, path)
    }

    fn duration(&self, text: Option<&str>, pointer: &str, default: Duration) -> Duration {
        let Some(text) = text else { return default };
        duration::parse(text).unwrap_or_else(|| {
            let help = "write a number with a unit, for example 90s, 20m or 1h30m";
            self.error(
                pointer,
                format!("`{text}` is not a duration"),
                Some(help.to_owned()),
            );
            default
        })
    }

    fn build(&self, document: &Document) -> Build {
        let section = &document.build;
        let artifacts = document.images.iter().enumerate();
        Build {
            artifacts: artifacts
                .map(|(index, image)| self.artifact(image, index, document))
                .collect(),
            tags: self.tags(document.tags.as_ref()),
            insecure_registries: document
                .registries
                .iter()
                .filter(|(_, host)| host.insecure)
                .map(|(name, _)| name.clone())
                .collect(),
            platforms: self.platforms(&section.platforms, "/build/platforms"),
            hooks: self.hooks(&section.hooks, "/build/hooks"),
            cluster: self.cluster(section),
            base_digest_ttl: self.duration(
                section.base_digest_ttl.as_deref(),
                "/build/baseDigestTtl",
                BASE_DIGEST_TTL,
            ),
        }
    }

    fn artifact(&self, image: &ImageSection, index: usize, document: &Document) -> Artifact {
        let at = |field: &str| format!("/images/{index}/{field}");
        let context = self.path(image.context.as_deref().unwrap_or("."));
        let build = &document.build;
        let executor = &build.executor;
        let mut flags = flags(&document.registries);
        flags.extra = executor.flags.iter().chain(&image.flags).cloned().collect();
        Artifact {
            image: image.name.clone(),
            context_sub_path: None,
            dockerfile: PathBuf::from(image.dockerfile.as_deref().unwrap_or("Dockerfile")),
            target: image.target.clone(),
            build_args: image
                .args
                .iter()
                .map(|(name, value)| {
                    let template = |text: &String| self.template(text, &below(&at("args"), name));
                    let value = value.as_ref().map(template);
                    (
                        name.clone(),
                        value.map_or(BuildArg::FromEnvironment, BuildArg::Value),
                    )
                })
                .collect(),
            labels: self.templates(&image.labels, &at("labels")),
            requires: image
                .requires
                .iter()
                .map(|(alias, image)| Requirement {
                    image: image.clone(),
                    alias: alias.clone(),
                })
                .collect(),
            hooks: self.hooks(&image.hooks, &at("hooks")),
            sync: image.sync.as_ref().map(|sync| self.sync(sync, &at("sync"))),
            platforms: self.platforms(&image.platforms, &at("platforms")),
            watch_ignore: image.watch.ignore.clone(),
            watch_extra: image
                .watch
                .extra
                .iter()
                .map(|glob| self.path(glob))
                .collect(),
            executor: ExecutorChoice {
                image: executor.image.clone(),
                init_image: executor.init_image.clone(),
                image_pull_secret: executor.pull_secret.clone(),
            },
            flags,
            cache: image
                .cache
                .as_ref()
                .map(|cache| self.layer_cache(cache, &at("cache/ttl"))),
            env: self
                .templates(&build.env, "/build/env")
                .into_iter()
                .map(|(name, value)| EnvVar {
                    name,
                    value,
                    value_from: None,
                })
                .collect(),
            volume_mounts: build
                .caches
                .iter()
                .map(|(name, cache)| json!({"name": name, "mountPath": cache.path}))
                .collect(),
            upload: UploadLimits::default(),
            context,
        }
    }

    fn layer_cache(&self, cache: &LayerCache, ttl_at: &str) -> ArtifactCache {
        self.duration(cache.ttl.as_deref(), ttl_at, Duration::ZERO);
        ArtifactCache {
            repo: cache.repo.clone(),
            host_path: None,
            ttl: cache.ttl.clone(),
            copy_layers: cache.copy,
            run_layers: cache.run.unwrap_or(true),
        }
    }

    fn sync(&self, sync: &SyncSection, at: &str) -> Sync {
        if !sync.rules.is_empty() && !sync.infer.is_empty() {
            let message = "`rules` and `infer` exclude each other";
            self.error(
                &format!("{at}/infer"),
                message,
                Some("keep one of them".to_owned()),
            );
        }
        let rules = match (sync.rules.is_empty(), sync.infer.is_empty()) {
            (false, _) => SyncRules::Manual(
                sync.rules
                    .iter()
                    .map(|rule| ManualSync {
                        src: rule.src.clone(),
                        dest: rule.dest.clone(),
                        strip: rule.strip.clone(),
                    })
                    .collect(),
            ),
            (true, false) => SyncRules::Inferred(sync.infer.clone()),
            (true, true) => SyncRules::Inferred(vec!["**/*".to_owned()]),
        };
        for (index, rule) in sync.rules.iter().enumerate() {
            if !rule.src.starts_with(&rule.strip) {
                let message = format!(
                    "`strip: {}` is no prefix of `src: {}`",
                    rule.strip, rule.src
                );
                self.error(&format!("{at}/rules/{index}/strip"), message, None);
            }
        }
        Sync {
            rules,
            hooks: self.hooks(&sync.hooks, &format!("{at}/hooks")),
        }
    }

    fn platforms(&self, texts: &[String], at: &str) -> Vec<Platform> {
        let mut platforms = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match Platform::parse(text) {
                Some(platform) => platforms.push(platform),
                None => {
                    let help = "write os/arch or os/arch/variant, for example linux/arm64";
                    let message = format!("`{text}` is not a platform");
                    self.error(&format!("{at}/{index}"), message, Some(help.to_owned()));
                }
            }
        }
        platforms
    }

    fn tags(&self, section: Option<&TagSection>) -> TagPolicy {
        let Some(section) = section else {
            return TagPolicy::Content;
        };
        let given = [
            section.content.is_some(),
            section.git.is_some(),
            section.date.is_some(),
            section.template.is_some(),
        ];
        if given.iter().filter(|given| **given).count() > 1 {
            let message = "`tags` takes exactly one of content, git, date and template";
            self.error("/tags", message, Some("keep one of them".to_owned()));
        }
        if let Some(git) = &section.git {
            TagPolicy::GitCommit {
                variant: git_variant(git.variant),
                prefix: git.prefix.clone(),
                ignore_changes: git.ignore_changes,
            }
        } else if let Some(date) = &section.date {
            TagPolicy::DateTime {
                format: date
                    .format
                    .clone()
                    .unwrap_or_else(|| DATE_FORMAT.to_owned()),
                timezone: date.timezone.clone(),
            }
        } else if let Some(template) = &section.template {
            TagPolicy::EnvTemplate {
                template: self.template(template, "/tags/template"),
            }
        } else {
            TagPolicy::Content
        }
    }

    fn cluster(&self, section: &BuildSection) -> ClusterBuild {
        let caches = section.caches.iter();
        ClusterBuild {
            namespace: section.namespace.clone(),
            timeout: self.duration(section.timeout.as_deref(), "/build/timeout", BUILD_TIMEOUT),
            concurrency: section.concurrency,
            http_proxy: None,
            https_proxy: None,
            pull_secret: self.cloud_key(section),
            docker_config: self.registry_credentials(section),
            volumes: caches
                .map(|(name, cache)| self.cache_volume(name, cache))
                .collect(),
            resources: None,
            service_account: None,
            tolerations: Vec::new(),
            node_selector: BTreeMap::new(),
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            run_as_user: None,
            pod_template: section.pod.clone().map(Value::Object),
        }
    }

    fn cache_volume(&self, name: &str, cache: &Cache) -> Value {
        let at = below("/build/caches", name);
        if !cache.path.starts_with('/') {
            let message = format!("`{}` is not absolute", cache.path);
            let help = "a cache lies at the same path for every RUN";
            self.error(&format!("{at}/path"), message, Some(help.to_owned()));
        }
        let mut places = Vec::new();
        if let Some(claim) = &cache.claim {
            places.push(json!({"name": name, "persistentVolumeClaim": {"claimName": claim}}));
        }
        if let Some(path) = &cache.host_path {
            let host_path = json!({"path": path, "type": "DirectoryOrCreate"});
            places.push(json!({"name": name, "hostPath": host_path}));
        }
        if cache.empty_dir.is_some() {
            places.push(json!({"name": name, "emptyDir": {}}));
        }
        if places.len() != 1 {
            let message =
                format!("cache `{name}` needs exactly one of claim, hostPath and emptyDir");
            self.error(&at, message, None);
        }
        places.into_iter().next().unwrap_or(Value::Null)
    }

    fn registry_credentials(&self, section: &BuildSection) -> Option<DockerConfig> {
        let credentials = section.secrets.registry.as_ref()?;
        if credentials.secret.is_some() == credentials.file.is_some() {
            let message = "`registry` needs either `secret` or `file`";
            self.error("/build/secrets/registry", message, None);
        }
        Some(DockerConfig {
            secret_name: credentials.secret.clone(),
            path: credentials.file.as_deref().map(|file| self.path(file)),
            random_name: credentials.file.is_some(),
        })
    }

    fn cloud_key(&self, section: &BuildSection) -> Option<PullSecret> {
        let key = section.secrets.cloud.as_ref()?;
        if key.secret.is_some() == key.file.is_some() {
            let message = "`cloud` needs either `secret` or `file`";
            self.error("/build/secrets/cloud", message, None);
        }
        if key.file.is_some() && key.key.is_some() {
            let message = "`key` names a key in an existing `secret`";
            self.error(
                "/build/secrets/cloud/key",
                message,
                Some("remove it".to_owned()),
            );
        }
        let file = key
            .file
            .as_deref()
            .map(|file| self.path(file).to_string_lossy().into_owned());
        let name = key.secret.clone().unwrap_or_else(|| "cloud-key".to_owned());
        Some(PullSecret {
            path: file
                .or_else(|| key.key.clone())
                .or_else(|| Some(name.clone())),
            name,
            mount_path: key
                .mount_path
                .clone()
                .unwrap_or_else(|| SECRET_MOUNT.to_owned()),
            random_name: key.file.is_some(),
        })
    }

    fn hooks(&self, hooks: &Hooks, at: &str) -> HookPair {
        let read = |commands: &[HookCommand], when: &str| {
            let commands = commands.iter().enumerate();
            commands
                .map(|(index, hook)| self.hook(hook, &format!("{at}/{when}/{index}")))
                .collect()
        };
        HookPair {
            before: read(&hooks.before, "before"),
            after: read(&hooks.after, "after"),
        }
    }

    fn hook(&self, hook: &HookCommand, at: &str) -> HostHook {
        if hook.command.is_empty() {
            self.error(at, "`command` is empty", None);
        }
        HostHook {
            command: hook.command.clone(),
            os: hook.os.clone(),
            dir: hook.dir.as_deref().map(|dir| self.path(dir)),
        }
    }

    fn manifests(&self, section: &DeploySection) -> Manifests {
        let after = section.render_hooks.after.iter().enumerate();
        let before = section.render_hooks.before.iter().enumerate();
        Manifests {
            raw: self.texts(&section.manifests, "/deploy/manifests"),
            kustomize: self
                .texts(&section.overlay, "/deploy/overlay")
                .into_iter()
                .map(|path| Kustomization {
                    path,
                    build_args: section.overlay_flags.clone(),
                })
                .collect(),
            remote: section
                .remote
                .iter()
                .map(|remote| RemoteManifest {
                    manifest: remote.object.clone(),
                    kube_context: remote.context.clone(),
                })
                .collect(),
            before: before
                .map(|(i, hook)| self.hook(hook, &format!("/deploy/renderHooks/before/{i}")))
                .collect(),
            after: after
                .map(|(i, hook)| {
                    let command = HookCommand {
                        command: hook.command.clone(),
                        os: hook.os.clone(),
                        dir: hook.dir.clone(),
                    };
                    let hook_at = format!("/deploy/renderHooks/after/{i}");
                    RenderHook {
                        hook: self.hook(&command, &hook_at),
                        with_change: hook.rewrite,
                    }
                })
                .collect(),
            watch_extra: section.watch.iter().map(|glob| self.path(glob)).collect(),
        }
    }

    fn deploy(&self, section: &DeploySection) -> Deploy {
        Deploy {
            kube_context: section.context.clone(),
            default_namespace: section
                .namespace
                .as_ref()
                .map(|text| self.template(text, "/deploy/namespace")),
            status: StatusCheck {
                enabled: section.status.wait.unwrap_or(true),
                deadline: self.duration(
                    section.status.timeout.as_deref(),
                    "/deploy/status/timeout",
                    STATUS_TIMEOUT,
                ),
                tolerate_failures: section.status.tolerate_failures,
            },
            logs: Logs {
                prefix: match section.logs.prefix {
                    LogLine::Container => LogPrefix::Container,
                    LogLine::PodAndContainer => LogPrefix::PodAndContainer,
                    LogLine::Auto => LogPrefix::Auto,
                    LogLine::None => LogPrefix::None,
                },
                json_fields: section.logs.fields.clone(),
            },
            hooks: self.hooks(&section.hooks, "/deploy/hooks"),
            force: section.force,
            skip_validation: section.validate == Some(false),
            labels: section.labels.clone(),
        }
    }

    fn forward(&self, entry: &ForwardEntry, index: usize) -> Forward {
        let at = |field: &str| format!("/forward/{index}/{field}");
        let (kind, name) = entry.resource.split_once('/').unwrap_or_else(|| {
            let message = format!("`{}` does not name a resource", entry.resource);
            let help = "write kind/name, for example service/web";
            self.error(&at("resource"), message, Some(help.to_owned()));
            ("", "")
        });
        Forward {
            resource_type: kind.to_lowercase(),
            resource_name: self.template(name, &at("resource")),
            namespace: entry
                .namespace
                .as_ref()
                .map(|text| self.template(text, &at("namespace"))),
            port: match &entry.port {
                PortSpec::Number(number) => ForwardPort::Number(*number),
                PortSpec::Name(name) => ForwardPort::Name(name.clone()),
            },
            address: entry
                .address
                .clone()
                .unwrap_or_else(|| "127.0.0.1".to_owned()),
            local_port: entry.local,
        }
    }
}

/// The flags that registries decide. Docker Hub's own name is what the
/// executor calls it.
fn flags(registries: &BTreeMap<String, RegistryHost>) -> ExecutorFlags {
    let executor_name = |host: &str| match host {
        "docker.io" | "registry-1.docker.io" => "index.docker.io".to_owned(),
        _ => host.to_owned(),
    };
    ExecutorFlags {
        digest_file: Some(TERMINATION_LOG.to_owned()),
        mirrors: registries
            .iter()
            .filter(|(_, settings)| !settings.mirrors.is_empty())
            .map(|(host, settings)| (executor_name(host), settings.mirrors.clone()))
            .collect(),
        registry_certificates: registries
            .iter()
            .filter_map(|(host, settings)| {
                Some((host.clone(), Template(settings.certificate.clone()?)))
            })
            .collect(),
        skip_tls_verify_registries: registries
            .iter()
            .filter(|(_, settings)| settings.skip_tls_verify)
            .map(|(host, _)| host.clone())
            .collect(),
        ..ExecutorFlags::default()
    }
}

fn kind_rule(entry: &KindEntry) -> KindRule {
    KindRule {
        group_kind: entry.kind.clone(),
        image: entry.image.clone(),
        labels: entry.labels.clone(),
        pod_spec: entry.pod_spec.clone(),
    }
}

fn git_variant(variant: GitTagVariant) -> GitVariant {
    match variant {
        GitTagVariant::Tags => GitVariant::Tags,
        GitTagVariant::Commit => GitVariant::CommitSha,
        GitTagVariant::ShortCommit => GitVariant::AbbrevCommitSha,
        GitTagVariant::Tree => GitVariant::TreeSha,
        GitTagVariant::ShortTree => GitVariant::AbbrevTreeSha,
        GitTagVariant::Branch => GitVariant::Branches,
    }
}

/// A pointer to a key below another place.
fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}
