use super::*;
use crate::testing::{artifact, engine};

fn iteration(reference: &str) -> Iteration {
    Iteration {
        reference: reference.into(),
        ..Iteration::default()
    }
}

#[test]
fn image_variables_follow_the_reference() {
    for (reference, repo, name, tag) in [
        ("gcr.io/k8s/skaffold:v1", "gcr.io/k8s", "skaffold", "v1"),
        ("localhost:5000/app", "localhost:5000", "app", "latest"),
        ("app:1", "", "app", "1"),
        ("r.example/a/b:t@sha256:00", "r.example/a", "b", "t"),
    ] {
        let vars = image_vars(reference);
        assert_eq!(
            (
                vars["IMAGE_REPO"].as_str(),
                vars["IMAGE_NAME"].as_str(),
                vars["IMAGE_TAG"].as_str()
            ),
            (repo, name, tag),
            "{reference}"
        );
    }
}

#[test]
fn two_iterations_from_one_artifact_see_their_own_tags() {
    let mut artifact = artifact("r.example/app");
    artifact.build_args.insert(
        "VERSION".into(),
        BuildArg::Value(Template("{{.IMAGE_TAG}}".into())),
    );
    let artifact = Arc::new(artifact);
    let before = artifact.clone();
    let render = |reference: &str| {
        Order::render(artifact.clone(), iteration(reference), &engine())
            .unwrap()
            .build_args
    };
    assert_eq!(
        render("r.example/app:one")["VERSION"].as_deref(),
        Some("one")
    );
    assert_eq!(
        render("r.example/app:two")["VERSION"].as_deref(),
        Some("two")
    );
    assert_eq!(before, artifact);
}

#[test]
fn what_the_user_set_wins_over_what_kiln_provides() {
    let mut artifact = artifact("r.example/app");
    artifact
        .build_args
        .insert("BASE".into(), BuildArg::Value(Template("mine".into())));
    artifact.env.push(kiln_schemas::model::EnvVar {
        name: "IMAGE_TAG".into(),
        value: Template("theirs".into()),
        value_from: None,
    });
    let iteration = Iteration {
        reference: "r.example/app:v1".into(),
        provided_args: BTreeMap::from([
            ("BASE".into(), "r.example/base:v1".into()),
            ("OTHER".into(), "r.example/other:v1".into()),
        ]),
        ..Iteration::default()
    };
    let order = Order::render(Arc::new(artifact), iteration, &engine()).unwrap();
    assert_eq!(order.build_args["BASE"].as_deref(), Some("mine"));
    assert_eq!(
        order.build_args["OTHER"].as_deref(),
        Some("r.example/other:v1")
    );
    let env: Vec<_> = order.env.iter().map(EnvEntry::name).collect();
    assert_eq!(env, ["IMAGE_TAG", "IMAGE_REPO", "IMAGE_NAME"]);
    assert_eq!(
        order.env[0],
        EnvEntry::Value {
            name: "IMAGE_TAG".into(),
            value: "theirs".into()
        }
    );
}

#[test]
fn an_error_names_image_and_field() {
    let mut artifact = artifact("r.example/app");
    artifact
        .labels
        .insert("team".into(), Template("{{broken".into()));
    let failing = |_: &Template, _: &BTreeMap<String, String>| Err("unclosed action".to_owned());
    let error =
        Order::render(Arc::new(artifact), iteration("r.example/app:1"), &failing).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot render label team of r.example/app: unclosed action"
    );
}

#[test]
fn the_registry_of_a_name_without_a_host_is_docker_hub() {
    for (reference, registry) in [
        ("app:1", "index.docker.io"),
        ("team/app:1", "index.docker.io"),
        ("localhost/app:1", "localhost"),
        ("localhost:5000/app", "localhost:5000"),
        ("gcr.io/x/y", "gcr.io"),
    ] {
        assert_eq!(registry_of(reference), registry, "{reference}");
    }
}
