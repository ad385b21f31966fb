//! Profiles of a `skaffold.yaml`: activation, order, merging and patches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_schemas::model::{Module, TagPolicy, Template};
use kiln_schemas::{Diagnostic, Environment, ProfileChoice, Reading, skaffold};

fn environment() -> Environment {
    Environment {
        vars: BTreeMap::from([("STAGE".to_owned(), "production".to_owned())]),
        cwd: PathBuf::from("/src/app"),
        kube_context: Some("kind-dev".to_owned()),
        command: "dev".to_owned(),
    }
}

fn read(text: &str, names: &[&str]) -> Result<Reading, Vec<Diagnostic>> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let choice = ProfileChoice {
        names,
        automatic: true,
    };
    skaffold::read(text, Path::new("s.yaml"), &environment(), &choice)
}

fn with_profiles(profiles: &str) -> String {
    format!(
        "\
apiVersion: skaffold/v4beta14
kind: Config
build:
  artifacts:
  - {{image: app, context: app, kaniko: {{target: dev, reproducible: true}}}}
  insecureRegistries: [one]
  tagPolicy: {{inputDigest: {{}}}}
  cluster: {{namespace: builds, concurrency: 2}}
manifests:
  rawYaml: [base.yaml]
deploy:
  statusCheckDeadlineSeconds: 30
  tolerateFailuresUntilDeadline: true
  kubectl: {{defaultNamespace: base, flags: {{disableValidation: true}}}}
  logs: {{prefix: auto, jsonParse: {{fields: [a]}}}}
profiles:
{profiles}"
    )
}

fn module(profiles: &str, names: &[&str]) -> Module {
    let reading = read(&with_profiles(profiles), names);
    reading
        .unwrap_or_else(|errors| panic!("{errors:#?}"))
        .project
        .modules
        .remove(0)
}

fn active(activation: &str) -> bool {
    let text = with_profiles(&format!("- {{name: p, {activation}}}\n"));
    let reading = read(&text, &[]).unwrap_or_else(|errors| panic!("{errors:#?}"));
    reading.project.profiles == ["p"]
}

#[test]
fn activation_is_any_entry_of_which_all_parts_hold() {
    let rows = [
        ("activation: [{env: STAGE=production}]", true),
        ("activation: [{env: STAGE=prod}]", true),
        ("activation: [{env: 'STAGE=^prod$'}]", false),
        ("activation: [{env: 'STAGE=!dev'}]", true),
        ("activation: [{env: UNSET=}]", true),
        ("activation: [{env: STAGE=}]", false),
        ("activation: [{kubeContext: kind-.*}]", true),
        ("activation: [{command: run}]", false),
        (
            "activation: [{command: run}, {kubeContext: kind-dev}]",
            true,
        ),
        ("activation: [{command: run, kubeContext: kind-dev}]", false),
        (
            "requiresAllActivations: true, activation: [{command: run}, {kubeContext: kind-dev}]",
            false,
        ),
        (
            "requiresAllActivations: true, activation: [{command: dev}, {kubeContext: kind-dev}]",
            true,
        ),
        ("activation: []", false),
    ];
    for (activation, expected) in rows {
        assert_eq!(active(activation), expected, "{activation}");
    }
}

#[test]
fn automatic_profiles_come_first_and_the_command_line_in_its_order() {
    let profiles = "\
- {name: a, manifests: {rawYaml: [a.yaml]}}
- {name: b, manifests: {rawYaml: [b.yaml]}, activation: [{command: dev}]}
- {name: c, manifests: {rawYaml: [c.yaml]}}
";
    let order = |names: &[&str]| {
        read(&with_profiles(profiles), names)
            .unwrap()
            .project
            .profiles
    };
    assert_eq!(order(&[]), ["b"]);
    assert_eq!(order(&["c", "a"]), ["b", "c", "a"]);
    assert_eq!(order(&["a", "-b"]), ["a"]);
    assert_eq!(
        module(profiles, &["c", "a"]).manifests.raw,
        [Template("a.yaml".to_owned())]
    );
    let manual = ProfileChoice {
        names: Vec::new(),
        automatic: false,
    };
    let text = with_profiles(profiles);
    let reading = skaffold::read(&text, Path::new("s.yaml"), &environment(), &manual).unwrap();
    assert_eq!(reading.project.profiles, Vec::<String>::new());
}

/// skaffold's `profiles.go`: structs are merged, lists and pointers replaced,
/// zero values never override, the builders exclude each other.
#[test]
fn a_profile_is_merged_as_in_skaffold() {
    let module = module(
        "\
- name: p
  build:
    artifacts: [{image: app, kaniko: {}}]
    insecureRegistries: []
    tagPolicy: {sha256: {}}
    local: {concurrency: 5}
  deploy:
    statusCheckDeadlineSeconds: 0
    tolerateFailuresUntilDeadline: false
    kubectl: {defaultNamespace: other}
    logs: {jsonParse: {fields: [b]}}
  portForward: [{resourceType: service, resourceName: web, port: 80}]
",
        &["p"],
    );
    let app = &module.build.artifacts[0];
    // The list was replaced, not merged.
    assert_eq!(
        (app.context.as_path(), &app.target),
        (Path::new("/src/app"), &None)
    );
    assert_eq!(module.build.insecure_registries, ["one"]);
    assert_eq!(module.build.tags, TagPolicy::Latest);
    // `local` replaced `cluster`.
    assert_eq!(
        (
            &module.build.cluster.namespace,
            module.build.cluster.concurrency
        ),
        (&None, 5)
    );
    assert_eq!(module.deploy.status.deadline.as_secs(), 30);
    // `kubectl` is a pointer: replaced as a whole.
    assert_eq!(
        module.deploy.default_namespace,
        Some(Template("other".to_owned()))
    );
    assert!(!module.deploy.skip_validation);
    assert_eq!(module.deploy.logs.json_fields, ["b"]);
    assert_eq!(module.forward.len(), 1);
}

