//! The time in a tag, in a layout of Go's `time` package: the reference time
//! `Mon Jan 2 15:04:05 MST 2006` written the way the result should look.

use jiff::Zoned;

/// skaffold's default layout.
pub(super) const DEFAULT_LAYOUT: &str = "2006-01-02_15-04-05.999_MST";

/// A time cannot be written as wanted.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The zone has no rules on this machine.
    #[error("there is no time zone `{zone}`")]
    Zone {
        /// As configured.
        zone: String,
        /// Why.
        #[source]
        source: jiff::Error,
    },
}

/// The tag: `layout` (skaffold's default when empty) in `zone`, or in the
/// zone of `now` when there is none or it is called `Local`.
pub(super) fn tag(now: &Zoned, layout: &str, zone: Option<&str>) -> Result<String, LayoutError> {
    let layout = if layout.is_empty() {
        DEFAULT_LAYOUT
    } else {
        layout
    };
    match zone {
        None | Some("" | "Local") => Ok(format(now, layout)),
        Some(zone) => {
            let there = now.in_tz(zone).map_err(|source| LayoutError::Zone {
                zone: zone.to_owned(),
                source,
            })?;
            Ok(format(&there, layout))
        }
    }
}

/// Writes a time in a Go layout (package time, `Time.Format`).
pub fn format(time: &Zoned, layout: &str) -> String {
    let mut out = String::new();
    let mut rest = layout;
    while !rest.is_empty() {
        let (taken, text) = element(time, rest).unwrap_or_else(|| {
            let first = rest.chars().next().map_or(0, char::len_utf8);
            (first, rest[..first].to_owned())
        });
        out.push_str(&text);
        rest = &rest[taken..];
    }
    out
}

/// The element of the layout at the start of `rest`: its length there, and
/// what it stands for. Longer elements come before those that they start with.
fn element(time: &Zoned, rest: &str) -> Option<(usize, String)> {
    fraction(time, rest)
        .or_else(|| zone(time, rest))
        .or_else(|| {
            let (word, strftime) = ELEMENTS.iter().find(|(word, _)| {
                rest.strip_prefix(word).is_some_and(|after| {
                    // "Janet" is no month and "Monty" no day.
                    !matches!(*word, "Jan" | "Mon")
                        || !after.starts_with(|c: char| c.is_ascii_lowercase())
                })
            })?;
            Some((word.len(), time.strftime(strftime).to_string()))
        })
}

/// Go's layout words with jiff's conversion for each.
const ELEMENTS: [(&str, &str); 24] = [
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("2006", "%Y"),
    ("_2006", "_%Y"),
    ("__2", "%_3j"),
    ("_2", "%_d"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
    ("PM", "%p"),
    ("pm", "%P"),
];

/// `.000` keeps its zeros, `.999` drops those at the end (and itself, when
/// nothing is left); a comma does as well, and a digit behind it makes it text.
fn fraction(time: &Zoned, rest: &str) -> Option<(usize, String)> {
    let separator = rest.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let digits = &rest[1..];
    let kind = digits.chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let count = digits.chars().take_while(|c| *c == kind).count();
    if count > 9 || digits[count..].starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = format!("{:09}", time.subsec_nanosecond());
    let mut text = &nanoseconds[..count];
    if kind == '9' {
        text = text.trim_end_matches('0');
    }
    let text = if text.is_empty() {
        String::new()
    } else {
        format!("{separator}{text}")
    };
    Some((1 + count, text))
}

/// Numeric zones: `-0700` and its relatives, and with `Z` in front those that
/// write `Z` for UTC.
fn zone(time: &Zoned, rest: &str) -> Option<(usize, String)> {
    let sign = rest.chars().next().filter(|c| matches!(c, '-' | 'Z'))?;
    let shape = ["07:00:00", "070000", "07:00", "0700", "07"]
        .into_iter()
        .find(|shape| rest[1..].starts_with(shape))?;
    let seconds = time.offset().seconds();
    if sign == 'Z' && seconds == 0 {
        return Some((1 + shape.len(), "Z".into()));
    }
    let minus = if seconds < 0 { '-' } else { '+' };
    let (h, m, s) = (
        seconds.abs() / 3600,
        seconds.abs() / 60 % 60,
        seconds.abs() % 60,
    );
    let text = match shape {
        "07:00:00" => format!("{minus}{h:02}:{m:02}:{s:02}"),
        "070000" => format!("{minus}{h:02}{m:02}{s:02}"),
        "07:00" => format!("{minus}{h:02}:{m:02}"),
        "0700" => format!("{minus}{h:02}{m:02}"),
        _ => format!("{minus}{h:02}"),
    };
    Some((1 + shape.len(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    /// The expected values were printed by Go 1.26's `Time.Format`.
    #[test]
    fn layouts_mean_what_they_mean_in_go() {
        let time = time("2015-02-04T21:00:57.0123456-08:00[America/Los_Angeles]");
        for (layout, expected) in [
            ("2006-01-02_15-04-05.999_MST", "2015-02-04_21-00-57.012_PST"),
            ("Mon Jan _2 15:04:05 2006", "Wed Feb  4 21:00:57 2015"),
            (
                "Monday, 02-Jan-06 15:04:05 MST",
                "Wednesday, 04-Feb-15 21:00:57 PST",
            ),
            (
                "Mon, 02 Jan 2006 15:04:05 -0700",
                "Wed, 04 Feb 2015 21:00:57 -0800",
            ),
            (
                "2006-01-02T15:04:05.999999999Z07:00",
                "2015-02-04T21:00:57.0123456-08:00",
            ),
            ("3:04PM", "9:00PM"),
            ("3.04pm", "9.00pm"),
            ("Jan _2 15:04:05.000000", "Feb  4 21:00:57.012345"),
            ("06.1.2 002 __2", "15.2.4 035  35"),
            ("20060102-150405", "20150204-210057"),
            ("05,000", "57,012"),
            ("Janet Monty", "Janet Monty"),
            ("v2006.0", "v2015.0"),
        ] {
            assert_eq!(format(&time, layout), expected, "{layout}");
        }
    }

    #[test]
    fn a_fraction_of_nines_vanishes_when_there_is_none() {
        let time = time("2015-02-04T21:00:57+00:00[UTC]");
        assert_eq!(format(&time, "05.999_MST Z07:00"), "57_UTC Z");
        assert_eq!(format(&time, "05.000"), "57.000");
    }

    #[test]
    fn a_zone_is_looked_up_by_name() {
        let time = time("2015-02-04T21:00:57+00:00[UTC]");
        assert_eq!(
            tag(&time, "15-MST", Some("Europe/Berlin")).unwrap(),
            "22-CET"
        );
        assert_eq!(tag(&time, "15-MST", Some("Local")).unwrap(), "21-UTC");
        let error = tag(&time, "15", Some("Europe/Atlantis")).unwrap_err();
        assert_eq!(error.to_string(), "there is no time zone `Europe/Atlantis`");
    }
}
