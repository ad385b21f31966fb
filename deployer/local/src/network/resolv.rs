//! `/etc/resolv.conf` of a pod. Pure.
//!
//! Source: Kubernetes documentation, "DNS for Services and Pods", and the kubelet's
//! `pkg/kubelet/network/dns`, which is more exact about what is merged.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec};

use super::addresses::BRIDGE;
use super::zone::DOMAIN;

/// Name servers that a C library reads (resolv.conf(5)); the API refuses more of them.
pub const SERVERS: usize = 3;

/// What names are looked up with.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Resolving {
    servers: Vec<String>,
    searches: Vec<String>,
    /// `name` or `name:value`.
    options: Vec<String>,
}

/// The text of the file; `machine` is this machine's own.
#[must_use]
pub fn of_pod(spec: &PodSpec, namespace: &str, machine: &str) -> String {
    let on_host = spec.host_network == Some(true);
    let machine = Resolving::read(machine);
    let mut resolving = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => Resolving::default(),
        "ClusterFirst" | "ClusterFirstWithHostNet" if !on_host => {
            Resolving::cluster(namespace, &machine)
        }
        _ if on_host => machine,
        _ => machine.seen_from_a_pod(),
    };
    if let Some(own) = &spec.dns_config {
        resolving.add(own);
    }
    resolving.to_text()
}

impl Resolving {
    /// As the kubelet reads the node's file: the last `search` counts, `domain` does not.
    fn read(text: &str) -> Self {
        let mut read = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => read.servers.extend(words.next()),
                Some("search") => read.searches = words.collect(),
                Some("options") => read.options.extend(words),
                _ => {}
            }
        }
        read
    }

    fn cluster(namespace: &str, machine: &Self) -> Self {
        let own = [
            format!("{namespace}.svc.{DOMAIN}"),
            format!("svc.{DOMAIN}"),
            DOMAIN.to_owned(),
        ];
        let mut cluster = Self {
            servers: vec![BRIDGE.to_string()],
            options: vec!["ndots:5".to_owned()],
            ..Self::default()
        };
        extend(&mut cluster.searches, own);
        extend(&mut cluster.searches, machine.searches.iter().cloned());
        cluster
    }

    /// A server on the machine's own loopback is another one inside of a pod; the pods' server
    /// asks it for them.
    fn seen_from_a_pod(mut self) -> Self {
        let servers = std::mem::take(&mut self.servers);
        let reachable = servers.into_iter().map(|server| {
            let loopback = server.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
            if loopback { BRIDGE.to_string() } else { server }
        });
        extend(&mut self.servers, reachable);
        self
    }

    /// Adds a pod's `dnsConfig`; an option that is there already gets its value.
    fn add(&mut self, own: &PodDNSConfig) {
        extend(&mut self.servers, own.nameservers.iter().flatten().cloned());
        extend(&mut self.searches, own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            let text = match option.value.as_deref() {
                None | Some("") => name.clone(),
                Some(value) => format!("{name}:{value}"),
            };
            let is_it = |known: &&mut String| known.split(':').next() == Some(name);
            match self.options.iter_mut().find(is_it) {
                Some(known) => *known = text,
                None => self.options.push(text),
            }
        }
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in self.servers.iter().take(SERVERS) {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

/// Adds what is not there yet.
fn extend(known: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for item in more {
        if !known.contains(&item) {
            known.push(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const MACHINE: &str = "# made by hand\ndomain old.example\nsearch lab.example cluster.local\nnameserver 127.0.0.53\nnameserver 192.0.2.1\noptions edns0 timeout:2\n";

    fn text(mut spec: Value) -> String {
        spec["containers"] = json!([]);
        of_pod(&serde_json::from_value(spec).unwrap(), "shop", MACHINE)
    }

    #[test]
    fn policies_choose_and_a_pods_own_settings_are_merged() {
        let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local lab.example\nnameserver 10.88.0.1\noptions ndots:5\n";
        assert_eq!(text(json!({})), cluster);
        assert_eq!(
            text(json!({"dnsPolicy": "ClusterFirstWithHostNet"})),
            cluster
        );
        let own = json!({"nameservers": ["192.0.2.9", "10.88.0.1"], "searches": ["a.example", "lab.example"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "use-vc"}]});
        assert_eq!(
            text(json!({"dnsConfig": own})),
            "search shop.svc.cluster.local svc.cluster.local cluster.local lab.example a.example\nnameserver 10.88.0.1\nnameserver 192.0.2.9\noptions ndots:2 use-vc\n"
        );
        assert_eq!(
            text(json!({"dnsPolicy": "None", "dnsConfig": own})),
            "search a.example lab.example\nnameserver 192.0.2.9\nnameserver 10.88.0.1\noptions ndots:2 use-vc\n"
        );
    }

    #[test]
    fn the_machines_own_loopback_is_no_server_inside_of_a_pod() {
        let of = |servers: &str| {
            format!(
                "search lab.example cluster.local\n{servers}nameserver 192.0.2.1\noptions edns0 timeout:2\n"
            )
        };
        assert_eq!(
            text(json!({"dnsPolicy": "Default"})),
            of("nameserver 10.88.0.1\n")
        );
        // On the machine's network it is the machine's.
        for policy in ["Default", "ClusterFirst"] {
            let spec = json!({"dnsPolicy": policy, "hostNetwork": true});
            assert_eq!(text(spec), of("nameserver 127.0.0.53\n"));
        }
    }
}
