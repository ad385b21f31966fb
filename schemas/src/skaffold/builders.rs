//! The builder of an artifact: `kaniko`, or `docker` where it means the same
//! inside a cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::fields::Fields;
use crate::model::{
    ArtifactCache, BuildArg, EnvVar, ExecutorChoice, ExecutorFlags, Template, UploadLimits,
};
use crate::yaml::Node;

/// The registry that `--registry-mirror` speaks for.
const DOCKER_HUB: &str = "index.docker.io";

/// Where kaniko leaves the digest, and Kubernetes picks it up.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// An artifact's builder settings.
#[derive(Default)]
pub(super) struct BuilderSettings {
    pub(super) context_sub_path: Option<PathBuf>,
    pub(super) dockerfile: Option<PathBuf>,
    pub(super) target: Option<String>,
    pub(super) build_args: BTreeMap<String, BuildArg>,
    pub(super) labels: BTreeMap<String, Template>,
    pub(super) executor: ExecutorChoice,
    pub(super) flags: ExecutorFlags,
    pub(super) cache: Option<ArtifactCache>,
    pub(super) env: Vec<EnvVar>,
    pub(super) volume_mounts: Vec<Value>,
    pub(super) upload: UploadLimits,
}

/// Reads the builder of an artifact; none means `docker: {}` or, beside
/// `build.cluster`, `kaniko: {}`, which are the same here.
pub(super) fn read(artifact: &Fields<'_>) -> BuilderSettings {
    const ALL: [&str; 7] = [
        "docker",
        "kaniko",
        "custom",
        "jib",
        "bazel",
        "ko",
        "buildpacks",
    ];
    artifact.one_of(&ALL);
    let dockerfile = "write a Dockerfile and use `kaniko: {}`";
    for name in ["custom", "jib", "bazel", "ko", "buildpacks"] {
        artifact.refuse_section(name, dockerfile);
    }
    match (artifact.section("kaniko"), artifact.section("docker")) {
        (Some(fields), _) => kaniko(&fields),
        (None, Some(fields)) => docker(&fields),
        (None, None) => BuilderSettings {
            flags: ExecutorFlags {
                digest_file: Some(TERMINATION_LOG.to_owned()),
                ..ExecutorFlags::default()
            },
            ..BuilderSettings::default()
        },
    }
}

fn kaniko(fields: &Fields<'_>) -> BuilderSettings {
    fields.refuse("noPush", "remove it: what is deployed must be pushed; `tarPath` and `ociLayoutPath` write the image to a volume as well");
    let optional_path = |name| {
        fields
            .string(name)
            .filter(|p| !p.is_empty())
            .map(PathBuf::from)
    };
    BuilderSettings {
        context_sub_path: optional_path("contextSubPath"),
        dockerfile: optional_path("dockerfile"),
        target: fields.string("target").filter(|target| !target.is_empty()),
        build_args: build_args(fields),
        labels: templates(fields, "label"),
        executor: ExecutorChoice {
            image: fields.string("image"),
            init_image: fields.string("initImage"),
            image_pull_secret: fields.string("imagePullSecret"),
        },
        flags: kaniko_flags(fields),
        cache: fields.section("cache").map(|cache| ArtifactCache {
            repo: cache.string("repo"),
            host_path: cache.string("hostPath"),
            ttl: cache.duration("ttl").and_then(|_| cache.string("ttl")),
            copy_layers: cache.flag("cacheCopyLayers"),
            run_layers: cache.bool("cacheRunLayers").unwrap_or(true),
        }),
        env: fields
            .sections("env")
            .filter_map(|entry| env_var(&entry))
            .collect(),
        volume_mounts: volume_mounts(fields),
        upload: upload(fields),
    }
}

fn kaniko_flags(fields: &Fields<'_>) -> ExecutorFlags {
    let mirror = fields
        .string("registryMirror")
        .filter(|host| !host.is_empty());
    ExecutorFlags {
        cleanup: fields.flag("cleanup"),
        destinations: fields.strings("destination"),
        digest_file: fields
            .string("digestFile")
            .or_else(|| Some(TERMINATION_LOG.to_owned())),
        force: fields.flag("force"),
        image_fs_extract_retry: retries(fields, "imageFSExtractRetry"),
        image_name_with_digest_file: fields.string("imageNameWithDigestFile"),
        insecure: fields.flag("insecure"),
        insecure_pull: fields.flag("insecurePull"),
        insecure_registries: fields.strings("insecureRegistry"),
        log_format: choice(fields, "logFormat", &["text", "color", "json"]),
        log_timestamp: fields.flag("logTimestamp"),
        oci_layout_path: fields.string("ociLayoutPath"),
        push_retry: retries(fields, "pushRetry"),
        mirrors: mirror
            .map(|host| (DOCKER_HUB.to_owned(), vec![host]))
            .into_iter()
            .collect(),
        registry_certificates: templates(fields, "registryCertificate"),
        reproducible: fields.flag("reproducible"),
        single_snapshot: fields.flag("singleSnapshot"),
        skip_tls: fields.flag("skipTLS"),
        skip_tls_verify_pull: fields.flag("skipTLSVerifyPull"),
        skip_tls_verify_registries: fields.strings("skipTLSVerifyRegistry"),
        skip_unused_stages: fields.flag("skipUnusedStages"),
        snapshot_mode: choice(fields, "snapshotMode", &["full", "redo", "time"]),
        tar_path: fields.string("tarPath"),
        use_new_run: fields.flag("useNewRun"),
        verbosity: choice(
            fields,
            "verbosity",
            &["trace", "debug", "info", "warn", "error", "fatal", "panic"],
        ),
        whitelist_var_run: fields.bool("whitelistVarRun"),
        ignore_paths: fields.strings("ignorePaths"),
        extra: Vec::new(),
    }
}

