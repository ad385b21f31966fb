use std::cell::Cell;
use std::time::Duration;

use super::*;

fn graph(edges: &[(&str, &[&str])]) -> Result<Graph, GraphError> {
    Graph::new(edges.iter().map(|(name, required)| {
        (
            (*name).to_owned(),
            required.iter().map(|r| (*r).to_owned()).collect(),
        )
    }))
}

#[test]
fn required_images_stand_before_those_that_require_them() {
    let graph = graph(&[("web", &["base"]), ("api", &["base"]), ("base", &[])]).unwrap();
    assert_eq!(graph.order(), ["base", "web", "api"]);
}

#[test]
fn a_circle_is_named_with_its_path() {
    let error = graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]).unwrap_err();
    assert_eq!(
        error,
        GraphError::Cycle {
            path: vec!["b".into(), "c".into(), "b".into()]
        }
    );
    assert_eq!(
        error.to_string(),
        "these artifacts require each other in a circle: b -> c -> b"
    );
}

#[test]
fn an_unknown_requirement_is_named() {
    let error = graph(&[("a", &["nowhere"])]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a requires nowhere, which is not an artifact of this project"
    );
}

#[test]
fn a_change_affects_everything_that_requires_it() {
    let graph = graph(&[
        ("base", &[]),
        ("web", &["base"]),
        ("edge", &["web"]),
        ("other", &[]),
    ])
    .unwrap();
    assert_eq!(graph.affected_by(&["base".into()]), ["base", "web", "edge"]);
    assert_eq!(graph.affected_by(&["other".into()]), ["other"]);
}

#[tokio::test]
async fn results_of_required_images_reach_their_dependants() {
    let graph = graph(&[("web", &["base"]), ("base", &[])]).unwrap();
    let cancel = CancellationToken::new();
    let results = build_all(&graph, 0, &cancel, |image, required| async move {
        let under = required.get("base").cloned().unwrap_or_default();
        Some(Ok::<_, String>(format!("{image}({under})")))
    })
    .await;
    assert_eq!(results["web"], Outcome::Done("web(base())".into()));
}

#[tokio::test]
async fn a_failure_blocks_its_dependants_and_nobody_else() {
    let graph = graph(&[
        ("bad", &[]),
        ("good", &[]),
        ("on-bad", &["bad"]),
        ("on-on-bad", &["on-bad"]),
        ("on-good", &["good"]),
    ])
    .unwrap();
    let cancel = CancellationToken::new();
    let results = build_all(&graph, 0, &cancel, |image, _| async move {
        if image == "bad" {
            Some(Err("broken"))
        } else {
            Some(Ok(image))
        }
    })
    .await;
    assert_eq!(results["bad"], Outcome::Failed("broken"));
    assert_eq!(results["on-bad"], Outcome::Blocked { by: "bad".into() });
    assert_eq!(
        results["on-on-bad"],
        Outcome::Blocked {
            by: "on-bad".into()
        }
    );
    assert_eq!(results["good"], Outcome::Done("good".into()));
    assert_eq!(results["on-good"], Outcome::Done("on-good".into()));
}

#[tokio::test(start_paused = true)]
async fn independent_images_build_at_once_up_to_the_limit() {
    let graph = graph(&[("a", &[]), ("b", &[]), ("c", &[]), ("d", &[])]).unwrap();
    for (limit, expected) in [(0, 4), (1, 1), (3, 3)] {
        let (now, most) = (Cell::new(0), Cell::new(0));
        let cancel = CancellationToken::new();
        build_all(&graph, limit, &cancel, |_, _| async {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            tokio::time::sleep(Duration::from_secs(1)).await;
            now.set(now.get() - 1);
            Some(Ok::<_, ()>(()))
        })
        .await;
        assert_eq!(most.get(), expected, "limit {limit}");
    }
}

#[tokio::test]
async fn cancellation_starts_nothing_new_and_waits_for_what_runs() {
    let graph = graph(&[("a", &[]), ("b", &["a"]), ("c", &[])]).unwrap();
    let cancel = CancellationToken::new();
    let cleaned = Cell::new(false);
    let results = build_all(&graph, 1, &cancel, |image, _| {
        let (cancel, cleaned) = (cancel.clone(), &cleaned);
        async move {
            assert_eq!(image, "a", "only the first may start");
            cancel.cancel();
            tokio::task::yield_now().await;
            cleaned.set(true);
            None::<Result<(), ()>>
        }
    })
    .await;
    assert!(cleaned.get());
    assert!(
        results
            .values()
            .all(|outcome| *outcome == Outcome::Cancelled),
        "{results:?}"
    );
}
