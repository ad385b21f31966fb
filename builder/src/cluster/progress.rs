//! What the lines of a build's log mean. Kiln's own executor writes one JSON
//! object per line (`--progress=json`, described in `kiln-executor`'s log);
//! any other executor's lines are lines for the user.

use kiln_schemas::event::{BuildOutcome, Event, Phase};
use kiln_schemas::image::ImageDigest;
use serde_json::Value;

use super::lookup::Answer;
use super::pod::Executor;

/// Who writes the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    /// Kiln's executor: JSON lines.
    Json,
    /// Anybody: text.
    Text,
}

/// The last words of Kiln's executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finished {
    /// The manifest's.
    pub(super) digest: ImageDigest,
    /// Whether there was anything to build.
    pub(super) outcome: BuildOutcome,
}

impl Speech {
    pub(super) fn of(executor: &Executor) -> Self {
        match executor {
            Executor::Kiln { .. } | Executor::Streamed { .. } => Self::Json,
            Executor::AsWritten { .. } => Self::Text,
        }
    }

    /// Reads a line, once for all questions.
    pub(super) fn read(self, line: &str) -> Said<'_> {
        let object = match self {
            Self::Json => serde_json::from_str(line).ok(),
            Self::Text => None,
        };
        Said {
            line,
            object: object.filter(Value::is_object),
        }
    }
}

/// A line that was read. Without an object it is text for the user.
#[derive(Debug)]
pub(super) struct Said<'l> {
    line: &'l str,
    object: Option<Value>,
}

impl Said<'_> {
    /// The object, if it is this event.
    fn of(&self, event: &str) -> Option<&Value> {
        let object = self.object.as_ref()?;
        (object["event"] == event).then_some(object)
    }

    /// The result, if this is the line with which Kiln's executor ends after
    /// everything was pushed. Output of RUN steps cannot look like it: it is
    /// inside of `output` lines.
    pub(super) fn finished(&self) -> Option<Finished> {
        let object = self.of("finished")?;
        Some(Finished {
            digest: ImageDigest::parse(object["digest"].as_str()?).ok()?,
            outcome: if object["reused"] == true {
                BuildOutcome::Cached
            } else {
                BuildOutcome::Built
            },
        })
    }

    /// The number of the line, where Kiln's executor wrote it.
    pub(super) fn number(&self) -> Option<u64> {
        self.object.as_ref()?["n"].as_u64()
    }

    /// What a line of `executor lookup` says, with the name that was asked for.
    pub(super) fn image(&self) -> Option<(String, Answer)> {
        let object = self.of("image")?;
        let name = object["name"].as_str()?;
        let answer = match (object["error"].as_str(), object["digest"].as_str()) {
            (Some(why), _) => Answer::Unanswered(why.to_owned()),
            (None, None) => Answer::Absent,
            (None, Some(digest)) => Answer::Image {
                digest: ImageDigest::parse(digest).ok()?,
                onbuild: serde_json::from_value(object["onbuild"].clone()).ok()?,
            },
        };
        Some((name.to_owned(), answer))
    }

    /// The events of the line. A line of Kiln's executor that is no JSON (a
    /// loader's complaint, an abort) is shown as it is.
    pub(super) fn events(&self, image: &str) -> Vec<Event> {
        let log = |line: String| Event::BuildLog {
            image: image.to_owned(),
            line,
        };
        let Some(object) = &self.object else {
            return vec![log(self.line.to_owned())];
        };
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        match text("event") {
            "note" => vec![log(text("text").to_owned())],
            "warning" => vec![log(format!("warning: {}", text("text")))],
            "stepStarted" => vec![log(format!("[{}] {}", step(object), text("text")))],
            "output" => vec![log(format!("[{}]   {}", step(object), text("line")))],
            "stepEnded" => {
                let seconds = object["seconds"].as_f64().unwrap_or_default();
                vec![log(format!(
                    "[{}] {} in {seconds:.1}s",
                    step(object),
                    text("end")
                ))]
            }
            "pushed" => vec![log(format!("pushed {}@{}", text("image"), text("digest")))],
            "finished" => timings(image, &object["seconds"]),
            // Sums of phases come with the last line; who asks for images reads the answers.
            "phase" | "image" => Vec::new(),
            _ => vec![log(self.line.to_owned())],
        }
    }
}

/// `build 3/5`
fn step(object: &Value) -> String {
    let step = &object["step"];
    let stage = step["stage"].as_str().unwrap_or_default();
    format!("{stage} {}/{}", step["number"], step["of"])
}

