//! `kiln dev` under measurement: started, edited under, ended by Ctrl-C.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use jiff::Timestamp;
use kiln_schemas::event::{Event, Phase};
use kiln_test_cluster::Cluster;

use crate::error::{AtPath, Error, last_lines};
use crate::iteration::{Iteration, TimedEvent};
use crate::objects;
use crate::project::{Editor, Project};

/// What keeps a loop that hangs from hanging the bench. Not a claim about
/// speed.
const PATIENCE: Duration = Duration::from_secs(900);

/// What an editing person leaves between two saves: the loop is at rest again.
const REST: Duration = Duration::from_secs(2);

/// Runs the example's loop and returns its turns. The first build and one more
/// edit warm the caches and do not count. Every line that `kiln` printed is
/// kept in `record`.
pub fn measure(
    cluster: &Cluster,
    kiln: &Path,
    project: &Project,
    runs: usize,
    record: &Path,
) -> Result<Vec<Iteration>, Error> {
    let mut command = project.command(cluster, kiln);
    command
        .args(["--output=json", "dev"])
        .args(project.example().args);
    let mut editor = Editor::new(project)?;
    let mut dev = Dev::start(command, record)?;
    let turns = dev.turns(cluster, project, &mut editor, runs);
    // What was deployed is deleted whether or not it could be measured.
    let ended = dev.interrupt();
    let turns = turns?;
    ended.map(|()| turns)
}

struct Dev {
    child: Child,
    lines: Receiver<String>,
    record: File,
    errors: PathBuf,
    last: VecDeque<String>,
}

impl Dev {
    fn start(mut command: Command, record: &Path) -> Result<Self, Error> {
        let record_file = File::create(record).at("write", record)?;
        let errors = record.with_extension("stderr");
        let errors_file = File::create(&errors).at("write", &errors)?;
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(errors_file)
            .spawn()
            .map_err(|source| Error::Start {
                program: "kiln dev".to_owned(),
                source,
            })?;
        let (send, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if send.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self {
            child,
            lines,
            record: record_file,
            errors,
            last: VecDeque::new(),
        })
    }

    fn turns(
        &mut self,
        cluster: &Cluster,
        project: &Project,
        editor: &mut Editor,
        runs: usize,
    ) -> Result<Vec<Iteration>, Error> {
        let workload = project.example().workload;
        self.until("first deploy", is_rollout)?;
        let mut turns = Vec::new();
        for warm_up in (0..=runs).map(|run| run == 0) {
            std::thread::sleep(REST);
            while let Ok(line) = self.lines.try_recv() {
                self.keep(&line);
            }
            let (before, _) = objects::image_and_readiness(cluster, workload)?;
            let saved = editor.save()?;
            let turn = self.turn(saved)?;
            // The figure is only worth something if it is true.
            let (after, ready) = objects::image_and_readiness(cluster, workload)?;
            ready?;
            if after == before {
                return Err(Error::Loop(format!(
                    "the edit did not change the image {after}"
                )));
            }
            if !warm_up {
                turns.push(turn);
            }
        }
        Ok(turns)
    }

    /// The turn that a save started.
    fn turn(&mut self, saved: Timestamp) -> Result<Iteration, Error> {
        let mut events = self.until("turn of the loop", is_rollout)?;
        loop {
            if let Some(turn) = Iteration::read(saved, &events) {
                return Ok(turn);
            }
            events.extend(self.until("turn of the loop", is_rollout)?);
        }
    }

    /// The events up to the one that is wanted; a failure ends the wait.
    fn until(
        &mut self,
        wanted: &'static str,
        is_wanted: fn(&Event) -> bool,
    ) -> Result<Vec<TimedEvent>, Error> {
        let mut events = Vec::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                return Err(Error::Silent {
                    wanted,
                    program: "kiln dev",
                    said: self.said(),
                });
            };
            self.keep(&line);
            let event = TimedEvent::parse(&line)?;
            if let Some(failure) = failure(&event.event) {
                return Err(Error::Loop(failure));
            }
            events.push(event);
            if events.last().is_some_and(|last| is_wanted(&last.event)) {
                return Ok(events);
            }
        }
    }

    fn keep(&mut self, line: &str) {
        // A record that cannot be written must not spoil the measurement.
        drop(writeln!(self.record, "{line}"));
        self.last.push_back(line.to_owned());
        if self.last.len() > 20 {
            self.last.pop_front();
        }
    }

    /// Ctrl-C, then waits until the loop has cleaned up.
    fn interrupt(mut self) -> Result<(), Error> {
        crate::error::interrupt(&self.child)?;
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.keep(&line);
        }
        let program = "kiln dev".to_owned();
        let status = self.child.wait().map_err(|source| Error::Start {
            program: program.clone(),
            source,
        })?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Failed {
            program,
            status: status.to_string(),
            said: self.said(),
        })
    }

    /// The end of what it said, on both streams.
    fn said(&self) -> String {
        let events: Vec<&str> = self.last.iter().map(String::as_str).collect();
        let errors = std::fs::read_to_string(&self.errors).unwrap_or_default();
        last_lines(&format!("{}\n{errors}", events.join("\n")))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Only what `interrupt` has not ended yet.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The last event of a turn: it follows `DeployReady`.
fn is_rollout(event: &Event) -> bool {
    matches!(
        event,
        Event::Timing {
            phase: Phase::Rollout,
            ..
        }
    )
}

fn failure(event: &Event) -> Option<String> {
    let (Event::Failed { failure }
    | Event::BuildFailed { failure, .. }
    | Event::DeployFailed { failure }) = event
    else {
        return None;
    };
    let mut lines = vec![failure.message.clone()];
    lines.extend(
        failure
            .causes
            .iter()
            .map(|cause| format!("  because: {cause}")),
    );
    lines.extend(failure.log.iter().map(|line| format!("  | {line}")));
    Some(lines.join("\n"))
}
