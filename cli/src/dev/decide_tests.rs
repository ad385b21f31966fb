//! The loop's rules as situations: what is known, what happens next, and why
//! the rest waits.

use super::super::state::{
    Deploy, DeployWork, Desired, Failed, Image, Key, State, SyncVerdict, Work,
};
use super::{Action, Hold, Why, decide};

fn key(text: &str) -> Key {
    Key(text.to_owned())
}

fn image(name: &str) -> Image {
    Image {
        name: name.to_owned(),
        requires: Vec::new(),
        wanted: key("1"),
        built: None,
        synced: None,
        work: Work::Idle,
        failed: None,
        sync: SyncVerdict::Rebuild,
    }
}

fn built(name: &str) -> Image {
    Image {
        built: Some(key("1")),
        ..image(name)
    }
}

fn desired(images: &[&str]) -> Desired {
    Desired {
        manifests: key("m"),
        images: images.iter().map(|k| key(k)).collect(),
    }
}

fn state(images: Vec<Image>) -> State {
    State {
        images,
        deploy: Deploy {
            enabled: true,
            manifests: key("m"),
            have: None,
            work: DeployWork::Idle,
            failed: None,
        },
        reload: false,
        generation: 1,
        concurrency: 0,
    }
}

fn deployed(images: Vec<Image>) -> State {
    let keys: Vec<String> = images
        .iter()
        .filter_map(|i| i.built.clone())
        .map(|k| k.0)
        .collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut state = state(images);
    state.deploy.have = Some(desired(&keys));
    state
}

fn build(name: &str) -> Action {
    Action::Build(name.to_owned())
}

fn hold(what: &str, why: Why) -> Hold {
    Hold {
        what: what.to_owned(),
        why,
    }
}

#[test]
fn independent_images_start_at_once_and_the_deploy_says_what_it_waits_for() {
    let decision = decide(&state(vec![image("a"), image("b")]));
    assert_eq!(decision.actions, [build("a"), build("b")]);
    assert_eq!(decision.holds, [hold("deploy", Why::Building("a".into()))]);
}

#[test]
fn a_required_image_is_built_first() {
    let mut app = image("app");
    app.requires = vec!["base".into()];
    let decision = decide(&state(vec![app, image("base")]));
    assert_eq!(decision.actions, [build("base")]);
    assert_eq!(decision.holds[0], hold("app", Why::Requires("base".into())));
}

#[test]
fn concurrency_bounds_what_runs_and_what_starts() {
    let mut busy = image("a");
    busy.work = Work::Building(key("1"));
    let mut state = state(vec![busy, image("b"), image("c")]);
    state.concurrency = 2;
    let decision = decide(&state);
    assert_eq!(decision.actions, [build("b")]);
    assert_eq!(decision.holds[0], hold("c", Why::Concurrency(2)));
}

#[test]
fn a_change_during_a_build_cancels_it_and_builds_only_after_it_has_ended() {
    let mut app = image("app");
    app.work = Work::Building(key("old"));
    assert_eq!(
        decide(&state(vec![app.clone()])).actions,
        [Action::Cancel("app".into())]
    );

    app.work = Work::Stopping;
    let decision = decide(&state(vec![app.clone()]));
    assert_eq!(decision.actions, []);
    assert_eq!(decision.holds[0], hold("app", Why::Stopping));

    app.work = Work::Idle;
    assert_eq!(decide(&state(vec![app])).actions, [build("app")]);
}

#[test]
fn a_save_that_changes_no_bytes_does_nothing() {
    let decision = decide(&deployed(vec![built("app")]));
    assert_eq!(decision, super::Decision::default());
}

#[test]
fn one_failure_does_not_stop_another_image_and_stays_dirty_until_the_next_change() {
    let mut broken = image("broken");
    broken.failed = Some(Failed {
        target: key("1"),
        generation: 1,
    });
    let decision = decide(&state(vec![broken.clone(), image("fine")]));
    assert_eq!(decision.actions, [build("fine")]);
    assert_eq!(
        decision.holds,
        [
            hold("broken", Why::FailedUntilChange),
            hold("deploy", Why::ImageFailed("broken".into()))
        ]
    );

    let mut after_change = state(vec![broken, built("fine")]);
    after_change.generation = 2;
    assert_eq!(decide(&after_change).actions, [build("broken")]);
}

