//! How far a log was read, so that reading can go on elsewhere in time.
//!
//! The API takes up a log at a whole second only. So what counts is how many
//! lines of the last second were seen: as many are skipped when that second is
//! read again. Lines of one log come in the same order each time.

use jiff::Timestamp;

/// A place in a container's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Lines before this are not wanted.
    not_before: Option<Timestamp>,
    /// The latest second of which a line was seen, and how many were.
    seen: Option<(i64, usize)>,
    /// Lines of that second still to be skipped.
    skip: usize,
}

impl Position {
    /// At the beginning, or at the first line that is not older.
    pub(super) fn new(not_before: Option<Timestamp>) -> Self {
        Self {
            not_before,
            seen: None,
            skip: 0,
        }
    }

    /// Where to take up the log; `None` for its beginning.
    pub(super) fn resume(&mut self) -> Option<Timestamp> {
        self.skip = self.seen.map_or(0, |(_, lines)| lines);
        let second = self
            .seen
            .map(|(second, _)| second)
            .or(self.not_before.map(Timestamp::as_second));
        second.and_then(|second| Timestamp::from_second(second).ok())
    }

    /// Takes a line in; whether it is new.
    pub(super) fn accept(&mut self, written: Timestamp) -> bool {
        if self.not_before.is_some_and(|limit| written < limit) {
            return false;
        }
        let second = written.as_second();
        match self.seen {
            Some((latest, _)) if self.skip > 0 && second >= latest => {
                self.skip -= 1;
                return false;
            }
            Some((latest, lines)) if second == latest => self.seen = Some((latest, lines + 1)),
            // Two streams of a container may be a moment out of order.
            Some((latest, _)) if second < latest => {}
            _ => self.seen = Some((second, 1)),
        }
        true
    }
}

/// Takes the timestamp off a line that was asked for with timestamps.
pub(super) fn split(line: &str) -> Option<(Timestamp, &str)> {
    let (stamp, text) = line.split_once(' ').unwrap_or((line, ""));
    Some((stamp.parse().ok()?, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2024-05-01T00:00:{text}Z").parse().unwrap()
    }

    /// What a server with these lines returns from `since` on.
    fn read(position: &mut Position, lines: &[&str]) -> Vec<String> {
        let since = position.resume();
        let from = lines
            .iter()
            .filter(|line| since.is_none_or(|since| at(line) >= since));
        from.filter(|line| position.accept(at(line)))
            .map(|line| (*line).to_owned())
            .collect()
    }

    #[test]
    fn no_line_is_lost_or_shown_twice_when_reading_again() {
        let mut position = Position::new(None);
        assert_eq!(
            read(&mut position, &["01.1", "02.5", "02.5", "02.7"]).len(),
            4
        );
        assert_eq!(
            read(
                &mut position,
                &["01.1", "02.5", "02.5", "02.7", "02.7", "02.9", "03.0"]
            ),
            ["02.7", "02.9", "03.0"]
        );
        assert_eq!(read(&mut position, &["02.9", "03.0", "03.0"]), ["03.0"]);
        assert_eq!(read(&mut position, &["02.9", "03.0", "03.0"]), [""; 0]);
    }

    #[test]
    fn a_line_a_moment_out_of_order_does_not_confuse() {
        let mut position = Position::new(None);
        assert_eq!(
            read(&mut position, &["01.9", "02.0", "01.99", "02.1"]).len(),
            4
        );
        assert_eq!(
            read(&mut position, &["01.9", "02.0", "01.99", "02.1", "02.2"]),
            ["02.2"]
        );
    }

    #[test]
    fn older_lines_than_wanted_are_left_out() {
        let mut position = Position::new(Some(at("05.5")));
        assert_eq!(position.resume(), Some(at("05")));
        assert_eq!(
            read(&mut position, &["04.0", "05.4", "05.5", "05.6"]),
            ["05.5", "05.6"]
        );
    }

    #[test]
    fn a_line_is_split_from_its_timestamp() {
        let (stamp, text) = split("2024-05-01T00:00:01.5Z hello  world").unwrap();
        assert_eq!((stamp, text), (at("01.5"), "hello  world"));
        assert_eq!(split("2024-05-01T00:00:01.5Z").unwrap().1, "");
        assert_eq!(split("unable to retrieve container logs"), None);
    }
}
