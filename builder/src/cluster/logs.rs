//! Follows the log of a container line by line, and takes it up again where it
//! was when the connection breaks.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::AsyncBufReadExt;
use jiff::Timestamp;
use kube::api::LogParams;

use super::exec::Target;

/// Lines that are kept for an error.
const TAIL: usize = 30;
/// Connections in a row that bring nothing.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);

/// The last lines of a log.
#[derive(Debug, Default)]
pub(super) struct Tail(VecDeque<String>);

impl Tail {
    pub(super) fn push(&mut self, line: &str) {
        if self.0.len() == TAIL {
            self.0.pop_front();
        }
        self.0.push_back(line.to_owned());
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.0.iter().cloned().collect()
    }
}

/// Calls `line` for each line of the container's log until the container has
/// ended and everything was read. A log that cannot be read any more is left:
/// the build does not fail for it.
pub(super) async fn follow(target: &Target, mut line: impl FnMut(&str)) {
    let mut position = Position::default();
    let mut fruitless = 0;
    while fruitless < ATTEMPTS {
        let params = LogParams {
            container: Some(target.container.clone()),
            follow: true,
            timestamps: true,
            since_time: position.last,
            ..LogParams::default()
        };
        let mut stream = match target.pods.log_stream(&target.pod, &params).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "cannot read the build's log");
                fruitless += 1;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            match stream.read_until(b'\n', &mut bytes).await {
                // The server ends the stream when the container has ended.
                Ok(0) => return,
                Ok(_) => {
                    let text = String::from_utf8_lossy(&bytes);
                    if let Some(text) = position.admit(text.trim_end_matches(['\n', '\r'])) {
                        fruitless = 0;
                        line(text);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the build's log broke off");
                    break;
                }
            }
        }
        fruitless += 1;
    }
}

/// The last line that was seen, so that none is shown twice: after a break the
/// server starts at the second of the last timestamp.
#[derive(Debug, Default)]
struct Position {
    last: Option<Timestamp>,
}

impl Position {
    /// The text of a line `<RFC 3339> <text>`, if it is new.
    fn admit<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let (stamp, text) = line.split_once(' ').unwrap_or((line, ""));
        let Ok(at) = stamp.parse::<Timestamp>() else {
            return Some(line);
        };
        if self.last.is_some_and(|last| at <= last) {
            return None;
        }
        self.last = Some(at);
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_break_no_line_comes_twice() {
        let mut position = Position::default();
        let one = "2026-01-01T10:00:00.000000001Z one";
        let two = "2026-01-01T10:00:00.000000002Z two  words";
        let empty = "2026-01-01T10:00:00.000000003Z";
        assert_eq!(position.admit(one), Some("one"));
        assert_eq!(position.admit(two), Some("two  words"));
        assert_eq!(position.admit(one), None);
        assert_eq!(position.admit(two), None);
        assert_eq!(position.admit(empty), Some(""));
    }

    #[test]
    fn the_tail_is_the_end() {
        let mut tail = Tail::default();
        (0..100).for_each(|number| tail.push(&number.to_string()));
        assert_eq!(tail.lines().first().map(String::as_str), Some("70"));
        assert_eq!(tail.lines().last().map(String::as_str), Some("99"));
    }
}