fn upload(fields: &Fields<'_>) -> UploadLimits {
    let defaults = UploadLimits::default();
    let level = fields.count::<u32>("buildContextCompressionLevel");
    if let Some(level) = level.filter(|level| *level > 9) {
        let message = format!("there is no gzip level {level}");
        let place = fields.place("buildContextCompressionLevel");
        fields
            .report
            .error(Diagnostic::at(place, message).help("write 0 to 9"));
    }
    UploadLimits {
        attempts: fields.count("copyMaxRetries").unwrap_or(defaults.attempts),
        timeout: fields.duration("copyTimeout").unwrap_or(defaults.timeout),
        compression_level: level,
    }
}

/// A count that the executor takes as a string.
fn retries(fields: &Fields<'_>, name: &'static str) -> Option<String> {
    let text = fields.string(name).filter(|text| !text.is_empty())?;
    if text.parse::<u32>().is_err() {
        let message = format!("`{}` must be a number, not `{text}`", fields.path(name));
        fields
            .report
            .error(Diagnostic::at(fields.place(name), message));
    }
    Some(text)
}

/// A word out of a few.
fn choice(fields: &Fields<'_>, name: &'static str, words: &[&str]) -> Option<String> {
    let text = fields.string(name).filter(|text| !text.is_empty())?;
    if !words.contains(&text.as_str()) {
        let message = format!("`{}` cannot be `{text}`", fields.path(name));
        let help = format!("use one of {}", words.join(", "));
        fields
            .report
            .error(Diagnostic::at(fields.place(name), message).help(help));
    }
    Some(text)
}

/// A docker artifact, as far as it means the same without a daemon.
fn docker(fields: &Fields<'_>) -> BuilderSettings {
    fields.refuse(
        "network",
        "remove it: RUN sees the network of the build pod",
    );
    fields.refuse("addHost", "use kiln.yaml with `hostAliases` in `build.pod`");
    fields.refuse("cacheFrom", "use `kaniko` with `cache.repo`");
    fields.refuse("cacheTo", "use `kaniko` with `cache.repo`");
    fields.refuse(
        "cliFlags",
        "use the fields of `kaniko`, or `executor.flags` of kiln.yaml",
    );
    let mount = "use `kaniko` with a secret among `cluster.volumes` and a `volumeMounts` entry";
    fields.refuse("secret", mount);
    fields.refuse("secrets", mount);
    fields.refuse("ssh", mount);
    // Base images are looked up in their registry by every build.
    fields.flag("pullParent");
    // A fresh pod has no memory of layers, and a cache in the registry is a
    // repository that nobody asked for: `kaniko: {cache: {}}` asks.
    fields.flag("noCache");
    BuilderSettings {
        dockerfile: fields
            .string("dockerfile")
            .filter(|p| !p.is_empty())
            .map(PathBuf::from),
        target: fields.string("target").filter(|target| !target.is_empty()),
        build_args: build_args(fields),
        flags: ExecutorFlags {
            digest_file: Some(TERMINATION_LOG.to_owned()),
            single_snapshot: fields.flag("squash"),
            ..ExecutorFlags::default()
        },
        ..BuilderSettings::default()
    }
}

fn build_args(fields: &Fields<'_>) -> BTreeMap<String, BuildArg> {
    let entries = fields.template_entries("buildArgs").into_iter();
    entries
        .map(|(name, value)| {
            (
                name,
                value.map_or(BuildArg::FromEnvironment, BuildArg::Value),
            )
        })
        .collect()
}

fn templates(fields: &Fields<'_>, name: &'static str) -> BTreeMap<String, Template> {
    let empty = || Template(String::new());
    let entries = fields.template_entries(name).into_iter();
    entries
        .map(|(key, value)| (key, value.unwrap_or_else(empty)))
        .collect()
}

fn env_var(entry: &Fields<'_>) -> Option<EnvVar> {
    let name = entry.required("name")?;
    let value_from = entry.node("valueFrom").map(Node::to_value);
    let value = entry
        .template("value")
        .unwrap_or_else(|| Template(String::new()));
    Some(EnvVar {
        name,
        value,
        value_from,
    })
}

fn volume_mounts(fields: &Fields<'_>) -> Vec<Value> {
    for mut mount in fields.sections("volumeMounts") {
        mount.allow_more();
        mount.required("name");
        mount.required("mountPath");
    }
    fields
        .list("volumeMounts")
        .iter()
        .map(Node::to_value)
        .collect()
}
