//! Logs, forwarded ports and file sync of running workloads.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use kiln_deployer::forward::{ForwardError, Forwarder, Target};
use kiln_deployer::logs::{LogFollower, Selection, pods_of};
use kiln_deployer::sync::{Decision, Place, Plan, SyncError, copy, plan};
use kiln_deployer::wait_ready;
use kiln_schemas::event::Event;
use kiln_schemas::image::BuiltImage;
use kiln_schemas::model::{ForwardPort, LogPrefix, Logs, SyncRules};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Bench, in_namespace, patient};

const LOGS: Logs = Logs {
    prefix: LogPrefix::Container,
    json_fields: Vec::new(),
};

fn busybox() -> BuiltImage {
    BuiltImage {
        name: "app".into(),
        reference: "busybox".into(),
        digest: None,
        placed: [("web".to_owned(), "/srv".into())].into(),
        workdir: None,
    }
}

fn here(bench: &Bench) -> BTreeSet<String> {
    BTreeSet::from([bench.namespace().to_owned()])
}

fn log_lines(bench: &Bench) -> Vec<(String, String)> {
    let seen = bench.seen.lock().unwrap();
    let lines = seen.iter().filter_map(|event| match event {
        Event::Log {
            container, line, ..
        } => Some((container.clone(), line.clone())),
        _ => None,
    });
    lines.collect()
}

/// Waits for something that comes if the code is right; only a hang ends it.
async fn until<T>(mut found: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..3000 {
        if let Some(found) = found().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it did not happen within five minutes");
}

/// A web server that serves `word`, and its Service.
fn server(word: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{selector: {{app: web}}, \
        ports: [{{name: http, port: 80, targetPort: web}}]}}\n---\napiVersion: apps/v1\nkind: Deployment\n\
        metadata: {{name: web}}\nspec:\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    \
        metadata: {{labels: {{app: web}}}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      containers:\n      \
        - name: app\n        image: busybox\n        ports: [{{name: web, containerPort: 8080}}]\n        \
        readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}\n        command: [sh, -c, \
        'mkdir -p /srv; echo {word} > /srv/index.html; exec httpd -f -p 8080 -h /srv']\n"
    )
}

async fn deploy(bench: &Bench, yaml: &str) {
    let applied = bench.apply(yaml).await.unwrap();
    wait_ready(&bench.cluster, &applied, &patient(), &bench.events)
        .await
        .unwrap();
}

fn target(bench: &Bench, local_port: Option<u16>) -> Target {
    Target {
        kind: "service".into(),
        name: "web".into(),
        namespace: bench.namespace().into(),
        port: ForwardPort::Name("http".into()),
        address: "127.0.0.1".into(),
        local_port,
    }
}

/// Forwards the server; the local address is the one that was said.
async fn forward(bench: &Bench) -> (Forwarder, SocketAddr) {
    let forwarder = Forwarder::start(&bench.cluster, vec![target(bench, None)], &bench.events)
        .await
        .unwrap();
    let said = bench.take().into_iter().find_map(|event| match event {
        Event::Forwarding {
            resource,
            local,
            remote: 80,
        } if resource == "service/web" => Some(local),
        _ => None,
    });
    (
        forwarder,
        said.expect("the forward is said").parse().unwrap(),
    )
}

async fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut socket = TcpStream::connect(address).await.ok()?;
    socket
        .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
        .await
        .ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.trim().to_owned())
}

#[test]
fn logs_are_whole_and_in_order_with_init_containers_and_restarts() {
    in_namespace("logs", async |bench| {
        let selection = Selection {
            namespaces: here(&bench),
            images: vec![busybox()],
            ..Selection::default()
        };
        let follower = LogFollower::start(&bench.cluster, selection, LOGS, bench.events.clone());
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
            initContainers: [{name: setup, image: busybox, command: [echo, set up]}]\n  containers:\n  \
            - {name: app, image: busybox, command: [sh, -c, 'for i in 1 2 3; do echo $i; done; exit 1']}\n  \
            - {name: other, image: 'distroless/static', command: [/none]}\n";
        bench.apply(pod).await.unwrap();
        // Three runs: the first, and two restarts.
        let lines = until(async || Some(log_lines(&bench)).filter(|lines| lines.len() >= 10)).await;
        assert_eq!(lines[0], ("setup".into(), "set up".into()));
        let of_app: Vec<_> = lines[1..]
            .iter()
            .map(|(container, line)| (container.as_str(), line.as_str()))
            .collect();
        let run = [("app", "1"), ("app", "2"), ("app", "3")];
        assert_eq!(of_app[..9], [run, run, run].concat());
        drop(follower);
    });
}

#[test]
fn a_redeploy_goes_on_being_followed_and_old_lines_are_left_out() {
    in_namespace("relogs", async |bench| {
        let says = |word: &str| {
            format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec:\n  selector: {{matchLabels: \
                {{app: d}}}}\n  template:\n    metadata: {{labels: {{app: d}}}}\n    spec: \
                {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: busybox, \
                command: [sh, -c, 'echo {word}; exec sleep 1000']}}]}}\n"
            )
        };
        deploy(&bench, &says("before")).await;
        // A pod's age is known to the second only.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let follower = LogFollower::start(
            &bench.cluster,
            Selection::default(),
            LOGS,
            bench.events.clone(),
        );
        let applied = bench.apply(&says("after")).await.unwrap();
        let selection = Selection {
            namespaces: here(&bench),
            pods: pods_of(&applied),
            ..Selection::default()
        };
        follower.select(selection);
        until(async || {
            log_lines(&bench)
                .iter()
                .any(|(_, line)| line == "after")
                .then_some(())
        })
        .await;
        assert_eq!(log_lines(&bench), [("c".into(), "after".into())]);
    });
}

