//! Rendering: Kiln beside kustomize itself, in one run and on the same
//! overlays, whose documents have to be the same. Two ways to look at it: as a
//! library, which is how the loop renders, and as a program beside a program.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::{AtPath, Error, run};
use crate::sample::Sample;

/// What renders.
pub struct Programs {
    /// The measured `kiln`.
    pub kiln: PathBuf,
    /// The renderer's example `repeat`, which times it inside of one process.
    pub repeat: Option<PathBuf>,
    /// The real kustomize.
    pub kustomize: PathBuf,
}

/// One overlay's times.
#[derive(Debug)]
pub struct Rendering {
    /// Which.
    pub title: String,
    /// Inside of a process that has rendered it once already.
    pub library: Option<Sample>,
    /// `kiln kustomize build`, from start to end of the process.
    pub kiln: Sample,
    /// `kustomize build`, likewise.
    pub kustomize: Sample,
    /// What is to be met.
    pub target: Target,
}

/// What a rendering is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// The library stays under this.
    Library(Duration),
    /// kustomize takes at least so many times Kiln's time, program beside
    /// program.
    Ratio(f64),
}

/// Of the large overlay.
const APPS: usize = 500;
const PATCHES: usize = 20;

/// Measures an overlay of the examples and a large one.
pub fn measure(programs: &Programs, examples: &Path, runs: usize) -> Result<Vec<Rendering>, Error> {
    let small = "feed-agg/kustomize/overlays/cluster30";
    let folder = tempfile::tempdir().at("make a temporary folder in", "/tmp")?;
    write_large(folder.path())?;
    let large = folder.path().join("overlay");
    let title = format!("an overlay of the examples ({small})");
    // Short enough to be repeated more often.
    let first = one(programs, &examples.join(small), runs * 4, title)?;
    let title = format!("{} resources with {PATCHES} patches", APPS * 4);
    // kustomize takes half a minute for each.
    let second = one(programs, &large, runs.min(3), title)?;
    Ok(vec![
        Rendering {
            target: Target::Library(Duration::from_millis(2)),
            ..first
        },
        second,
    ])
}

fn one(programs: &Programs, folder: &Path, runs: usize, title: String) -> Result<Rendering, Error> {
    let kiln = || {
        let mut command = Command::new(&programs.kiln);
        command.args(["kustomize", "build"]).arg(folder);
        command
    };
    let theirs = || {
        let mut command = Command::new(&programs.kustomize);
        command.arg("build").arg(folder);
        command
    };
    // This also brings programs and files into memory.
    if run(&mut kiln())?.stdout != run(&mut theirs())?.stdout {
        return Err(Error::Loop(format!(
            "{title}: Kiln and kustomize render other documents"
        )));
    }
    let (mut of_kiln, mut of_kustomize) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        // In turns, so that other work on the machine hits both.
        of_kiln.push(timed(&mut kiln())?);
        of_kustomize.push(timed(&mut theirs())?);
    }
    let library = programs
        .repeat
        .as_ref()
        .map(|repeat| inside(repeat, folder, runs))
        .transpose()?;
    let sample = |times| Sample::new(times).ok_or_else(nothing);
    Ok(Rendering {
        title,
        library,
        kiln: sample(of_kiln)?,
        kustomize: sample(of_kustomize)?,
        target: Target::Ratio(5.0),
    })
}

fn nothing() -> Error {
    Error::Loop("no run was asked for".to_owned())
}

fn timed(command: &mut Command) -> Result<Duration, Error> {
    let started = Instant::now();
    run(command)?;
    Ok(started.elapsed())
}

fn inside(repeat: &Path, folder: &Path, runs: usize) -> Result<Sample, Error> {
    let output = run(Command::new(repeat).arg(runs.to_string()).arg(folder))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let times = text.lines().filter_map(|line| line.parse().ok());
    Sample::new(times.map(Duration::from_nanos).collect()).ok_or_else(nothing)
}

/// 500 applications of four objects each, in a file per application; the
/// overlay moves, labels and patches them.
fn write_large(folder: &Path) -> Result<(), Error> {
    let mut resources = String::from("resources:\n");
    for app in 0..APPS {
        put(folder, &format!("base/app-{app}.yaml"), &application(app))?;
        // Writing to a string cannot fail.
        let _ = writeln!(resources, "- app-{app}.yaml");
    }
    put(folder, "base/kustomization.yaml", &resources)?;
    let mut overlay = String::from(
        "resources: [../base]\nnamespace: load\ncommonAnnotations: {owner: team}\n\
         labels:\n- pairs: {stage: dev}\n\
         images: [{name: registry.example/app, newTag: v2}]\npatches:\n",
    );
    for patch in 0..PATCHES {
        let app = patch * (APPS / PATCHES);
        let text = if patch % 2 == 0 {
            format!(
                "- patch: |-\n    apiVersion: apps/v1\n    kind: Deployment\n    \
                 metadata: {{name: app-{app}}}\n    spec:\n      replicas: 3\n      template:\n        \
                 spec:\n          containers:\n          - name: main\n            \
                 env: [{{name: EXTRA, value: \"{patch}\"}}]\n"
            )
        } else {
            format!(
                "- target: {{kind: Service, name: app-{app}}}\n  patch: |-\n    \
                 - op: replace\n      path: /spec/ports/0/port\n      value: {}\n",
                8000 + patch
            )
        };
        overlay.push_str(&text);
    }
    put(folder, "overlay/kustomization.yaml", &overlay)
}

fn application(app: usize) -> String {
    format!(
        "apiVersion: v1
kind: ServiceAccount
metadata:
  name: app-{app}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: app-{app}
data:
  level: info
  number: \"{app}\"
---
apiVersion: v1
kind: Service
metadata:
  name: app-{app}
spec:
  selector:
    app: app-{app}
  ports:
  - name: http
    port: 80
    targetPort: http
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: app-{app}
spec:
  replicas: 1
  selector:
    matchLabels:
      app: app-{app}
  template:
    metadata:
      labels:
        app: app-{app}
    spec:
      serviceAccountName: app-{app}
      containers:
      - name: main
        image: registry.example/app:v1
        envFrom:
        - configMapRef:
            name: app-{app}
        ports:
        - name: http
          containerPort: 8080
"
    )
}

fn put(folder: &Path, name: &str, text: &str) -> Result<(), Error> {
    let path = folder.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).at("make the folder", parent)?;
    }
    fs::write(&path, text).at("write", &path)
}
