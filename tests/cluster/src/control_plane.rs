//! Flags of the API server and of what it needs around it. Pure: layout to arguments.

use std::path::Path;

use crate::layout::{Layout, NODE_IP, SERVICE_CIDR, TLS_REGISTRY_HOST};

fn flag(name: &str, value: impl AsRef<Path>) -> String {
    format!("--{name}={}", value.as_ref().display())
}

/// etcd on the loopback address; its data need not survive a power cut.
pub(crate) fn etcd(layout: &Layout) -> Vec<String> {
    vec![
        "etcd".into(),
        flag("data-dir", layout.data("etcd")),
        flag("listen-client-urls", "http://127.0.0.1:2379"),
        flag("advertise-client-urls", "http://127.0.0.1:2379"),
        flag("listen-peer-urls", "http://127.0.0.1:2380"),
        flag("initial-advertise-peer-urls", "http://127.0.0.1:2380"),
        flag("initial-cluster", "default=http://127.0.0.1:2380"),
        "--unsafe-no-fsync".into(),
    ]
}

/// The API server. RBAC is on, so that missing rights show as they do elsewhere.
pub(crate) fn api_server(layout: &Layout) -> Vec<String> {
    vec![
        "kube-apiserver".into(),
        flag("etcd-servers", "http://127.0.0.1:2379"),
        flag("bind-address", "0.0.0.0"),
        flag("secure-port", "6443"),
        flag("advertise-address", NODE_IP),
        flag("cert-dir", layout.data("apiserver")),
        flag("tls-cert-file", layout.pki("apiserver.crt")),
        flag("tls-private-key-file", layout.pki("apiserver.key")),
        flag("service-cluster-ip-range", SERVICE_CIDR),
        flag(
            "service-account-issuer",
            "https://kubernetes.default.svc.cluster.local",
        ),
        flag(
            "service-account-key-file",
            layout.pki("service-accounts.pub"),
        ),
        flag(
            "service-account-signing-key-file",
            layout.pki("service-accounts.key"),
        ),
        flag("authorization-mode", "RBAC"),
        flag("token-auth-file", layout.pki("tokens.csv")),
        flag("kubelet-preferred-address-types", "InternalIP"),
        "--allow-privileged=true".into(),
    ]
}

/// The controllers without those that want a cloud. Until they run, no namespace has
/// a default service account, and every pod is refused.
pub(crate) fn controller_manager(layout: &Layout) -> Vec<String> {
    vec![
        "kube-controller-manager".into(),
        flag("kubeconfig", layout.kubeconfig()),
        flag("cert-dir", layout.data("controller-manager")),
        flag("bind-address", "127.0.0.1"),
        flag("root-ca-file", layout.ca_certificate()),
        flag(
            "service-account-private-key-file",
            layout.pki("service-accounts.key"),
        ),
        "--use-service-account-credentials=true".into(),
        "--leader-elect=false".into(),
        "--controllers=*,-node-ipam-controller,-node-route-controller,\
         -cloud-node-lifecycle-controller,-service-lb-controller"
            .into(),
    ]
}

/// The scheduler.
pub(crate) fn scheduler(layout: &Layout) -> Vec<String> {
    vec![
        "kube-scheduler".into(),
        flag("kubeconfig", layout.kubeconfig()),
        flag("cert-dir", layout.data("scheduler")),
        flag("bind-address", "127.0.0.1"),
        "--leader-elect=false".into(),
    ]
}

/// The cluster's name server; `upstream` answers for names outside of the cluster.
pub(crate) fn name_server(layout: &Layout, upstream: Option<&str>) -> Vec<String> {
    let mut arguments = vec![
        "dns".into(),
        flag("kubeconfig", layout.kubeconfig()),
        format!("--listen={NODE_IP}:53"),
        format!("--host={TLS_REGISTRY_HOST}={NODE_IP}"),
    ];
    arguments.extend(upstream.map(|server| format!("--upstream={server}:53")));
    arguments
}