#[test]
fn a_forward_leads_to_the_newest_pod_across_a_redeploy() {
    in_namespace("forward", async |bench| {
        deploy(&bench, &server("one")).await;
        let (_forwarder, address) = forward(&bench).await;
        assert_eq!(until(async || get(address, "/").await).await, "one");
        deploy(&bench, &server("two")).await;
        until(async || get(address, "/").await.filter(|body| body == "two")).await;
    });
}

#[test]
fn a_local_port_that_is_taken_or_a_resource_that_is_absent_is_an_error_at_once() {
    in_namespace("no-forward", async |bench| {
        let start = async |target: Target| {
            Forwarder::start(&bench.cluster, vec![target], &bench.events).await
        };
        let error = start(target(&bench, None)).await.unwrap_err();
        assert!(matches!(error, ForwardError::Absent { .. }), "{error:?}");
        let taken = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        let number = Target {
            port: ForwardPort::Number(80),
            ..target(&bench, None)
        };
        let port = taken.local_addr().unwrap().port();
        let error = start(Target {
            local_port: Some(port),
            ..number
        })
        .await
        .unwrap_err();
        assert!(matches!(error, ForwardError::Occupied { .. }), "{error:?}");
    });
}

#[test]
fn a_forward_that_leads_nowhere_says_so_and_comes_back() {
    in_namespace("lost", async |bench| {
        let service = server("one");
        let (service, deployment) = service.split_once("---\n").unwrap();
        bench.apply(service).await.unwrap();
        let (_forwarder, address) = forward(&bench).await;
        // The Service is taken away: nothing can be reached through it.
        bench
            .apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: nothing}\n")
            .await
            .unwrap();
        assert_eq!(get(address, "/").await, None);
        until(async || {
            let lost = |event: &Event| matches!(event, Event::ForwardLost { resource, .. } if resource == "service/web");
            bench.take().iter().any(lost).then_some(())
        })
        .await;
        deploy(&bench, &format!("{service}---\n{deployment}")).await;
        assert_eq!(until(async || get(address, "/").await).await, "one");
        until(async || {
            bench
                .take()
                .iter()
                .any(|event| matches!(event, Event::Forwarding { .. }))
                .then_some(())
        })
        .await;
    });
}

#[test]
fn files_are_copied_into_and_deleted_from_running_containers() {
    in_namespace("sync", async |bench| {
        deploy(&bench, &server("built")).await;
        let (_forwarder, address) = forward(&bench).await;
        let context = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(context.path().join("web/deep")).unwrap();
        std::fs::write(context.path().join("web/index.html"), "synced").unwrap();
        std::fs::write(context.path().join("web/deep/big"), vec![b'x'; 3_000_000]).unwrap();
        let rules = SyncRules::Inferred(vec!["web/**".into()]);
        let written = vec!["web/index.html".to_owned(), "web/deep/big".to_owned()];
        let changes = kiln_deployer::sync::Changes {
            written,
            deleted: vec![],
        };
        let Decision::Sync(first) = plan(&changes, &rules, &busybox()) else {
            panic!("not a sync")
        };
        let namespaces = here(&bench);
        let place = Place {
            context: context.path(),
            namespaces: &namespaces,
        };
        assert_eq!(
            copy(&bench.cluster, &place, &busybox(), &first, &bench.events)
                .await
                .unwrap(),
            1
        );
        assert_eq!(until(async || get(address, "/").await).await, "synced");
        assert_eq!(
            until(async || get(address, "/deep/big").await).await.len(),
            3_000_000
        );
        assert!(matches!(
            bench.take().last(),
            Some(Event::Synced {
                copied: 2,
                deleted: 0,
                containers: 1,
                ..
            })
        ));

        let gone = Plan {
            copies: vec![],
            deletions: vec!["/srv/deep/big".into()],
        };
        copy(&bench.cluster, &place, &busybox(), &gone, &bench.events)
            .await
            .unwrap();
        assert_eq!(get(address, "/deep/big").await, None);
        assert_eq!(until(async || get(address, "/").await).await, "synced");
    });
}

#[test]
fn what_cannot_be_copied_is_an_error_that_asks_for_a_build() {
    in_namespace("no-sync", async |bench| {
        let context = tempfile::tempdir().unwrap();
        std::fs::write(context.path().join("a"), "a").unwrap();
        let namespaces = here(&bench);
        let place = Place {
            context: context.path(),
            namespaces: &namespaces,
        };
        let to = |path: &str| Plan {
            copies: vec![("a".into(), path.into())],
            deletions: vec![],
        };
        let error = copy(&bench.cluster, &place, &busybox(), &to("/a"), &bench.events)
            .await
            .unwrap_err();
        assert!(matches!(error, SyncError::NoContainer { .. }), "{error:?}");
        deploy(&bench, &server("built")).await;
        let error = copy(
            &bench.cluster,
            &place,
            &busybox(),
            &to("/proc/nowhere/a"),
            &bench.events,
        )
        .await
        .unwrap_err();
        assert!(
            matches!(error, SyncError::Command { command: "tar", .. }),
            "{error:?}"
        );
    });
}
