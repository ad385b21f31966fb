//! `executor receive` and `executor receive-wait`: how a context gets into a build pod.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::CliError;
use crate::layer::dir::Form;
use crate::layer::unpack;

/// Between two looks at the marker.
const POLL: Duration = Duration::from_millis(20);
/// How long a context is waited for without `--await-timeout`.
pub(super) const DEFAULT_WAIT: Duration = Duration::from_secs(600);

/// The file that says that the context in `dir` is complete.
pub(super) fn marker(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".complete");
    PathBuf::from(name)
}

/// Unpacks a tar (plain, gzip or zstd) from `input` into the directory; nothing outside of it is
/// written, whatever the tar says. Then the marker appears, at once and last.
pub(super) fn receive(words: &[String], input: &mut (dyn Read + Send)) -> Result<(), CliError> {
    let [dir] = words else {
        return Err(CliError::Value {
            flag: "receive",
            value: words.join(" "),
            expected: "usage: executor receive DIR".to_owned(),
        });
    };
    let dir = PathBuf::from(dir.trim_end_matches('/'));
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| CliError::Receive {
        dir: dir.clone(),
        source,
    };
    fs::create_dir_all(&dir).map_err(|error| failed(error.into()))?;
    unpack::unpack(input, &dir, Form::Applied).map_err(|error| failed(error.into()))?;
    let marker = marker(&dir);
    File::create(&marker).map_err(|error| failed(error.into()))?;
    Ok(())
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
