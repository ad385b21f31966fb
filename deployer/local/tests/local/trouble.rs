//! Crashes, kills, a full disk.

use kiln_local::client::Found;
use kiln_local::pod::Status;
use serde_json::json;

use crate::bench::{Bench, Case, pod};
use crate::cases::{bare_pod, container, deployment};

pub const CASES: &[Case] = &[
    ("a_crashing_container_is_restarted_and_then_waits", crashing),
    ("a_failing_liveness_probe_restarts_the_container", liveness),
    (
        "a_killed_holder_leaves_nothing_and_the_next_one_starts_anew",
        killed_holder,
    ),
    ("a_second_command_finds_the_holder", second_command),
    ("an_image_that_is_not_there_is_said", no_image),
    (
        "a_command_that_does_not_exist_never_counts_as_running",
        no_command,
    ),
    ("a_readiness_probe_that_fails_says_why", unready),
    ("a_full_disk_is_said_and_waited_out", full_disk),
];

fn crashing(bench: &Bench) {
    let spec = json!({"containers": [container("main", "echo started; exit 3")]});
    bench.apply(&[deployment("crash", 1, spec)]);
    let world = bench.until("it waits after its first restart", |world| {
        world.pods.iter().any(|pod| {
            pod.containers[0].restarts == 1
                && matches!(pod.containers[0].status, Status::BackOff(_))
        })
    });
    match &pod(&world, "crash").containers[0].status {
        Status::BackOff(exit) => assert_eq!(exit.code, 3),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.logs(Some("crash")), "started\nstarted\n");
}

fn liveness(bench: &Bench) {
    let mut main = container("main", "echo started; touch /alive; sleep 1000");
    main["livenessProbe"] = json!({"exec": {"command": ["test", "-e", "/alive"]}, "periodSeconds": 1, "failureThreshold": 1});
    let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [main]});
    bench.apply(&[deployment("live", 1, spec)]);
    bench.until_ready();
    bench.exec("live", &["/bin/sh", "-c", "/bin/busybox rm /alive"]);
    let world = bench.until("it was restarted", |world| {
        world.pods.iter().any(|pod| pod.containers[0].restarts == 1)
    });
    assert!(
        world
            .remarks
            .iter()
            .any(|line| line.contains("liveness probe failed")),
        "{:?}",
        world.remarks
    );
}

/// Process ids of everything whose command line holds this.
pub fn processes(mark: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line)
            .replace('\0', " ")
            .contains(mark)
    })
    .collect()
}

fn killed_holder(bench: &Bench) {
    let seconds = format!("{}", 100_000 + std::process::id());
    let mark = format!("sleep {seconds}");
    let spec = json!({"containers": [container("main", &format!("{mark}; echo over"))]});
    bench.apply(&[deployment("long", 2, spec.clone())]);
    bench.until_ready();
    while processes(&mark).len() < 4 {
        std::thread::yield_now();
    }
    let state = bench.holder.state().display().to_string();
    let holders = processes(&state);
    assert_eq!(holders.len(), 1);
    let killed = rustix::process::Pid::from_raw(holders[0]).expect("pid");
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).expect("kill -9");
    while !processes(&mark).is_empty() {
        std::thread::yield_now();
    }
    assert!(!bench.holder.is_running());
    assert_eq!(bench.holder.start().expect("a new holder"), Found::Started);
    bench.apply(&[deployment("long", 1, spec)]);
    assert_eq!(bench.until_ready().pods.len(), 1);
}

fn second_command(bench: &Bench) {
    let spec = json!({"containers": [container("main", "sleep 1000")]});
    bench.apply(&[bare_pod("stays", spec.clone())]);
    let before = bench.until_ready();
    assert_eq!(bench.holder.start().expect("the holder"), Found::Running);
    let applied = bench.apply(&[bare_pod("stays", spec)]);
    assert_eq!(
        applied.changes[0].2,
        kiln_local::protocol::Change::Unchanged
    );
    let after = bench.until_ready();
    assert_eq!((before.pods.len(), after.pods.len()), (1, 1));
    assert_eq!(before.pods[0].ip, after.pods[0].ip, "the same pod goes on");
}

