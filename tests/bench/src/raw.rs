//! The machine's own limit: the compiler alone on the host, and a rollout of
//! an image that is in the registry already, through the API. Whatever a loop
//! takes beyond these two is its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kiln_test_cluster::{Cluster, PLAIN_REGISTRY};

use crate::error::{AtPath, Error, run};
use crate::objects::{self, Workload};
use crate::project::{Editor, Project};
use crate::sample::Sample;

/// What the parts cannot be faster than.
#[derive(Debug, Clone)]
pub struct Limit {
    /// `go build` after one edited line with a warm cache, where the example
    /// compiles something.
    pub compile: Option<Sample>,
    /// From the changed image in the deployment to the new pod ready.
    pub rollout: Sample,
}

impl Limit {
    /// Both together.
    pub fn total(&self) -> Duration {
        self.compile.as_ref().map_or(Duration::ZERO, Sample::median) + self.rollout.median()
    }
}

/// What an example's image consists of, for making it without a build tool.
pub struct Recipe {
    /// Repository of the base in the plain registry.
    base: &'static str,
    /// Files: in the project (or the compiled program) and in the image.
    files: &'static [(&'static str, &'static str)],
    command: &'static [&'static str],
    compiles: bool,
}

/// Of `FEED_AGG`.
pub const FEED_AGG: Recipe = Recipe {
    base: "distroless/static:latest",
    files: &[
        ("conf.yaml", "etc/feed-agg/conf.yaml"),
        ("feed-agg.bin", "bin/feed-agg"),
    ],
    command: &["/bin/feed-agg"],
    compiles: true,
};

/// Of `COPY_ONLY`.
pub const COPY_ONLY: Recipe = Recipe {
    base: "library/busybox:latest",
    files: &[("index.html", "srv/index.html")],
    command: &["httpd", "-f", "-p", "8080", "-h", "/srv"],
    compiles: false,
};

const RAW: Workload = Workload {
    namespace: "kiln-bench-raw",
    name: "raw",
};

/// Measures both on a fresh copy of the example.
pub fn measure(
    cluster: &Cluster,
    project: &Project,
    recipe: &Recipe,
    runs: usize,
) -> Result<Limit, Error> {
    objects::namespace(cluster, RAW.namespace)?;
    // One workload per example: their commands differ.
    let workload = Workload {
        name: project.example().folder,
        ..RAW
    };
    let mut editor = Editor::new(project)?;
    let image = |run: usize| format!("{PLAIN_REGISTRY}/raw/{}:{run}", project.example().folder);
    let mut compiled = Vec::new();
    let mut rolled_out = Vec::new();
    for number in 0..=runs {
        if number > 0 {
            editor.save()?;
        }
        let took = if recipe.compiles {
            Some(compile(project)?)
        } else {
            None
        };
        push(cluster, project, recipe, &image(number))?;
        if number == 0 {
            // The first compiles every module and pulls the base.
            objects::deployment(cluster, workload, &image(0), recipe.command)?;
        } else {
            compiled.extend(took);
            rolled_out.push(objects::roll_out(cluster, workload, &image(number))?);
        }
    }
    let nothing = || Error::Loop("no run was asked for".to_owned());
    Ok(Limit {
        compile: Sample::new(compiled),
        rollout: Sample::new(rolled_out).ok_or_else(nothing)?,
    })
}

/// The command of the example's Dockerfile, on this machine.
fn compile(project: &Project) -> Result<Duration, Error> {
    let started = Instant::now();
    run(Command::new("go")
        .args(["build", "-trimpath", "-ldflags=-s -w", "-o", "feed-agg.bin"])
        .env("CGO_ENABLED", "0")
        .current_dir(project.dir()))?;
    Ok(started.elapsed())
}

/// Makes the image without a build tool and pushes it.
fn push(cluster: &Cluster, project: &Project, recipe: &Recipe, image: &str) -> Result<(), Error> {
    let stage = tempfile::tempdir().at("make a temporary folder in", "/tmp")?;
    let root = stage.path().join("root");
    for (from, to) in recipe.files {
        place(&project.dir().join(from), &root.join(to))?;
    }
    let layer = stage.path().join("layer.tar");
    run(Command::new("tar")
        .arg("-cf")
        .arg(&layer)
        .arg("-C")
        .arg(&root)
        .arg("."))?;
    let base = format!("{PLAIN_REGISTRY}/{}", recipe.base);
    run(cluster
        .command("crane")
        .args(["append", "--insecure", "-b", &base, "-t", image, "-f"])
        .arg(&layer))?;
    Ok(())
}

fn place(from: &Path, to: &PathBuf) -> Result<(), Error> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).at("make the folder", folder)?;
    }
    fs::copy(from, to).map(drop).at("copy", from)
}
