//! Reading `kiln.yaml`: the short form, the long form, and mistakes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_schemas::model::{
    BuildArg, Dialect, ForwardPort, Requirement, SyncRules, TagPolicy, Template,
};
use kiln_schemas::{Environment, ProfileChoice, Reading, config, reader};
use serde_json::json;

fn environment() -> Environment {
    Environment {
        vars: BTreeMap::from([
            ("HOME".to_owned(), "/home/dev".to_owned()),
            ("CI".to_owned(), "true".to_owned()),
        ]),
        cwd: PathBuf::from("/src"),
        kube_context: Some("kind-dev".to_owned()),
        command: "dev".to_owned(),
    }
}

fn choice(names: &[&str]) -> ProfileChoice {
    ProfileChoice {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        automatic: true,
    }
}

fn read_with(text: &str, names: &[&str]) -> Reading {
    let file = Path::new("shop/kiln.yaml");
    config::read(text, file, &environment(), &choice(names)).unwrap_or_else(|e| panic!("{e:#?}"))
}

fn read(text: &str) -> Reading {
    read_with(text, &[])
}

/// `line:column: message | help` of every error.
fn errors(text: &str) -> Vec<String> {
    let file = Path::new("kiln.yaml");
    config::read(text, file, &environment(), &choice(&[]))
        .expect_err("the configuration was accepted")
        .iter()
        .map(|error| {
            let place = error.to_string();
            let place = place
                .strip_prefix("kiln.yaml:")
                .unwrap_or(&place)
                .trim_start()
                .to_owned();
            error
                .help
                .as_ref()
                .map_or(place.clone(), |help| format!("{place} | {help}"))
        })
        .collect()
}

#[test]
fn a_name_and_an_overlay_are_enough() {
    let Reading { project, notes } = read(
        "apiVersion: kiln.dev/v1\nimages:\n- name: app\ndeploy:\n  overlay: k8s/overlays/dev\n",
    );
    assert_eq!(notes, []);
    assert_eq!(
        (project.name.as_str(), project.dialect),
        ("shop", Dialect::Kiln)
    );
    assert_eq!(project.files, [PathBuf::from("/src/shop/kiln.yaml")]);
    let module = &project.modules[0];
    let artifact = &module.build.artifacts[0];
    assert_eq!(artifact.image, "app");
    assert_eq!(artifact.context, PathBuf::from("/src/shop"));
    assert_eq!(artifact.dockerfile, PathBuf::from("Dockerfile"));
    assert_eq!(artifact.executor.image, None);
    assert_eq!(module.build.tags, TagPolicy::Content);
    assert_eq!(
        module.manifests.kustomize[0].path,
        Template("k8s/overlays/dev".to_owned())
    );
    assert!(module.deploy.status.enabled);
    assert_eq!(module.deploy.status.deadline.as_secs(), 600);
}

