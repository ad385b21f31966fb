//! Random overlays, rendered by both. A difference prints its seed and the
//! folder, which stays.
//!
//! `KUSTOMIZE_OVERLAYS` says how many (100 by default), `KUSTOMIZE_SEED` where
//! to start. `KUSTOMIZE_ORACLE` names the program of `tests/oracle`, which
//! renders many overlays in one process; without it, each overlay is a process
//! of the real program.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use kiln_kustomize::{DiskFiles, Kustomizer};

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

const NAMES: [&str; 5] = ["web", "api", "db", "settings", "hidden"];
const VALUES: [&str; 32] = [
    "plain",
    "\"1\"",
    "1",
    "true",
    "'yes'",
    "yes",
    "on",
    "1.50",
    "1e3",
    "~",
    "null",
    "\"null\"",
    "0x1f",
    "2001-01-01",
    "'a: b'",
    "\"tab\\there\"",
    "\"two\\nlines\\n\"",
    "\"two\\nlines\"",
    "'#x'",
    "a#b",
    "é日",
    "\"\"",
    "' lead'",
    "\"trail \"",
    "1:30",
    "'1:30'",
    "[1, x]",
    "{a: 1, b: [x]}",
    "[]",
    "{}",
    "a long text of many words that goes on and on until it is wider than eighty columns and must fold",
    "\"1_000\"",
];
const STRINGS: [&str; 12] = [
    "plain",
    "\"1\"",
    "\"true\"",
    "'yes'",
    "\"null\"",
    "'a: b'",
    "\"two\\nlines\\n\"",
    "\"\"",
    "'1:30'",
    "\"2001-01-01\"",
    "\"1e3\"",
    "x-y.z",
];
const IMAGES: [&str; 6] = [
    "nginx",
    "nginx:1.25",
    "\"nginx:1\"",
    "reg.local:5000/team/app:v1",
    "app@sha256:0123",
    "'busybox'",
];
const SPACES: [&str; 4] = ["", "", "one", "two"];

fn metadata(dice: &mut Dice, name: &str) -> String {
    let mut text = format!("metadata:\n  name: {name}\n");
    let namespace = dice.pick(&SPACES);
    if !namespace.is_empty() {
        let _ = writeln!(text, "  namespace: {namespace}");
    }
    for map in ["labels", "annotations"] {
        if dice.one_in(3) {
            let _ = writeln!(text, "  {map}:");
            for key in ["app", "tier", "example.com/note"] {
                if dice.one_in(2) {
                    let _ = writeln!(text, "    {key}: {}", dice.pick(&STRINGS));
                }
            }
        }
    }
    text
}

fn pod_spec(dice: &mut Dice, indent: &str) -> String {
    let mut text = format!("{indent}containers:\n");
    for name in ["main", "side"] {
        if name == "side" && dice.one_in(2) {
            continue;
        }
        let _ = writeln!(
            text,
            "{indent}- name: {name}\n{indent}  image: {}",
            dice.pick(&IMAGES)
        );
        if dice.one_in(2) {
            let _ = writeln!(
                text,
                "{indent}  env:\n{indent}  - name: A\n{indent}    value: {}\n{indent}  - name: B\n{indent}    valueFrom:\n{indent}      configMapKeyRef: {{name: {}, key: k}}",
                dice.pick(&STRINGS),
                dice.pick(&NAMES)
            );
        }
        if dice.one_in(2) {
            let _ = writeln!(
                text,
                "{indent}  ports: [{{containerPort: 80, name: http}}, {{containerPort: 80, protocol: UDP}}]"
            );
        }
        if dice.one_in(3) {
            let _ = writeln!(
                text,
                "{indent}  envFrom: [{{secretRef: {{name: {}}}}}, {{configMapRef: {{name: {}}}}}]",
                dice.pick(&NAMES),
                dice.pick(&NAMES)
            );
        }
        if dice.one_in(4) {
            let _ = writeln!(
                text,
                "{indent}  args: [{}, {}]",
                dice.pick(&STRINGS),
                dice.pick(&STRINGS)
            );
        }
    }
    if dice.one_in(3) {
        let _ = writeln!(
            text,
            "{indent}volumes:\n{indent}- name: v\n{indent}  configMap: {{name: {}}}\n{indent}- name: s\n{indent}  secret: {{secretName: {}}}",
            dice.pick(&NAMES),
            dice.pick(&NAMES)
        );
    }
    text
}

