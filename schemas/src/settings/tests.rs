use super::*;

const FILE: &str = "\
# mine
global:
  default-repo: registry.example/team # for everything
contexts:
  kind-dev:
    insecure-registries:
      - localhost:5000
    multi-level-repo: true
    registries:
      europe-north1-docker.pkg.dev: {host: \"10.0.0.1:5000\", insecure: true}
";

fn context(name: &str) -> Scope {
    Scope::Context(name.to_owned())
}

#[test]
fn a_context_overlays_the_global_settings() {
    let file = SettingsFile::parse(FILE, "config.yaml").unwrap();
    let settings = file.effective(Some("kind-dev"));
    assert_eq!(
        settings.default_repo.as_deref(),
        Some("registry.example/team")
    );
    assert_eq!(settings.multi_level_repo, Some(true));
    assert_eq!(settings.insecure_registries, ["localhost:5000"]);
    let host = &settings.registries["europe-north1-docker.pkg.dev"];
    assert_eq!(
        (host.host.as_deref(), host.insecure),
        (Some("10.0.0.1:5000"), true)
    );
    assert_eq!(file.effective(None), file.global);
    assert_eq!(
        file.effective(Some("kind-dev")).list()[1],
        ("multi-level-repo".to_owned(), "true".to_owned())
    );
}

#[test]
fn unknown_settings_are_errors_with_their_place() {
    let errors = SettingsFile::parse("global:\n  default_repo: x\n", "config.yaml").unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "config.yaml:2:3: unknown field `default_repo` in global"
    );
    assert_eq!(
        errors[0].help.as_deref(),
        Some("did you mean `default-repo`?")
    );
}

#[test]
fn skaffolds_own_file_is_read_for_what_matters() {
    let text = "\
global:
  survey: {last-prompted: \"2024-01-01T00:00:00Z\"}
  default-repo: gcr.io/my-project
kubeContexts:
- kube-context: minikube
  local-cluster: true
  default-repo: localhost:5000
  insecure-registries: [localhost:5000]
";
    let file = SettingsFile::parse_skaffold(text, "config").unwrap();
    assert_eq!(
        file.effective(Some("minikube")).default_repo.as_deref(),
        Some("localhost:5000")
    );
    assert_eq!(
        file.effective(Some("prod")).default_repo.as_deref(),
        Some("gcr.io/my-project")
    );
}

#[test]
fn setting_a_value_keeps_the_rest_of_the_file() {
    let text = set(FILE, &context("kind-dev"), "default-repo", "localhost:5000").unwrap();
    let expected = FILE.replace(
        "  kind-dev:\n",
        "  kind-dev:\n    default-repo: localhost:5000\n",
    );
    assert_eq!(text, expected);
    let text = set(&text, &context("prod"), "multi-level-repo", "true").unwrap();
    assert!(
        text.contains("contexts:\n  prod:\n    multi-level-repo: true\n  kind-dev:\n"),
        "{text}"
    );
    assert!(text.starts_with("# mine\n"));
    SettingsFile::parse(&text, "config.yaml").unwrap();
}

#[test]
fn a_list_gains_an_entry() {
    let text = set(FILE, &context("kind-dev"), "insecure-registries", "r.local").unwrap();
    assert!(
        text.contains("    insecure-registries: [localhost:5000, r.local]\n"),
        "{text}"
    );
    assert!(!text.contains("      - localhost:5000"), "{text}");
    let again = set(
        &text,
        &context("kind-dev"),
        "insecure-registries",
        "r.local",
    )
    .unwrap();
    assert_eq!(again, text);
}

#[test]
fn an_empty_file_grows_its_sections() {
    let text = set("", &Scope::Global, "default-repo", "1234.dkr.ecr.example").unwrap();
    assert_eq!(text, "global:\n  default-repo: \"1234.dkr.ecr.example\"\n");
    let text = set(&text, &context("on"), "default-repo", "yes").unwrap();
    assert_eq!(
        text,
        "global:\n  default-repo: \"1234.dkr.ecr.example\"\n\
         contexts:\n  \"on\":\n    default-repo: \"yes\"\n"
    );
}

#[test]
fn unsetting_takes_the_lines_of_one_setting() {
    let text = unset(FILE, &context("kind-dev"), "insecure-registries").unwrap();
    assert_eq!(
        text,
        FILE.replace("    insecure-registries:\n      - localhost:5000\n", "")
    );
    assert_eq!(
        unset(FILE, &Scope::Global, "multi-level-repo").unwrap(),
        FILE
    );
}

#[test]
fn what_cannot_be_edited_is_said() {
    let flow = "global: {default-repo: a}\n";
    let error = set(flow, &Scope::Global, "default-repo", "b").unwrap_err();
    assert!(matches!(error, EditError::FlowStyle { line: 1 }));
    let error = set(FILE, &Scope::Global, "default_repo", "b").unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no setting `default_repo`; did you mean `default-repo`?"
    );
    let error = set(FILE, &Scope::Global, "multi-level-repo", "maybe").unwrap_err();
    assert_eq!(
        error.to_string(),
        "`multi-level-repo` must be true or false, not `maybe`"
    );
}
