//! How registries are reached: trust, http, mirrors, credentials, retries, refusals.

use std::fs;
use std::net::UdpSocket;

use kiln_registry::server::{Access, Registry, Serving};

use super::hub::{Hub, PASSWORD, USER};
use super::web::{Reply, Request, Web, reply};

#[test]
fn an_unknown_authority_is_refused_unless_that_is_switched_off() {
    let hub = Hub::start();
    let context = hub.simple().display().to_string();
    let image = hub.image("app:v1");
    let run = |flags: &[&str], env: &[(&str, &str)]| {
        let args: Vec<&str> = ["-c", &context, "-d", &image]
            .into_iter()
            .chain(flags.iter().copied())
            .collect();
        hub.executor(&args, env)
    };
    run(&[], &[]).fails("certificate");
    // It holds for pulls from everywhere, and a push is a request to everywhere's host as well.
    run(&["--skip-tls-verify"], &[]).good();
    run(&[&format!("--skip-tls-verify-registry={}", hub.host)], &[]).good();
    run(&["--skip-tls-verify-registry=other.example.com"], &[]).fails("certificate");
    run(&[], &[("SSL_CERT_FILE", &hub.text("ca.pem"))]).good();
    fs::create_dir(hub.path("certs")).unwrap();
    fs::copy(hub.path("ca.pem"), hub.path("certs/own.crt")).unwrap();
    run(&[], &[("SSL_CERT_DIR", &hub.text("certs"))]).good();
}

#[test]
fn pulls_have_their_own_switch_for_certificates() {
    let hub = Hub::start();
    let other = Hub::start();
    hub.build(&hub.simple(), "base:v1", &[]).good();
    let login = format!(
        r#"{{"auths": {{"{}": {{"username": "{USER}", "password": "{PASSWORD}"}}, "{}": {{"username": "{USER}", "password": "{PASSWORD}"}}}}}}"#,
        hub.host, other.host
    );
    fs::write(other.path("docker/config.json"), login).unwrap();
    let dockerfile = format!("FROM {}\nLABEL a=b\n", hub.image("base:v1"));
    let context = other.context("derived", &[("Dockerfile", &dockerfile)]);
    other
        .build(&context, "app:v1", &["--skip-tls-verify"])
        .fails("certificate");
    other
        .build(&context, "app:v1", &["--skip-tls-verify-pull"])
        .good();
    assert_eq!(other.config("app:v1")["config"]["Labels"]["a"], "b");
}

/// An address of this machine that is not the loopback's; `None` on a machine without a network.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: the kernel says which address it would send from.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[test]
fn http_is_spoken_with_named_hosts_alone() {
    let Some(address) = own_address() else { return };
    let hub = Hub::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let registry = Registry::open(&hub.path("plain"), Access::Open).unwrap();
    let serving = runtime
        .block_on(Serving::start(registry, (address, 0).into(), None))
        .unwrap();
    let host = serving.address().to_string();
    let context = hub.simple().display().to_string();
    let image = format!("{host}/app:v1");
    let run = |flags: &[&str]| {
        let args: Vec<&str> = ["-c", &context, "-d", &image, "--push-retry=0"]
            .into_iter()
            .chain(flags.iter().copied())
            .collect();
        hub.executor(&args, &[])
    };
    run(&[]).fails("cannot push to");
    run(&["--insecure"]).good();
    run(&[&format!("--insecure-registry={host}")]).good();
    let derived = hub.context("derived", &[("Dockerfile", &format!("FROM {image}\n"))]);
    hub.build(&derived, "derived:v1", &[])
        .fails("cannot get the image");
    hub.build(&derived, "derived:v1", &["--insecure-pull"])
        .good();
}

