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