const LONG: &str = r#"
apiVersion: kiln.dev/v1
name: shop
images:
  - name: shop/base
    context: base
  - name: shop/web
    context: web
    dockerfile: build/Dockerfile
    target: final
    args: {VERSION: 1.20, REV: "{{.GIT_REV}}", TOKEN: }
    requires: {BASE: shop/base}
    flags: [--single-snapshot]
    cache: {ttl: 48h}
    watch: {extra: [../proto/**], ignore: ["**/*.md"]}
    sync: {rules: [{src: "static/**", dest: /srv, strip: static/}]}
    hooks: {before: [{command: [make, gen], dir: gen}]}
registries:
  docker.io: {mirrors: [mirror.example, mirror.gcr.io]}
  localhost:5000: {insecure: true}
build:
  namespace: builds
  timeout: 90s
  concurrency: 2
  env: {GOFLAGS: -mod=mod}
  executor: {image: gcr.io/kaniko-project/executor:v1.9.2, flags: [--reproducible]}
  pod: {spec: {priorityClassName: low}}
  caches:
    gomod: {path: /go/pkg/mod, claim: gomod}
    gobuild: {path: /root/.cache/go-build, hostPath: /var/cache/go}
  secrets:
    registry: {file: ~/.docker/config.json}
    cloud: {secret: gcp, key: key.json}
deploy:
  manifests: [k8s/*.yaml, https://example.com/crds.yaml]
  watch: [k8s/values/*]
  context: kind-dev
  labels: {team: shop}
  logs: {prefix: podAndContainer}
forward:
  - {resource: Service/web, port: http, local: 8080}
"#;

#[test]
fn every_section_reaches_the_model() {
    let reading = read(LONG);
    let module = &reading.project.modules[0];
    let web = &module.build.artifacts[1];
    assert_eq!(web.context, PathBuf::from("/src/shop/web"));
    assert_eq!(
        web.build_args["VERSION"],
        BuildArg::Value(Template("1.20".to_owned()))
    );
    assert_eq!(web.build_args["TOKEN"], BuildArg::FromEnvironment);
    assert_eq!(
        web.requires,
        [Requirement {
            image: "shop/base".to_owned(),
            alias: "BASE".to_owned()
        }]
    );
    assert_eq!(web.flags.extra, ["--reproducible", "--single-snapshot"]);
    assert_eq!(
        web.flags.mirrors["index.docker.io"],
        ["mirror.example", "mirror.gcr.io"]
    );
    assert_eq!(web.cache.as_ref().unwrap().ttl.as_deref(), Some("48h"));
    assert_eq!(web.watch_extra, [PathBuf::from("/src/shop/../proto/**")]);
    assert_eq!(web.watch_ignore, ["**/*.md"]);
    assert!(
        matches!(&web.sync.as_ref().unwrap().rules, SyncRules::Manual(rules) if rules[0].dest == "/srv")
    );
    assert_eq!(
        web.hooks.before[0].dir,
        Some(PathBuf::from("/src/shop/gen"))
    );
    assert_eq!(web.env[0].name, "GOFLAGS");
    assert_eq!(
        web.volume_mounts,
        [
            json!({"name": "gobuild", "mountPath": "/root/.cache/go-build"}),
            json!({"name": "gomod", "mountPath": "/go/pkg/mod"}),
        ]
    );
    let cluster = &module.build.cluster;
    assert_eq!(
        cluster.volumes[1],
        json!({"name": "gomod", "persistentVolumeClaim": {"claimName": "gomod"}})
    );
    assert_eq!(
        cluster.volumes[0],
        json!({"name": "gobuild", "hostPath": {"path": "/var/cache/go", "type": "DirectoryOrCreate"}})
    );
    assert_eq!((cluster.timeout.as_secs(), cluster.concurrency), (90, 2));
    assert_eq!(
        cluster.pod_template,
        Some(json!({"spec": {"priorityClassName": "low"}}))
    );
    assert_eq!(
        cluster.docker_config.as_ref().unwrap().path,
        Some(PathBuf::from("/home/dev/.docker/config.json"))
    );
    let key = cluster.pull_secret.as_ref().unwrap();
    assert_eq!(
        (key.name.as_str(), key.path.as_deref()),
        ("gcp", Some("key.json"))
    );
    assert_eq!(module.build.insecure_registries, ["localhost:5000"]);
    assert_eq!(module.manifests.raw.len(), 2);
    assert_eq!(
        module.manifests.watch_extra,
        [PathBuf::from("/src/shop/k8s/values/*")]
    );
    let forward = &module.forward[0];
    assert_eq!(
        (forward.resource_type.as_str(), forward.local_port),
        ("service", Some(8080))
    );
    assert_eq!(forward.port, ForwardPort::Name("http".to_owned()));
}

#[test]
fn mistakes_are_reported_all_at_once_with_their_places() {
    let text = "\
apiVersion: kiln.dev/v1
images:
  - name: app
    dockerFile: Dockerfile.dev
  - context: web
  - [app]
build:
  concurency: 2
  concurrency: two
deploy:
  status: {wait: maybe}
  logs: {prefix: contianer}
forward:
  - {resource: service/web, port: 80, local: 99999}
";
    assert_eq!(
        errors(text),
        [
            "4:5: unknown field `dockerFile` in images[0] | did you mean `dockerfile`?",
            "5:5: `images[1].name` is required",
            "6:5: `images[2]` must be a mapping, not a list",
            "8:3: unknown field `concurency` in build | did you mean `concurrency`?",
            "9:16: `build.concurrency` must be an integer, not a string",
            "11:18: `deploy.status.wait` must be true or false, not a string",
            "12:18: `deploy.logs.prefix` cannot be `contianer` | did you mean `container`?",
            "14:46: `forward[0].local` must be an integer from 0 to 65535, not a number",
        ]
    );
}

#[test]
fn meaning_is_checked_as_well_as_shape() {
    let text = "\
apiVersion: kiln.dev/v1
tags: {git: {}, date: {}}
images:
  - name: app:v1
    platforms: [linux]
    args: {A: '{{.X | lowr}}'}
    requires: {BASE: bse}
  - name: base
  - name: base
build:
  timeout: 5 minutes
  caches:
    mod: {path: mod}
";
    assert_eq!(
        errors(text),
        [
            "2:7: `tags` takes exactly one of content, git, date and template | keep one of them",
            "4:11: `app:v1` must carry neither tag nor digest | remove `:v1`: `tags` says how images are tagged",
            "4:11: `app:v1` requires `bse`, which no image is named | did you mean `base`?",
            "5:17: `linux` is not a platform | write os/arch or os/arch/variant, for example linux/arm64",
            "6:15: the template `{{.X | lowr}}` calls `lowr`, which is not a function | did you mean `lower`?",
            "9:11: image `base` is built twice",
            "11:12: `5 minutes` is not a duration | write a number with a unit, for example 90s, 20m or 1h30m",
            "13:10: cache `mod` needs exactly one of claim, hostPath and emptyDir",
            "13:17: `mod` is not absolute | a cache lies at the same path for every RUN",
        ]
    );
}

#[test]
fn images_cannot_require_each_other_in_a_circle() {
    let text = "\
apiVersion: kiln.dev/v1
images:
  - {name: a, requires: {B: b}}
  - {name: b, requires: {A: a}}
";
    assert_eq!(
        errors(text),
        ["3:12: images require each other in a circle: a -> b -> a"]
    );
}

#[test]
fn a_wrong_version_says_which_one_is_right() {
    assert_eq!(
        errors("apiVersion: kiln.dev/v2\n"),
        ["1:13: `apiVersion` cannot be `kiln.dev/v2` | did you mean `kiln.dev/v1`?"]
    );
    assert_eq!(errors("images: []\n"), ["1:1: `apiVersion` is required"]);
    assert_eq!(
        errors("# nothing\n"),
        ["the file is empty | write at least `apiVersion: kiln.dev/v1`"]
    );
}

const PROFILES: &str = "\
apiVersion: kiln.dev/v1
images:
  - name: app
    args: {MODE: dev, LEVEL: debug}
    target: dev
deploy:
  overlay: k8s/dev
  labels: {tier: dev}
profiles:
  prod:
    merge:
      images:
        - {name: app, args: {MODE: prod}, target: null}
        - {name: extra}
      deploy: {overlay: [k8s/prod, k8s/extra], labels: {team: a}}
  ci:
    when: {env: {CI: ^true$}, context: kind-, command: '!deploy'}
    merge: {build: {concurrency: 1}}
";

#[test]
fn a_profile_is_a_merge_patch_and_images_merge_by_name() {
    let project = read_with(PROFILES, &["prod"]).project;
    assert_eq!(project.profiles, ["ci", "prod"]);
    let module = &project.modules[0];
    let app = &module.build.artifacts[0];
    assert_eq!(
        app.build_args["MODE"],
        BuildArg::Value(Template("prod".to_owned()))
    );
    assert_eq!(
        app.build_args["LEVEL"],
        BuildArg::Value(Template("debug".to_owned()))
    );
    assert_eq!(app.target, None);
    assert_eq!(module.build.artifacts[1].image, "extra");
    assert_eq!(module.manifests.kustomize.len(), 2);
    assert_eq!(module.deploy.labels.len(), 2);
    assert_eq!(module.build.cluster.concurrency, 1);
}

#[test]
fn a_profile_can_be_switched_off_and_must_exist() {
    assert_eq!(
        read_with(PROFILES, &["-ci"]).project.profiles,
        Vec::<String>::new()
    );
    let file = Path::new("kiln.yaml");
    let found = config::read(PROFILES, file, &environment(), &choice(&["prd"])).unwrap_err();
    assert_eq!(found[0].to_string(), "kiln.yaml: there is no profile `prd`");
    assert_eq!(found[0].help.as_deref(), Some("did you mean `prod`?"));
}

#[test]
fn a_mistake_in_a_profile_points_into_the_profile() {
    let text = PROFILES.replace("{build: {concurrency: 1}}", "{build: {concurency: 1}}");
    assert_eq!(
        errors(&text),
        ["18:21: unknown field `concurency` in build | did you mean `concurrency`?"]
    );
    let inactive = PROFILES.replace("labels: {team: a}}", "lables: {team: a}}");
    assert_eq!(
        errors(&inactive),
        ["15:48: unknown field `lables` in deploy | did you mean `labels`?"]
    );
}

#[test]
fn the_api_version_decides_which_front_end_reads() {
    let file = Path::new("any.yaml");
    let kiln = reader::read(
        "apiVersion: kiln.dev/v1\n",
        file,
        &environment(),
        &choice(&[]),
    );
    assert_eq!(kiln.unwrap().project.dialect, Dialect::Kiln);
    let text = "apiVersion: skaffold/v4beta14\nkind: Config\n";
    let skaffold = reader::read(text, file, &environment(), &choice(&[]));
    assert_eq!(skaffold.unwrap().project.dialect, Dialect::Skaffold);
}
