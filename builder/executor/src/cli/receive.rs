//! `executor receive` and `executor receive-wait`: how a context gets into a build pod, and how
//! the log of the build comes back the same way.
//!
//! What `receive` writes to its output is one JSON object a line: `ready` before anything is read,
//! `received` when the context is complete, and with `--follow` the objects of the build's log
//! from the first one on, until it is finished. Whoever hears `ready` knows that the container
//! runs, which the cluster says up to a second later; the log of a short build is there before the
//! cluster would give it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::error::CliError;
use super::log::FINISHED;
use crate::layer::dir::Form;
use crate::layer::unpack;

/// Between two looks at a file that somebody else writes.
const POLL: Duration = Duration::from_millis(10);
/// How long the end of a build waits for those who read its log.
const READERS: Duration = Duration::from_secs(10);
/// How long a context is waited for without `--await-timeout`.
pub(super) const DEFAULT_WAIT: Duration = Duration::from_secs(600);

/// The file that says that the context in `dir` is complete.
pub(super) fn marker(dir: &Path) -> PathBuf {
    beside(dir, ".complete")
}

/// Where the build that waits for the context in `dir` also writes its log.
pub(super) fn log(dir: &Path) -> PathBuf {
    beside(dir, ".log")
}

fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Unpacks a tar (plain, gzip or zstd) from `input` into the directory; nothing outside of it is
/// written, whatever the tar says. Then the marker appears, at once and last.
pub(super) fn receive(
    words: &[String],
    input: &mut (dyn Read + Send),
    output: &mut dyn Write,
) -> Result<(), CliError> {
    let (dir, follows) = match words {
        [dir] => (dir, false),
        [flag, dir] if flag == "--follow" => (dir, true),
        _ => {
            return Err(CliError::Value {
                flag: "receive",
                value: words.join(" "),
                expected: "usage: executor receive [--follow] DIR".to_owned(),
            });
        }
    };
    let dir = PathBuf::from(dir.trim_end_matches('/'));
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| CliError::Receive {
        dir: dir.clone(),
        source,
    };
    say(output, "ready")?;
    fs::create_dir_all(&dir).map_err(|error| failed(error.into()))?;
    unpack::unpack(input, &dir, Form::Applied).map_err(|error| failed(error.into()))?;
    let listening = follows.then(|| listen(&log(&dir)));
    let listening = listening.transpose().map_err(CliError::Output)?;
    let marker = marker(&dir);
    File::create(&marker).map_err(|error| failed(error.into()))?;
    say(output, "received")?;
    match listening {
        Some(log) => follow(log, output),
        None => Ok(()),
    }
}

/// Opens the log that the build writes or is going to write, with a lock that says that somebody
/// reads it: see [`wait_for_readers`].
fn listen(log: &Path) -> io::Result<File> {
    let mut options = File::options();
    let file = options.read(true).append(true).create(true).open(log)?;
    flock(&file, FlockOperation::LockShared)?;
    Ok(file)
}

/// Waits until those who follow a log have passed on its last line. With the end of the build the
/// container ends, and everything in it: a line that is not on its way by then comes from the
/// pod's log, up to a second later.
pub(super) fn wait_for_readers(log: &File) {
    let start = Instant::now();
    while flock(log, FlockOperation::NonBlockingLockExclusive).is_err() {
        if start.elapsed() >= READERS {
            return;
        }
        std::thread::sleep(POLL / 5);
    }
}

fn say(output: &mut dyn Write, event: &str) -> Result<(), CliError> {
    writeln!(output, "{}", json!({"event": event}))
        .and_then(|()| output.flush())
        .map_err(CliError::Output)
}

/// Copies a log while it is written, up to its last object. A build that fails ends the container,
/// and this with it.
fn follow(log: File, output: &mut dyn Write) -> Result<(), CliError> {
    let mut lines = BufReader::new(log);
    let mut line = String::new();
    loop {
        // A line without its end is continued by the next read.
        lines.read_line(&mut line).map_err(CliError::Output)?;
        if !line.ends_with('\n') {
            std::thread::sleep(POLL);
            continue;
        }
        output
            .write_all(line.as_bytes())
            .and_then(|()| output.flush())
            .map_err(CliError::Output)?;
        let object = serde_json::from_str::<Value>(&line).unwrap_or_default();
        if object["event"] == FINISHED {
            return Ok(());
        }
        line.clear();
    }
}

/// Waits for a file; an init container's whole work.
pub(super) fn wait_command(words: &[String]) -> Result<(), CliError> {
    let [marker] = words else {
        return Err(CliError::Value {
            flag: "receive-wait",
            value: words.join(" "),
            expected: "usage: executor receive-wait FILE".to_owned(),
        });
    };
    wait(Path::new(marker), DEFAULT_WAIT)
}

/// Waits until `marker` is there.
pub(super) fn wait(marker: &Path, limit: Duration) -> Result<(), CliError> {
    let start = Instant::now();
    while !marker.exists() {
        if start.elapsed() >= limit {
            let seconds = limit.as_secs();
            return Err(CliError::NoContext {
                marker: marker.to_owned(),
                seconds,
            });
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
