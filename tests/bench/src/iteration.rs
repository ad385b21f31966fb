//! One turn of the loop, from a file's mtime to the new pod ready, read from
//! the events that `kiln dev --output=json` printed.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kiln_schemas::event::{Event, Phase};
use serde_json::Value;

use crate::error::Error;

/// An event with the time at which it was printed.
#[derive(Debug, Clone)]
pub struct TimedEvent {
    /// When.
    pub time: Timestamp,
    /// What.
    pub event: Event,
}

impl TimedEvent {
    /// Reads one line.
    pub fn parse(line: &str) -> Result<Self, Error> {
        let wrong = |why: String| Error::NotAnEvent {
            line: line.to_owned(),
            why,
        };
        let value: Value = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        let time = value["time"]
            .as_str()
            .ok_or_else(|| wrong("it has no time".to_owned()))?;
        let time = time
            .parse()
            .map_err(|e: jiff::Error| wrong(e.to_string()))?;
        let event = serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
        Ok(Self { time, event })
    }
}

/// One turn of the loop and where its time went.
#[derive(Debug, Clone, PartialEq)]
pub struct Iteration {
    /// From the mtime to the first build that it started.
    pub until_build: Duration,
    /// What each part reported.
    pub parts: BTreeMap<Phase, Duration>,
    /// What no part accounts for. Parts that overlap make it smaller than the
    /// time in which nothing was at work.
    pub unaccounted: Duration,
    /// From the mtime to everything ready.
    pub total: Duration,
}

impl Iteration {
    /// Reads a turn from the events after a save; none while it is not over
    /// or when nothing was built.
    pub fn read(saved: Timestamp, events: &[TimedEvent]) -> Option<Self> {
        let built = events
            .iter()
            .find(|e| matches!(e.event, Event::BuildStarted { .. }))?;
        let ready = events
            .iter()
            .find(|e| e.time >= built.time && matches!(e.event, Event::DeployReady { .. }))?;
        let mut parts: BTreeMap<Phase, Duration> = BTreeMap::new();
        // The end of the rollout is printed right after DeployReady.
        for TimedEvent { event, .. } in events {
            if let Event::Timing { phase, ms, .. } = event {
                *parts.entry(*phase).or_default() += Duration::from_millis(*ms);
            }
        }
        let total = between(saved, ready.time);
        let accounted: Duration = parts.values().sum();
        Some(Self {
            until_build: between(saved, built.time),
            parts,
            unaccounted: total.saturating_sub(accounted),
            total,
        })
    }
}

/// The kernel stamps files with a clock that ticks a few milliseconds late, so
/// an event is never really before the save.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64, json: &str) -> TimedEvent {
        let time = Timestamp::from_millisecond(ms).unwrap();
        TimedEvent::parse(&json.replacen('{', &format!("{{\"time\":\"{time}\","), 1)).unwrap()
    }

    fn timing(ms: i64, phase: &str, took: u64) -> TimedEvent {
        at(
            ms,
            &format!(r#"{{"event":"timing","what":"app","phase":"{phase}","ms":{took}}}"#),
        )
    }

    fn started(ms: i64) -> TimedEvent {
        at(
            ms,
            r#"{"event":"buildStarted","image":"app","reference":"r/app:1","reason":{"changed":["main.go"]},"detectMs":40}"#,
        )
    }

    #[test]
    fn a_turn_runs_from_the_save_to_ready_and_a_part_may_be_reported_twice() {
        let saved = Timestamp::from_millisecond(1000).unwrap();
        let events = [
            started(1050),
            timing(1050, "detect", 50),
            timing(2100, "context", 500),
            timing(2600, "base", 1000),
            timing(2800, "push", 100),
            timing(3000, "push", 100),
            at(4000, r#"{"event":"deployReady","objects":3,"ms":900}"#),
            timing(4000, "rollout", 900),
        ];
        let turn = Iteration::read(saved, &events).unwrap();
        let ms = Duration::from_millis;
        assert_eq!(turn.until_build, ms(50));
        assert_eq!(turn.total, ms(3000));
        assert_eq!(turn.parts[&Phase::Push], ms(200));
        let phases: Vec<_> = turn.parts.keys().copied().collect();
        use Phase::{Base, Context, Detect, Push, Rollout};
        assert_eq!(phases, [Detect, Context, Base, Push, Rollout]);
        // 50 detect, 500 context, 1000 base, 200 push, 900 rollout.
        assert_eq!(turn.unaccounted, ms(350));
    }

    #[test]
    fn a_deploy_without_a_build_is_no_turn() {
        let saved = Timestamp::from_millisecond(1000).unwrap();
        let ready = at(900, r#"{"event":"deployReady","objects":3,"ms":1}"#);
        assert_eq!(Iteration::read(saved, std::slice::from_ref(&ready)), None);
        assert_eq!(Iteration::read(saved, &[ready, started(1200)]), None);
    }

    #[test]
    fn a_line_without_a_time_is_an_error_that_shows_the_line() {
        let error = TimedEvent::parse(r#"{"event":"note","message":"hello"}"#).unwrap_err();
        assert!(error.to_string().contains("hello"), "{error}");
    }
}
