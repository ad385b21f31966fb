//! Durations as Go's `time.ParseDuration` reads them.

use std::time::Duration;

/// What is not negative: `1m30s`, `1.5h`, `300ms`, `0`; at most the 292 years that Go can hold.
pub fn parse(text: &str) -> Option<Duration> {
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
    let text = text.strip_prefix('+').unwrap_or(text);
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
    fn durations_as_in_go() {
        let milliseconds = Duration::from_millis;
        for (text, expected) in [
            ("336h", Some(milliseconds(1_209_600_000))),
            ("1h30m", Some(milliseconds(5_400_000))),
            ("1.5h", Some(milliseconds(5_400_000))),
            ("90s", Some(milliseconds(90_000))),
            ("1m.5s", Some(milliseconds(60_500))),
            ("100ms", Some(milliseconds(100))),
            ("2.s", Some(milliseconds(2000))),
            ("+1us", Some(Duration::from_micros(1))),
            ("3ns", Some(Duration::from_nanos(3))),
            ("0", Some(Duration::ZERO)),
            ("5", None),
            ("h", None),
            (".s", None),
            ("1.2.3s", None),
            ("2d", None),
            ("-1h", None),
            ("1h ", None),
            ("+", None),
            ("", None),
            ("99999999999999999h", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