#[test]
fn false_in_a_profile_cannot_override_a_plain_boolean() {
    let profile = "- {name: p, deploy: {tolerateFailuresUntilDeadline: false}}\n";
    assert!(module(profile, &["p"]).deploy.status.tolerate_failures);
    // `statusCheck` is a pointer, for which `false` is a value.
    let profile = "- {name: p, deploy: {statusCheck: false}}\n";
    assert!(!module(profile, &["p"]).deploy.status.enabled);
}

#[test]
fn patches_change_what_merging_cannot() {
    let module = module(
        "\
- name: p
  patches:
  - {path: /build/artifacts/0/kaniko/target, value: prod}
  - {op: add, path: /build/artifacts/0/kaniko/cache, value: {}}
  - {op: remove, path: /build/artifacts/image=app/kaniko/reproducible}
  - {op: add, path: /manifests/rawYaml/-, value: more.yaml}
  - {op: add, path: /manifests/rawYaml/0, value: first.yaml}
  - {op: move, from: /build/insecureRegistries/0, path: /build/insecureRegistries/-}
  - {op: copy, from: /manifests/rawYaml/0, path: /manifests/rawYaml/-}
  - {op: test, path: /build/cluster/concurrency, value: 2}
",
        &["p"],
    );
    let app = &module.build.artifacts[0];
    assert_eq!(app.target.as_deref(), Some("prod"));
    assert!(app.cache.is_some() && !app.flags.reproducible);
    let raw: Vec<&str> = module
        .manifests
        .raw
        .iter()
        .map(|template| template.0.as_str())
        .collect();
    assert_eq!(raw, ["first.yaml", "base.yaml", "more.yaml", "first.yaml"]);
}

#[test]
fn a_patch_that_fails_points_at_itself() {
    let message = |patch: &str| {
        let text = with_profiles(&format!("- name: p\n  patches:\n  - {patch}\n"));
        read(&text, &["p"]).unwrap_err()[0].to_string()
    };
    assert_eq!(
        message("{path: /build/artifacts/1/image, value: x}"),
        "s.yaml:19:12: this patch's path `/build/artifacts/1/image` does not exist: nothing at `1`"
    );
    assert_eq!(
        message("{op: remove, path: /deploy/nothing}"),
        "s.yaml:19:24: this patch's path `/deploy/nothing` does not exist: nothing at `nothing`"
    );
    assert_eq!(
        message("{op: test, path: /build/cluster/concurrency, value: 9}"),
        "s.yaml:19:57: the value is not what this patch tests for"
    );
    assert_eq!(
        message("{path: /build}"),
        "s.yaml:19:5: a patch with op `replace` needs a `value`"
    );
    assert_eq!(
        message("{op: set, path: /build}"),
        "s.yaml:19:5: unknown patch op `set`"
    );
    // A value that a patch brings in points at the patch as well.
    assert_eq!(
        message("{op: add, path: /deploy/logs/prefix, value: pod}"),
        "s.yaml:19:21: `deploy.logs.prefix` cannot be `pod`"
    );
}

#[test]
fn patches_of_old_files_follow_the_fields_that_moved() {
    let text = "\
apiVersion: skaffold/v2beta16
kind: Config
deploy: {kustomize: {paths: [dev]}}
profiles:
- name: prod
  patches: [{path: /deploy/kustomize/paths/0, value: prod}]
";
    let module = read(text, &["prod"]).unwrap().project.modules.remove(0);
    assert_eq!(
        module.manifests.kustomize[0].path,
        Template("prod".to_owned())
    );
}

#[test]
fn an_inactive_profile_may_use_what_is_not_supported_but_must_be_well_formed() {
    let cloud = "- {name: gcb, build: {googleCloudBuild: {projectId: x}}}\n";
    read(&with_profiles(cloud), &[]).unwrap();
    let errors = read(&with_profiles(cloud), &["gcb"]).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "s.yaml:17:23: `build.googleCloudBuild` is not supported"
    );
    let errors = read(&with_profiles("- {name: p, biuld: {}}\n"), &[]).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "s.yaml:17:13: unknown field `biuld` in profiles[0]"
    );
}

#[test]
fn names_are_checked() {
    let errors = read(&with_profiles("- {name: prod}\n"), &["prdo"]).unwrap_err();
    assert_eq!(errors[0].to_string(), "s.yaml: there is no profile `prdo`");
    assert_eq!(errors[0].help.as_deref(), Some("did you mean `prod`?"));
    let errors = read(&with_profiles("- {name: a}\n- {name: a}\n"), &[]).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "s.yaml:18:10: profile `a` stands twice"
    );
    let errors = read(&with_profiles("- {name: a, activation: [{env: X}]}\n"), &[]).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "s.yaml:17:27: `profiles[0].activation[0].env` must be KEY=PATTERN, not `X`"
    );
}

#[test]
fn a_profile_that_the_context_activated_cannot_change_the_context() {
    let profile =
        "- {name: p, activation: [{kubeContext: kind-dev}], deploy: {kubeContext: prod}}\n";
    let errors = read(&with_profiles(profile), &[]).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "s.yaml:17:74: the kube-context `kind-dev` activated a profile, but the deployment goes to `prod`"
    );
}
