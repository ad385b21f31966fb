//! What is refused in a `skaffold.yaml`: the place, the words, and the way out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_schemas::{Environment, ProfileChoice, skaffold};

/// `line:column: message | help` of every error.
fn errors(text: &str) -> Vec<String> {
    let environment = Environment {
        vars: BTreeMap::new(),
        cwd: PathBuf::from("/src/app"),
        kube_context: Some("kind-dev".to_owned()),
        command: "dev".to_owned(),
    };
    skaffold::read(
        text,
        Path::new("s.yaml"),
        &environment,
        &ProfileChoice::default(),
    )
    .expect_err("the configuration was accepted")
    .iter()
    .map(|error| {
        let place = error.to_string();
        let place = place
            .strip_prefix("s.yaml:")
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

/// The same for a document that goes on after its two first lines.
fn errors_in(body: &str) -> Vec<String> {
    errors(&format!(
        "apiVersion: skaffold/v4beta14\nkind: Config\n{body}"
    ))
}

#[test]
fn unknown_fields_are_found_on_every_level_at_once() {
    assert_eq!(
        errors_in(
            "\
biuld: {}
build:
  artifacts:
  - image: app
    kaniko:
      buildArg: {A: b}
      dockerFile: x
  cluster:
    nameSpace: y
deploy:
  statuscheck: true
  wholly-unknown: 1
"
        ),
        [
            "3:1: unknown field `biuld` in the document | did you mean `build`?",
            "8:7: unknown field `buildArg` in build.artifacts[0].kaniko | did you mean `buildArgs`?",
            "9:7: unknown field `dockerFile` in build.artifacts[0].kaniko | did you mean `dockerfile`?",
            "11:5: unknown field `nameSpace` in build.cluster | did you mean `namespace`?",
            "13:3: unknown field `statuscheck` in deploy | did you mean `statusCheck`?",
            "14:3: unknown field `wholly-unknown` in deploy",
        ]
    );
}

#[test]
fn wrong_shapes_say_what_is_expected() {
    assert_eq!(
        errors_in(
            "\
build:
  artifacts: {image: app}
  insecureRegistries: r
  cluster: {timeout: 5 minutes, concurrency: many, volumes: [x]}
deploy: []
"
        ),
        [
            "4:14: `build.artifacts` must be a list, not a mapping",
            "5:23: `build.insecureRegistries` must be a list, not a string",
            "6:22: `build.cluster.timeout` is not a duration: `5 minutes` | write a number with a unit, for example 90s, 20m or 1h30m",
            "6:46: `build.cluster.concurrency` must be an integer, not a string",
            "6:62: `build.cluster.volumes[0]` must be a mapping, not a string",
            "7:9: `deploy` must be a mapping, not a list",
        ]
    );
}

#[test]
fn what_is_not_supported_is_named_with_what_to_use_instead() {
    let rows = [
        (
            "requires: [{path: other}]",
            "3:1: `requires` is not supported | put the documents into one file, separated by `---`",
        ),
        (
            "test: [{image: a}]",
            "3:1: `test` is not supported | run the tests in a step of their own after `kiln build`",
        ),
        (
            "verify: [{name: a}]",
            "3:1: `verify` is not supported | run the check in a step of its own after `kiln run`, or as a Job among the manifests",
        ),
        (
            "customActions: [{name: a}]",
            "3:1: `customActions` is not supported | run the command by itself, or as a hook of build or deploy",
        ),
        (
            "build: {googleCloudBuild: {}}",
            "3:9: `build.googleCloudBuild` is not supported | use `cluster`: images are built in pods of the cluster that the kube-context names",
        ),
        (
            "build: {artifacts: [{image: a, jib: {}}]}",
            "3:32: `build.artifacts[0].jib` is not supported | write a Dockerfile and use `kaniko: {}`",
        ),
        (
            "build: {artifacts: [{image: a, custom: {buildCommand: x}}]}",
            "3:32: `build.artifacts[0].custom` is not supported | write a Dockerfile and use `kaniko: {}`",
        ),
        (
            "build: {artifacts: [{image: a, docker: {network: host}}]}",
            "3:41: `build.artifacts[0].docker.network` is not supported | remove it: RUN sees the network of the build pod",
        ),
        (
            "build: {artifacts: [{image: a, kaniko: {noPush: true}}]}",
            "3:41: `build.artifacts[0].kaniko.noPush` is not supported | remove it: what is deployed must be pushed; `tarPath` and `ociLayoutPath` write the image to a volume as well",
        ),
        (
            "build: {artifacts: [{image: a, sync: {auto: true}}]}",
            "3:39: `build.artifacts[0].sync.auto` works with buildpacks and jib only | use `infer` with the globs of the files to copy",
        ),
        (
            "manifests: {helm: {releases: []}}",
            "3:13: `manifests.helm` is not supported | render the chart with `helm template` into a file for `rawYaml`",
        ),
        (
            "deploy: {helm: {}}",
            "3:10: `deploy.helm` is not supported | render the chart with `helm template` into a file for `manifests.rawYaml`",
        ),
        (
            "deploy: {kustomize: {}}",
            "3:10: `deploy.kustomize` is not supported | write it as `manifests.kustomize`: it moved in v3alpha1",
        ),
        (
            "deploy: {kubectl: {hooks: {before: [{container: {command: [x]}}]}}}",
            "3:38: `deploy.kubectl.hooks.before[0].container` is not supported | run the command on this host (`host` with `kubectl exec`), or in the image itself",
        ),
        (
            "deploy: {kubectl: {flags: {delete: [--now]}}}",
            "3:28: the kubectl flag `--now` is not supported | objects are applied without kubectl: use `deploy.kubeContext`, `kubectl.defaultNamespace` or `flags.disableValidation` where they say the same",
        ),
    ];
    for (written, expected) in rows {
        assert_eq!(errors_in(&format!("{written}\n")), [expected], "{written}");
    }
}

#[test]
fn rules_across_fields_are_checked() {
    assert_eq!(
        errors_in(
            "\
build:
  artifacts:
  - image: app:v1
    kaniko: {volumeMounts: [{name: modcahe, mountPath: /m}], logFormat: xml, pushRetry: often}
  - image: web
    requires: [{image: bas, alias: 1X}, {image: base, alias: A}, {image: base, alias: A}]
    docker: {}
    kaniko: {}
    sync: {manual: [{src: a, dest: /b, strip: c}]}
  - image: base
    context: .
  - image: base
    platforms: [linux]
  cluster: {volumes: [{name: modcache, emptyDir: {}}], pullSecretMountPath: /x}
  tagPolicy: {sha256: {}, gitCommit: {variant: Sha}}
deploy: {logs: {prefix: pod}}
portForward:
- {resourceType: svc, resourceName: web, port: 99999}
"
        ),
        [
            "5:12: `app:v1` must carry neither tag nor digest | remove `:v1`: `build.tagPolicy` makes the tag",
            "6:36: `build.cluster.volumes` has no `modcahe` | did you mean `modcache`?",
            "6:62: `build.artifacts[0].kaniko.logFormat` cannot be `xml` | use one of text, color, json",
            "6:78: `build.artifacts[0].kaniko.pushRetry` must be a number, not `often`",
            "8:24: no artifact builds `bas` | did you mean `base`?",
            "8:36: `1X` cannot be the name of a build argument | use letters, digits and `_`, not beginning with a digit",
            "8:87: alias `A` stands twice",
            "10:5: `build.artifacts[1].docker` and `build.artifacts[1].kaniko` exclude each other | keep one of them",
            "11:12: `strip: c` is no prefix of `src: a`",
            "14:12: image `base` is built twice | the first one is on line 12",
            "15:5: `linux` is not a platform | write os/arch or os/arch/variant, for example linux/arm64",
            "16:56: `build.cluster.pullSecretMountPath` says nothing without a pull secret | add `pullSecretName` or `pullSecretPath`",
            "17:15: `build.tagPolicy.gitCommit` and `build.tagPolicy.sha256` exclude each other | keep one of them",
            "17:39: `Sha` is not a variant of gitCommit | use Tags, CommitSha, AbbrevCommitSha, TreeSha, AbbrevTreeSha or Branches",
            "18:17: `deploy.logs.prefix` cannot be `pod` | use container, podAndContainer, auto or none",
            "20:4: ports of a `svc` cannot be forwarded | use one of pod, deployment, service, replicaset, statefulset, replicationcontroller, daemonset, job, cronjob",
            "20:42: there is no port 99999 | write 1 to 65535",
        ]
    );
}

#[test]
fn images_cannot_require_each_other_in_a_circle() {
    let body = "\
build:
  artifacts:
  - {image: web, requires: [{image: base}]}
  - {image: base, requires: [{image: web}]}
";
    assert_eq!(
        errors_in(body),
        ["6:13: images require each other in a circle: base -> web -> base"]
    );
}

#[test]
fn versions_that_are_not_read_say_what_to_do() {
    let rows = [
        (
            "apiVersion: skaffold/v2beta15",
            "1:13: `skaffold/v2beta15` is older than the oldest version that is read | convert the file with `skaffold fix --version skaffold/v4beta14` (versions from v2beta16 on are read as they are)",
        ),
        (
            "apiVersion: skaffold/v1",
            "1:13: `skaffold/v1` is older than the oldest version that is read | convert the file with `skaffold fix --version skaffold/v4beta14` (versions from v2beta16 on are read as they are)",
        ),
        (
            "apiVersion: skaffold/v4beta15",
            "1:13: `skaffold/v4beta15` is newer than the newest version that is read | write `skaffold/v4beta14`; a field that it does not know is then named, or update Kiln",
        ),
        (
            "apiVersion: skaffold/v4beat14",
            "1:13: there is no schema version `skaffold/v4beat14` | did you mean `skaffold/v4beta14`?",
        ),
        (
            "apiVersion: v1",
            "1:13: `v1` is not a version of skaffold's schema | use skaffold/v2beta16 to skaffold/v4beta14, or kiln.dev/v1 for Kiln's own format",
        ),
        (
            "metadata: {name: a}",
            "1:1: `apiVersion` is required | add `apiVersion: skaffold/v4beta14`",
        ),
    ];
    for (version, expected) in rows {
        assert_eq!(
            errors(&format!("{version}\nkind: Config\nold: field\n")),
            [expected]
        );
    }
}

/// The field was written where v2beta16 has it; the error must point there,
/// although the value was moved on the way to the latest version.
#[test]
fn an_error_in_an_old_file_points_at_its_own_line() {
    let text = "\
apiVersion: skaffold/v2beta16
kind: Config
deploy:
  kustomize:
    paths: overlay
    buildArg: [x]
";
    assert_eq!(
        errors(text),
        [
            "5:12: `manifests.kustomize.paths` must be a list, not a string",
            "6:5: unknown field `buildArg` in deploy.kubectl",
        ]
    );
}

#[test]
fn templates_are_checked_where_they_stand() {
    let body = "\
build:
  artifacts: [{image: a, kaniko: {buildArgs: {A: '{{.X'}}}]
  tagPolicy: {envTemplate: {template: '{{.X | uper}}'}}
";
    let found = errors_in(body);
    assert!(
        found[0].starts_with("4:50: the template `{{.X` is not valid | "),
        "{found:?}"
    );
    assert_eq!(
        found[1],
        "5:39: the template `{{.X | uper}}` calls `uper`, which is not a function | did you mean `upper`?"
    );
}

#[test]
fn documents_of_one_file_share_their_names() {
    let document = "apiVersion: skaffold/v4beta14\nkind: Config\nmetadata: {name: a}\nbuild: {artifacts: [{image: x}]}\n";
    assert_eq!(
        errors(&format!("{document}---\n{document}")),
        [
            "8:18: two documents are named `a`",
            "9:29: image `x` is built twice | the first one is on line 4",
        ]
    );
}
