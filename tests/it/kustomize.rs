//! `kiln kustomize build`, beside what kustomize 5.7.1 was recorded to print.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::kiln::{PATIENCE, binary, said};
use crate::quickstart::without_network;
use crate::structure::root;

/// `kiln kustomize build` where there is no other program.
fn kiln(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["kustomize", "build"])
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .stdin(Stdio::null());
    command
}

fn output(dir: &Path, args: &[&str]) -> Output {
    kiln(dir, args).output().expect("kiln runs")
}

/// Standard output of a command that succeeds and says nothing else.
fn printed(dir: &Path, args: &[&str]) -> String {
    let output = output(dir, args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn refused(dir: &Path, args: &[&str]) -> (i32, String) {
    let output = output(dir, args);
    assert!(output.stdout.is_empty(), "{args:?}: {}", said(&output));
    (output.status.code().unwrap_or(-1), said(&output))
}

fn recorded() -> PathBuf {
    root().join("deployer/kustomize/tests")
}

/// A folder with these files.
fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders are made");
        fs::write(path, text).expect("a file is written");
    }
    folder
}

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";

#[test]
fn kustomize_build_prints_what_kustomize_prints() {
    for name in ["quickstart/k8s/overlays/dev", "profiles/k8s/base"] {
        let expected = recorded()
            .join("examples")
            .join(name)
            .with_extension("yaml");
        let expected = fs::read_to_string(expected).expect("it was recorded");
        let folder = root().join("examples").join(name);
        // The working directory is the default.
        assert_eq!(printed(&folder, &[]), expected, "{name}");
        let from_above = printed(&root(), &[&format!("examples/{name}")]);
        assert_eq!(from_above, expected, "{name}");
    }
}

#[test]
fn kustomize_builds_flags_have_their_effect() {
    let mut found = 0;
    let groups = fs::read_dir(recorded().join("cases")).expect("recorded cases");
    for group in groups {
        for case in fs::read_dir(group.expect("a group").path()).expect("cases") {
            let case = case.expect("a case").path();
            let Ok(flags) = fs::read_to_string(case.join("flags")) else {
                continue;
            };
            found += 1;
            let mut args: Vec<&str> = flags.split_whitespace().collect();
            let overlay = case.join("input/overlay").is_dir();
            args.push(if overlay { "input/overlay" } else { "input" });
            let expected = fs::read_to_string(case.join("expected.yaml")).expect("it was recorded");
            assert_eq!(printed(&case, &args), expected, "{}", case.display());
        }
    }
    assert!(found >= 3, "only {found} cases have flags");
}

#[test]
fn kustomize_build_writes_a_file_or_a_folder_of_them() {
    let input = files(&[
        ("kustomization.yaml", "resources: [all.yaml]\n"),
        (
            "all.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: Web, namespace: one}\n---\n\
             apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: two}\n---\n\
             apiVersion: v1\nkind: Namespace\nmetadata: {name: one}\n",
        ),
        ("out/keep", ""),
    ]);
    let dir = input.path();
    let all = printed(dir, &[]);
    assert_eq!(printed(dir, &["-o", "all.out"]), "");
    assert_eq!(
        fs::read_to_string(dir.join("all.out")).expect("a file"),
        all
    );
    assert_eq!(printed(dir, &["--output=out", "."]), "");
    // The names are those that kustomize 5.7.1 gives these objects.
    let names = [
        "v1_namespace_one.yaml",
        "two_v1_configmap_settings.yaml",
        "one_apps_v1_deployment_web.yaml",
    ];
    let texts = names.map(|name| fs::read_to_string(dir.join("out").join(name)).expect(name));
    assert_eq!(texts.join("---\n"), all);

    // `--output` in front of the command is Kiln's own: how events are shown.
    let mut json = Command::new(binary());
    json.args(["--output=json", "kustomize", "build", "gone"])
        .current_dir(dir);
    let words = said(&json.output().expect("kiln runs"));
    assert!(words.starts_with('{') && words.contains("gone"), "{words}");
}

#[test]
fn kustomize_build_refuses_with_file_and_field() {
    let cases: [(&str, &[&str]); 6] = [
        (
            "resources: [gone.yaml]",
            &["kustomization.yaml: resources[0]", "gone.yaml"],
        ),
        (
            "resources: [map.yaml]\nnamePrefix: [x]",
            &["kustomization.yaml", "`namePrefix`"],
        ),
        (
            "resources: [map.yaml]\npatches: [{path: ../p.yaml}]",
            &["patches[0]", "--load-restrictor"],
        ),
        (
            "resources: [map.yaml]\nreplicas: [{name: b, count: 1}]",
            &["replicas[0]", "b"],
        ),
        (
            "resources: [map.yaml, map.yaml]",
            &["resources[1]", "ConfigMap"],
        ),
        (
            "helmCharts: [{name: x}]",
            &["helm", "need the kustomize program"],
        ),
    ];
    for (text, expected) in cases {
        let input = files(&[
            ("app/kustomization.yaml", text),
            ("app/map.yaml", MAP),
            ("p.yaml", MAP),
        ]);
        let (code, words) = refused(input.path(), &["app"]);
        // As kustomize's.
        assert_eq!(code, 1, "{words}");
        for part in expected {
            assert!(words.contains(part), "no {part} in:\n{words}");
        }
    }
    let empty = files(&[]);
    for (args, expected) in [
        (&[][..], "has no kustomization"),
        (&["gone"], "gone"),
        (
            &["https://example.invalid/all.yaml"],
            "is not the address of a git repository",
        ),
    ] {
        let (code, words) = refused(empty.path(), args);
        assert_eq!(code, 1, "{words}");
        assert!(words.contains(expected), "no {expected} in:\n{words}");
    }
    // What is typed wrongly is a usage error.
    for (args, expected) in [
        (&["--load-restrictor", "none"][..], "LoadRestrictionsNone"),
        (&["--reorder=up"], "legacy"),
        (&["--nonsense"], "--nonsense"),
        (&["a", "b"], "unexpected argument 'b'"),
    ] {
        let (code, words) = refused(empty.path(), args);
        assert_eq!(code, 2, "{words}");
        assert!(words.contains(expected), "no {expected} in:\n{words}");
    }
}