#[test]
fn mirrors_are_asked_for_pulls_and_the_origin_only_when_that_is_allowed() {
    let hub = Hub::start();
    hub.build(&hub.simple(), "library/base:v1", &[]).good();
    let context = hub.context("derived", &[("Dockerfile", "FROM base:v1\nLABEL a=b\n")]);
    let mirror = format!("--registry-mirror={}", hub.host);
    hub.build(&context, "app:v1", &[&mirror]).good();
    let map = format!("index.docker.io={}", hub.host);
    hub.build(&context, "app:v2", &[&format!("--registry-map={map}")])
        .good();
    hub.build_with(
        &context,
        "app:v3",
        &[],
        &[("KANIKO_REGISTRY_MIRROR", &hub.host)],
    )
    .good();
    hub.build_with(&context, "app:v4", &[], &[("KANIKO_REGISTRY_MAP", &map)])
        .good();
    assert_eq!(hub.digest("app:v1"), hub.digest("app:v1"));
    let dead = Web::start(|_| reply(404, ""));
    let flags = [
        format!("--registry-map=docker.io={}", dead.address),
        "--skip-default-registry-fallback".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    hub.build(&context, "app:v5", &flags)
        .fails("cannot get the image");
    assert!(!dead.seen().is_empty());
}

#[test]
fn a_mapped_host_keeps_its_name() {
    let hub = Hub::start();
    let login = format!(
        r#"{{"auths": {{"registry.example.com": {{"username": "{USER}", "password": "{PASSWORD}"}}}}}}"#
    );
    fs::write(hub.path("docker/config.json"), login).unwrap();
    let context = hub.simple().display().to_string();
    let names = format!("--image-name-with-digest-file={}", hub.text("names"));
    let host = format!("--registry-host=registry.example.com={}", hub.host);
    hub.executor(
        &[
            "-c",
            &context,
            "-d",
            "registry.example.com/app:v1",
            &host,
            &hub.trust(),
            &names,
        ],
        &[],
    )
    .good();
    assert!(hub.exists("app:v1"));
    assert!(
        fs::read_to_string(hub.path("names"))
            .unwrap()
            .starts_with("registry.example.com/app@sha256:")
    );
}

#[test]
fn credentials_come_from_variables_and_built_in_helpers() {
    let hub = Hub::start();
    fs::remove_file(hub.path("docker/config.json")).unwrap();
    let context = hub.simple();
    let auth = format!(
        r#"{{"auths": {{"{}": {{"auth": "YnVpbGRlcjpzZWNyZXQ="}}}}}}"#,
        hub.host
    );
    hub.build_with(&context, "app:v1", &[], &[("DOCKER_AUTH_CONFIG", &auth)])
        .good();
    let job = [
        ("CI_REGISTRY", hub.host.as_str()),
        ("CI_REGISTRY_USER", USER),
        ("CI_REGISTRY_PASSWORD", PASSWORD),
    ];
    hub.build_with(&context, "app:v1", &[], &job).good();
    hub.build_with(&context, "app:v1", &["--credential-helpers=env"], &job)
        .fails("may not push");
    let name = hub.host.replace(['.', ':'], "_");
    let (user, password) = (
        format!("KANIKO_{name}_USER"),
        format!("KANIKO_{name}_PASSWORD"),
    );
    let own = [(user.as_str(), USER), (password.as_str(), PASSWORD)];
    hub.build_with(&context, "app:v1", &["--credential-helpers=env"], &own)
        .good();
    hub.build_with(&context, "app:v1", &["--credential-helpers="], &own)
        .fails("may not push");
}

#[test]
fn google_gives_a_token_for_its_own_hosts() {
    let hub = Hub::with_user("oauth2accesstoken", "t");
    fs::remove_file(hub.path("docker/config.json")).unwrap();
    let metadata = Web::start(|_| reply(200, r#"{"access_token": "t", "expires_in": 3599}"#));
    let context = hub.simple().display().to_string();
    let host = metadata.address.to_string();
    let run = |registry: &str| {
        let mapped = format!("--registry-host={registry}={}", hub.host);
        let image = format!("{registry}/project/app:v1");
        hub.executor(
            &["-c", &context, "-d", &image, &mapped, &hub.trust()],
            &[("GCE_METADATA_HOST", &host)],
        )
    };
    run("europe-docker.pkg.dev").good();
    let asked = metadata.seen().len();
    run("europe-docker.pkg.dev.example.com").fails("may not push");
    assert_eq!(metadata.seen().len(), asked, "nobody else is given a token");
}

/// A registry that has every blob, and says what it is told to a manifest.
fn having(manifest: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Web {
    Web::start(
        move |request: &Request| match (request.method.as_str(), request.target.as_str()) {
            ("HEAD", target) if target.contains("/blobs/") => reply(200, ""),
            ("POST", _) => reply(202, "").with("location", "/v2/app/blobs/uploads/1"),
            ("DELETE", _) => reply(204, ""),
            ("PUT", target) if target.contains("/manifests/") => manifest(request),
            _ => reply(200, "{}"),
        },
    )
}

fn push_to(hub: &Hub, web: &Web, flags: &[&str], env: &[(&str, &str)]) -> super::hub::Run {
    let (context, image) = (
        hub.simple().display().to_string(),
        format!("{}/app:v1", web.address),
    );
    let args: Vec<&str> = ["-c", &context, "-d", &image]
        .into_iter()
        .chain(flags.iter().copied())
        .collect();
    hub.executor(&args, env)
}

#[test]
fn a_tag_that_may_not_be_changed_is_an_error_or_a_note() {
    let hub = Hub::start();
    for text in [
        "tag v1 cannot be overwritten because the tag is immutable.",
        "The repository has enabled tag immutability",
    ] {
        let body = format!(r#"{{"errors": [{{"code": "TAG_INVALID", "message": "{text}"}}]}}"#);
        let web = having(move |_| reply(400, body.clone()));
        push_to(&hub, &web, &[], &[]).fails("immutable");
        let run = push_to(&hub, &web, &["--push-ignore-immutable-tag-errors"], &[]).good();
        assert!(run.log.contains("it is left as it is"), "{}", run.log);
    }
}

#[test]
fn rights_are_checked_before_the_build_unless_that_is_switched_off() {
    let hub = Hub::start();
    let web = Web::start(|request: &Request| match request.method.as_str() {
        "POST" => reply(
            403,
            r#"{"errors": [{"code": "DENIED", "message": "read only"}]}"#,
        ),
        "PUT" => reply(201, ""),
        _ => reply(200, "{}"),
    });
    let run = push_to(&hub, &web, &[], &[]).fails("may not push");
    assert!(
        run.log.contains("read only") && !run.log.contains("COPY"),
        "{}",
        run.log
    );
    push_to(&hub, &web, &["--skip-push-permission-check"], &[]).good();
}

#[test]
fn what_fails_for_a_moment_is_tried_again_and_we_say_who_we_are() {
    let hub = Hub::start();
    let failures = std::sync::atomic::AtomicUsize::new(0);
    let web = having(move |_| {
        if failures.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 1 {
            reply(503, "").with("retry-after", "0")
        } else {
            reply(201, "")
        }
    });
    push_to(
        &hub,
        &web,
        &["--push-retry=3"],
        &[("UPSTREAM_CLIENT_TYPE", "UpstreamClient(skaffold)")],
    )
    .good();
    let seen = web.seen();
    let puts = seen
        .iter()
        .filter(|request| request.method == "PUT")
        .count();
    assert_eq!(puts, 2);
    let agent = seen[0].header("user-agent").unwrap();
    assert!(
        agent.starts_with("kiln/") && agent.ends_with(",UpstreamClient(skaffold)"),
        "{agent}"
    );
}

#[test]
fn a_registry_that_is_about_to_start_is_waited_for_where_tries_are_asked_for() {
    let hub = Hub::start();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let context = hub.simple().display().to_string();
    let image = format!("{address}/app:v1");
    let args = ["-c", &context, "-d", &image, "--insecure"];
    hub.executor(&args, &[]).fails("refused the connection");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let registry = Registry::open(&hub.path("late"), Access::Open).unwrap();
    let serving = runtime.spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        Serving::start(registry, address, None).await.unwrap()
    });
    hub.executor(&[&args[..], &["--push-retry=8"]].concat(), &[])
        .good();
    drop(runtime.block_on(serving).unwrap());
}

#[test]
fn a_key_that_docker_does_not_write_is_pointed_out() {
    let hub = Hub::start();
    let web = Web::start(|request: &Request| match request.method.as_str() {
        "POST" => reply(401, "").with("www-authenticate", "Basic realm=x"),
        _ => reply(200, "{}"),
    });
    fs::write(
        hub.path("docker/config.json"),
        r#"{"auths": {"docker.io": {"auth": "YTpi"}}}"#,
    )
    .unwrap();
    let (context, host) = (
        hub.simple().display().to_string(),
        format!("--registry-host=docker.io={}", web.address),
    );
    let run = hub.executor(&["-c", &context, "-d", "me/app", &host], &[]);
    assert!(
        run.log.contains("https://index.docker.io/v1/"),
        "{}",
        run.log
    );
}

/// One of them needs the files of the image, the other one its headers, at the same time.
#[test]
fn stages_on_one_image_fetch_its_layer_once() {
    let hub = Hub::start();
    hub.build(&hub.simple(), "base:1", &[]).good();
    let manifest = hub.manifest("base:1");
    let (config, layer) = (&manifest["config"], &manifest["layers"][0]);
    let digest = |descriptor: &serde_json::Value| descriptor["digest"].as_str().unwrap().to_owned();
    let (config_digest, layer_digest) = (digest(config), digest(layer));
    let (config, layer) = (hub.blob("base:1", config), hub.blob("base:1", layer));
    let wanted = layer_digest.clone();
    let web = Web::start(move |request: &Request| match request.target.as_str() {
        target if target.contains("/manifests/") => reply(200, manifest.to_string())
            .with("content-type", manifest["mediaType"].as_str().unwrap()),
        target if target.ends_with(&config_digest) => reply(200, config.clone()),
        target if target.ends_with(&layer_digest) => reply(200, layer.clone()),
        _ => reply(200, "{}"),
    });
    let base = format!("FROM {}/base:1", web.address);
    let dockerfile = format!("{base} AS a\nCOPY f /g\n{base}\nCOPY f /h\nCOPY --from=a /g /\n");
    let context = hub.context("shared", &[("Dockerfile", &dockerfile), ("f", "f")]);
    let context = context.display().to_string();
    // A store that does not have it yet.
    let store = hub.path("empty-store").display().to_string();
    let flags = ["--no-push", "--jobs=2", "--store-dir", &store];
    let run = hub.executor(&[&["-c", &context], &flags[..]].concat(), &[]);
    run.good();
    let seen = web.seen();
    let fetched = seen
        .iter()
        .filter(|request| request.method == "GET" && request.target.ends_with(&wanted));
    assert_eq!(fetched.count(), 1);
}
