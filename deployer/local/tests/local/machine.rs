//! Pods on this machine's own network.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::bench::{Bench, Case, forward};
use crate::cases::{bare_pod, container, deployment};
use crate::network::{service, web};

pub const CASES: &[Case] = &[
    (
        "a_pod_on_the_machines_network_reaches_out_and_is_reached",
        host_network,
    ),
    (
        "a_low_port_of_the_machine_says_what_would_allow_it",
        low_port,
    ),
];

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

/// Serves on a port of the machine, with probes of two kinds and a hook.
fn server(port: u16, word: &str) -> Value {
    let script =
        format!("mkdir /www; echo {word} > /www/index.html; exec httpd -f -p {port} -h /www");
    let mut main = container("main", &script);
    main["ports"] = json!([{"name": "http", "containerPort": port}]);
    main["readinessProbe"] = json!({"httpGet": {"path": "/", "port": "http"}});
    main["livenessProbe"] = json!({"exec": {"command": ["test", "-e", "/www/index.html"]}});
    json!({"hostNetwork": true, "terminationGracePeriodSeconds": 1, "containers": [main]})
}

fn host_network(bench: &Bench) {
    // What a pod of its own network does not reach: a server of this machine.
    let outside = TcpListener::bind("127.0.0.1:0").expect("a port");
    let outside_port = outside.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for mut stream in outside.incoming().flatten() {
            drop(std::io::Read::read(&mut stream, &mut [0; 1024]));
            let answer = "HTTP/1.0 200 OK\r\n\r\nfrom the machine\n";
            drop(std::io::Write::write_all(&mut stream, answer.as_bytes()));
        }
    });
    let ask = format!("wget -q -O - http://127.0.0.1:{outside_port}/; echo end; sleep 1000");
    let asks = bare_pod(
        "asks",
        json!({"hostNetwork": true, "containers": [container("main", &ask)]}),
    );
    let port = free_port();
    let svc = service(
        "web",
        json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}),
    );
    let objects = |word: &str| {
        [
            svc.clone(),
            asks.clone(),
            deployment("web", 1, server(port, word)),
            bare_pod("inside", web("x")),
        ]
    };
    let applied = bench.apply_with(&objects("first"), vec![forward("web", 80, None)]);
    bench.until_line("asks", "from the machine");
    bench.until_ready();
    // It listens on the machine itself; nothing has to be forwarded.
    let local = applied.forwards[0].local.clone().expect("a port");
    assert_eq!(local, format!("127.0.0.1:{port}"));
    assert_eq!(bench.get(&local, "/"), "first\n");
    // Others reach it by its service, and commands run in it.
    let (_, said) = bench.exec("inside", &["wget", "-q", "-O", "-", "http://web"]);
    assert_eq!(said, "first\n");
    let (code, said) = bench.exec(
        "web",
        &["wget", "-q", "-O", "-", &format!("http://{local}")],
    );
    assert_eq!((code, said.as_str()), (0, "first\n"));
    let machine = rustix::system::uname();
    let (_, said) = bench.exec("web", &["hostname"]);
    assert_eq!(said.trim(), machine.nodename().to_string_lossy());
    // The port is had once: the next pod waits until the one before has left it.
    bench.apply_with(&objects("second"), vec![forward("web", 80, None)]);
    bench.until("the second answers", |world| {
        world.generation == 2
            && world
                .workloads
                .iter()
                .all(|w| w.state == kiln_local::protocol::WorkloadState::Ready)
    });
    assert_eq!(bench.get(&local, "/"), "second\n");
    let world = bench.try_world().expect("the world");
    let restarts = world.pods.iter().flat_map(|pod| &pod.containers);
    assert_eq!(restarts.map(|container| container.restarts).sum::<u32>(), 0);
}

fn low_port(bench: &Bench) {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first: u16 = first.expect("the setting").trim().parse().expect("a port");
    if first <= 80 {
        return bench.skip("this machine lets everybody listen on port 80");
    }
    bench.apply(&[deployment("low", 1, server(80, "x"))]);
    let world = bench.until("it is said", |world| !world.remarks.is_empty());
    let said = &world.remarks[0];
    assert!(
        said.starts_with("low") && said.contains("sysctl net.ipv4.ip_unprivileged_port_start=80"),
        "{said}"
    );
}
