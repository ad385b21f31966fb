//! What of a pod's specification cannot be done here, and what has no meaning here.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, PodSpec, Volume};

use crate::network::resolv;

/// Lists what would change behaviour; notes what only schedules.
pub(super) fn of_pod(spec: &PodSpec, unsupported: &mut Vec<String>, notes: &mut BTreeSet<String>) {
    let mut list = |set: bool, line: &str| {
        if set {
            unsupported.push(line.to_owned());
        }
    };
    list(
        spec.host_pid == Some(true),
        "hostPID: a pod sees its own processes only",
    );
    list(
        spec.host_ipc == Some(true),
        "hostIPC: a container has its own",
    );
    list(
        spec.share_process_namespace == Some(true),
        "shareProcessNamespace: a container sees its own processes only",
    );
    list(
        spec.runtime_class_name.is_some(),
        "runtimeClassName: there is one runtime",
    );
    list(
        spec.ephemeral_containers
            .as_ref()
            .is_some_and(|list| !list.is_empty()),
        "ephemeralContainers",
    );
    of_names(spec, &mut list);
    let sysctls = spec
        .security_context
        .as_ref()
        .and_then(|s| s.sysctls.as_ref());
    list(
        sysctls.is_some_and(|list| !list.is_empty()),
        "securityContext.sysctls",
    );
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    for container in containers {
        of_container(container, unsupported, notes);
    }
    for volume in spec.volumes.iter().flatten() {
        if !is_known(volume) {
            unsupported.push(format!(
                "volume {}: a kind that is not to be had here",
                volume.name
            ));
        }
        let empty = volume.empty_dir.as_ref();
        if empty.is_some_and(|empty| empty.medium.is_some() || empty.size_limit.is_some()) {
            notes.insert(
                "emptyDir: medium and sizeLimit have no effect, it lies on disk".to_owned(),
            );
        }
    }
    if spec.host_network == Some(true) {
        notes.insert(
            "hostNetwork: on this machine's network services have no names or addresses, only their forwarded ports"
                .to_owned(),
        );
    }
    note_scheduling(spec, notes);
}

/// What the API refuses, and the one policy that has no meaning on the machine's network.
fn of_names(spec: &PodSpec, list: &mut impl FnMut(bool, &str)) {
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let servers = spec.dns_config.as_ref();
    let servers = servers.and_then(|own| own.nameservers.as_ref());
    let servers = servers.map_or(0, Vec::len);
    let known = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    list(
        !known.contains(&policy),
        &format!("dnsPolicy {policy}: it is one of {}", known.join(", ")),
    );
    list(
        policy == "None" && servers == 0,
        "dnsPolicy None: it needs a name server in dnsConfig",
    );
    list(
        servers > resolv::SERVERS,
        &format!(
            "dnsConfig: {servers} name servers, and only {} are read",
            resolv::SERVERS
        ),
    );
    list(
        policy == "ClusterFirstWithHostNet" && spec.host_network == Some(true),
        "dnsPolicy ClusterFirstWithHostNet: services have no addresses on the machine's network; leave it out, and use their forwarded ports",
    );
}

fn is_known(volume: &Volume) -> bool {
    volume.empty_dir.is_some()
        || volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.host_path.is_some()
        || volume.downward_api.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.ephemeral.is_some()
}

fn of_container(
    container: &Container,
    unsupported: &mut Vec<String>,
    notes: &mut BTreeSet<String>,
) {
    let name = &container.name;
    let mut list = |set: bool, line: &str| {
        if set {
            unsupported.push(format!("container {name}: {line}"));
        }
    };
    let security = container.security_context.as_ref();
    list(
        security.is_some_and(|s| s.privileged == Some(true)),
        "privileged: no container is root of the machine",
    );
    list(
        container
            .volume_devices
            .as_ref()
            .is_some_and(|list| !list.is_empty()),
        "volumeDevices",
    );
    let probes = [
        &container.liveness_probe,
        &container.readiness_probe,
        &container.startup_probe,
    ];
    for probe in probes.into_iter().flatten() {
        let known = probe.exec.is_some()
            || probe.http_get.is_some()
            || probe.tcp_socket.is_some()
            || probe.grpc.is_some();
        list(!known, "a probe that asks nothing");
    }
    for get in http_gets(container) {
        let scheme = get.scheme.as_deref().unwrap_or("HTTP");
        list(
            !matches!(scheme, "HTTP" | "HTTPS"),
            &format!("httpGet: the scheme {scheme}: HTTP or HTTPS"),
        );
    }
    if container
        .resources
        .as_ref()
        .is_some_and(|r| r.limits.is_some() || r.requests.is_some())
    {
        notes.insert(
            "resources: requests and limits are not enforced on a single machine".to_owned(),
        );
    }
    let confined = security.is_some_and(|s| {
        s.seccomp_profile.is_some() || s.app_armor_profile.is_some() || s.se_linux_options.is_some()
    });
    if confined {
        notes.insert(
            "seccomp, AppArmor and SELinux profiles: containers run in a user namespace instead"
                .to_owned(),
        );
    }
}

/// Every request that probes and hooks make.
fn http_gets(container: &Container) -> impl Iterator<Item = &HTTPGetAction> {
    let probes = [
        &container.liveness_probe,
        &container.readiness_probe,
        &container.startup_probe,
    ];
    let probes = probes.into_iter().flatten();
    let hooks = container.lifecycle.iter();
    let hooks = hooks.flat_map(|hooks| [&hooks.post_start, &hooks.pre_stop]);
    probes
        .filter_map(|probe| probe.http_get.as_ref())
        .chain(hooks.flatten().filter_map(|hook| hook.http_get.as_ref()))
}

fn note_scheduling(spec: &PodSpec, notes: &mut BTreeSet<String>) {
    let fields = [
        (spec.affinity.is_some(), "affinity"),
        (spec.tolerations.is_some(), "tolerations"),
        (spec.node_selector.is_some(), "nodeSelector"),
        (spec.node_name.is_some(), "nodeName"),
        (
            spec.topology_spread_constraints.is_some(),
            "topologySpreadConstraints",
        ),
        (spec.priority_class_name.is_some(), "priorityClassName"),
        (spec.scheduler_name.is_some(), "schedulerName"),
    ];
    for (_, field) in fields.into_iter().filter(|(set, _)| *set) {
        notes.insert(format!("{field}: there is one machine to choose from"));
    }
}
