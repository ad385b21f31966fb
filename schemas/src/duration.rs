//! Durations as Go's `time.ParseDuration` reads them.

use std::time::Duration;

/// Parses `300ms`, `1.5h`, `2h45m`, `0`. Negative durations and anything
/// else are `None`.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = tail;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of Go's `time_test.go`, parseDurationTests.
    #[test]
    fn go_durations_are_read() {
        let rows = [
            ("0", Some(Duration::ZERO)),
            ("5s", Some(Duration::from_secs(5))),
            ("30m", Some(Duration::from_mins(30))),
            ("1.5h", Some(Duration::from_mins(90))),
            ("3h30m", Some(Duration::from_mins(210))),
            ("5ms", Some(Duration::from_millis(5))),
            ("", None),
            ("3", None),
            ("-5s", None),
            (".s", None),
            ("3000000h!", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
