//! The node: containerd, the pods' network, the kubelet and kube-proxy.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::error::{AtPath, Error};
use crate::layout::{
    Layout, NODE_IP, NODE_NAME, PAUSE_IMAGE, PLAIN_REGISTRY, POD_BRIDGE, POD_CIDR, TLS_REGISTRY,
    TLS_REGISTRY_BY_ADDRESS,
};
use crate::network::Network;
use crate::parts::Parts;

/// Writes the configuration files of all components of the node.
pub(crate) fn write_config(layout: &Layout, network: &Network, parts: &Parts) -> Result<(), Error> {
    write(
        &layout.config("containerd.toml"),
        &containerd_config(layout, parts),
    )?;
    write(&layout.config("cni/kiln.conflist"), &pod_network(layout))?;
    // Every registry of the world is the local one, so that the usual names of base
    // images resolve without a network.
    let everywhere = format!("http://{PLAIN_REGISTRY}");
    write(
        &layout.config("certs.d/_default/hosts.toml"),
        &format!(
            "server = \"{everywhere}\"\n[host.\"{everywhere}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        ),
    )?;
    let private = format!("https://{TLS_REGISTRY_BY_ADDRESS}");
    for name in [TLS_REGISTRY, TLS_REGISTRY_BY_ADDRESS] {
        write(
            &layout.config(&format!("certs.d/{name}/hosts.toml")),
            &format!(
                "server = \"{private}\"\nca = \"{ca}\"\n[host.\"{private}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = \"{ca}\"\n",
                ca = layout.ca_certificate().display(),
            ),
        )?;
    }
    write(
        &layout.config("kubelet.json"),
        &kubelet_config(layout, network),
    )?;
    write(&layout.config("kube-proxy.json"), &proxy_config(layout))?;
    // Read by pods with dnsPolicy Default: the hermetic cluster has no other server.
    write(
        &layout.config("resolv.conf"),
        &format!("nameserver {NODE_IP}\n"),
    )
}

fn write(path: &Path, content: &str) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).at("create", folder)?;
    }
    fs::write(path, content).at("write", path)
}

fn containerd_config(layout: &Layout, parts: &Parts) -> String {
    format!(
        r#"version = 3
root = "{root}"
state = "{state}"

[grpc]
  address = "{socket}"

# Its socket has a fixed path, which two clusters would fight over.
[plugins.'io.containerd.nri.v1.nri']
  disable = true

[plugins.'io.containerd.cri.v1.images']
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{PAUSE_IMAGE}"
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = "{certs}"

[plugins.'io.containerd.cri.v1.runtime']
  # The machine may not grant CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  disable_apparmor = true
  # So that removing the state removes them too.
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "{runc}"
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{plugins}"]
    conf_dir = "{networks}"
"#,
        root = layout.data("containerd").display(),
        state = layout.run().join("containerd").display(),
        socket = layout.containerd_socket().display(),
        certs = layout.config("certs.d").display(),
        runc = parts.program("runc").display(),
        plugins = parts.folder_of("bridge").display(),
        networks = layout.config("cni").display(),
    )
}

fn pod_network(layout: &Layout) -> String {
    let config = json!({
        "cniVersion": "1.0.0",
        "name": "kiln",
        "plugins": [
            {
                "type": "bridge",
                "bridge": POD_BRIDGE,
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": layout.data("cni"),
                    "ranges": [[{"subnet": POD_CIDR}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    format!("{config:#}\n")
}

fn kubelet_config(layout: &Layout, network: &Network) -> String {
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", network.cgroup()),
        "clusterDNS": [NODE_IP],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{}", layout.containerd_socket().display()),
        "enforceNodeAllocatable": [],
        // Amounts and not shares: one hundredth of a large disk that is nearly full
        // is still room enough for every test.
        "evictionHard": {
            "memory.available": "50Mi", "nodefs.available": "100Mi",
            "nodefs.inodesFree": "10000", "imagefs.available": "100Mi",
        },
        "failSwapOn": false,
        "failCgroupV1": false,
        // Tolerates the kernel settings that a container may not change.
        "featureGates": {"KubeletInUserNamespace": true},
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250,
        "oomScoreAdj": 0,
        "podLogsDir": layout.data("pod-logs"),
        "resolvConf": layout.config("resolv.conf"),
        "volumePluginDir": layout.data("volume-plugins"),
    });
    format!("{config:#}\n")
}

fn proxy_config(layout: &Layout) -> String {
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": NODE_IP,
        "clientConnection": {"kubeconfig": layout.kubeconfig()},
        "clusterCIDR": POD_CIDR,
        "conntrack": {"maxPerCore": 0, "min": 0},
        "hostnameOverride": NODE_NAME,
        // The answer of a pod on the same bridge would otherwise go to the asking pod
        // directly, from an address that it never asked.
        "iptables": {"masqueradeAll": true},
        "mode": "iptables",
    });
    format!("{config:#}\n")
}

/// Flags of containerd.
pub(crate) fn containerd(layout: &Layout) -> Vec<String> {
    vec![format!(
        "--config={}",
        layout.config("containerd.toml").display()
    )]
}

/// Flags of the kubelet; the node address is given since there is no default route.
pub(crate) fn kubelet(layout: &Layout) -> Vec<String> {
    vec![
        "kubelet".into(),
        format!("--config={}", layout.config("kubelet.json").display()),
        format!("--kubeconfig={}", layout.kubeconfig().display()),
        format!("--root-dir={}", layout.data("kubelet").display()),
        format!("--cert-dir={}", layout.data("kubelet-pki").display()),
        format!("--hostname-override={NODE_NAME}"),
        format!("--node-ip={NODE_IP}"),
    ]
}

/// Flags of kube-proxy.
pub(crate) fn proxy(layout: &Layout) -> Vec<String> {
    vec![
        "kube-proxy".into(),
        format!("--config={}", layout.config("kube-proxy.json").display()),
    ]
}
