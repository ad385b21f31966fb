//! `kiln build` when nothing has changed: what every save without a change,
//! and every CI job that finds its image, pays.

use std::path::Path;
use std::time::Instant;

use kiln_schemas::event::{BuildOutcome, Event};
use kiln_test_cluster::Cluster;

use crate::error::{Error, run};
use crate::iteration::TimedEvent;
use crate::project::Project;
use crate::sample::Sample;

/// What a build with nothing to do takes.
#[derive(Debug, Clone)]
pub struct Idle {
    /// From starting the process to its end.
    pub wall: Sample,
    /// Largest resident set in bytes; absent without GNU time.
    pub memory: Option<u64>,
}

/// GNU time (Debian's package `time`): the one way to a child's peak memory
/// that needs no unsafe code.
const GNU_TIME: &str = "/usr/bin/time";

/// Builds once, then measures builds that find everything.
pub fn measure(
    cluster: &Cluster,
    kiln: &Path,
    project: &Project,
    runs: usize,
) -> Result<Idle, Error> {
    let arguments = [&["--output=json", "build"], project.example().args].concat();
    run(project.command(cluster, kiln).args(&arguments))?;
    let mut walls = Vec::new();
    // One more, for the page cache.
    for number in 0..=runs {
        let mut command = project.command(cluster, kiln);
        command.args(&arguments);
        let started = Instant::now();
        let output = run(&mut command)?;
        let took = started.elapsed();
        found_everything(&String::from_utf8_lossy(&output.stdout))?;
        if number > 0 {
            walls.push(took);
        }
    }
    let wall = Sample::new(walls).ok_or_else(|| Error::Loop("no run was asked for".to_owned()))?;
    Ok(Idle {
        wall,
        memory: memory(cluster, kiln, project, &arguments)?,
    })
}

fn memory(
    cluster: &Cluster,
    kiln: &Path,
    project: &Project,
    arguments: &[&str],
) -> Result<Option<u64>, Error> {
    if !Path::new(GNU_TIME).exists() {
        return Ok(None);
    }
    let mut command = project.command(cluster, Path::new(GNU_TIME));
    let output = run(command.args(["-f", "%M"]).arg(kiln).args(arguments))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let kibibytes = said
        .lines()
        .last()
        .and_then(|line| line.trim().parse::<u64>().ok());
    Ok(kibibytes.map(|kibibytes| kibibytes * 1024))
}

/// A build that did build is not the one to measure.
fn found_everything(printed: &str) -> Result<(), Error> {
    for line in printed.lines() {
        let event = TimedEvent::parse(line)?.event;
        if let Event::BuildFinished {
            image,
            outcome: BuildOutcome::Built,
            ..
        } = event
        {
            return Err(Error::Loop(format!(
                "nothing changed, and yet {image} was built"
            )));
        }
    }
    Ok(())
}
