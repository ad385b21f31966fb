//! The text of history entries: what `docker history` shows (BuildKit's `commitToHistory` calls).

use kiln_dockerfile::scope::Scope;

use super::{Copy, Source};
use crate::image::{Health, History};

/// Who made the entry; BuildKit writes `buildkit.dockerfile.v0` here.
const COMMENT: &str = "kiln";

/// An entry without a layer.
pub(super) fn config(created_by: String) -> History {
    History {
        empty_layer: true,
        ..layer(created_by)
    }
}

/// An entry with a layer.
pub(super) fn layer(created_by: String) -> History {
    History {
        created_by: Some(created_by),
        comment: Some(COMMENT.to_owned()),
        ..History::default()
    }
}

/// `RUN |1 VERSION=3 /bin/sh -c make`: the declared arguments stand before the command, with the
/// values that it sees.
pub(super) fn run(argv: &[String], scope: &Scope<'_>) -> String {
    let args: Vec<String> = scope
        .declared_args()
        .iter()
        .map(|(name, value)| {
            let seen = scope.run_env().iter().find(|(known, _)| known == name);
            let value = seen.map(|(_, value)| value).or(value.as_ref());
            format!("{name}={}", value.map_or("", String::as_str))
        })
        .collect();
    let command = argv.join(" ");
    if args.is_empty() {
        format!("RUN {command}")
    } else {
        format!("RUN |{} {} {command}", args.len(), args.join(" "))
    }
}

/// `HEALTHCHECK {Test:[CMD x] Interval:5s …}`: Go's `%+v` of the check.
pub(super) fn healthcheck(health: &Health) -> String {
    let durations = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ];
    let mut text = format!("HEALTHCHECK {{Test:[{}]", health.test.join(" "));
    for (name, nanoseconds) in durations {
        text.push_str(&format!(" {name}:{}", go_duration(nanoseconds)));
    }
    format!("{text} Retries:{}}}", health.retries)
}

/// Go's `time.Duration.String`: `0s`, `500ms`, `1m0s`, `1h0m1.5s`.
fn go_duration(nanoseconds: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let decimal = |value: u64, unit: u64| {
        let (whole, rest) = (value / unit, value % unit);
        let digits = unit.ilog10() as usize;
        let fraction = format!("{rest:0digits$}");
        match fraction.trim_end_matches('0') {
            "" => whole.to_string(),
            fraction => format!("{whole}.{fraction}"),
        }
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanoseconds, 1_000)),
        1_000_000..SECOND => format!("{}ms", decimal(nanoseconds, 1_000_000)),
        _ => {
            let (minutes, rest) = (nanoseconds / (60 * SECOND), nanoseconds % (60 * SECOND));
            let seconds = decimal(rest, SECOND);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// `COPY --chown=app a b /dest/`: the flags that change what is copied, sources expanded, and the
/// destination as written (BuildKit's `dispatchCopy`).
pub(super) fn copy(op: &Copy, dest: &str) -> String {
    let mut text = op.keyword.to_owned();
    if op.parents {
        text.push_str(" --parents");
    }
    for (flag, value) in [("chown", &op.chown), ("chmod", &op.chmod)] {
        if let Some(value) = value {
            text.push_str(&format!(" --{flag}={value}"));
        }
    }
    for source in &op.sources {
        text.push_str(&match source {
            Source::Path(word) | Source::Url(word) | Source::Git { text: word, .. } => {
                format!(" {word}")
            }
            Source::Inline { name, .. } => format!(" <<{name}"),
        });
    }
    format!("{text} {dest}")
}

/// Go's `%q` of a list: `["a" "b"]`.
pub(super) fn quoted(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| go_quoted(word)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Go's `strconv.Quote`: what is printed as it is are letters, marks, numbers, signs and the blank.
fn go_quoted(word: &str) -> String {
    let mut text = String::from("\"");
    for ch in word.chars() {
        let named = match ch {
            '"' | '\\' => Some(ch),
            '\u{7}' => Some('a'),
            '\u{8}' => Some('b'),
            '\u{b}' => Some('v'),
            '\u{c}' => Some('f'),
            '\n' => Some('n'),
            '\r' => Some('r'),
            '\t' => Some('t'),
            _ => None,
        };
        match named {
            Some(name) => text.extend(['\\', name]),
            None if is_printed(ch) => text.push(ch),
            None => text.push_str(&match u32::from(ch) {
                code @ ..0x80 => format!("\\x{code:02x}"),
                code @ ..0x1_0000 => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    text + "\""
}

/// As Rust's `Debug` has it, but for marks, which it shows alone as escapes.
fn is_printed(ch: char) -> bool {
    let behind_another = ['a', ch].iter().collect::<String>();
    ch == '\'' || behind_another.escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::{go_duration, quoted};

    /// Expected is what Go's `fmt.Sprintf("%q", …)` prints.
    #[test]
    fn words_as_go_quotes_them() {
        for (word, expected) in [
            ("it's \"a\" \\", r#"["it's \"a\" \\"]"#),
            (
                "\u{0}\u{7}\u{8}\u{b}\u{c}\n\r\t\u{1b}\u{7f}",
                r#"["\x00\a\b\v\f\n\r\t\x1b\x7f"]"#,
            ),
            ("é\u{301}\u{fffd}😀", "[\"é\u{301}\u{fffd}😀\"]"),
            (
                "\u{85}\u{a0}\u{200b}\u{2028}\u{feff}\u{e0001}",
                r#"["\u0085\u00a0\u200b\u2028\ufeff\U000e0001"]"#,
            ),
        ] {
            assert_eq!(quoted(&[word.to_owned()]), expected);
        }
    }

    /// Expected values are what Go's `time.Duration(n).String()` prints.
    #[test]
    fn durations_as_go_prints_them() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (3_661_000_000_000, "1h1m1s"),
            (90_000_000_001, "1m30.000000001s"),
        ] {
            assert_eq!(go_duration(nanoseconds), expected);
        }
    }
}
