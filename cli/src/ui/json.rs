//! Events as JSON lines, for CI jobs and editors.

use jiff::Timestamp;
use kiln_schemas::event::Event;
use serde::Serialize;

#[derive(Serialize)]
struct Line<'a> {
    /// RFC 3339, UTC.
    time: String,
    #[serde(flatten)]
    event: &'a Event,
}

/// One event as one JSON object with its time, without a line end.
pub fn line(event: &Event) -> String {
    let line = Line {
        time: Timestamp::now().to_string(),
        event,
    };
    serde_json::to_string(&line)
        .unwrap_or_else(|error| format!(r#"{{"event":"warning","message":"{error}"}}"#))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_object_with_time_and_event() {
        let text = line(&Event::Note {
            message: "two\nlines".into(),
        });
        assert!(!text.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["event"], "note");
        assert_eq!(value["message"], "two\nlines");
        value["time"]
            .as_str()
            .unwrap()
            .parse::<Timestamp>()
            .unwrap();
    }
}
