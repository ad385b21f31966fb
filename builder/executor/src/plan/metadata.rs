//! Instructions that change only the configuration, as BuildKit's `dispatch…` functions do.

use std::time::Duration;

use kiln_dockerfile::healthcheck::Healthcheck;
use kiln_dockerfile::instruction::ShellOrExec;

use crate::image::{Health, Runtime};

/// `SHELL` of an image that does not set one.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// The argument vector of a command: as it is, or as the last argument of the image's shell.
pub(super) fn argv(command: &ShellOrExec, runtime: &Runtime) -> Vec<String> {
    match command {
        ShellOrExec::Exec(argv) => argv.clone(),
        ShellOrExec::Shell(text) => shell(runtime, text),
    }
}

/// The image's shell with `text` as its last argument.
pub(super) fn shell(runtime: &Runtime, text: &str) -> Vec<String> {
    let mut argv = runtime
        .shell
        .clone()
        .unwrap_or_else(|| DEFAULT_SHELL.map(str::to_owned).to_vec());
    argv.push(text.to_owned());
    argv
}

/// `HEALTHCHECK`.
pub(super) fn healthcheck(check: &Healthcheck) -> Health {
    match check {
        Healthcheck::None => Health {
            test: vec!["NONE".to_owned()],
            ..Health::default()
        },
        Healthcheck::Command {
            command,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        } => {
            let mut test = Vec::new();
            match command {
                ShellOrExec::Exec(argv) => {
                    test.push("CMD".to_owned());
                    test.extend(argv.iter().cloned());
                }
                ShellOrExec::Shell(text) => test.extend(["CMD-SHELL".to_owned(), text.clone()]),
            }
            Health {
                test,
                interval: nanoseconds(*interval),
                timeout: nanoseconds(*timeout),
                start_period: nanoseconds(*start_period),
                start_interval: nanoseconds(*start_interval),
                retries: u64::from(*retries),
            }
        }
    }
}

/// Signals of Linux without `SIG` (signal(7)); `RTMIN` and `RTMAX` may have an offset.
const SIGNALS: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Whether `STOPSIGNAL` may have this value: a number other than 0, or a name.
pub(super) fn is_signal(word: &str) -> bool {
    if let Ok(number) = word.parse::<u32>() {
        return number != 0;
    }
    let name = word.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let offset = |rest: &str, mark: char| {
        rest.strip_prefix(mark)
            .and_then(|number| number.parse::<u32>().ok())
            .is_some_and(|number| (1..=15).contains(&number))
    };
    SIGNALS.contains(&name)
        || name
            .strip_prefix("RTMIN")
            .is_some_and(|rest| offset(rest, '+'))
        || name
            .strip_prefix("RTMAX")
            .is_some_and(|rest| offset(rest, '-'))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `path` below `cwd`, without `.`, `..` and doubled slashes; a path that must be a directory
/// (`dir/`, `.`) keeps a `/` at its end. Links are not looked at: the path is inside the image.
#[must_use]
pub fn absolute(path: &str, cwd: &str) -> String {
    let joined = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{cwd}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    let directory = matches!(path.rsplit('/').next(), Some("" | "."));
    let mut clean = format!("/{}", parts.join("/"));
    if directory && !parts.is_empty() {
        clean.push('/');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_image() {
        for (path, cwd, expected) in [
            ("a", "/w", "/w/a"),
            ("a/", "/w", "/w/a/"),
            (".", "/w", "/w/"),
            ("./", "/", "/"),
            ("../x", "/w", "/x"),
            ("/new/deep/..", "/w", "/new"),
            ("..", "/w/v", "/w"),
            ("../../../x", "/w", "/x"),
            ("/etc//x/.", "/w", "/etc/x/"),
            ("/", "/w", "/"),
        ] {
            assert_eq!(absolute(path, cwd), expected, "{path} in {cwd}");
        }
    }
}
