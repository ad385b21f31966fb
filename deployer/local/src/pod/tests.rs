use std::time::Duration;

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

use super::*;

fn pod(spec: &Value) -> Pod {
    let spec: PodSpec = serde_json::from_value(spec.clone()).unwrap();
    Pod::new(Rules::of(&spec))
}

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn exit(code: i32) -> Exit {
    Exit {
        code,
        message: None,
    }
}

#[test]
fn init_containers_one_by_one_then_sidecars_then_the_rest_at_once() {
    let mut pod = pod(&json!({
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}, {"name": "j"}],
        "containers": [{"name": "a"}, {"name": "b"}]}));
    assert_eq!(pod.step(Event::Begin, ms(0)), [Action::Start(0)]);
    assert_eq!(pod.step(Event::Started(0), ms(1)), []);
    assert_eq!(
        pod.step(Event::Ended(0, exit(0)), ms(2)),
        [Action::Start(1)]
    );
    assert_eq!(pod.phase(), Phase::Pending);
    assert_eq!(pod.step(Event::Started(1), ms(3)), [Action::Start(2)]);
    let both = [Action::Start(3), Action::Start(4)];
    assert_eq!(pod.step(Event::Ended(2, exit(0)), ms(4)), both);
    assert_eq!(pod.step(Event::Started(3), ms(5)), []);
    assert!(!pod.is_ready());
    assert_eq!(pod.step(Event::Started(4), ms(6)), []);
    assert!(pod.is_ready());
    assert_eq!(pod.phase(), Phase::Running);
}

#[test]
fn sidecars_end_after_the_others_and_do_not_decide_the_phase() {
    let mut pod = pod(&json!({"restartPolicy": "Never",
        "initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}]}));
    let _ = pod.step(Event::Begin, ms(0));
    let _ = pod.step(Event::Started(0), ms(1));
    let _ = pod.step(Event::Started(1), ms(2));
    assert_eq!(
        pod.step(Event::Ended(1, exit(0)), ms(3)),
        [Action::Terminate(0)]
    );
    assert_eq!(pod.phase(), Phase::Running);
    assert_eq!(pod.step(Event::Ended(0, exit(143)), ms(4)), []);
    assert_eq!(pod.phase(), Phase::Succeeded);
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let mut never = pod(&spec);
    let _ = never.step(Event::Begin, ms(0));
    assert_eq!(never.step(Event::Ended(0, exit(1)), ms(1)), []);
    assert_eq!(never.phase(), Phase::Failed);
    let mut again = pod(&json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}));
    let _ = again.step(Event::Begin, ms(0));
    assert_eq!(
        again.step(Event::Ended(0, exit(1)), ms(1)),
        [Action::Start(0)]
    );
}

#[test]
fn a_crash_restarts_at_once_and_then_after_ten_seconds() {
    let mut pod = pod(&json!({"containers": [{"name": "a"}]}));
    let _ = pod.step(Event::Begin, ms(0));
    let _ = pod.step(Event::Started(0), ms(1));
    assert_eq!(
        pod.step(Event::Ended(0, exit(1)), ms(2)),
        [Action::Start(0)]
    );
    let _ = pod.step(Event::Started(0), ms(3));
    assert_eq!(pod.step(Event::Ended(0, exit(1)), ms(4)), []);
    assert_eq!(pod.next_tick(), Some(ms(10_004)));
    assert_eq!(pod.views()[0].status, Status::BackOff(exit(1)));
    assert_eq!(pod.step(Event::Tick, ms(10_003)), []);
    assert_eq!(pod.step(Event::Tick, ms(10_004)), [Action::Start(0)]);
    assert_eq!(pod.views()[0].restarts, 2);
}

#[test]
fn a_startup_probe_holds_the_others_back_and_its_limit_restarts() {
    let probe = json!({"tcpSocket": {"port": 1}, "periodSeconds": 1, "failureThreshold": 2});
    let mut pod = pod(
        &json!({"containers": [{"name": "a", "startupProbe": probe, "readinessProbe": probe, "livenessProbe": probe}]}),
    );
    let _ = pod.step(Event::Begin, ms(0));
    assert_eq!(
        pod.step(Event::Started(0), ms(0)),
        [Action::Probe(0, ProbeKind::Startup)]
    );
    // Before its first success it is asked again soon, and failures count once a period.
    assert_eq!(
        pod.step(Event::Probed(0, ProbeKind::Startup, false), ms(5)),
        []
    );
    assert_eq!(pod.next_tick(), Some(ms(25)));
    assert_eq!(
        pod.step(Event::Tick, ms(25)),
        [Action::Probe(0, ProbeKind::Startup)]
    );
    let both = [
        Action::Probe(0, ProbeKind::Liveness),
        Action::Probe(0, ProbeKind::Readiness),
    ];
    assert_eq!(
        pod.step(Event::Probed(0, ProbeKind::Startup, true), ms(30)),
        both
    );
    assert!(!pod.is_ready());
    let _ = pod.step(Event::Probed(0, ProbeKind::Readiness, true), ms(31));
    assert!(pod.is_ready());
    // Liveness: two failures in a row, a second apart.
    let _ = pod.step(Event::Probed(0, ProbeKind::Liveness, false), ms(32));
    let _ = pod.step(Event::Tick, ms(1_032));
    let actions = pod.step(Event::Probed(0, ProbeKind::Liveness, false), ms(1_033));
    assert!(actions.contains(&Action::Terminate(0)), "{actions:?}");
    assert!(!pod.is_ready());
}

#[test]
fn stopping_runs_the_hook_then_asks_then_kills() {
    let mut pod = pod(&json!({"terminationGracePeriodSeconds": 3, "containers": [
        {"name": "a", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}, {"name": "b"}]}));
    let _ = pod.step(Event::Begin, ms(0));
    let _ = pod.step(Event::Started(0), ms(1));
    let _ = pod.step(Event::Started(1), ms(1));
    let first = [Action::PreStop(0), Action::Terminate(1)];
    assert_eq!(pod.step(Event::Stop, ms(10)), first);
    assert_eq!(pod.step(Event::Ended(1, exit(0)), ms(20)), []);
    assert_eq!(
        pod.step(Event::PreStopped(0), ms(1_010)),
        [Action::Terminate(0)]
    );
    assert_eq!(pod.next_tick(), Some(ms(3_010)));
    assert_eq!(pod.step(Event::Tick, ms(3_010)), [Action::Kill(0)]);
    assert!(!pod.is_still());
    assert_eq!(pod.step(Event::Ended(0, exit(137)), ms(3_020)), []);
    assert!(pod.is_still() && pod.is_stopping());
}

#[test]
fn a_container_that_starts_while_its_pod_stops_is_ended_too() {
    let mut pod = pod(&json!({"containers": [{"name": "a"}]}));
    assert_eq!(pod.step(Event::Begin, ms(0)), [Action::Start(0)]);
    assert_eq!(pod.step(Event::Stop, ms(1)), []);
    assert_eq!(pod.step(Event::Started(0), ms(2)), [Action::Terminate(0)]);
}