fn no_image(bench: &Bench) {
    let mut main = container("main", "true");
    main["image"] = json!("absent:1");
    bench.apply(&[bare_pod(
        "empty",
        json!({"restartPolicy": "Never", "containers": [main]}),
    )]);
    let world = bench.until("it has failed", |world| {
        matches!(
            world.pods.first().map(|pod| &pod.containers[0].status),
            Some(Status::Ended(_))
        )
    });
    assert!(
        world
            .remarks
            .iter()
            .any(|line| line.contains("the image absent:1 is not here")),
        "{:?}",
        world.remarks
    );
}

fn no_command(bench: &Bench) {
    let mut main = container("main", "true");
    main["command"] = json!(["absent-program"]);
    bench.apply(&[deployment("none", 1, json!({"containers": [main]}))]);
    let world = bench.until("it waits for its next start", |world| {
        let ready = |w: &kiln_local::protocol::WorkloadView| {
            w.state == kiln_local::protocol::WorkloadState::Ready
        };
        assert!(!world.workloads.iter().any(ready), "{world:?}");
        let mut pods = world.pods.iter();
        pods.any(|pod| matches!(pod.containers[0].status, Status::BackOff(_)))
    });
    let told = |line: &String| line.contains("absent-program");
    assert!(world.remarks.iter().any(told), "{:?}", world.remarks);
}

fn unready(bench: &Bench) {
    let mut main = container("main", "sleep 1000");
    main["readinessProbe"] = json!({"httpGet": {"path": "/", "port": "absent"},
        "periodSeconds": 1, "failureThreshold": 1});
    bench.apply(&[deployment("unready", 1, json!({"containers": [main]}))]);
    let world = bench.until("it is said", |world| !world.remarks.is_empty());
    assert!(
        world.remarks[0].ends_with(
            "main: the readiness probe fails, the container gets no requests: there is no such port"
        ),
        "{:?}",
        world.remarks
    );
}

fn full_disk(bench: &Bench) {
    // A small file system in memory: below the state directory, seen by holder and pods.
    let state = bench.holder.state().to_owned();
    std::fs::create_dir_all(state.join("pods")).expect("folders");
    let mounted = rustix::mount::mount(
        "tmpfs",
        &state,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        c"size=8m,mode=0700",
    );
    if mounted.is_err() {
        return bench.skip("only root may mount a small disk");
    }
    let script = "dd if=/dev/zero of=/big bs=1M count=50; echo written; while true; do echo line; sleep 0.05; done";
    let spec = json!({"containers": [container("main", script)]});
    bench.apply(&[deployment("greedy", 1, spec)]);
    bench.until_ready();
    // The container sees the error, the holder lives on and serves its logs to followers.
    let wish = kiln_local::protocol::LogWish {
        follow: true,
        ..Default::default()
    };
    let followed = bench.runtime.block_on(async {
        let mut answers = bench.holder.logs(wish).await.expect("logs");
        loop {
            if let Ok(Some(kiln_local::protocol::Answer::Line(line))) = answers.next().await
                && line.text == "line"
            {
                return true;
            }
        }
    });
    assert!(followed);
    // A second pod cannot be set up until there is room again.
    let spec = json!({"containers": [container("main", "echo fits; sleep 1000")]});
    let greedy = json!({"containers": [container("main", script)]});
    bench.apply(&[
        deployment("greedy", 1, greedy),
        deployment("second", 1, spec.clone()),
    ]);
    bench.apply(&[deployment("second", 1, spec)]);
    bench.until_ready();
    bench
        .runtime
        .block_on(bench.holder.leave())
        .expect("it leaves");
    rustix::mount::unmount(&state, rustix::mount::UnmountFlags::DETACH).expect("unmount");
}
