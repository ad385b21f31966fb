//! What a figure is worth nothing without: the machine and the versions.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::run;

/// The machine and the programs of one bench.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Processor, cores, memory, kernel.
    pub hardware: String,
    /// Name and version of every program that has a part in it.
    pub versions: Vec<String>,
    /// What makes the figures worse than the machine is.
    pub doubt: Option<String>,
}

impl Machine {
    /// Looks at this machine. `kiln` is the measured binary, `root` the
    /// checkout that it comes from.
    pub fn here(kiln: &Path, root: &Path) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let load = file("/proc/loadavg");
        let busy: f64 = load
            .split(' ')
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0.0);
        #[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 cores")]
        let doubt = (busy > 0.5 * cores as f64).then(|| {
            format!("other work is running: {busy} processes on {cores} cores in the last minute")
        });
        let commit = said(
            Command::new("git")
                .args(["describe", "--always", "--dirty"])
                .current_dir(root),
        );
        let versions = vec![
            format!("{} ({commit})", said(Command::new(kiln).arg("version"))),
            said(Command::new("go").arg("version")),
        ];
        Self {
            hardware: hardware(cores),
            versions,
            doubt,
        }
    }
}

fn hardware(cores: usize) -> String {
    let processor = field(&file("/proc/cpuinfo"), "model name").unwrap_or_default();
    let memory = field(&file("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kibibytes: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
    let gibibytes = kibibytes / (1024 * 1024);
    let kernel = file("/proc/sys/kernel/osrelease");
    format!(
        "{processor}, {cores} cores, {gibibytes} GiB, Linux {}",
        kernel.trim()
    )
}

/// The value of the first `name : value` line.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first line of what a program says, or that it does not.
fn said(command: &mut Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    match run(command) {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().next().unwrap_or_default().to_owned()
        }
        Err(_) => format!("{program}: no version"),
    }
}
