//! What `/etc/resolv.conf` of a container says.

use serde_json::{Value, json};

use crate::bench::{Bench, Case};
use crate::cases::{bare_pod, container};

pub const CASES: &[Case] = &[("names_are_resolved_as_policy_and_settings_say", policies)];

fn policies(bench: &Bench) {
    let own = json!({"nameservers": ["192.0.2.53"], "searches": ["shop.example"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "use-vc"}]});
    let shows = |name: &str, mut spec: Value| {
        spec["containers"] = json!([container(
            "main",
            "cat /etc/resolv.conf; echo end; sleep 1000"
        )]);
        bare_pod(name, spec)
    };
    bench.apply(&[
        shows("plain", json!({})),
        shows("added", json!({"dnsConfig": own})),
        shows("alone", json!({"dnsPolicy": "None", "dnsConfig": own})),
        shows("machine", json!({"dnsPolicy": "Default"})),
    ]);
    let said = |pod: &str| {
        let lines = bench.until_line(pod, "end");
        lines.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let cluster = "search default.svc.cluster.local svc.cluster.local cluster.local";
    let plain = said("plain");
    assert!(plain[0].starts_with(cluster), "{plain:?}");
    assert_eq!(
        plain[1..],
        ["nameserver 10.88.0.1", "options ndots:5", "end"]
    );
    let added = said("added");
    assert!(
        added[0].starts_with(cluster) && added[0].ends_with(" shop.example"),
        "{added:?}"
    );
    assert_eq!(
        added[1..],
        [
            "nameserver 10.88.0.1",
            "nameserver 192.0.2.53",
            "options ndots:2 use-vc",
            "end"
        ]
    );
    assert_eq!(
        said("alone"),
        [
            "search shop.example",
            "nameserver 192.0.2.53",
            "options ndots:2 use-vc",
            "end"
        ]
    );
    // The servers are this machine's; one on its own loopback is asked for the pod.
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = text
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver"));
    let mut expected: Vec<String> = Vec::new();
    for server in servers.map(str::trim) {
        let inside = match server.starts_with("127.") || server == "::1" {
            true => "nameserver 10.88.0.1".to_owned(),
            false => format!("nameserver {server}"),
        };
        if !expected.contains(&inside) {
            expected.push(inside);
        }
    }
    let machine = said("machine");
    let machine = machine
        .into_iter()
        .filter(|line| line.starts_with("nameserver"));
    assert_eq!(
        machine.collect::<Vec<_>>(),
        expected[..expected.len().min(3)]
    );
}