#[test]
fn a_cancelled_sibling_of_a_failed_image_is_still_dirty_when_the_failure_is_fixed() {
    // skaffold forgets B here and deploys it stale (its dev loop resets the
    // change set although the cancelled artifact was never built).
    let mut a = built("a");
    a.wanted = key("2");
    let mut b = built("b");
    b.wanted = key("2");
    let mut state = deployed(vec![a, b]);
    state.generation = 3;
    assert_eq!(decide(&state).actions, [build("a"), build("b")]);
}

#[test]
fn everything_built_is_deployed_once() {
    let mut state = state(vec![built("a"), built("b")]);
    assert_eq!(
        decide(&state).actions,
        [Action::Deploy(desired(&["1", "1"]))]
    );
    state.deploy.work = DeployWork::Running(desired(&["1", "1"]));
    assert_eq!(decide(&state).actions, []);
}

#[test]
fn changed_manifests_alone_deploy_without_a_build() {
    let mut state = deployed(vec![built("app")]);
    state.deploy.manifests = key("m2");
    let wanted = Desired {
        manifests: key("m2"),
        images: vec![key("1")],
    };
    assert_eq!(decide(&state).actions, [Action::Deploy(wanted)]);
}

#[test]
fn a_dirty_image_cancels_a_rollout_that_it_made_pointless() {
    let mut app = built("app");
    app.wanted = key("2");
    let mut state = state(vec![app]);
    state.deploy.work = DeployWork::Running(desired(&["1"]));
    let decision = decide(&state);
    assert_eq!(decision.actions, [build("app"), Action::CancelDeploy]);
}

#[test]
fn a_failed_deploy_waits_for_a_change() {
    let mut state = state(vec![built("app")]);
    state.deploy.failed = Some(Failed {
        target: desired(&["1"]),
        generation: 1,
    });
    let decision = decide(&state);
    assert_eq!(decision.actions, []);
    assert_eq!(decision.holds, [hold("deploy", Why::FailedUntilChange)]);
    state.generation = 2;
    assert_eq!(decide(&state).actions, [Action::Deploy(desired(&["1"]))]);
}

#[test]
fn going_back_to_what_ran_before_a_failed_deploy_deploys_it_again() {
    // The failed deploy of m2 has taken `have` away.
    let mut state = state(vec![built("app")]);
    state.deploy.failed = Some(Failed {
        target: Desired {
            manifests: key("m2"),
            images: vec![key("1")],
        },
        generation: 1,
    });
    state.generation = 2;
    assert_eq!(decide(&state).actions, [Action::Deploy(desired(&["1"]))]);
}

#[test]
fn files_with_a_place_in_the_container_are_copied_and_nothing_is_deployed() {
    let mut app = built("app");
    app.wanted = key("2");
    app.sync = SyncVerdict::Possible;
    let mut state = deployed(vec![app]);
    assert_eq!(decide(&state).actions, [Action::Sync("app".into())]);

    state.images[0].synced = Some(key("2"));
    assert_eq!(decide(&state).actions, []);
}

#[test]
fn a_synced_image_is_built_before_new_pods_start_from_it() {
    let mut app = built("app");
    app.wanted = key("2");
    app.synced = Some(key("2"));
    app.sync = SyncVerdict::Possible;
    let mut state = deployed(vec![app]);
    state.deploy.manifests = key("m2");
    assert_eq!(decide(&state).actions, [build("app")]);
}

#[test]
fn the_first_build_is_never_a_sync() {
    let mut app = image("app");
    app.sync = SyncVerdict::Possible;
    assert_eq!(decide(&state(vec![app])).actions, [build("app")]);
}

#[test]
fn a_changed_configuration_stops_all_work_before_it_is_read() {
    let mut app = image("app");
    app.work = Work::Building(key("1"));
    let mut state = state(vec![app]);
    state.deploy.work = DeployWork::Running(desired(&["0"]));
    state.reload = true;
    assert_eq!(
        decide(&state).actions,
        [Action::Cancel("app".into()), Action::CancelDeploy]
    );
    state.images[0].work = Work::Idle;
    state.deploy.work = DeployWork::Idle;
    assert_eq!(decide(&state).actions, [Action::Reload]);
}

#[test]
fn without_a_deploy_only_builds_happen() {
    let mut state = state(vec![built("a"), image("b")]);
    state.deploy.enabled = false;
    let decision = decide(&state);
    assert_eq!(decision.actions, [build("b")]);
    assert_eq!(decision.holds, []);
}
