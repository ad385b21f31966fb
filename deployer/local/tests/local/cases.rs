//! Each kind of workload, and what a container sees.

use kiln_local::pod::{Phase, Status};
use serde_json::{Value, json};

use crate::bench::{Bench, Case, pod};

pub const CASES: &[Case] = &[
    ("a_pod_runs_its_command_and_its_output_is_kept", pod_runs),
    (
        "init_containers_run_in_order_and_sidecars_stay",
        init_and_sidecar,
    ),
    ("environment_and_volumes_come_from_their_sources", sources),
    ("a_deployment_is_replaced_one_by_one", rolling),
    (
        "a_stateful_set_has_numbered_pods_with_kept_claims",
        stateful,
    ),
    (
        "a_job_runs_to_its_completions_and_gives_up_after_its_limit",
        jobs,
    ),
    ("hooks_and_grace_are_kept_to", hooks),
    ("identity_and_privileges_are_the_manifests", identity),
    ("exec_runs_in_the_container", exec),
];

pub fn container(name: &str, script: &str) -> Value {
    json!({"name": name, "image": "box", "command": ["/bin/sh", "-c", script]})
}

pub fn bare_pod(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": spec})
}

pub fn deployment(name: &str, replicas: u32, spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec}}})
}

fn pod_runs(bench: &Bench) {
    let spec = json!({"restartPolicy": "Never", "containers": [
        container("main", "echo hello from $(hostname); echo oops >&2; exit 0")]});
    bench.apply(&[bare_pod("once", spec)]);
    let world = bench.until("it has ended", |world| {
        world.pods.iter().any(|pod| pod.phase == Phase::Succeeded)
    });
    assert_eq!(pod(&world, "once").containers[0].restarts, 0);
    let logs = bench.logs(Some("once"));
    assert!(
        logs.contains("hello from once\n") && logs.contains("oops\n"),
        "{logs}"
    );
}

fn init_and_sidecar(bench: &Bench) {
    let mount = json!([{"name": "shared", "mountPath": "/shared"}]);
    let with = |mut value: Value, extra: Value| {
        value["volumeMounts"] = mount.clone();
        for (key, field) in extra.as_object().into_iter().flatten() {
            value[key] = field.clone();
        }
        value
    };
    let first = with(container("first", "echo 1 >> /shared/order"), json!({}));
    let side = with(
        container(
            "side",
            "echo 2 >> /shared/order; trap 'echo side ends; exit 0' TERM; while true; do sleep 0.05; done",
        ),
        json!({"restartPolicy": "Always"}),
    );
    let last = with(container("last", "echo 3 >> /shared/order"), json!({}));
    let main = with(
        container("main", "echo 4 >> /shared/order; cat /shared/order"),
        json!({}),
    );
    let spec = json!({"restartPolicy": "Never", "volumes": [{"name": "shared", "emptyDir": {}}],
        "initContainers": [first, side, last], "containers": [main]});
    bench.apply(&[bare_pod("ordered", spec)]);
    bench.until("it has ended", |world| {
        world.pods.iter().any(|pod| pod.phase == Phase::Succeeded)
    });
    let logs = bench.logs(Some("ordered"));
    let order: Vec<&str> = logs.lines().filter(|line| line.len() == 1).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(
        (order.len(), sorted.first(), sorted.last()),
        (4, Some(&"1"), Some(&"4"))
    );
    assert_eq!(order.last(), Some(&"4"));
    assert!(
        logs.contains("side ends"),
        "the sidecar is asked to end after the rest: {logs}"
    );
}

