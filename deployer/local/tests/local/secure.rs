//! Probes and hooks over HTTPS, with a server that really speaks it: this same program, started
//! in a container with a certificate that nobody signed.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use kiln_local::protocol::{WorkloadState, World};
use serde_json::{Value, json};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::bench::{Bench, Case};
use crate::cases::{bare_pod, deployment};
use crate::network::web;

pub const CASES: &[Case] = &[(
    "probes_and_hooks_over_https_trust_any_certificate",
    over_https,
)];

/// The word by which this program becomes the server.
pub const SERVE: &str = "serve-https";

/// Answers `/` with 200, `/moved` with 302 and all else with 500, and says what it was asked.
pub fn serve() {
    let names = vec!["nobody.example".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let key = made.signing_key.serialize_der();
    let settings = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            key.try_into().expect("its key"),
        )
        .expect("settings");
    let settings = Arc::new(settings);
    let listener = TcpListener::bind("0.0.0.0:8443").expect("port 8443");
    for stream in listener.incoming().flatten() {
        let connection = ServerConnection::new(Arc::clone(&settings)).expect("a connection");
        let mut stream = StreamOwned::new(connection, stream);
        let mut request = [0; 1024];
        // Whoever speaks no TLS is not answered.
        let Ok(length) = stream.read(&mut request) else {
            continue;
        };
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        let path = request.split(' ').nth(1).unwrap_or_default();
        println!("asked for {path}");
        let status = match path {
            "/" => "200 OK",
            "/moved" => "302 Found\r\nLocation: /",
            _ => "500 Internal Server Error",
        };
        // A client that is gone was answered before.
        drop(write!(stream, "HTTP/1.1 {status}\r\n\r\n"));
        drop(stream.flush());
    }
}

/// Puts this program and what it is linked with into the image; its command there.
fn install(bench: &Bench) -> Vec<String> {
    let folder = bench.image.join("opt");
    fs::create_dir_all(&folder).expect("a folder");
    let exe = std::env::current_exe().expect("this program");
    fs::copy(&exe, folder.join("serve")).expect("a copy");
    let maps = fs::read_to_string("/proc/self/maps").expect("what is mapped");
    let mapped = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])));
    let mut loader = None;
    for library in mapped.filter(|path| *path != exe && path.is_file()) {
        let name = library.file_name().expect("a name");
        fs::copy(&library, folder.join(name)).expect("a copy");
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("ld-") {
            loader = Some(name);
        }
    }
    let loader = loader.map(|name| {
        vec![
            format!("/opt/{name}"),
            "--library-path".into(),
            "/opt".into(),
        ]
    });
    let mut command = loader.unwrap_or_default();
    command.extend(["/opt/serve".into(), SERVE.into()]);
    command
}

fn over_https(bench: &Bench) {
    let command = install(bench);
    let with = |mut spec: Value, scheme: &str, path: &str| {
        let get = json!({"path": path, "port": 8443, "scheme": scheme});
        spec["containers"][0]["readinessProbe"] = json!({"httpGet": get});
        spec
    };
    let server = json!({"containers": [{"name": "main", "image": "box", "command": command}]});
    let mut plain = web("x");
    plain["containers"][0]["readinessProbe"] =
        json!({"httpGet": {"path": "/", "port": 8080, "scheme": "HTTPS"}});
    let objects = [
        deployment("good", 1, with(server.clone(), "HTTPS", "/")),
        deployment("moved", 1, with(server.clone(), "HTTPS", "/moved")),
        deployment("bad", 1, with(server.clone(), "HTTPS", "/bad")),
        deployment("unencrypted", 1, with(server.clone(), "HTTP", "/")),
        deployment("no-tls", 1, plain),
    ];
    bench.apply(&objects);
    let ready = |world: &World, name: &str| {
        let found = world.workloads.iter().find(|w| w.name.name == name);
        found.is_some_and(|w| w.state == WorkloadState::Ready)
    };
    let world = bench.until("those that answer well are ready", |world| {
        ready(world, "good") && ready(world, "moved")
    });
    bench.until_line("bad", "asked for /bad");
    for name in ["bad", "unencrypted", "no-tls"] {
        assert!(!ready(&world, name), "{name}");
    }

    let mut stops = with(server, "HTTPS", "/");
    stops["containers"][0]["lifecycle"] =
        json!({"preStop": {"httpGet": {"path": "/stop", "port": 8443, "scheme": "HTTPS"}}});
    // It is told to stop, but not before the hook: that it was asked is the last that it says.
    stops["terminationGracePeriodSeconds"] = json!(1);
    bench.apply(&[bare_pod("stops", stops)]);
    bench.until_ready();
    bench.follow_while("asked for /stop", || {
        bench.apply(&[]);
    });
}