#[test]
fn kustomize_build_leaves_charts_and_plugins_to_the_program() {
    use std::os::unix::fs::PermissionsExt as _;
    let input = files(&[
        ("plain/kustomization.yaml", "resources: [map.yaml]\n"),
        ("plain/map.yaml", MAP),
        ("chart/kustomization.yaml", "helmCharts: [{name: x}]\n"),
        ("bin/kustomize", "#!/bin/sh\necho \"it got $*\"\n"),
        ("other/kubectl", "#!/bin/sh\necho \"kubectl got $*\"\n"),
    ]);
    let dir = input.path();
    for program in ["bin/kustomize", "other/kubectl"] {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.join(program), mode).expect("an executable");
    }
    let run = |args: &[&str]| {
        let output = kiln(dir, args).env("PATH", dir.join("bin")).output();
        let output = output.expect("kiln runs");
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let flags = ["--enable-helm", "--helm-command", "h", "-o", "x.yaml"];
    assert_eq!(
        run(&[&flags[..], &["chart"]].concat()),
        "it got build --enable-helm --helm-command=h --output=x.yaml chart\n"
    );
    // Nothing needs a program here, whatever is allowed.
    assert!(run(&["--enable-helm", "plain"]).contains("name: a"));
    assert_eq!(
        run(&[
            "--kustomize-binary",
            "bin/kustomize",
            "--reorder=none",
            "plain"
        ]),
        "it got build --reorder=none plain\n"
    );
    assert_eq!(
        run(&["--kustomize-binary=other/kubectl", "plain"]),
        "kubectl got kustomize plain\n"
    );
}

/// `kiln dev` on this machine, and the lines that it prints.
struct Dev {
    child: Child,
    lines: Receiver<String>,
}

impl Dev {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(binary())
            .args(["dev", "--local", "--output=json"])
            .current_dir(dir)
            .env_clear()
            .env("HOME", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("kiln runs");
        let stdout = child.stdout.take().expect("its output");
        let (line, lines) = channel();
        std::thread::spawn(move || {
            let all = BufReader::new(stdout).lines();
            all.map_while(Result::ok)
                .try_for_each(|text| line.send(text))
        });
        Self { child, lines }
    }

    /// Everything up to the next time when it waits for changes.
    fn until_it_waits(&self) -> String {
        let mut text = String::new();
        while !text.contains("\"event\":\"watching\"") {
            let line = self.lines.recv_timeout(PATIENCE);
            text.push_str(&line.unwrap_or_else(|error| panic!("{error} behind:\n{text}")));
            text.push('\n');
        }
        text
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn dev_watches_what_an_overlay_reads_and_what_it_lacks() {
    without_network(|| {
        let project = files(&[
            (
                "kiln.yaml",
                "apiVersion: kiln.dev/v1\nname: w\ndeploy:\n  overlay: k8s\n",
            ),
            ("base/kustomization.yaml", "resources: [map.yaml]\n"),
            ("base/map.yaml", MAP),
            (
                "k8s/kustomization.yaml",
                "resources: [../base, b.yaml]\ntransformers: [t.yaml]\n",
            ),
            // A file that no field of a kustomization names.
            (
                "k8s/t.yaml",
                "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: p}\n\
                 path: deep/patch.yaml\ntarget: {kind: ConfigMap, name: a}\n",
            ),
            (
                "k8s/deep/patch.yaml",
                "- {op: add, path: /data, value: {x: one}}\n",
            ),
        ]);
        let write = |name: &str, text: &str| {
            fs::write(project.path().join(name), text).expect("a save");
        };
        let has = |text: &str, parts: &[&str]| {
            for part in parts {
                assert!(text.contains(part), "no {part} in:\n{text}");
            }
        };
        let dev = Dev::start(project.path());
        has(
            &dev.until_it_waits(),
            &["resources[1]", "b.yaml", "deployFailed"],
        );
        write("k8s/b.yaml", &MAP.replace("name: a", "name: b"));
        has(&dev.until_it_waits(), &["\"objects\":2", "deployReady"]);
        write(
            "k8s/deep/patch.yaml",
            "- {op: add, path: /data, value: {x: two}}\n",
        );
        let paths = "\"paths\":[\"k8s/deep/patch.yaml\"]";
        has(&dev.until_it_waits(), &[paths, "deployReady"]);
        // While it is broken, what comes behind the trouble is no change.
        write("base/kustomization.yaml", "resources: [map.yaml, c.yaml]\n");
        let paths = "\"paths\":[\"base/c.yaml\",\"base/kustomization.yaml\"]";
        has(
            &dev.until_it_waits(),
            &[paths, "resources[1]", "deployFailed"],
        );
        write("base/c.yaml", &MAP.replace("name: a", "name: c"));
        has(&dev.until_it_waits(), &["\"objects\":3", "deployReady"]);
        drop(dev);
        let mut delete = Command::new(binary());
        delete
            .args(["delete", "--local"])
            .current_dir(project.path());
        let deleted = delete.env_clear().env("HOME", project.path()).output();
        let deleted = deleted.expect("kiln runs");
        assert!(deleted.status.success(), "{}", said(&deleted));
    });
}
