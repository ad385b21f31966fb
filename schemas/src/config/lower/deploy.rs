//! `deploy` and `forward`.

use std::time::Duration;

use super::Lowering;
use crate::config::deploy::{
    DeploySection, DeployTarget, ForwardEntry, KindEntry, Kinds, LogLine, PortSpec,
};
use crate::config::image::HookCommand;
use crate::model::{
    Deploy, Forward, ForwardPort, KindRule, Kustomization, LogPrefix, Logs, Manifests,
    RemoteManifest, RenderHook, ResourceSelector, StatusCheck, Target,
};

const STATUS_TIMEOUT: Duration = Duration::from_mins(10);

impl Lowering<'_> {
    pub(super) fn manifests(&self, section: &DeploySection) -> Manifests {
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
                        inputs: Vec::new(),
                        outputs: Vec::new(),
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

    pub(super) fn deploy(&self, section: &DeploySection) -> Deploy {
        Deploy {
            target: section.target.map(|target| match target {
                DeployTarget::Cluster => Target::Cluster,
                DeployTarget::Local => Target::Local,
            }),
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

    pub(super) fn forward(&self, entry: &ForwardEntry, index: usize) -> Forward {
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

/// Which kinds are rewritten.
pub(super) fn resource_selector(kinds: &Kinds) -> ResourceSelector {
    ResourceSelector {
        allow: kinds.rewrite.iter().map(kind_rule).collect(),
        deny: kinds.leave.iter().map(kind_rule).collect(),
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
