//! `images` and `tags`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::{Lowering, below};
use crate::config::Document;
use crate::config::build::RegistryHost;
use crate::config::image::{GitTagVariant, ImageSection, LayerCache, SyncSection, TagSection};
use crate::model::{
    Artifact, ArtifactCache, BuildArg, EnvVar, ExecutorChoice, ExecutorFlags, GitVariant,
    ManualSync, Platform, Requirement, Sync, SyncRules, TagPolicy, Template, UploadLimits,
};

const DATE_FORMAT: &str = "2006-01-02_15-04-05.999_MST";
const TERMINATION_LOG: &str = "/dev/termination-log";

impl Lowering<'_> {
    pub(super) fn artifact(
        &self,
        image: &ImageSection,
        index: usize,
        document: &Document,
    ) -> Artifact {
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

    pub(super) fn platforms(&self, texts: &[String], at: &str) -> Vec<Platform> {
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

    pub(super) fn tags(&self, section: Option<&TagSection>) -> TagPolicy {
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