const KINDS: [(&str, &str); 11] = [
    ("apps/v1", "Deployment"),
    ("apps/v1", "Deployment"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "CronJob"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("v1", "ServiceAccount"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("example.com/v1", "Thing"),
];

fn resource(dice: &mut Dice, api_version: &str, kind: &str, name: &str) -> String {
    let mut text = format!("apiVersion: {api_version}\nkind: {kind}\n");
    text.push_str(&metadata(dice, name));
    match kind {
        "Deployment" | "StatefulSet" => {
            let _ = writeln!(
                text,
                "spec:\n  replicas: {}",
                dice.pick(&["1", "2", "\"3\""])
            );
            let _ = writeln!(text, "  selector:\n    matchLabels: {{app: {name}}}");
            let _ = writeln!(
                text,
                "  template:\n    metadata:\n      labels: {{app: {name}}}\n    spec:"
            );
            text.push_str(&pod_spec(dice, "      "));
        }
        "CronJob" => {
            text.push_str("spec:\n  jobTemplate:\n    spec:\n      template:\n        spec:\n");
            text.push_str(&pod_spec(dice, "          "));
        }
        "Service" => {
            let _ = writeln!(
                text,
                "spec:\n  selector: {{app: {name}}}\n  ports: [{{port: 80, targetPort: http}}]"
            );
        }
        "ConfigMap" => {
            text.push_str("data:\n");
            for key in ["a", "b10", "b9", "c.txt"] {
                let _ = writeln!(text, "  {key}: {}", dice.pick(&STRINGS));
            }
        }
        "Secret" => text.push_str("type: Opaque\ndata: {k: dg==}\n"),
        "RoleBinding" => {
            let _ = writeln!(
                text,
                "roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {}}}\nsubjects:\n- {{kind: ServiceAccount, name: {}}}\n- {{kind: ServiceAccount, name: default}}",
                dice.pick(&NAMES),
                dice.pick(&NAMES)
            );
        }
        "HorizontalPodAutoscaler" => {
            let _ = writeln!(
                text,
                "spec:\n  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: {}}}",
                dice.pick(&NAMES)
            );
        }
        "Thing" => {
            text.push_str("spec:\n");
            for key in ["x", "y2", "y10", "z"] {
                let _ = writeln!(text, "  {key}: {}", dice.pick(&VALUES));
            }
        }
        _ => {}
    }
    text
}

/// API version, kind and name.
type Known = (&'static str, &'static str, &'static str);

fn patch(dice: &mut Dice, known: &[Known]) -> String {
    let (api_version, kind, name) = known[dice.below(known.len())];
    if dice.one_in(3) {
        let operation = dice.pick(&[
            "{op: add, path: /metadata/labels, value: {patched: \"1\"}}",
            "{op: add, path: /spec, value: {x: 1.0, y: [a]}}",
            "{op: add, path: /metadata/annotations, value: {a~b/c: \"2\"}}",
            "{op: add, path: /data, value: {new: \"yes\"}}",
        ]);
        return format!("- target: {{kind: {kind}}}\n  patch: |-\n    - {operation}\n");
    }
    let body = match kind {
        "Deployment" | "StatefulSet" => {
            let container = dice.pick(&[
                "{name: main, image: patched}",
                "{name: side, $patch: delete}",
                "{name: third, image: new}",
                "{name: main, env: [{name: C, value: c}, {name: A, value: null}], ports: [{containerPort: 80, name: renamed}]}",
            ]);
            format!(
                "    spec: {{replicas: 4, template: {{spec: {{containers: [{container}]}}}}}}\n"
            )
        }
        "ConfigMap" => format!(
            "    data: {{a: {}, new: n, b9: null}}\n",
            dice.pick(&STRINGS)
        ),
        "Thing" => format!(
            "    spec: {{x: {}, z: null, w: {{q: null}}}}\n",
            dice.pick(&VALUES)
        ),
        _ => "    metadata: {labels: {p: q}, annotations: null}\n".to_owned(),
    };
    let (target, named) = if dice.one_in(2) {
        (format!("  target: {{kind: {kind}}}\n"), "ignored")
    } else {
        (String::new(), name)
    };
    let metadata = if body.contains("metadata:") {
        body.replace("metadata: {", &format!("metadata: {{name: {named}, "))
    } else {
        format!("    metadata: {{name: {named}}}\n{body}")
    };
    format!("- patch: |-\n    apiVersion: {api_version}\n    kind: {kind}\n{metadata}{target}")
}

fn kustomization(dice: &mut Dice, resources: &[&str], known: &[Known]) -> String {
    let mut text = format!("resources: [{}]\n", resources.join(", "));
    let mut maybe = |dice: &mut Dice, chance: usize, line: &str| {
        if dice.one_in(chance) {
            text.push_str(line);
            text.push('\n');
        }
    };
    maybe(dice, 3, "namePrefix: p-");
    maybe(dice, 4, "nameSuffix: -s");
    maybe(dice, 4, "namespace: moved");
    maybe(dice, 4, "commonLabels: {team: core}");
    maybe(dice, 4, "commonAnnotations: {by: \"1\"}");
    maybe(
        dice,
        4,
        "labels:\n- pairs: {l: m}\n- pairs: {second: o}\n  includeSelectors: true",
    );
    maybe(
        dice,
        6,
        "labels:\n- pairs: {t: u}\n  includeTemplates: true",
    );
    maybe(
        dice,
        3,
        "images: [{name: nginx, newTag: v9}, {name: reg.local:5000/team/app, newName: other, digest: 'sha256:ff'}]",
    );
    maybe(dice, 6, "sortOptions: {order: fifo}");
    maybe(
        dice,
        8,
        "buildMetadata: [originAnnotations, transformerAnnotations]",
    );
    maybe(dice, 8, "buildMetadata: [managedByLabel]");
    maybe(
        dice,
        5,
        "generatorOptions: {labels: {g: h}, annotations: {i: \"2\"}}",
    );
    let field = dice.pick(&[
        "metadata.labels.app",
        "spec.template.metadata.labels.app",
        "metadata.annotations.copied",
    ]);
    let replacement = format!(
        "replacements:\n- sourceValue: {}\n  targets:\n  - select: {{kind: Deployment}}\n    fieldPaths: [{field}]\n    options: {{create: true}}",
        dice.pick(&STRINGS)
    );
    maybe(dice, 5, &replacement);
    if dice.one_in(2) {
        text.push_str("patches:\n");
        for _ in 0..=dice.below(2) {
            text.push_str(&patch(dice, known));
        }
    }
    text
}

fn generators(dice: &mut Dice) -> String {
    let mut text = String::new();
    if dice.one_in(2) {
        let _ = writeln!(
            text,
            "configMapGenerator: [{{name: generated, literals: [a=1, 'b={}']}}]",
            dice.pick(&["x y", "true", "<&>", "é"])
        );
    }
    if dice.one_in(3) {
        let _ = writeln!(
            text,
            "secretGenerator: [{{name: generated, literals: [k=v]}}]"
        );
    }
    text
}

/// Writes a base, maybe a component, and an overlay.
fn write(dice: &mut Dice, root: &Path) {
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let mut documents = Vec::new();
    let mut known: Vec<Known> = Vec::new();
    for _ in 0..2 + dice.below(6) {
        let (api_version, kind) = KINDS[dice.below(KINDS.len())];
        let name = dice.pick(&NAMES);
        if known.iter().all(|(_, k, n)| (*k, *n) != (kind, name)) {
            known.push((api_version, kind, name));
            documents.push(resource(dice, api_version, kind, name));
        }
    }
    // Most patches need no namespace to find their target.
    if !dice.one_in(4) {
        for document in &mut documents {
            *document = document
                .replace("  namespace: one\n", "")
                .replace("  namespace: two\n", "");
        }
    }
    put("base/all.yaml", &documents.join("---\n"));
    let generated = generators(dice);
    let base = kustomization(dice, &["all.yaml"], &known) + &generated;
    put("base/kustomization.yaml", &base);
    let (api_version, kind) = KINDS[dice.below(KINDS.len())];
    put(
        "overlay/own.yaml",
        &resource(dice, api_version, kind, "own"),
    );
    let mut overlay = kustomization(dice, &["../base", "own.yaml"], &known);
    let behavior = dice.pick(&["merge", "replace"]);
    overlay
        .push_str(&generated.replace("generated,", &format!("generated, behavior: {behavior},")));
    if dice.one_in(4) {
        let part = kustomization(dice, &[], &known);
        put(
            "part/kustomization.yaml",
            &format!("kind: Component\n{part}"),
        );
        overlay.push_str("components: [../part]\n");
    }
    put("overlay/kustomization.yaml", &overlay);
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// What renders for comparison.
enum Other {
    Program(PathBuf),
    Oracle(Child, ChildStdin, BufReader<ChildStdout>),
}

impl Other {
    fn find() -> Option<Self> {
        let Some(oracle) = std::env::var_os("KUSTOMIZE_ORACLE") else {
            return crate::program().map(Self::Program);
        };
        let mut child = Command::new(oracle)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Some(Self::Oracle(child, input, output))
    }

    fn render(&mut self, folder: &Path) -> Option<Vec<u8>> {
        match self {
            Self::Program(program) => {
                let output = Command::new(program)
                    .arg("build")
                    .arg(folder)
                    .output()
                    .unwrap();
                output.status.success().then_some(output.stdout)
            }
            Self::Oracle(_, input, output) => {
                writeln!(input, "{}", folder.display()).unwrap();
                let mut line = String::new();
                output.read_line(&mut line).unwrap();
                let length = usize::try_from(line.trim().parse::<i64>().unwrap()).ok()?;
                let mut text = vec![0; length];
                output.read_exact(&mut text).unwrap();
                Some(text)
            }
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        if let Self::Oracle(child, ..) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn random_overlays_render_as_kustomize_renders_them() {
    let Some(mut other) = Other::find() else {
        return;
    };
    let (count, start) = (
        number("KUSTOMIZE_OVERLAYS", 100),
        number("KUSTOMIZE_SEED", 1),
    );
    let mut rendered = 0;
    let mut different = Vec::new();
    for seed in start..start + count {
        let folder = tempfile::tempdir().unwrap();
        write(
            &mut Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            folder.path(),
        );
        let overlay = folder.path().join("overlay");
        let theirs = other.render(&overlay);
        let ours = Kustomizer::new(&DiskFiles).build(&overlay.to_string_lossy());
        let same = match (&ours, &theirs) {
            (Ok(build), Some(theirs)) => build.yaml.as_bytes() == theirs.as_slice(),
            (Err(_), None) => true,
            _ => false,
        };
        if same {
            rendered += u64::from(ours.is_ok());
        } else {
            let why = match &ours {
                Ok(_) if theirs.is_none() => "kustomize refuses it".to_owned(),
                Ok(_) => "other documents".to_owned(),
                Err(refused) => refused.error.chain(),
            };
            different.push(format!("seed {seed} in {}: {why}", folder.keep().display()));
        }
    }
    println!(
        "{count} overlays, {rendered} rendered by both, {} different",
        different.len()
    );
    assert!(different.is_empty(), "{}", different.join("\n"));
}
