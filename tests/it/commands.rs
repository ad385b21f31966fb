//! The commands beside `dev`, and what they say when something is wrong.

use std::io::Write;
use std::process::Stdio;

use kiln_test_cluster::{Cluster, PLAIN_REGISTRY, WEAK_CONTEXT};
use serde_json::Value;

use crate::kiln::{Project, said};
use crate::objects;

#[test]
fn what_a_job_built_another_one_deploys() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("pipe").expect("a namespace");
    let project = Project::example(&cluster, "raw-yaml", &[]);
    let repo = format!("{PLAIN_REGISTRY}/tests/pipe-{}", namespace.name());

    let built = project.run(&["build", "-q", "-d", &repo]);
    let json: Value = serde_json::from_slice(&built.stdout).expect("JSON alone on standard output");
    let tag = json["builds"][0]["tag"].as_str().expect("a tag");
    assert_eq!(json["builds"][0]["imageName"], "page");
    assert!(
        tag.starts_with(&format!("{repo}/page:")) && tag.contains("@sha256:"),
        "{tag}"
    );

    let mut deploy = project.kiln(&["deploy", "-n", namespace.name(), "-d", &repo, "-a", "-"]);
    let mut child = deploy
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("kiln starts");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(&built.stdout)
        .expect("the pipe takes it");
    let output = child.wait_with_output().expect("kiln ends");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(objects::images(&cluster, namespace.name(), "page"), [tag]);
}

#[test]
fn render_prints_what_apply_takes() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("render").expect("a namespace");
    let project = Project::example(&cluster, "raw-yaml", &[]);
    let repo = format!("{PLAIN_REGISTRY}/tests/render-{}", namespace.name());
    project.run(&["build", "-d", &repo, "-t", "fixed"]);
    let rendered = project.run(&["render", "-n", namespace.name(), "-d", &repo, "-t", "fixed"]);
    let text = String::from_utf8(rendered.stdout).expect("UTF-8");
    assert!(
        text.contains(&format!("image: {repo}/page:fixed")),
        "{text}"
    );
    assert!(
        text.contains(&format!("namespace: {}", namespace.name())),
        "{text}"
    );

    project.write("rendered.yaml", &text);
    project.run(&["apply", "-n", namespace.name(), "rendered.yaml"]);
    assert_eq!(
        objects::images(&cluster, namespace.name(), "page"),
        [format!("{repo}/page:fixed")]
    );
}

#[test]
fn a_manifest_by_url_is_downloaded_and_one_that_is_not_there_is_named() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let project = Project::empty(&cluster, &[]);
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-the-web}\n";
    project.write("web/app.yaml", manifest);
    let listen = "127.0.0.1:18480";
    let mut server = project
        .in_network("busybox")
        .args(["httpd", "-f", "-p", listen, "-h", "web"])
        .spawn()
        .expect("busybox runs");
    let config = |file: &str| {
        format!(
            "apiVersion: skaffold/v4beta11\nkind: Config\nmanifests:\n  rawYaml: [\"http://{listen}/{file}\"]\n"
        )
    };
    project.write("skaffold.yaml", &config("app.yaml"));
    let mut rendered = project.kiln(&["render"]).output().expect("kiln runs");
    for _ in 0..50 {
        if rendered.status.success() {
            break;
        }
        // The server is not up yet.
        std::thread::sleep(std::time::Duration::from_millis(100));
        rendered = project.kiln(&["render"]).output().expect("kiln runs");
    }
    project.write("skaffold.yaml", &config("absent.yaml"));
    let (code, words) = project.fails(&["render"]);
    server.kill().expect("it runs");
    server.wait().expect("it ends");
    assert!(
        said(&rendered).contains("name: from-the-web"),
        "{}",
        said(&rendered)
    );
    assert_ne!(code, 0);
    assert!(
        words.contains("absent.yaml") && words.contains("404"),
        "{words}"
    );
}

