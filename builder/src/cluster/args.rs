//! The executor's arguments for an order, in the order in which skaffold gives
//! them to kaniko (skaffold.md 2.4), and what Kiln's own executor gets on top.

use super::RegistryReach;
use super::tree::BuildTree;
use crate::order::Order;

/// Where the termination message is read from, unless configured.
pub const DEFAULT_DIGEST_FILE: &str = "/dev/termination-log";

/// Where the base-image cache of the node is mounted. skaffold passes the
/// node's path instead, which is only right when both are the same
/// (skaffold.md 3.5, defect 4).
pub const CACHE_MOUNT: &str = "/cache";

/// Where certificates of user-level settings are mounted.
pub const CERTIFICATES_MOUNT: &str = "/kaniko/certs";

/// The registry whose mirrors are `--registry-mirror`.
const DOCKER_HUB: &str = "index.docker.io";

/// The digest file of an order, which is also the termination message path.
pub fn digest_file(order: &Order) -> &str {
    order
        .artifact
        .flags
        .digest_file
        .as_deref()
        .unwrap_or(DEFAULT_DIGEST_FILE)
}

/// The arguments of any executor that honours kaniko's contract.
pub fn contract_args(order: &Order, tree: &BuildTree) -> Vec<String> {
    let mut args = Args::default();
    args.pair("--destination", &order.reference);
    args.pair("--dockerfile", &tree.dockerfile_arg());
    args.pair("--context", &tree.context_arg());
    for (name, value) in &order.build_args {
        match value {
            Some(value) => args.pair("--build-arg", &format!("{name}={value}")),
            None => args.pair("--build-arg", name),
        }
    }
    cache_args(order, &mut args);
    output_args(order, &mut args);
    registry_args(order, &mut args);
    for (name, value) in &order.labels {
        args.pair("--label", &format!("{name}={value}"));
    }
    args.0.extend(order.artifact.flags.extra.iter().cloned());
    args.0
}

/// The arguments of Kiln's own executor: the contract's, then those that make
/// user-level registry settings hold in the pod, progress as JSON lines, and
/// waiting for a context that is sent into the running container.
pub fn kiln_args(order: &Order, tree: &BuildTree, reach: &RegistryReach) -> Vec<String> {
    let mut args = Args(contract_args(order, tree));
    reach_args(order, reach, &mut args);
    args.optional("--reuse", order.reuse.as_deref());
    args.flag("--progress=json");
    args.flag("--await-context");
    args.0
}

/// The arguments with which Kiln's own executor asks for images, with the registry settings of a
/// build.
pub fn lookup_args(order: &Order, names: &[String], reach: &RegistryReach) -> Vec<String> {
    let mut args = Args(vec!["lookup".to_owned()]);
    for name in names {
        args.pair("--image", name);
    }
    output_args(order, &mut args);
    registry_args(order, &mut args);
    reach_args(order, reach, &mut args);
    args.0
}

/// User-level registry settings, and the platform.
fn reach_args(order: &Order, reach: &RegistryReach, args: &mut Args) {
    for host in &reach.insecure {
        args.pair("--insecure-registry", host);
    }
    for host in reach.certificates.keys() {
        args.pair(
            "--registry-certificate",
            &format!("{host}={}", certificate_path(host)),
        );
    }
    for (name, address) in &reach.hosts {
        args.pair("--registry-host", &format!("{name}={address}"));
    }
    if let Some(platform) = &order.platform {
        args.pair("--custom-platform", &platform.to_string());
    }
}

/// Where the certificate of a host is found in the pod. A secret's key cannot
/// have the colon of a port.
pub fn certificate_path(host: &str) -> String {
    format!("{CERTIFICATES_MOUNT}/{}", certificate_key(host))
}

/// The key of a host's certificate in the build's secret.
pub fn certificate_key(host: &str) -> String {
    let name: String = host
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') {
                c
            } else {
                '_'
            }
        })
        .collect();
    format!("{name}.pem")
}

