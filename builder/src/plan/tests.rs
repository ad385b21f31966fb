use kiln_schemas::model::{BuildArg, Requirement, Template};

use super::*;
use crate::tag::GitError;
use crate::testing::{artifact, engine};

struct NoGit;

impl Git for NoGit {
    fn ask(&self, _: &std::path::Path, _: &[&str]) -> Result<String, GitError> {
        unreachable!("no policy here asks git")
    }
}

const DOCKERFILE: &str = "ARG BASE\nFROM $BASE\nARG SKAFFOLD_RUN_MODE\nRUN make\n";

fn subject(image: &str, requires: &[&str]) -> Subject {
    let mut artifact = artifact(image);
    artifact.requires = requires
        .iter()
        .map(|image| Requirement {
            image: (*image).to_owned(),
            alias: "BASE".into(),
        })
        .collect();
    Subject {
        repository: format!("r.example/{image}"),
        policy: TagPolicy::Content,
        fixed_tag: None,
        sources: b"sources".to_vec(),
        input_digest: None,
        context: PathBuf::from("/project"),
        dockerfile_text: DOCKERFILE.as_bytes().to_vec(),
        dockerfile: Arc::new(kiln_dockerfile::parse(DOCKERFILE).unwrap()),
        bases: BTreeMap::new(),
        platform: None,
        insecure_registries: Vec::new(),
        provided_args: BTreeMap::new(),
        artifact: Arc::new(artifact),
    }
}

fn plans(subjects: &[Subject]) -> BTreeMap<String, Result<Plan, PlanError>> {
    let by_name: BTreeMap<String, Subject> = subjects
        .iter()
        .map(|s| (s.artifact.image.clone(), s.clone()))
        .collect();
    let graph = Graph::new(subjects.iter().map(|subject| {
        let required = subject
            .artifact
            .requires
            .iter()
            .map(|r| r.image.clone())
            .collect();
        (subject.artifact.image.clone(), required)
    }))
    .unwrap();
    let now: Zoned = "2026-05-06T07:08:09+00:00[UTC]".parse().unwrap();
    let engine = engine();
    plan(
        &graph,
        &by_name,
        &Surroundings {
            now: &now,
            git: &NoGit,
            engine: &engine,
        },
    )
}

fn reference(plans: &BTreeMap<String, Result<Plan, PlanError>>, image: &str) -> String {
    plans[image].as_ref().unwrap().reference.clone()
}

#[test]
fn a_change_in_a_required_image_changes_the_tags_of_those_that_require_it() {
    let before = plans(&[
        subject("base", &[]),
        subject("web", &["base"]),
        subject("other", &[]),
    ]);
    let mut base = subject("base", &[]);
    base.sources = b"changed".to_vec();
    let after = plans(&[base, subject("web", &["base"]), subject("other", &[])]);
    assert_ne!(reference(&before, "base"), reference(&after, "base"));
    assert_ne!(reference(&before, "web"), reference(&after, "web"));
    assert_eq!(reference(&before, "other"), reference(&after, "other"));
}

#[test]
fn a_tag_on_the_command_line_overrides_the_policy() {
    let mut web = subject("web", &[]);
    web.fixed_tag = Some("v9".into());
    assert_eq!(reference(&plans(&[web]), "web"), "r.example/web:v9");
}

/// A tag that was typed may have been pushed with other content yesterday.
#[test]
fn only_a_content_tag_says_what_is_in_the_image() {
    let content = subject("web", &[]);
    let plan = plans(std::slice::from_ref(&content))
        .remove("web")
        .unwrap()
        .unwrap();
    let mut records = Records::in_memory();
    assert_eq!(
        candidate(&plan, &content, &records),
        Some(plan.reference.clone())
    );
    let mut typed = content;
    typed.fixed_tag = Some("v9".into());
    assert_eq!(candidate(&plan, &typed, &records), None);
    let digest = format!("sha256:{}", "1".repeat(64));
    records.record(
        &plan.key,
        &plan.reference,
        &ImageDigest::parse(&digest).unwrap(),
    );
    assert_eq!(
        candidate(&plan, &typed, &records),
        Some(format!("r.example/web@{digest}"))
    );
}

#[test]
fn a_template_that_names_the_tag_does_not_make_the_key_circular() {
    let mut web = subject("web", &[]);
    let mut artifact = (*web.artifact).clone();
    artifact.build_args.insert(
        "V".into(),
        BuildArg::Value(Template("{{.IMAGE_TAG}}".into())),
    );
    web.artifact = Arc::new(artifact);
    let plan = plans(&[web.clone()]).remove("web").unwrap().unwrap();
    let order = order(&web, &plan, &BTreeMap::new(), &engine()).unwrap();
    assert_eq!(order.build_args["V"], Some(plan.key.tag()));
}

#[test]
fn only_declared_arguments_are_provided() {
    let mut web = subject("web", &["base"]);
    web.provided_args
        .insert("SKAFFOLD_RUN_MODE".into(), "dev".into());
    web.provided_args
        .insert("SKAFFOLD_GO_GCFLAGS".into(), "all=-N".into());
    let plan = plans(&[subject("base", &[]), web.clone()])
        .remove("web")
        .unwrap()
        .unwrap();
    let required = BTreeMap::from([("base".to_owned(), "r.example/base:1@sha256:2".to_owned())]);
    let order = order(&web, &plan, &required, &engine()).unwrap();
    let args: Vec<_> = order.build_args.into_iter().collect();
    assert_eq!(
        args,
        [
            (
                "BASE".to_owned(),
                Some("r.example/base:1@sha256:2".to_owned())
            ),
            ("SKAFFOLD_RUN_MODE".to_owned(), Some("dev".to_owned())),
        ]
    );
}

#[test]
fn an_image_whose_required_one_has_no_plan_has_none_either() {
    let mut base = subject("base", &[]);
    base.policy = TagPolicy::EnvTemplate {
        template: Template("not a tag".into()),
    };
    let mut plans = plans(&[base, subject("web", &["base"])]);
    let error = plans.remove("web").unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "base, which web requires, cannot be planned"
    );
}
