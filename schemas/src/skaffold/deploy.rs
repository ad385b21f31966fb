//! `manifests`, `deploy`, `portForward` and `resourceSelector`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::hooks;
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::environment::Environment;
use crate::fields::Fields;
use crate::model::{
    Deploy, Forward, ForwardPort, HookPair, KindRule, Kustomization, LogPrefix, Logs, Manifests,
    RemoteManifest, ResourceSelector, StatusCheck, Template,
};

const STATUS_DEADLINE: Duration = Duration::from_mins(10);
const FORWARD_ADDRESS: &str = "127.0.0.1";
const FORWARD_KINDS: [&str; 9] = [
    "pod",
    "deployment",
    "service",
    "replicaset",
    "statefulset",
    "replicationcontroller",
    "daemonset",
    "job",
    "cronjob",
];

/// Reads `manifests`.
pub(super) fn manifests(fields: Option<Fields<'_>>, environment: &Environment) -> Manifests {
    let Some(fields) = fields else {
        return Manifests::default();
    };
    fields.refuse_section(
        "helm",
        "render the chart with `helm template` into a file for `rawYaml`",
    );
    fields.refuse_section("kpt", "use `kustomize` or `rawYaml`");
    let post = "use a hook after rendering with `withChange: true`";
    fields.refuse("transform", post);
    fields.refuse("validate", post);
    fields.refuse("output", "use `kiln render --output FILE`");
    let (before, after) = hooks::render(fields.section("hooks"), environment);
    Manifests {
        raw: fields.templates("rawYaml"),
        kustomize: fields
            .section("kustomize")
            .map_or_else(Vec::new, |section| kustomize(&section)),
        remote: fields
            .sections("remoteManifests")
            .filter_map(|item| remote(&item))
            .collect(),
        before,
        after,
        watch_extra: Vec::new(),
    }
}

fn kustomize(fields: &Fields<'_>) -> Vec<Kustomization> {
    let mut paths = fields.templates("paths");
    if paths.is_empty() {
        let message = format!(
            "`{}` is `[.]` because it is not given",
            fields.path("paths")
        );
        let help =
            "skaffold v2 documents this default and renders nothing; write `paths` to be sure";
        fields
            .report
            .note(Diagnostic::at(fields.span, message).help(help));
        paths.push(Template(".".to_owned()));
    }
    let build_args: Vec<String> = fields
        .strings("buildArgs")
        .iter()
        .flat_map(|text| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    let overlay = |path| Kustomization {
        path,
        build_args: build_args.clone(),
    };
    paths.into_iter().map(overlay).collect()
}

fn remote(fields: &Fields<'_>) -> Option<RemoteManifest> {
    let manifest = fields.required("manifest")?;
    let kube_context = fields
        .string("kubeContext")
        .filter(|context| !context.is_empty());
    let object = manifest
        .split_once(':')
        .map_or(manifest.as_str(), |(_, object)| object);
    if !object
        .split_once('/')
        .is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty())
    {
        let message = format!("`{manifest}` does not name an object");
        let help = "write [namespace:]kind/name, for example default:configmap/settings";
        fields
            .report
            .error(Diagnostic::at(fields.place("manifest"), message).help(help));
    }
    Some(RemoteManifest {
        manifest,
        kube_context,
    })
}

/// Reads `deploy`.
pub(super) fn deploy(fields: Option<Fields<'_>>, environment: &Environment) -> Deploy {
    let mut deploy = Deploy {
        target: None,
        kube_context: None,
        default_namespace: None,
        status: StatusCheck {
            enabled: true,
            deadline: STATUS_DEADLINE,
            tolerate_failures: false,
        },
        logs: Logs {
            prefix: LogPrefix::Container,
            json_fields: Vec::new(),
        },
        hooks: HookPair::default(),
        force: false,
        skip_validation: false,
        labels: BTreeMap::new(),
    };
    let Some(fields) = fields else { return deploy };
    fields.refuse_section(
        "helm",
        "render the chart with `helm template` into a file for `manifests.rawYaml`",
    );
    fields.refuse_section("kpt", "use `manifests.kustomize` or `manifests.rawYaml`");
    fields.refuse_section(
        "docker",
        "deploy to a cluster: remove it and list manifests",
    );
    fields.refuse_section(
        "cloudrun",
        "deploy to a cluster: remove it and list manifests",
    );
    fields.refuse_section(
        "kustomize",
        "write it as `manifests.kustomize`: it moved in v3alpha1",
    );
    deploy.kube_context = fields
        .string("kubeContext")
        .filter(|context| !context.is_empty());
    deploy.status.enabled = fields.bool("statusCheck").unwrap_or(true);
    deploy.status.tolerate_failures = fields.flag("tolerateFailuresUntilDeadline");
    if let Some(seconds) = fields
        .count::<u32>("statusCheckDeadlineSeconds")
        .filter(|s| *s > 0)
    {
        deploy.status.deadline = Duration::from_secs(u64::from(seconds));
    }
    if let Some(section) = fields.section("logs") {
        logs(&section, &mut deploy.logs);
    }
    if let Some(section) = fields.section("kubectl") {
        kubectl(&section, &mut deploy, environment);
    }
    deploy
}

