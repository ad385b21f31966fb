//! The harness does what it promises: pods run, names resolve, rights and registries
//! are real, and nothing is left after "down".
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kiln_test_cluster::{
    Cluster, Environment, Error, Layout, MODULE_PROXY_URL, Namespace, Network, PLAIN_REGISTRY,
    PULL_ONLY, PUSH_AND_PULL, RegistryUser, TLS_REGISTRY, TLS_REGISTRY_BY_ADDRESS, WEAK_CONTEXT,
};
use kube::Client;
use kube::api::{Api, ListParams, LogParams, PostParams};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn refused(source: kube::Error) -> Error {
    Error::Api {
        action: "test".to_owned(),
        source: Box::new(source),
    }
}

/// Runs a pod to its end and gives its phase and log.
fn run_pod(namespace: &Namespace, name: &str, spec: &Value) -> (String, String) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let cluster = namespace.cluster();
    cluster
        .with_client(async |client: Client| {
            let pods: Api<Pod> = Api::namespaced(client, namespace.name());
            pods.create(&PostParams::default(), &pod)
                .await
                .map_err(refused)?;
            loop {
                let status = pods
                    .get(name)
                    .await
                    .map_err(refused)?
                    .status
                    .unwrap_or_default();
                let phase = status.phase.unwrap_or_default();
                if matches!(phase.as_str(), "Succeeded" | "Failed") {
                    let log = pods
                        .logs(name, &LogParams::default())
                        .await
                        .map_err(refused)?;
                    return Ok((phase, log));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .unwrap()
}

fn shell(image: &str, script: &str) -> Value {
    json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "main", "image": image, "command": ["sh", "-c", script]}],
    })
}

#[test]
fn a_pod_of_a_public_name_runs_and_its_log_is_read() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("echo").unwrap();
    let (phase, log) = run_pod(&namespace, "echo", &shell("busybox", "echo hello"));
    assert_eq!((phase.as_str(), log.as_str()), ("Succeeded", "hello\n"));
}

#[test]
fn a_pod_downloads_a_module_through_the_proxy_by_its_service_name() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    cluster.module_proxy().unwrap();
    let namespace = cluster.namespace("modules").unwrap();
    // A module of the harness's own Kubernetes build, so this machine has it.
    let script = format!(
        "mkdir /w && cd /w && go mod init example.test/w 2>/dev/null && \
         GOPROXY={MODULE_PROXY_URL} GOSUMDB=off go mod download -json github.com/spf13/cobra@v1.9.1"
    );
    let (phase, log) = run_pod(&namespace, "download", &shell("golang:alpine", &script));
    assert_eq!(phase, "Succeeded", "{log}");
    assert!(log.contains("\"Version\": \"v1.9.1\""), "{log}");
}

#[test]
fn a_user_without_rights_is_refused_by_the_api_server() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let text = std::fs::read_to_string(cluster.layout().kubeconfig()).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["current-context"] = json!(WEAK_CONTEXT);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    // The client reads the file that it is told; the network is the cluster's.
    let denied = cluster.with_client(async |_: Client| {
        let kubeconfig = kube::config::Kubeconfig::read_from(&path).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        let pods: Api<Pod> = Api::namespaced(Client::try_from(config).unwrap(), "default");
        Ok(pods.list(&ListParams::default()).await.unwrap_err())
    });
    let kube::Error::Api(status) = denied.unwrap() else {
        panic!("not an answer of the API server");
    };
    assert_eq!(status.code, 403);
}

/// crane with one user's credentials, or none.
fn crane(cluster: &Cluster, user: Option<RegistryUser>, arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut login = cluster.command("crane");
    login
        .env("DOCKER_CONFIG", home.path())
        .env("SSL_CERT_FILE", cluster.layout().ca_certificate());
    if let Some(user) = user {
        login.args([
            "auth",
            "login",
            TLS_REGISTRY_BY_ADDRESS,
            "-u",
            user.name,
            "-p",
            user.password,
        ]);
        assert!(login.output().unwrap().status.success());
    }
    let mut command = cluster.command("crane");
    command
        .env("DOCKER_CONFIG", home.path())
        .env("SSL_CERT_FILE", cluster.layout().ca_certificate());
    command.args(arguments).output().unwrap()
}

#[test]
fn the_tls_registry_takes_a_push_from_the_one_user_and_not_from_the_other() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let from = format!("{PLAIN_REGISTRY}/library/busybox:latest");
    // Nothing is pushed to a repository that has it, so each run takes a new one.
    let to = format!(
        "{TLS_REGISTRY_BY_ADDRESS}/lifecycle/app-{}:1",
        std::process::id()
    );
    let refused = crane(&cluster, Some(PULL_ONLY), &["copy", &from, &to]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("UNAUTHORIZED"));
    let pushed = crane(&cluster, Some(PUSH_AND_PULL), &["copy", &from, &to]);
    assert!(
        pushed.status.success(),
        "{}",
        String::from_utf8_lossy(&pushed.stderr)
    );
    let anonymous = crane(&cluster, None, &["digest", &to]);
    assert!(String::from_utf8_lossy(&anonymous.stderr).contains("UNAUTHORIZED"));
    let digest = crane(&cluster, Some(PULL_ONLY), &["digest", &to]);
    assert!(digest.stdout.starts_with(b"sha256:"));
}

