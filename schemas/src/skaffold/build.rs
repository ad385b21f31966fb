//! `build`: artifacts with their builder, hooks and sync.

use std::path::PathBuf;
use std::time::Duration;

use super::{builders, cluster, hooks, sync, tags};
use crate::diagnostic::Diagnostic;
use crate::environment::Environment;
use crate::fields::Fields;
use crate::model::{Artifact, Build, Platform, Requirement, TagPolicy};

/// How long looked-up digests of base images are trusted: skaffold asks on
/// every build, which a loop must not.
pub(super) const BASE_DIGEST_TTL: Duration = Duration::from_mins(10);

/// Reads `build`; absent means nothing is built.
pub(super) fn read(fields: Option<Fields<'_>>, environment: &Environment) -> Build {
    let Some(fields) = fields else {
        return Build {
            artifacts: Vec::new(),
            tags: TagPolicy::GitCommit {
                variant: crate::model::GitVariant::Tags,
                prefix: String::new(),
                ignore_changes: false,
            },
            insecure_registries: Vec::new(),
            platforms: Vec::new(),
            hooks: crate::model::HookPair::default(),
            cluster: cluster::defaults(),
            base_digest_ttl: BASE_DIGEST_TTL,
        };
    };
    fields.one_of(&["local", "googleCloudBuild", "cluster"]);
    fields.refuse_section(
        "googleCloudBuild",
        "use `cluster`: images are built in pods of the cluster that the kube-context names",
    );
    let local = fields.section("local");
    let cluster = match (fields.section("cluster"), local) {
        (Some(section), _) => cluster::read(&section, environment),
        (None, Some(local)) => cluster::from_local(&local),
        (None, None) => cluster::defaults(),
    };
    let artifacts: Vec<Artifact> = fields
        .sections("artifacts")
        .filter_map(|artifact| read_artifact(&artifact, environment))
        .collect();
    Build {
        artifacts,
        tags: tags::read(fields.section("tagPolicy")),
        insecure_registries: fields.strings("insecureRegistries"),
        platforms: platforms(&fields),
        hooks: hooks::host_only(fields.section("hooks"), environment),
        cluster,
        base_digest_ttl: BASE_DIGEST_TTL,
    }
}

fn read_artifact(fields: &Fields<'_>, environment: &Environment) -> Option<Artifact> {
    let image = fields.required("image");
    let context = fields.string("context").filter(|text| !text.is_empty());
    fields.refuse("runtimeType", "remove it: it serves `skaffold debug` only");
    let requires = fields.sections("requires").filter_map(|required| {
        let image = required.required("image")?;
        let alias = required.string("alias").filter(|alias| !alias.is_empty());
        Some(Requirement {
            alias: alias.unwrap_or_else(|| image.clone()),
            image,
        })
    });
    let requires = requires.collect();
    let settings = builders::read(fields);
    let artifact = Artifact {
        image: image.clone().unwrap_or_default(),
        context: environment.resolve(&environment.cwd, context.as_deref().unwrap_or(".")),
        context_sub_path: settings.context_sub_path,
        dockerfile: settings
            .dockerfile
            .unwrap_or_else(|| PathBuf::from("Dockerfile")),
        target: settings.target,
        build_args: settings.build_args,
        labels: settings.labels,
        requires,
        hooks: hooks::host_only(fields.section("hooks"), environment),
        sync: sync::read(fields, environment),
        platforms: platforms(fields),
        watch_ignore: Vec::new(),
        watch_extra: Vec::new(),
        executor: settings.executor,
        flags: settings.flags,
        cache: settings.cache,
        env: settings.env,
        volume_mounts: settings.volume_mounts,
        upload: settings.upload,
    };
    image.map(|_| artifact)
}

fn platforms(fields: &Fields<'_>) -> Vec<Platform> {
    fields
        .strings("platforms")
        .iter()
        .filter_map(|text| {
            let platform = Platform::parse(text);
            if platform.is_none() {
                let message = format!("`{text}` is not a platform");
                let help = "write os/arch or os/arch/variant, for example linux/arm64";
                let finding = Diagnostic::at(fields.place("platforms"), message).help(help);
                fields.report.error(finding);
            }
            platform
        })
        .collect()
}
