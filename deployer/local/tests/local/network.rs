//! Names, addresses and ports.

use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::bench::{Bench, Case, forward, try_get};
use crate::cases::{bare_pod, container, deployment};

pub const CASES: &[Case] = &[
    (
        "a_service_has_a_name_and_an_address_and_pods_share_a_port",
        services,
    ),
    ("a_headless_service_names_each_pod", headless),
    ("udp_goes_through_a_service", udp),
    ("probes_of_all_types_decide_what_is_ready", probes),
    ("a_port_in_use_is_said_and_the_next_is_taken", port_in_use),
    ("pods_that_come_do_not_disturb_those_that_talk", undisturbed),
    ("pods_reach_the_outside_through_pasta", outside),
    (
        "without_pasta_the_outside_is_out_of_reach_at_once",
        no_outside,
    ),
];

pub fn web(word: &str) -> Value {
    let script =
        format!("mkdir /www; echo {word} > /www/index.html; exec httpd -f -p 8080 -h /www");
    json!({"containers": [container("main", &script)]})
}

pub fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

fn services(bench: &Bench) {
    // Two pods on the same port, each with a service, and a client that uses all forms of names.
    let client = container(
        "main",
        "for name in a b.default b.default.svc b.default.svc.cluster.local; do until wget -q -O - http://$name 2>/dev/null; do sleep 0.05; done; done; echo host=$A_SERVICE_HOST port=$A_SERVICE_PORT; nslookup nothing.default.svc.cluster.local || echo no such name; echo end; sleep 1000",
    );
    let svc = |name: &str| {
        service(
            name,
            json!({"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}),
        )
    };
    let applied = bench.apply_with(
        &[
            svc("a"),
            svc("b"),
            deployment("a", 1, web("I-am-a")),
            deployment("b", 1, web("I-am-b")),
            bare_pod("client", json!({"containers": [client]})),
        ],
        vec![forward("a", 80, None)],
    );
    let logs = bench.until_line("client", "end");
    assert!(
        logs.starts_with("I-am-a\nI-am-b\nI-am-b\nI-am-b\nhost=10.89."),
        "{logs}"
    );
    assert!(logs.contains("no such name"), "{logs}");
    let local = applied.forwards[0].local.clone().expect("a port");
    assert_eq!(bench.get(&local, "/"), "I-am-a\n");
}

fn headless(bench: &Bench) {
    let client = container(
        "main",
        "until wget -q -O - http://db-1.db:8080 2>/dev/null; do sleep 0.05; done; echo end; sleep 1000",
    );
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {"replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": web("$(hostname)")}}});
    let svc = service(
        "db",
        json!({"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 8080}]}),
    );
    bench.apply(&[
        svc,
        set,
        bare_pod("client", json!({"containers": [client]})),
    ]);
    assert_eq!(bench.until_line("client", "end"), "db-1\nend\n");
}

/// Answers datagrams with `pong`, or with an argument sends one until an answer comes.
const UDP: &str = r#"
use std::net::UdpSocket;
fn main() {
    let mut buffer = [0; 64];
    match std::env::args().nth(1) {
        None => {
            let socket = UdpSocket::bind("0.0.0.0:5300").unwrap();
            loop {
                let (_, from) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(b"pong", from).unwrap();
            }
        }
        Some(to) => {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
            while socket.send_to(b"ping", &to).is_err() || socket.recv(&mut buffer).is_err() {}
            println!("{}", String::from_utf8_lossy(&buffer[..4]));
        }
    }
}
"#;

fn udp(bench: &Bench) {
    let source = bench.folder.path().join("udp.rs");
    std::fs::write(&source, UDP).expect("source");
    let compiled = std::process::Command::new("rustc")
        .args(["-C", "target-feature=+crt-static", "-o"])
        .arg(bench.image.join("bin/udp"))
        .arg(&source)
        .status();
    assert!(
        compiled.is_ok_and(|status| status.success()),
        "rustc compiles a static program"
    );
    let server = json!({"containers": [container("main", "exec udp")]});
    let client = json!({"containers": [container("main", "udp echo:53; sleep 1000")]});
    let svc = service(
        "echo",
        json!({"selector": {"app": "echo"},
        "ports": [{"port": 53, "targetPort": 5300, "protocol": "UDP"}]}),
    );
    bench.apply(&[
        svc,
        deployment("echo", 1, server),
        bare_pod("client", client),
    ]);
    bench.until_line("client", "pong");
}

fn probes(bench: &Bench) {
    let ready = |probe: Value| {
        let mut spec = web("x");
        spec["containers"][0]["readinessProbe"] = probe.clone();
        spec["containers"][0]["startupProbe"] = probe;
        spec["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 8080}]);
        spec
    };
    bench.apply(&[
        deployment(
            "http",
            1,
            ready(json!({"httpGet": {"path": "/", "port": "http"}})),
        ),
        deployment("tcp", 1, ready(json!({"tcpSocket": {"port": 8080}}))),
        deployment(
            "exec",
            1,
            ready(json!({"exec": {"command": ["test", "-e", "/www/index.html"]}})),
        ),
        deployment(
            "never",
            1,
            ready(json!({"httpGet": {"path": "/absent", "port": 8080}})),
        ),
        deployment("nogrpc", 1, ready(json!({"grpc": {"port": 8080}}))),
    ]);
    use kiln_local::protocol::WorkloadState;
    let world = bench.until("three are ready", |world| {
        world
            .workloads
            .iter()
            .filter(|w| w.state == WorkloadState::Ready)
            .count()
            == 3
    });
    for (name, expected) in [("never", false), ("nogrpc", false), ("http", true)] {
        let workload = world
            .workloads
            .iter()
            .find(|w| w.name.name == name)
            .expect("workload");
        assert_eq!(workload.state == WorkloadState::Ready, expected, "{name}");
    }
}

fn port_in_use(bench: &Bench) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let number = taken.local_addr().expect("address").port();
    let svc = service(
        "web",
        json!({"selector": {"app": "web"}, "ports": [{"port": number, "targetPort": 8080}]}),
    );
    let objects = [svc, deployment("web", 1, web("hello"))];
    let applied = bench.apply_with(&objects, vec![forward("web", number, Some(number))]);
    let said = applied.forwards[0]
        .local
        .clone()
        .expect_err("the port is taken");
    assert_eq!(said, format!("port {number} of 127.0.0.1 is in use"));
    // Without a wish for a certain number the next free one is used.
    let applied = bench.apply_with(&objects, vec![forward("web", number, None)]);
    let local = applied.forwards[0].local.clone().expect("another port");
    assert_ne!(local, format!("127.0.0.1:{number}"));
    assert_eq!(bench.get(&local, "/"), "hello\n");
    // Freed, it is had at the next deploy.
    drop(taken);
    let applied = bench.apply_with(&objects, vec![forward("web", number, Some(number))]);
    let local = applied.forwards[0].local.clone().expect("the port");
    assert_eq!(bench.get(&local, "/"), "hello\n");
    bench
        .runtime
        .block_on(bench.holder.leave())
        .expect("it leaves");
    assert!(try_get(&local, "/").is_none(), "nothing listens any more");
}

fn undisturbed(bench: &Bench) {
    let script = "until wget -q -O - http://web >/dev/null 2>&1; do sleep 0.05; done; echo begin; sleep 1000";
    let asks = bare_pod("asks", json!({"containers": [container("main", script)]}));
    let svc = service(
        "web",
        json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}),
    );
    let many = |count: u32| {
        let idle = json!({"terminationGracePeriodSeconds": 0, "containers": [container("main", "sleep 1000")]});
        [
            svc.clone(),
            deployment("web", 1, web("inside")),
            asks.clone(),
            deployment("idle", count, idle),
        ]
    };
    let address = |bench: &Bench| bench.exec("asks", &["cat", "/proc/net/arp"]).1;
    bench.apply(&many(0));
    bench.until_line("asks", "begin");
    let before = address(bench);
    let gateway = |table: &str| {
        let line = table.lines().find(|line| line.starts_with("10.88.0.1 "));
        line.and_then(|line| line.split_whitespace().nth(3).map(str::to_owned))
    };
    assert!(gateway(&before).is_some(), "{before}");
    for generation in 2..6 {
        bench.apply(&many((generation % 2) * 8));
        bench.until("the others have come or gone", |world| {
            world.generation == u64::from(generation)
                && world
                    .workloads
                    .iter()
                    .all(|w| w.state == kiln_local::protocol::WorkloadState::Ready)
        });
        // The way to the bridge is the same whoever comes.
        assert_eq!(gateway(&address(bench)), gateway(&before));
        assert_eq!(
            bench
                .exec("asks", &["wget", "-q", "-O", "-", "http://web"])
                .1,
            "inside\n"
        );
    }
}