fn logs(fields: &Fields<'_>, logs: &mut Logs) {
    if let Some(text) = fields.string("prefix").filter(|text| !text.is_empty()) {
        logs.prefix = match text.as_str() {
            "container" => LogPrefix::Container,
            "podAndContainer" => LogPrefix::PodAndContainer,
            "auto" => LogPrefix::Auto,
            "none" => LogPrefix::None,
            _ => {
                let message = format!("`{}` cannot be `{text}`", fields.path("prefix"));
                let help = "use container, podAndContainer, auto or none";
                fields
                    .report
                    .error(Diagnostic::at(fields.place("prefix"), message).help(help));
                LogPrefix::Container
            }
        };
    }
    if let Some(section) = fields.section("jsonParse") {
        logs.json_fields = section.strings("fields");
    }
}

fn kubectl(fields: &Fields<'_>, deploy: &mut Deploy, environment: &Environment) {
    deploy.default_namespace = fields.template("defaultNamespace");
    deploy.hooks = hooks::host_or_container(fields.section("hooks"), environment);
    let Some(flags) = fields.section("flags") else {
        return;
    };
    deploy.skip_validation = flags.flag("disableValidation");
    for flag in flags.strings("apply") {
        match flag.as_str() {
            "--force" | "--force=true" => deploy.force = true,
            "--validate=false" => deploy.skip_validation = true,
            // How Kiln applies anyway.
            "--server-side" | "--server-side=true" => {}
            _ => refuse_flag(&flags, "apply", &flag),
        }
    }
    for name in ["global", "delete"] {
        for flag in flags.strings(name) {
            refuse_flag(&flags, name, &flag);
        }
    }
}

fn refuse_flag(flags: &Fields<'_>, name: &str, flag: &str) {
    let message = format!("the kubectl flag `{flag}` is not supported");
    let help = "objects are applied without kubectl: use `deploy.kubeContext`, \
                `kubectl.defaultNamespace` or `flags.disableValidation` where they say the same";
    flags
        .report
        .refusal(Diagnostic::at(flags.place(name), message).help(help));
}

/// Reads one entry of `portForward`.
pub(super) fn forward(fields: &Fields<'_>) -> Option<Forward> {
    let kind = fields
        .required("resourceType")
        .map(|kind| kind.to_lowercase());
    if let Some(kind) = kind.as_deref().filter(|kind| !FORWARD_KINDS.contains(kind)) {
        let message = format!("ports of a `{kind}` cannot be forwarded");
        let help = match did_you_mean(kind, FORWARD_KINDS) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("use one of {}", FORWARD_KINDS.join(", ")),
        };
        fields
            .report
            .error(Diagnostic::at(fields.place("resourceType"), message).help(help));
    }
    fields.required("resourceName");
    let name = fields.template("resourceName");
    let namespace = fields.template("namespace");
    let port = fields
        .required("port")
        .map(|text| match text.parse::<u16>() {
            Ok(number) => ForwardPort::Number(number),
            Err(_) => ForwardPort::Name(text),
        });
    if let Some(ForwardPort::Name(name)) = &port
        && name.parse::<i64>().is_ok()
    {
        let message = format!("there is no port {name}");
        fields
            .report
            .error(Diagnostic::at(fields.place("port"), message).help("write 1 to 65535"));
    }
    let address = fields
        .string("address")
        .filter(|address| !address.is_empty());
    Some(Forward {
        resource_type: kind.clone().unwrap_or_default(),
        resource_name: name.clone().unwrap_or_else(|| Template(String::new())),
        namespace,
        address: address.unwrap_or_else(|| FORWARD_ADDRESS.to_owned()),
        local_port: fields.count("localPort").filter(|port| *port != 0),
        port: port?,
    })
    .filter(|_| kind.is_some() && name.is_some())
}

/// Reads `resourceSelector`.
pub(super) fn resource_selector(fields: Option<Fields<'_>>) -> ResourceSelector {
    let Some(fields) = fields else {
        return ResourceSelector::default();
    };
    let rules = |name| {
        fields
            .sections(name)
            .filter_map(|rule| kind_rule(&rule))
            .collect()
    };
    ResourceSelector {
        allow: rules("allow"),
        deny: rules("deny"),
    }
}

fn kind_rule(fields: &Fields<'_>) -> Option<KindRule> {
    let group_kind = fields.required("groupKind");
    let rule = KindRule {
        group_kind: group_kind.clone().unwrap_or_default(),
        image: fields.strings("image"),
        labels: fields.strings("labels"),
        pod_spec: fields.strings("podSpec"),
    };
    group_kind.map(|_| rule)
}