#[test]
fn the_node_pulls_from_the_tls_registry_with_a_pull_secret_and_not_without() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let from = format!("{PLAIN_REGISTRY}/library/busybox:latest");
    let repository = "lifecycle/secret:1";
    let to = format!("{TLS_REGISTRY_BY_ADDRESS}/{repository}");
    assert!(
        crane(&cluster, Some(PUSH_AND_PULL), &["copy", &from, &to])
            .status
            .success()
    );
    let namespace = cluster.namespace("pull").unwrap();
    let auths = json!({"auths": {TLS_REGISTRY: {
        "username": PULL_ONLY.name, "password": PULL_ONLY.password,
    }}});
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": auths.to_string()},
    });
    let mut spec = shell(&format!("{TLS_REGISTRY}/{repository}"), "echo pulled");
    spec["containers"][0]["imagePullPolicy"] = json!("Always");
    let without: Pod = serde_json::from_value(json!({
        "metadata": {"name": "without"}, "spec": spec,
    }))
    .unwrap();
    let message = cluster.with_client(async |client: Client| {
        let secrets: Api<k8s_openapi::api::core::v1::Secret> =
            Api::namespaced(client.clone(), namespace.name());
        let secret = serde_json::from_value(secret).unwrap();
        secrets
            .create(&PostParams::default(), &secret)
            .await
            .map_err(refused)?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.name());
        pods.create(&PostParams::default(), &without)
            .await
            .map_err(refused)?;
        let events: Api<Event> = Api::namespaced(client, namespace.name());
        loop {
            let list = events.list(&ListParams::default()).await.map_err(refused)?;
            let failed = list
                .into_iter()
                .find(|event| event.reason.as_deref() == Some("Failed"));
            if let Some(event) = failed {
                return Ok(event.message.unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let message = message.unwrap();
    assert!(
        message.contains("authorization failed") || message.contains("401"),
        "{message}"
    );
    spec["imagePullSecrets"] = json!([{"name": "pull"}]);
    assert_eq!(run_pod(&namespace, "with", &spec).1, "pulled\n");
}

/// What a cluster leaves in the system's tables if it leaves anything: lines of
/// processes, mounts, control groups and namespaces that name it.
fn traces(run: &Path, netns: &str) -> Vec<String> {
    let run = run.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let folder = entry.unwrap().path();
        // A process may end while it is looked at.
        let words = std::fs::read(folder.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if words.contains(&run) {
            found.push(words);
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let names = |line: &&str| line.contains(&run) || line.contains(&format!("/netns/{netns} "));
    found.extend(mounts.lines().filter(names).map(str::to_owned));
    let groups = Command::new("find")
        .args([
            "/sys/fs/cgroup",
            "-maxdepth",
            "2",
            "-name",
            &format!("kiln-{netns}"),
        ])
        .output();
    found.extend(
        String::from_utf8(groups.unwrap().stdout)
            .unwrap()
            .lines()
            .map(str::to_owned),
    );
    found
}

#[test]
fn down_leaves_no_process_mount_control_group_or_network() {
    // Also says when it is skipped; and the parts are then built once for both.
    if Cluster::for_test().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let netns = format!("kiln-down-{}", std::process::id());
    let layout = Layout::new(
        &Environment::of_process().cache_home,
        Some(folder.path().join("run")),
    );
    let network = Network::Namespace(netns.clone());
    let cluster = Cluster::up(layout.clone(), &network, &mut |_| ()).unwrap();
    let namespace = cluster.namespace("left").unwrap();
    let pods = shell("busybox", "echo started; sleep 100000 & wait");
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"name": "runs"}, "spec": pods})).unwrap();
    cluster
        .with_client(async |client: Client| {
            let pods: Api<Pod> = Api::namespaced(client, namespace.name());
            pods.create(&PostParams::default(), &pod)
                .await
                .map_err(refused)?;
            while pods
                .get("runs")
                .await
                .map_err(refused)?
                .status
                .unwrap_or_default()
                .phase
                .as_deref()
                != Some("Running")
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        })
        .unwrap();
    // The look itself must see something, or the check could not fail.
    assert!(traces(layout.run(), &netns).len() > 10);
    let again = Cluster::up(layout.clone(), &network, &mut |step| {
        panic!("not a no-op: {step}")
    });
    assert_eq!(again.unwrap().variables(), cluster.variables());
    drop(namespace);

    Cluster::down(&layout).unwrap();
    assert_eq!(traces(layout.run(), &netns), Vec::<String>::new());
    assert!(Cluster::find(layout.clone()).unwrap().is_none());
    // Only the logs are kept.
    let left: Vec<_> = layout
        .run()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["logs"]);
}

#[test]
fn a_cluster_with_a_killed_component_is_removed_and_started_anew() {
    if Cluster::for_test().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let netns = format!("kiln-anew-{}", std::process::id());
    let layout = Layout::new(
        &Environment::of_process().cache_home,
        Some(folder.path().join("run")),
    );
    let network = Network::Namespace(netns.clone());
    Cluster::up(layout.clone(), &network, &mut |_| ()).unwrap();
    let before = Cluster::components(&layout).unwrap();
    let etcd = before
        .iter()
        .find(|component| component.name == "etcd")
        .unwrap();
    kill_process(Pid::from_raw(etcd.pid).unwrap(), Signal::KILL).unwrap();
    while Cluster::find(layout.clone()).unwrap().is_some() {
        std::thread::sleep(Duration::from_millis(20));
    }

    let mut steps = Vec::new();
    Cluster::up(layout.clone(), &network, &mut |step| {
        steps.push(step.to_owned());
    })
    .unwrap();
    assert_eq!(
        steps,
        [
            "removing the rest of an earlier cluster",
            "starting the cluster"
        ]
    );
    let after = Cluster::components(&layout).unwrap();
    assert!(after.iter().all(|component| component.running));
    assert!(
        after
            .iter()
            .all(|new| before.iter().all(|old| old.pid != new.pid))
    );
    Cluster::down(&layout).unwrap();
    assert_eq!(traces(layout.run(), &netns), Vec::<String>::new());
}
