//! `build.cluster`, and what `build.local` says that holds in a cluster too.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;
use crate::environment::Environment;
use crate::fields::Fields;
use crate::model::{ClusterBuild, DockerConfig, PullSecret};
use crate::yaml::Node;

const TIMEOUT: Duration = Duration::from_mins(20);
const PULL_SECRET_NAME: &str = "kaniko-secret";
const PULL_SECRET_MOUNT: &str = "/secret";
const DOCKER_CONFIG_NAME: &str = "docker-cfg";

/// `build.cluster` when nothing is said.
pub(super) fn defaults() -> ClusterBuild {
    ClusterBuild {
        namespace: None,
        timeout: TIMEOUT,
        concurrency: 0,
        http_proxy: None,
        https_proxy: None,
        pull_secret: None,
        docker_config: None,
        volumes: Vec::new(),
        resources: None,
        service_account: None,
        tolerations: Vec::new(),
        node_selector: BTreeMap::new(),
        annotations: BTreeMap::new(),
        labels: BTreeMap::new(),
        run_as_user: None,
        pod_template: None,
    }
}

/// Reads `build.cluster`.
pub(super) fn read(fields: &Fields<'_>, environment: &Environment) -> ClusterBuild {
    ClusterBuild {
        namespace: fields.string("namespace").filter(|name| !name.is_empty()),
        timeout: fields.duration("timeout").unwrap_or(TIMEOUT),
        concurrency: fields.count("concurrency").unwrap_or(0),
        http_proxy: fields.string("HTTP_PROXY"),
        https_proxy: fields.string("HTTPS_PROXY"),
        pull_secret: pull_secret(fields, environment),
        docker_config: docker_config(fields, environment),
        volumes: volumes(fields),
        resources: fields
            .section("resources")
            .and_then(|section| resources(&section)),
        service_account: fields.string("serviceAccount"),
        tolerations: fields
            .list("tolerations")
            .iter()
            .map(Node::to_value)
            .collect(),
        node_selector: fields.map("nodeSelector"),
        annotations: fields.map("annotations"),
        labels: fields.map("labels"),
        run_as_user: fields.integer("runAsUser"),
        pod_template: None,
    }
}

/// `build.local` builds in the cluster as well; only how many at once counts.
pub(super) fn from_local(fields: &Fields<'_>) -> ClusterBuild {
    // These choose between ways of a docker daemon. The image is the same
    // without one, so an existing file goes on working, and that is said.
    let moot = [
        (
            "push",
            false,
            "images are built in the cluster and always pushed",
        ),
        (
            "tryImportMissing",
            true,
            "images that the registry has are not built again",
        ),
        (
            "useDockerCLI",
            true,
            "images are built in the cluster, without docker",
        ),
        (
            "useBuildkit",
            true,
            "the executor reads BuildKit's Dockerfile syntax by itself",
        ),
    ];
    for (name, noted, why) in moot {
        if fields.bool(name) == Some(noted) {
            let message = format!("`build.local.{name}: {noted}` means nothing here: {why}");
            fields
                .report
                .note(Diagnostic::at(fields.place(name), message));
        }
    }
    ClusterBuild {
        concurrency: fields.count("concurrency").unwrap_or(0),
        ..defaults()
    }
}

fn pull_secret(fields: &Fields<'_>, environment: &Environment) -> Option<PullSecret> {
    let text = |name| fields.string(name).filter(|text: &String| !text.is_empty());
    let (name, path) = (text("pullSecretName"), text("pullSecretPath"));
    let mount_path = text("pullSecretMountPath");
    let random_name = fields.flag("randomPullSecret");
    if name.is_none() && path.is_none() {
        for field in ["pullSecretMountPath", "randomPullSecret"] {
            if (field == "randomPullSecret" && random_name)
                || (field != "randomPullSecret" && mount_path.is_some())
            {
                let message = format!(
                    "`{}` says nothing without a pull secret",
                    fields.path(field)
                );
                let help = "add `pullSecretName` or `pullSecretPath`";
                fields
                    .report
                    .error(Diagnostic::at(fields.place(field), message).help(help));
            }
        }
        return None;
    }
    Some(PullSecret {
        name: name.unwrap_or_else(|| PULL_SECRET_NAME.to_owned()),
        path: path.map(|path| {
            environment
                .expand_home(&path)
                .to_string_lossy()
                .into_owned()
        }),
        mount_path: mount_path.unwrap_or_else(|| PULL_SECRET_MOUNT.to_owned()),
        random_name,
    })
}

fn docker_config(fields: &Fields<'_>, environment: &Environment) -> Option<DockerConfig> {
    let random_name = fields.flag("randomDockerConfigSecret");
    let Some(section) = fields.section("dockerConfig") else {
        if random_name {
            let message = format!(
                "`{}` says nothing without `dockerConfig`",
                fields.path("randomDockerConfigSecret")
            );
            fields.report.error(Diagnostic::at(
                fields.place("randomDockerConfigSecret"),
                message,
            ));
        }
        return None;
    };
    let text = |name| {
        section
            .string(name)
            .filter(|text: &String| !text.is_empty())
    };
    let path = text("path").map(|path| environment.resolve(&environment.cwd, &path));
    let named = text("secretName");
    // Without a file the secret must be there already, under skaffold's name.
    let fallback = path.is_none().then(|| DOCKER_CONFIG_NAME.to_owned());
    Some(DockerConfig {
        secret_name: named.or(fallback),
        path,
        random_name,
    })
}

fn volumes(fields: &Fields<'_>) -> Vec<Value> {
    for mut volume in fields.sections("volumes") {
        volume.allow_more();
        volume.required("name");
    }
    fields.list("volumes").iter().map(Node::to_value).collect()
}

/// skaffold's spelling of resources, in the Kubernetes shape.
fn resources(fields: &Fields<'_>) -> Option<Value> {
    let mut resources = Map::new();
    for side in ["requests", "limits"] {
        let Some(section) = fields.section(side) else {
            continue;
        };
        let mut amounts = Map::new();
        for (name, kubernetes) in [
            ("cpu", "cpu"),
            ("memory", "memory"),
            ("ephemeralStorage", "ephemeral-storage"),
            ("resourceStorage", "storage"),
        ] {
            if let Some(amount) = section.string(name).filter(|text| !text.is_empty()) {
                amounts.insert(kubernetes.to_owned(), Value::String(amount));
            }
        }
        if !amounts.is_empty() {
            resources.insert(side.to_owned(), Value::Object(amounts));
        }
    }
    (!resources.is_empty()).then_some(Value::Object(resources))
}
