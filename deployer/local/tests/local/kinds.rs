//! DaemonSets, ReplicaSets and CronJobs, and what becomes of the layers of all of them.

use std::path::Path;
use std::time::{Duration, SystemTime};

use kiln_local::pod::Phase;
use kiln_local::protocol::{WorkloadState, World};
use kiln_store::{Digest, LayerSlot, Limits, Store};
use serde_json::{Value, json};

use crate::bench::{Bench, Case};
use crate::cases::{container, deployment};

pub const CASES: &[Case] = &[
    ("a_daemon_set_has_one_pod_and_replaces_it", daemon_set),
    ("a_replica_set_keeps_its_number_of_pods", replica_set),
    ("a_cron_job_starts_a_job_when_its_time_comes", cron_job),
    ("layers_of_what_runs_are_kept_from_collection", layers),
];

fn names(world: &World) -> Vec<&str> {
    let live = world.pods.iter().filter(|pod| !pod.stopping);
    live.map(|pod| pod.name.name.as_str()).collect()
}

fn is_ready(world: &World, generation: u64) -> bool {
    let ready = |w: &kiln_local::protocol::WorkloadView| w.state == WorkloadState::Ready;
    world.generation == generation && world.workloads.iter().all(ready)
}

fn daemon_set(bench: &Bench) {
    let set = |word: &str| {
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"},
            "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {"terminationGracePeriodSeconds": 1,
                    "containers": [container("main", &format!("echo {word}; sleep 1000"))]}}}})
    };
    bench.apply(&[set("one")]);
    let first = bench.until_ready();
    // This machine is the only node.
    assert_eq!(first.pods.len(), 1);
    assert!(
        names(&first)[0].starts_with("agent-"),
        "{:?}",
        names(&first)
    );
    bench.until_line("agent", "one");
    bench.apply(&[set("two")]);
    let second = bench.until("the new one is ready and the old one gone", |world| {
        is_ready(world, 2) && world.pods.len() == 1
    });
    assert_ne!(names(&first), names(&second));
    bench.until_line("agent", "two");
}

fn replica_set(bench: &Bench) {
    let set = |replicas: u32| {
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "many"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "many"}}, "template": {
                "metadata": {"labels": {"app": "many"}},
                "spec": {"terminationGracePeriodSeconds": 1,
                    "containers": [container("main", "sleep 1000")]}}}})
    };
    let count = |generation: u64, pods: usize| {
        bench.until("there are as many as wanted", |world| {
            is_ready(world, generation) && world.pods.len() == pods
        })
    };
    bench.apply(&[set(2)]);
    let two = count(1, 2);
    bench.apply(&[set(3)]);
    let three = count(2, 3);
    let kept = |name: &&str| names(&three).contains(name);
    assert!(names(&two).iter().all(kept), "those that run stay");
    bench.apply(&[set(1)]);
    count(3, 1);
    bench.apply(&[set(0)]);
    count(4, 0);
}

fn cron_job(bench: &Bench) {
    let job = |name: &str, suspend: bool| {
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name},
            "spec": {"schedule": "* * * * *", "suspend": suspend, "jobTemplate": {"spec": {"template": {"spec":
                {"restartPolicy": "Never", "containers": [container("main", "echo its time has come")]}}}}}})
    };
    bench.apply(&[job("tick", false), job("never", true)]);
    let world = bench.until("a job of it has run", |world| {
        world.pods.iter().any(|pod| pod.phase == Phase::Succeeded)
    });
    let pod = &world.pods[0];
    assert!(pod.name.name.starts_with("tick-"), "{}", pod.name);
    assert_eq!(pod.owner.0, "Job");
    assert!(bench.logs(Some("tick")).starts_with("its time has come\n"));
    let suspended = |pod: &kiln_local::protocol::PodView| pod.name.name.starts_with("never");
    assert!(!world.pods.iter().any(suspended));
}

/// A layer with busybox in it, which nobody has used for two days.
fn old_layer(store: &Path, image: &Path, name: &str) -> std::path::PathBuf {
    let store = Store::open(store).expect("a store");
    let LayerSlot::Fill(fill) = store
        .layer_slot(&Digest::of(name.as_bytes()))
        .expect("a slot")
    else {
        panic!("it is new");
    };
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(image.join("."))
        .arg(fill.path())
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
    fill.commit().expect("a layer")
}

fn age(layer: &Path) {
    let used = SystemTime::now() - Duration::from_secs(48 * 3600);
    let times = std::fs::FileTimes::new().set_accessed(used);
    let dir = std::fs::File::open(layer).expect("the layer");
    dir.set_times(times).expect("its time");
}

fn layers(bench: &Bench) {
    let dir = bench.folder.path().join("store");
    let [running, idle] = ["running", "idle"].map(|name| old_layer(&dir, &bench.image, name));
    let spec: Value = json!({"terminationGracePeriodSeconds": 1, "containers": [container("main", "sleep 1000")]});
    bench.apply_layers(
        &[deployment("long", 1, spec)],
        vec![running.clone()],
        Some(dir.clone()),
    );
    bench.until_ready();
    age(&running);
    age(&idle);
    let limits = Limits {
        max_age: Some(Duration::from_secs(24 * 3600)),
        max_bytes: None,
    };
    let store = Store::open(&dir).expect("the store");
    assert_eq!(store.collect(limits).expect("collected").entries, 1);
    assert!(running.join("bin/busybox").exists() && !idle.exists());
    // A container that is started now finds its files.
    assert_eq!(bench.exec("long", &["echo", "there"]).1, "there\n");
    bench.apply(&[]);
    bench.until("nothing runs", |world| {
        world.generation == 2 && world.pods.is_empty()
    });
    // Nobody holds it any more, once the last of the pod is gone.
    age(&running);
    while store.collect(limits).expect("collected").entries == 0 {
        std::thread::yield_now();
    }
    assert!(!running.exists());
}
