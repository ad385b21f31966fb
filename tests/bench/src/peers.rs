//! The peer: skaffold with kaniko, run on the same cluster when its programs
//! are given, else quoted from docs/peers.md.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use jiff::Timestamp;
use kiln_test_cluster::{Cluster, PLAIN_REGISTRY};

use crate::error::{AtPath, Error, run};
use crate::objects;
use crate::project::{Editor, Project, now};
use crate::sample::Sample;

/// The figures that were measured before, as they are documented.
const DOCUMENT: &str = include_str!("../../../docs/peers.md");

/// A figure of the document.
#[derive(Debug, Clone, PartialEq)]
pub struct Quote {
    /// As written.
    pub text: String,
    /// Its time, or the shorter end of a range: the harder one to beat.
    pub time: Duration,
}

impl Quote {
    /// The figure of a case, by the first column.
    pub fn of(case: &str) -> Option<Self> {
        DOCUMENT.lines().find_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            (cells.first() == Some(&case)).then(|| Self::parse(cells.last()?))?
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = |c: char| c.is_ascii_digit() || c == '.';
        let end = text.find(|c| !digits(c)).unwrap_or(text.len());
        let seconds: f64 = text[..end].parse().ok()?;
        text.contains(" s").then(|| Self {
            text: text.to_owned(),
            time: Duration::from_secs_f64(seconds),
        })
    }
}

/// The peer's programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The skaffold binary.
    pub skaffold: PathBuf,
    /// An archive or a reference of the kaniko image.
    pub kaniko: String,
}

/// Where the peer's kaniko image is for the cluster.
const KANIKO: &str = "10.77.0.1:5000/peer/kaniko:bench";

impl Programs {
    /// Puts the kaniko image where the cluster finds it.
    pub fn prepare(&self, cluster: &Cluster) -> Result<(), Error> {
        let kind = if Path::new(&self.kaniko).is_file() {
            "push"
        } else {
            "copy"
        };
        run(cluster
            .command("crane")
            .args([kind, "--insecure", &self.kaniko, KANIKO]))
        .map(drop)
    }

    /// What skaffold says of its version.
    pub fn version(&self) -> Result<String, Error> {
        let output = run(Command::new(&self.skaffold).arg("version"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs `skaffold dev` on a copy of the example and takes the same edits:
    /// from the file's mtime to the deployment ready with another image.
    pub fn measure(
        &self,
        cluster: &Cluster,
        project: &Project,
        runs: usize,
        record: &Path,
    ) -> Result<Sample, Error> {
        adapt(project)?;
        let log = File::create(record).at("write", record)?;
        let errors = log.try_clone().at("write", record)?;
        let child = project
            .command(cluster, &self.skaffold)
            .args([
                "dev",
                "--tail=false",
                "--auto-create-config=false",
                "--cache-artifacts=true",
            ])
            .arg(format!("--default-repo={PLAIN_REGISTRY}/peer"))
            .arg(format!("--insecure-registry={PLAIN_REGISTRY}"))
            .arg(format!(
                "--namespace={}",
                project.example().workload.namespace
            ))
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|source| Error::Start {
                program: "skaffold".to_owned(),
                source,
            })?;
        let mut peer = Running(child);
        let turns = turns(cluster, project, runs);
        peer.interrupt()?;
        let turns = turns?;
        Sample::new(turns).ok_or_else(|| Error::Loop("no run was asked for".to_owned()))
    }
}

fn turns(cluster: &Cluster, project: &Project, runs: usize) -> Result<Vec<Duration>, Error> {
    let workload = project.example().workload;
    let mut editor = Editor::new(project)?;
    objects::wait_for(cluster, workload, |_| true)?;
    let mut turns = Vec::new();
    for number in 0..=runs {
        // skaffold polls; give it the time to be at rest.
        std::thread::sleep(Duration::from_secs(3));
        let (before, _) = objects::image_and_readiness(cluster, workload)?;
        let saved: Timestamp = editor.save()?;
        objects::wait_for(cluster, workload, |image| image != before)?;
        let took = Duration::try_from(now().duration_since(saved)).unwrap_or_default();
        if number > 0 {
            turns.push(took);
        }
    }
    Ok(turns)
}

/// kaniko reaches the cluster's registry only, by its address and without TLS.
fn adapt(project: &Project) -> Result<(), Error> {
    match project.example().folder {
        "feed-agg" => {
            project.replace("Dockerfile", "golang:", "10.77.0.1:5000/library/golang:")?;
            project.replace(
                "Dockerfile",
                "gcr.io/distroless",
                "10.77.0.1:5000/distroless",
            )?;
            project.replace(
                "skaffold.yaml",
                "        registryMirror: mirror.gcr.io\n",
                "",
            )?;
            let image = "image: gcr.io/kaniko-project/executor:latest";
            let insecure =
                format!("image: {KANIKO}\n        insecure: true\n        insecurePull: true");
            project.replace("skaffold.yaml", image, &insecure)
        }
        _ => {
            project.replace(
                "Dockerfile",
                "FROM busybox",
                "FROM 10.77.0.1:5000/library/busybox",
            )?;
            let kaniko =
                format!("kaniko: {{image: \"{KANIKO}\", insecure: true, insecurePull: true}}");
            project.replace("skaffold.yaml", "docker: {}", &kaniko)?;
            let cluster = "manifests:\n";
            let with = "  cluster: {namespace: kiln-bench}\nmanifests:\n";
            project.replace("skaffold.yaml", cluster, with)
        }
    }
}

/// Ends the peer however the measurement ends.
struct Running(Child);

impl Running {
    fn interrupt(&mut self) -> Result<(), Error> {
        crate::error::interrupt(&self.0)?;
        let ended = self.0.wait();
        ended.map(drop).map_err(|source| Error::Start {
            program: "skaffold".to_owned(),
            source,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only what `interrupt` has not ended yet.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_figure_in_the_document() {
        let seconds = |case: &str| Quote::of(case).unwrap().time.as_secs_f64();
        assert_eq!(seconds("feed-agg"), 30.0, "the shorter end of 30–33 s");
        assert_eq!(seconds("copy-only"), 8.1);
        assert_eq!(seconds("idle"), 0.15);
        assert_eq!(Quote::of("idle").unwrap().text, "0.15 s, 91 MB");
        assert_eq!(Quote::of("unheard-of"), None);
    }
}
