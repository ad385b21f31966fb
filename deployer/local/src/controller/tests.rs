use super::*;
use crate::desired::Name;

const NEW: &str = "new";

fn workload(controller: Controller) -> Workload {
    Workload {
        kind: "Deployment".into(),
        name: Name::new("default", "web"),
        controller,
        template: k8s_openapi::api::core::v1::PodTemplateSpec::default(),
        hash: NEW.into(),
    }
}

/// `1:new:ready`, `2:old`, `3:new:stopping`, `4:new:failed`, ….
fn pods(texts: &[&str]) -> Vec<Member> {
    let one = |text: &&str| {
        let words: Vec<&str> = text.split(':').collect();
        let has = |word: &str| words.contains(&word);
        Member {
            uid: words[0].parse().unwrap(),
            name: format!("web-{}", words[0]),
            hash: words[1].into(),
            phase: if has("failed") {
                Phase::Failed
            } else if has("succeeded") {
                Phase::Succeeded
            } else {
                Phase::Running
            },
            ready: has("ready"),
            stopping: has("stopping"),
        }
    };
    texts.iter().map(one).collect()
}

/// `+` starts a pod, `+name` one of that name, `-1` stops one.
fn changes(controller: &Controller, texts: &[&str]) -> Vec<String> {
    let changes = reconcile(&workload(controller.clone()), &pods(texts));
    let word = |change: Change| match change {
        Change::Start { name } => format!("+{}", name.unwrap_or_default()),
        Change::Stop { uid } => format!("-{uid}"),
    };
    changes.into_iter().map(word).collect()
}

#[test]
fn a_deployment_keeps_as_many_as_it_needs_while_it_is_replaced() {
    let one = Controller::Replicas {
        replicas: 1,
        surge: Some(1),
        unavailable: 0,
    };
    for (pods, expected) in [
        (&[][..], &["+"][..]),
        (&["1:old:ready"], &["+"]),
        (&["1:old:ready", "2:new"], &[]),
        (&["1:old:ready", "2:new:ready"], &["-1"]),
        (&["1:old:ready:stopping", "2:new:ready"], &[]),
        // One that never got ready is in nobody's way.
        (&["1:old", "2:new"], &["-1"]),
        (&["1:new:failed"], &["-1", "+"]),
        (&["1:new:ready", "2:new"], &["-2"]),
    ] {
        assert_eq!(changes(&one, pods), expected, "{pods:?}");
    }
    let four = Controller::Replicas {
        replicas: 4,
        surge: Some(1),
        unavailable: 1,
    };
    let old = ["1:old:ready", "2:old:ready", "3:old:ready", "4:old:ready"];
    assert_eq!(changes(&four, &old), ["+", "-1"]);
}

#[test]
fn recreate_waits_until_the_old_ones_are_gone() {
    let recreate = Controller::Replicas {
        replicas: 2,
        surge: None,
        unavailable: 0,
    };
    assert_eq!(changes(&recreate, &["1:old:ready", "2:old"]), ["-1", "-2"]);
    assert_eq!(changes(&recreate, &["1:old:stopping"]), [""; 0]);
    assert_eq!(changes(&recreate, &[]), ["+", "+"]);
}

#[test]
fn a_stateful_set_goes_up_one_by_one_and_is_replaced_from_the_end() {
    let ordered = Controller::Ordered {
        replicas: 3,
        one_by_one: true,
    };
    for (pods, expected) in [
        (&[][..], &["+web-0"][..]),
        (&["0:new"], &[]),
        (&["0:new:ready"], &["+web-1"]),
        (&["0:old:ready", "1:old:ready", "2:old:ready"], &["-2"]),
        (&["0:old:ready", "1:old:ready", "2:old:ready:stopping"], &[]),
        (&["0:old:ready", "1:old:ready", "2:new:ready"], &["-1"]),
        (
            &["0:new:ready", "1:new:ready", "2:new:ready", "3:new:ready"],
            &["-3"],
        ),
        // An outdated one that does not get ready would hold the others up.
        (&["0:old", "1:old"], &["-0"]),
    ] {
        assert_eq!(changes(&ordered, pods), expected, "{pods:?}");
    }
    let parallel = Controller::Ordered {
        replicas: 2,
        one_by_one: false,
    };
    assert_eq!(changes(&parallel, &[]), ["+web-0", "+web-1"]);
}

#[test]
fn a_job_starts_what_is_missing_and_stops_at_its_limit() {
    let numbers = Job {
        completions: 3,
        parallelism: 2,
        backoff_limit: 1,
        deadline: None,
    };
    let job = Controller::Job(numbers);
    for (pods, expected) in [
        (&[][..], &["+", "+"][..]),
        (&["1:new", "2:new:succeeded"], &["+"]),
        (&["1:new:succeeded", "2:new:succeeded"], &["+"]),
        (
            &["1:new:succeeded", "2:new:succeeded", "3:new:succeeded"],
            &[],
        ),
        (&["1:new:failed", "2:new"], &["+"]),
        (&["1:new:failed", "2:new:failed", "3:new"], &["-3"]),
        (&["1:old:succeeded"], &["-1", "+", "+"]),
    ] {
        assert_eq!(changes(&job, pods), expected, "{pods:?}");
    }
    let state = |texts: &[&str]| job_state(numbers, &pods(texts), NEW);
    assert_eq!(state(&["1:new:failed", "2:new:failed"]), JobState::Failed);
    assert_eq!(state(&["1:new:failed"]), JobState::Active);
}

#[test]
fn a_bare_pod_that_has_ended_stays_and_a_changed_one_is_replaced() {
    let mut ended = pods(&["1:new:succeeded"]);
    ended[0].name = "web".into();
    let single = workload(Controller::Single);
    assert_eq!(reconcile(&single, &ended), []);
    ended[0].hash = "old".into();
    assert_eq!(reconcile(&single, &ended), [Change::Stop { uid: 1 }]);
}