/// The executor's parts as parts of the loop.
const PHASES: [(Phase, &[&str]); 4] = [
    (Phase::Base, &["resolve", "base"]),
    (Phase::Run, &["run"]),
    (Phase::Layers, &["copy", "layers"]),
    (Phase::Push, &["push"]),
];

fn timings(image: &str, seconds: &Value) -> Vec<Event> {
    let milliseconds = |names: &[&str]| {
        let known: Vec<f64> = names
            .iter()
            .filter_map(|name| seconds[*name].as_f64())
            .collect();
        (!known.is_empty()).then(|| std::time::Duration::from_secs_f64(known.iter().sum()))
    };
    PHASES
        .iter()
        .filter_map(|(phase, names)| {
            let took = milliseconds(names)?;
            let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            Some(Event::Timing {
                what: image.to_owned(),
                phase: *phase,
                ms,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(speech: Speech, line: &str) -> Vec<String> {
        let lines = speech
            .read(line)
            .events("app")
            .into_iter()
            .map(|event| match event {
                Event::BuildLog { line, .. } => line,
                other => format!("{other:?}"),
            });
        lines.collect()
    }

    #[test]
    fn kilns_executor_is_shown_as_text() {
        for (line, text) in [
            (
                r#"{"event":"note","text":"isolation: userns"}"#,
                "isolation: userns",
            ),
            (
                r#"{"event":"warning","text":"careful"}"#,
                "warning: careful",
            ),
            (
                r#"{"event":"stepStarted","step":{"stage":"build","number":3,"of":5},"text":"RUN make"}"#,
                "[build 3/5] RUN make",
            ),
            (
                r#"{"event":"output","step":{"stage":"build","number":3,"of":5},"line":"{\"a\":1}"}"#,
                "[build 3/5]   {\"a\":1}",
            ),
            (
                r#"{"event":"stepEnded","step":{"stage":"build","number":3,"of":5},"end":"done","seconds":1.26}"#,
                "[build 3/5] done in 1.3s",
            ),
            ("thread panicked", "thread panicked"),
            (r#"{"event":"new"}"#, r#"{"event":"new"}"#),
        ] {
            assert_eq!(lines(Speech::Json, line), [text]);
        }
    }

    #[test]
    fn the_last_line_gives_the_timings() {
        let line = r#"{"event":"finished","digest":"sha256:1","seconds":{"resolve":0.25,"base":1.0,"run":2.5,"total":5.0}}"#;
        let timing = |phase, ms| Event::Timing {
            what: "app".into(),
            phase,
            ms,
        };
        assert_eq!(
            Speech::Json.read(line).events("app"),
            [timing(Phase::Base, 1250), timing(Phase::Run, 2500)]
        );
    }

    #[test]
    fn answers_about_images_name_what_was_asked_for() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (line, answer) in [
            (
                format!(
                    r#"{{"event":"image","name":"a","digest":"{digest}","onbuild":["RUN x"]}}"#
                ),
                Answer::Image {
                    digest: ImageDigest::parse(&digest).unwrap(),
                    onbuild: Some(vec!["RUN x".into()]),
                },
            ),
            (
                r#"{"event":"image","name":"a","digest":null}"#.into(),
                Answer::Absent,
            ),
            (
                r#"{"event":"image","name":"a","error":"no route"}"#.into(),
                Answer::Unanswered("no route".into()),
            ),
        ] {
            assert_eq!(
                Speech::Json.read(&line).image(),
                Some(("a".to_owned(), answer))
            );
            assert_eq!(Speech::Text.read(&line).image(), None);
        }
        assert_eq!(
            Speech::Json.read(r#"{"event":"note","name":"a"}"#).image(),
            None
        );
    }

    #[test]
    fn another_executors_json_is_text() {
        let line = r#"{"level":"info","msg":"event","event":"note"}"#;
        assert_eq!(lines(Speech::Text, line), [line]);
    }

    #[test]
    fn only_the_executors_own_last_line_gives_a_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let last = format!(r#"{{"event":"finished","digest":"{digest}","seconds":{{}}}}"#);
        let finished = Speech::Json.read(&last).finished().unwrap();
        assert_eq!(finished.digest.as_str(), digest);
        assert_eq!(finished.outcome, BuildOutcome::Built);
        assert_eq!(Speech::Text.read(&last).finished(), None);
        let output = serde_json::json!({"event": "output", "line": last, "digest": digest});
        assert_eq!(Speech::Json.read(&output.to_string()).finished(), None);
        let reused = last.replace("\"seconds\"", "\"reused\":true,\"seconds\"");
        let finished = Speech::Json.read(&reused).finished().unwrap();
        assert_eq!(finished.outcome, BuildOutcome::Cached);
    }
}