fn cache_args(order: &Order, args: &mut Args) {
    let Some(cache) = &order.artifact.cache else {
        return;
    };
    args.flag("--cache");
    args.optional("--cache-repo", cache.repo.as_deref());
    if cache.host_path.is_some() {
        args.pair("--cache-dir", CACHE_MOUNT);
    }
    args.optional("--cache-ttl", cache.ttl.as_deref());
    args.when(cache.copy_layers, "--cache-copy-layers");
    args.flag(&format!("--cache-run-layers={}", cache.run_layers));
}

fn output_args(order: &Order, args: &mut Args) {
    let flags = &order.artifact.flags;
    args.optional("--target", order.artifact.target.as_deref());
    args.when(flags.cleanup, "--cleanup");
    for destination in &flags.destinations {
        args.pair("--destination", destination);
    }
    args.pair("--digest-file", digest_file(order));
    args.when(flags.force, "--force");
    args.optional(
        "--image-fs-extract-retry",
        flags.image_fs_extract_retry.as_deref(),
    );
    args.optional(
        "--image-name-with-digest-file",
        flags.image_name_with_digest_file.as_deref(),
    );
    args.when(flags.insecure, "--insecure");
    args.when(flags.insecure_pull, "--insecure-pull");
    args.optional("--log-format", flags.log_format.as_deref());
    args.when(flags.log_timestamp, "--log-timestamp");
    args.optional("--oci-layout-path", flags.oci_layout_path.as_deref());
    for (host, mirrors) in &flags.mirrors {
        for mirror in mirrors {
            if host == DOCKER_HUB {
                args.pair("--registry-mirror", mirror);
            } else {
                args.pair("--registry-map", &format!("{host}={mirror}"));
            }
        }
    }
    args.when(flags.reproducible, "--reproducible");
    args.when(flags.single_snapshot, "--single-snapshot");
    if flags.skip_tls {
        args.flag("--skip-tls-verify");
        args.pair("--skip-tls-verify-registry", order.registry());
    }
    args.when(flags.skip_tls_verify_pull, "--skip-tls-verify-pull");
    args.when(flags.skip_unused_stages, "--skip-unused-stages");
    args.optional("--snapshot-mode", flags.snapshot_mode.as_deref());
    args.optional("--push-retry", flags.push_retry.as_deref());
    args.optional("--tarPath", flags.tar_path.as_deref());
    args.when(flags.use_new_run, "--use-new-run");
    args.optional("--verbosity", flags.verbosity.as_deref());
    match flags.whitelist_var_run {
        Some(true) => args.flag("--whitelist-var-run"),
        // skaffold cannot say this at all (skaffold.md 2.4).
        Some(false) => args.flag("--whitelist-var-run=false"),
        None => {}
    }
}

fn registry_args(order: &Order, args: &mut Args) {
    let flags = &order.artifact.flags;
    let mut insecure: Vec<&String> = Vec::new();
    for host in flags
        .insecure_registries
        .iter()
        .chain(&order.insecure_registries)
    {
        if !insecure.contains(&host) {
            insecure.push(host);
        }
    }
    for host in insecure {
        args.pair("--insecure-registry", host);
    }
    for host in &flags.skip_tls_verify_registries {
        args.pair("--skip-tls-verify-registry", host);
    }
    for path in &flags.ignore_paths {
        args.pair("--ignore-path", path);
    }
    for (host, path) in &order.registry_certificates {
        args.pair("--registry-certificate", &format!("{host}={path}"));
    }
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn flag(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn pair(&mut self, name: &str, value: &str) {
        self.0.extend([name.to_owned(), value.to_owned()]);
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.pair(name, value);
        }
    }

    fn when(&mut self, on: bool, name: &str) {
        if on {
            self.flag(name);
        }
    }
}

#[cfg(test)]
mod tests;