#[test]
fn context_lists_what_is_sent_largest_first_and_why_the_rest_is_not() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let project = Project::example(&cluster, "node-service", &[]);
    project.write("src/large.txt", &"x".repeat(5_000));
    project.write("src/skipped.log", "noise");
    project.write(".dockerignore", "*.md\n**/*.log\n");
    let output = project.run(&["context", "node-service"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert!(
        lines[0].ends_with("src/large.txt") && lines[0].starts_with("5.0 kB"),
        "{text}"
    );
    assert!(
        lines.iter().any(|l| l.contains("src/skipped.log")
            && l.contains("**/*.log")
            && l.contains("line 2")),
        "{text}"
    );
    assert!(
        !text.contains("k8s/app.yaml"),
        "what the Dockerfile cannot read is sent: {text}"
    );
}

#[test]
fn user_level_settings_are_set_listed_and_unset() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let project = Project::empty(&cluster, &[]);
    project.run(&[
        "config",
        "set",
        "default-repo",
        "r.example/team",
        "--kube-context",
        "kind-x",
    ]);
    let list = project.run(&["config", "list", "--kube-context", "kind-x"]);
    assert!(
        said(&list).contains("default-repo: r.example/team"),
        "{}",
        said(&list)
    );
    project.run(&[
        "config",
        "unset",
        "default-repo",
        "--kube-context",
        "kind-x",
    ]);
    let list = project.run(&["config", "list", "--kube-context", "kind-x"]);
    assert!(!said(&list).contains("r.example/team"), "{}", said(&list));
    let (code, words) = project.fails(&["config", "set", "defualt-repo", "x"]);
    assert_eq!(code, 2);
    assert!(words.contains("default-repo"), "{words}");
}

#[test]
fn a_wrong_configuration_names_its_place_and_what_was_meant() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let project = Project::empty(&cluster, &[]);
    let (code, words) = project.fails(&["run"]);
    assert_eq!(code, 3);
    assert!(
        words.contains("skaffold.yaml") && words.contains("-f"),
        "{words}"
    );

    project.write(
        "skaffold.yaml",
        "apiVersion: skaffold/v4beta11\nkind: Config\nbuild:\n  artifacts:\n    - image: app\n      kaniko:\n        dockerFile: x\n",
    );
    let (code, words) = project.fails(&["run"]);
    assert_eq!(code, 3);
    assert!(words.contains("skaffold.yaml:7:9"), "{words}");
    assert!(words.contains("dockerfile"), "{words}");
}

#[test]
fn a_user_without_rights_reads_the_smallest_role_that_would_do() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let namespace = cluster.namespace("rights").expect("a namespace");
    let project = Project::example(&cluster, "raw-yaml", &[]);
    let repo = format!("{PLAIN_REGISTRY}/tests/rights-{}", namespace.name());
    let weak = ["--kube-context", WEAK_CONTEXT, "-n", namespace.name()];
    let mut build = vec!["run", "-d", &repo];
    build.extend(weak);
    let (code, words) = project.fails(&build);
    assert_eq!(code, 4);
    assert!(
        words.contains("kind: Role") && words.contains("pods/exec"),
        "{words}"
    );
}

#[test]
fn a_context_that_does_not_exist_is_an_error_that_lists_the_others() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let project = Project::example(&cluster, "raw-yaml", &[]);
    let (code, words) = project.fails(&["deploy", "--kube-context", "nowhere", "-i", "page=x:1"]);
    assert_eq!(code, 5);
    assert!(
        words.contains("nowhere") && words.contains("kind-cluster30"),
        "{words}"
    );
}

#[test]
fn config_print_shows_what_file_profiles_and_defaults_amount_to() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let project = Project::example(&cluster, "profiles", &[]);
    let plain = said(&project.run(&["config", "print"]));
    assert!(
        plain.contains("hello from dev") && plain.contains("k8s/overlays/dev"),
        "{plain}"
    );
    let prod = said(&project.run(&["config", "print", "-p", "prod"]));
    assert!(
        prod.contains("hello from prod") && prod.contains("k8s/overlays/prod"),
        "{prod}"
    );
    assert!(!prod.contains("hello from dev"), "{prod}");
    let (code, words) = project.fails(&["config", "print", "-p", "prdo"]);
    assert_eq!(code, 3);
    assert!(words.contains("prdo") && words.contains("prod"), "{words}");
}

#[test]
fn version_and_completion_need_no_project() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let project = Project::empty(&cluster, &[]);
    let version = project.run(&["version"]);
    assert_eq!(
        said(&version).trim(),
        format!("kiln {}", env!("CARGO_PKG_VERSION"))
    );
    let script = said(&project.run(&["completion", "bash"]));
    assert!(
        script.contains("complete") && script.contains("--default-repo"),
        "{script}"
    );
}

#[test]
fn a_tag_that_is_none_is_refused_before_anything_is_started() {
    let Some(cluster) = Cluster::for_test() else {
        return;
    };
    let project = Project::example(&cluster, "raw-yaml", &[]);
    let (code, words) = project.fails(&["build", "-d", PLAIN_REGISTRY, "--tag", "bad tag!"]);
    assert_eq!(code, 2);
    assert!(words.contains("bad tag!"), "{words}");
}
