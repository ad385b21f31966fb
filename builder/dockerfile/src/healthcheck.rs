//! `HEALTHCHECK`.

use std::time::Duration;

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
    let duration = go_duration(text.strip_prefix('+').unwrap_or(text))?;
    (duration.is_zero() || duration >= MINIMUM).then_some(duration)
}

fn go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|ch: char| !ch.is_ascii_digit() && ch != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|ch: char| ch.is_ascii_digit() || ch == '.');
        let (unit, tail) = tail.split_at(unit_end.unwrap_or(tail.len()));
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(number, *nanos)?)?;
        rest = tail;
    }
    let nanos = u64::try_from(total)
        .ok()
        .filter(|nanos| *nanos <= i64::MAX.unsigned_abs())?;
    (!text.is_empty()).then_some(Duration::from_nanos(nanos))
}

/// A decimal number times `unit`, in whole units of one.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mut value = if whole.is_empty() {
        0
    } else {
        whole.parse::<u64>().ok().map(u128::from)? * unit
    };
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        value += u128::from(digit - b'0') * place;
    }
    Some(value)
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
