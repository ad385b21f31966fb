//! Start a component in the background, see whether it lives, end it.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::error::{AtPath, Error};

/// A process that outlives the harness's own. The start time tells it from a later
/// process with the same id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) pid: i32,
    /// Field 22 of /proc/PID/stat: clock ticks since boot.
    pub(crate) started: u64,
}

impl Process {
    /// Starts `command` in a process group of its own, with its output in `log`.
    pub(crate) fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self, Error> {
        let output = File::create(log).at("create", log)?;
        let errors = output.try_clone().at("open", log)?;
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|source| Error::Spawn {
                program: name.to_owned(),
                source,
            })?;
        let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
        Ok(Self {
            name: name.to_owned(),
            pid,
            started: start_time(pid).unwrap_or(0),
        })
    }

    pub(crate) fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// SIGTERM, and SIGKILL for what is still there after `patience`; returns when
    /// the process is gone.
    pub(crate) fn stop(&self, patience: Duration) {
        for (signal, patience) in [
            (Signal::TERM, patience),
            (Signal::KILL, Duration::from_secs(30)),
        ] {
            if !self.is_alive() {
                return;
            }
            if let Some(pid) = Pid::from_raw(self.pid) {
                // It may end between the look and the signal.
                let _ = kill_process(pid, signal);
            }
            let end = Instant::now() + patience;
            while self.is_alive() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// The start time of a process; none when there is none, or only its zombie.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name (field 2) is in parentheses and may hold spaces and parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Runs a command to its end; a failure carries the last lines of its output.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    output(command).map(drop)
}

/// Runs a command to its end and gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, Error> {
    let line = command_line(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Spawn {
            program: line.clone(),
            source,
        })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(Error::Command {
        command: line,
        status: output.status.to_string(),
        output: last_lines(&(text + &String::from_utf8_lossy(&output.stderr)), 30),
    })
}

/// The command as one line, for messages and logs.
pub(crate) fn command_line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The last `count` lines of a text.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_process_is_not_taken_for_a_later_one_with_its_id() {
        let here = i32::try_from(std::process::id()).unwrap();
        let this = Process {
            name: "this".into(),
            pid: here,
            started: start_time(here).unwrap(),
        };
        assert!(this.is_alive());
        let earlier = Process {
            started: this.started - 1,
            ..this
        };
        assert!(!earlier.is_alive());
    }

    #[test]
    fn stopping_waits_until_the_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("1000");
        let process = Process::spawn("sleep", command, &folder.path().join("log")).unwrap();
        assert!(process.is_alive());
        process.stop(Duration::from_secs(60));
        assert!(!process.is_alive());
    }

    #[test]
    fn a_failed_command_shows_its_line_and_its_last_words() {
        let error = run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]));
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("sh -c") && text.contains("exit status: 3"),
            "{text}"
        );
        assert!(text.ends_with("out\nerr"), "{text}");
    }
}
