//! The executor's log, line by line: with `--progress=json` Kiln's own writes
//! one JSON object per line, which becomes events; anything else is a line for
//! the user.

use kiln_schemas::event::{Event, Phase};
use serde_json::Value;

/// What a line of the build's log means for the image.
pub(super) fn event(image: &str, line: &str) -> Option<Event> {
    let image = image.to_owned();
    let plain = |line: &str| Event::BuildLog { image: image.clone(), line: line.to_owned() };
    let Some(object) = json_line(line) else { return Some(plain(line)) };
    let text = |field: &str| object.get(field).and_then(Value::as_str);
    match text("progress")? {
        "phase" => {
            let phase = phase(text("phase")?)?;
            let ms = object.get("ms").and_then(Value::as_u64)?;
            Some(Event::Timing { what: image, phase, ms })
        }
        "transfer" => Some(Event::Transfer {
            image,
            phase: phase(text("phase")?)?,
            done: object.get("done").and_then(Value::as_u64)?,
            total: object.get("total").and_then(Value::as_u64),
        }),
        _ => Some(plain(text("line")?)),
    }
}

/// The object of a progress line; a RUN step may print JSON as well, but not
/// with this first field.
fn json_line(line: &str) -> Option<Value> {
    line.starts_with("{\"progress\":").then(|| serde_json::from_str(line).ok())?
}

/// The executor's parts, as far as they are parts of the loop.
fn phase(name: &str) -> Option<Phase> {
    Some(match name {
        "resolve" | "base" => Phase::Base,
        "run" => Phase::Run,
        "layers" => Phase::Layers,
        "push" => Phase::Push,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_lines_and_progress_is_events() {
        let log = |line: &str| Some(Event::BuildLog { image: "app".into(), line: line.into() });
        assert_eq!(event("app", "go: downloading"), log("go: downloading"));
        assert_eq!(event("app", "{\"level\":\"info\"}"), log("{\"level\":\"info\"}"));
        assert_eq!(event("app", ""), log(""));
        assert_eq!(
            event("app", r#"{"progress":"phase","phase":"run","ms":1200}"#),
            Some(Event::Timing { what: "app".into(), phase: Phase::Run, ms: 1200 })
        );
        assert_eq!(
            event("app", r#"{"progress":"output","line":"ok"}"#),
            log("ok")
        );
        assert_eq!(event("app", r#"{"progress":"phase","phase":"total","ms":1}"#), None);
    }
}