fn sources(bench: &Bench) {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"},
        "data": {"color": "blue", "file.txt": "text of a file"}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hidden"},
        "stringData": {"password": "pssst"}});
    let mut main = container(
        "main",
        "echo color=$C_color password=$PW name=$NAME ip-is-$([ -n \"$IP\" ] && echo there) args=$ARGS; cat /conf/renamed /all/password /all/labels /one; stat -L -c %a /all/password; echo; ls /conf; touch /conf/x || echo read-only; sleep 1000",
    );
    main["envFrom"] = json!([{"prefix": "C_", "configMapRef": {"name": "conf"}},
        {"configMapRef": {"name": "absent", "optional": true}}]);
    main["env"] = json!([
        {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "password"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "ARGS", "value": "$(NAME)-$(UNKNOWN)-$$(NAME)"}]);
    main["volumeMounts"] = json!([{"name": "conf", "mountPath": "/conf"},
        {"name": "all", "mountPath": "/all"},
        {"name": "conf", "mountPath": "/one", "subPath": "renamed"}]);
    let spec = json!({"containers": [main], "volumes": [
        {"name": "conf", "configMap": {"name": "conf", "items": [{"key": "file.txt", "path": "renamed"}]}},
        {"name": "all", "projected": {"defaultMode": 0o600, "sources": [
            {"secret": {"name": "hidden"}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}}]});
    bench.apply(&[map.clone(), secret.clone(), bare_pod("reads", spec.clone())]);
    let logs = bench.until_line("reads", "read-only");
    assert!(
        logs.contains(
            "color=blue password=pssst name=reads ip-is-there args=reads-$(UNKNOWN)-$(NAME)"
        ),
        "{logs}"
    );
    assert!(
        logs.contains("text of a filepssstapp=\"reads\"text of a file600\n"),
        "{logs}"
    );
    // A changed ConfigMap changes the files of the running pod.
    let mut changed = map;
    changed["data"]["file.txt"] = json!("another text");
    bench.apply(&[changed, secret, bare_pod("reads", spec)]);
    loop {
        let (_, text) = bench.exec("reads", &["cat", "/conf/renamed"]);
        if text == "another text" {
            break;
        }
        assert_eq!(text, "text of a file");
    }
    assert_eq!(bench.try_world().expect("world").pods.len(), 1);
}

fn rolling(bench: &Bench) {
    let spec = |version: &str| {
        let mut main = container(
            "main",
            &format!(
                "echo {version}; sleep 0.2; touch /ready; trap 'exit 0' TERM; while true; do sleep 0.05; done"
            ),
        );
        main["readinessProbe"] =
            json!({"exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1});
        json!({"containers": [main]})
    };
    bench.apply(&[deployment("web", 2, spec("one"))]);
    let before = bench.until_ready();
    assert_eq!(before.pods.len(), 2);
    bench.apply(&[deployment("web", 2, spec("two"))]);
    let mut fewest = usize::MAX;
    let after = bench.until("all are new", |world| {
        let ready = world
            .pods
            .iter()
            .filter(|pod| pod.ready && !pod.stopping)
            .count();
        // The world of before the second apply does not count.
        if world.generation == 2 {
            assert!(ready >= 2, "never fewer than two are ready: {world:#?}");
        }
        let old =
            |pod: &kiln_local::protocol::PodView| before.pods.iter().any(|b| b.name == pod.name);
        world.generation == 2 && ready == 2 && !world.pods.iter().any(old)
    });
    fewest = fewest.min(after.pods.len());
    assert_eq!(fewest, 2);
    bench.apply(&[deployment("web", 1, spec("two"))]);
    bench.until("one is left", |world| world.pods.len() == 1);
}

fn stateful(bench: &Bench) {
    let set = |replicas: u32, word: &str| {
        let mut main = container(
            "main",
            &format!(
                "echo {word} >> /data/log; cat /data/log; trap 'exit 0' TERM; while true; do sleep 0.05; done"
            ),
        );
        main["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
            "spec": {"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [main]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}})
    };
    bench.apply(&[set(2, "one")]);
    let world = bench.until_ready();
    let mut names: Vec<&str> = world
        .pods
        .iter()
        .map(|pod| pod.name.name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["db-0", "db-1"]);
    bench.apply(&[set(1, "two")]);
    bench.until("db-0 is new", |world| {
        world.generation == 2
            && world.pods.len() == 1
            && world.workloads[0].state == kiln_local::protocol::WorkloadState::Ready
    });
    let logs = bench.until_line("db-0", "two");
    assert!(logs.ends_with("one\ntwo\n"), "the claim is kept: {logs}");
}

fn jobs(bench: &Bench) {
    let job = |name: &str, script: &str| {
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
            "spec": {"completions": 2, "parallelism": 2, "backoffLimit": 1, "template": {"spec":
                {"restartPolicy": "Never", "containers": [container("main", script)]}}}})
    };
    bench.apply(&[job("good", "echo done"), job("bad", "exit 3")]);
    use kiln_local::protocol::WorkloadState;
    let world = bench.until("both are over", |world| {
        world
            .workloads
            .iter()
            .all(|w| w.state != WorkloadState::InProgress)
    });
    let state = |name: &str| {
        world
            .workloads
            .iter()
            .find(|w| w.name.name == name)
            .expect("job")
            .state
    };
    assert_eq!(
        (state("good"), state("bad")),
        (WorkloadState::Ready, WorkloadState::Failed)
    );
    let failed = world
        .pods
        .iter()
        .filter(|pod| pod.phase == Phase::Failed)
        .count();
    assert_eq!(failed, 2, "one more than the limit");
}

fn hooks(bench: &Bench) {
    let mut main = container(
        "main",
        "trap '[ -e /hooked ] && echo asked after the hook > /kept/asked; exit 0' TERM; while true; do sleep 0.05; done",
    );
    main["volumeMounts"] = json!([{"name": "kept", "mountPath": "/kept"}]);
    main["lifecycle"] = json!({
        "postStart": {"exec": {"command": ["/bin/sh", "-c", "echo started > /started"]}},
        "preStop": {"exec": {"command": ["touch", "/hooked"]}}});
    let deaf = container("deaf", "trap '' TERM; while true; do sleep 0.05; done");
    let claim =
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "kept"}});
    let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [main, deaf],
        "volumes": [{"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}}]});
    bench.apply(&[claim, bare_pod("hooked", spec)]);
    bench.until_ready();
    assert_eq!(bench.exec("hooked", &["cat", "/started"]).1, "started\n");
    bench.apply(&[]);
    bench.until("nothing is left, the deaf one is killed", |world| {
        world.generation == 2 && world.pods.is_empty()
    });
    let asked = bench.holder.state().join("claims/default/kept/asked");
    let asked = std::fs::read_to_string(asked).expect("the claim is kept");
    assert_eq!(asked, "asked after the hook\n");
}

fn identity(bench: &Bench) {
    let show = "id -u; id -g; id -G; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status; touch /x 2>/dev/null && echo writable || echo read-only; sleep 1000";
    let mut user = container("main", show);
    user["securityContext"] = json!({"runAsUser": 1000, "runAsGroup": 3000, "readOnlyRootFilesystem": true,
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let spec = json!({"securityContext": {"fsGroup": 2000, "supplementalGroups": [4000]}, "containers": [user]});
    let mut root = container("main", show);
    root["securityContext"] = json!({"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}});
    bench.apply(&[
        bare_pod("user", spec),
        bare_pod("root", json!({"containers": [root]})),
    ]);
    let user = bench.until_line("user", "read-only");
    assert!(
        user.starts_with("1000\n3000\n3000 2000 4000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n"),
        "{user}"
    );
    let root = bench.until_line("root", "writable");
    // CAP_NET_ADMIN is 12.
    assert!(
        root.starts_with("0\n0\n") && root.contains("CapEff:\t0000000000001000\nNoNewPrivs:\t0\n"),
        "{root}"
    );
}

fn exec(bench: &Bench) {
    let mut main = container("main", "cd /tmp; echo mine > f; sleep 1000");
    main["workingDir"] = json!("/made/here");
    main["env"] = json!([{"name": "A", "value": "b"}]);
    bench.apply(&[bare_pod("box", json!({"containers": [main]}))]);
    bench.until_ready();
    let (code, text) = bench.exec("box", &["/bin/sh", "-c", "echo $A; pwd; hostname; exit 7"]);
    assert_eq!((code, text.as_str()), (7, "b\n/made/here\nbox\n"));
    let world = bench.try_world().expect("world");
    assert_eq!(pod(&world, "box").containers[0].status, Status::Running);
}