/// An address that is neither a pod's nor this machine's first one.
const OUTSIDE: &str = "203.0.113.9";

fn asks_outside(name: &str) -> Value {
    let script = format!(
        "wget -q -O - http://{OUTSIDE}:8099/ 2>&1 || echo out of reach; wget -q -O - http://web; echo end; sleep 1000"
    );
    bare_pod(name, json!({"containers": [container("main", &script)]}))
}

fn outside(bench: &Bench) {
    let pasta = Path::new("/usr/bin/pasta");
    if !pasta.exists() {
        return bench.skip("no pasta (Debian: passt)");
    }
    if !rustix::process::geteuid().is_root() {
        return bench.skip("only root may make a network with an outside");
    }
    // A network of its own with an outside: a link that leads to it, and the address itself.
    std::thread::scope(|scope| {
        let work = || {
            kiln_sandbox::namespace::own_network().expect("a network");
            for words in [
                "link add name out0 type veth peer name out1",
                "address add 198.51.100.2/24 dev out0",
                "link set out0 up",
                "link set out1 up",
                "route add default via 198.51.100.1",
                "address add 203.0.113.9/32 dev lo",
            ] {
                let status = std::process::Command::new("ip")
                    .args(words.split(' '))
                    .status();
                assert!(status.is_ok_and(|status| status.success()), "ip {words}");
            }
            let listener = TcpListener::bind((OUTSIDE, 8099)).expect("the outside");
            std::thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
                    let answer = "HTTP/1.0 200 OK\r\n\r\nhello from outside\n";
                    // A client that is gone was answered before.
                    drop(std::io::Write::write_all(&mut stream, answer.as_bytes()));
                }
            });
            let svc = service(
                "web",
                json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}),
            );
            let objects = [
                svc,
                deployment("web", 1, web("inside")),
                asks_outside("first"),
            ];
            let apply = |objects: &[Value]| {
                bench.apply_outside(objects, pasta.to_owned());
            };
            apply(&objects);
            let logs = bench.until_line("first", "end");
            assert!(logs.contains("hello from outside\n"), "{logs}");
            // The next pod gets the network that was made beforehand.
            bench.until_ready();
            apply(&[&objects[..], &[asks_outside("second")]].concat());
            let logs = bench.until_line("second", "end");
            assert!(logs.starts_with("hello from outside\ninside\n"), "{logs}");
            // Nothing of it outlives the holder.
            let state = bench.holder.state().display().to_string();
            let holders = crate::trouble::processes(&state);
            let ways = children(&holders, "pas");
            assert!(ways.len() >= 3, "{ways:?}");
            let killed = rustix::process::Pid::from_raw(holders[0]).expect("pid");
            rustix::process::kill_process(killed, rustix::process::Signal::KILL).expect("kill -9");
            while ways.iter().any(|pid| is_alive(*pid)) {
                std::thread::yield_now();
            }
        };
        scope.spawn(work).join().expect("pods reach the outside");
    });
}

/// A process's parent and name.
fn parent(pid: i32) -> Option<(i32, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (before, after) = stat.rsplit_once(") ")?;
    let name = before.split_once('(')?.1.to_owned();
    let parent = after.split(' ').nth(1)?.parse().ok()?;
    Some((parent, name))
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn children(of: &[i32], name: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let own = |pid: &i32| {
        parent(*pid).is_some_and(|(parent, found)| of.contains(&parent) && found.starts_with(name))
    };
    pids.filter(own).collect()
}

fn no_outside(bench: &Bench) {
    let svc = service(
        "web",
        json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}),
    );
    bench.apply(&[svc, deployment("web", 1, web("inside"))]);
    bench.until_ready();
    let (_, said) = bench.exec(
        "web",
        &["wget", "-O", "-", &format!("http://{OUTSIDE}:8099/")],
    );
    assert!(said.contains("unreachable"), "{said}");
    let (_, said) = bench.exec("web", &["wget", "-q", "-O", "-", "http://web"]);
    assert_eq!(said, "inside\n");
}
