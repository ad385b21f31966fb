//! `HEALTHCHECK`.

use std::time::Duration;

use crate::duration;
use crate::instruction::ShellOrExec;

/// A health check. Durations of zero mean "inherit", as in the image config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`: an inherited check is switched off.
    None,
    /// `HEALTHCHECK CMD`.
    Command {
        /// What is run.
        command: ShellOrExec,
        /// `--interval`.
        interval: Duration,
        /// `--timeout`.
        timeout: Duration,
        /// `--start-period`.
        start_period: Duration,
        /// `--start-interval`.
        start_interval: Duration,
        /// `--retries`; zero means "inherit".
        retries: u32,
    },
}

impl Healthcheck {
    /// The `Test` of the image config: `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", "…"]`.
    pub fn test(&self) -> Vec<String> {
        match self {
            Self::None => vec!["NONE".to_owned()],
            Self::Command {
                command: ShellOrExec::Shell(text),
                ..
            } => {
                vec!["CMD-SHELL".to_owned(), text.clone()]
            }
            Self::Command {
                command: ShellOrExec::Exec(argv),
                ..
            } => std::iter::once("CMD".to_owned())
                .chain(argv.iter().cloned())
                .collect(),
        }
    }
}

/// The shortest interval that Docker takes (`container.MinimumDuration`).
const MINIMUM: Duration = Duration::from_millis(1);

/// An interval as Go writes durations (`1m30s`, `1.5h`, `300ms`): zero, or at least 1 ms.
pub(crate) fn interval(text: &str) -> Option<Duration> {
    let duration = duration::parse(text)?;
    (duration.is_zero() || duration >= MINIMUM).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("1ms", 1),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("1000us", 1),
            ("+2s", 2_000),
        ] {
            assert_eq!(
                interval(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_or_too_short_is_refused() {
        for text in [
            "",
            "5",
            "s",
            ".s",
            "1..5s",
            "-5s",
            "5 s",
            "1d",
            "999us",
            "1ns",
            "99999999999h",
        ] {
            assert_eq!(interval(text), None, "{text:?}");
        }
    }
}
