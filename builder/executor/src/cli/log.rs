//! The log: lines for people, or one JSON object a line for programs.
//!
//! Each object has logrus' `level`, `msg` and `time`, as kaniko's have, and a number, `n`, from 1
//! on: whoever reads the log in two ways sees by it what is new.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::Args;
use super::error::CliError;
use super::receive::wait_for_readers;
use crate::progress::{Phase, Progress, StepEnd, StepId};

/// The event of the last object of a build that went well.
pub(super) const FINISHED: &str = "finished";

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    form: Form,
    time: bool,
    level: Level,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Color,
    Json,
}

/// logrus' levels, as far as they differ here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Errors,
    Warnings,
    Info,
    Debug,
}

impl Style {
    /// Reads `--log-format`, `--progress`, `--log-timestamp` and `--verbosity`.
    pub(super) fn from_args(args: &Args) -> Result<Self, CliError> {
        let wrong = |flag, value: &str, expected: &str| CliError::Value {
            flag,
            value: value.to_owned(),
            expected: format!("expected {expected}"),
        };
        let form = match (args.one("progress"), args.one("log-format")) {
            (Some("json"), _) => Form::Json,
            (Some(other), _) if other != "plain" => {
                return Err(wrong("progress", other, "plain or json"));
            }
            (_, None | Some("text")) => Form::Plain,
            (_, Some("color")) => Form::Color,
            (_, Some("json")) => Form::Json,
            (_, Some(other)) => return Err(wrong("log-format", other, "text, color or json")),
        };
        let level = match args.one("verbosity") {
            Some("panic" | "fatal" | "error") => Level::Errors,
            Some("warn" | "warning") => Level::Warnings,
            None | Some("info") => Level::Info,
            Some("debug" | "trace") => Level::Debug,
            Some(other) => {
                return Err(wrong(
                    "verbosity",
                    other,
                    "panic, fatal, error, warn, info, debug or trace",
                ));
            }
        };
        Ok(Self {
            form,
            time: args.is_on("log-timestamp"),
            level,
        })
    }
}

/// Writes progress down.
pub(super) struct Log<'w> {
    to: &'w mut dyn Write,
    style: Style,
    phases: BTreeMap<Phase, Duration>,
    /// How many objects were written.
    count: u64,
    /// Also gets the objects, for `receive --follow`.
    copy: Option<File>,
}

impl<'w> Log<'w> {
    pub(super) fn new(to: &'w mut dyn Write, style: Style) -> Self {
        Self {
            to,
            style,
            phases: BTreeMap::new(),
            count: 0,
            copy: None,
        }
    }

    /// Also writes what comes from now on to a file, where the log is one of objects.
    pub(super) fn copy_to(&mut self, file: File) {
        self.copy = Some(file);
    }

    /// Writes one event. A log that cannot be written does not stop a build.
    pub(super) fn progress(&mut self, event: &Progress) {
        if let Progress::Phase { phase, took } = event {
            *self.phases.entry(*phase).or_default() += *took;
        }
        let level = match event {
            Progress::Warning(_) => Level::Warnings,
            // What a command says is not the executor's to leave out: it is why a build fails.
            Progress::Output { .. } => Level::Errors,
            _ => Level::Info,
        };
        if level <= self.style.level {
            self.event(event, level_of(event));
        }
    }

    fn event(&mut self, event: &Progress, level: &str) {
        match self.style.form {
            Form::Json => {
                let words = self.text(event, Form::Plain);
                self.object(object(event), (level, words.unwrap_or_default()));
            }
            form => {
                if let Some(line) = self.text(event, form) {
                    self.line(&line);
                }
            }
        }
    }

    /// Writes a note that only `--verbosity=debug` asks for.
    pub(super) fn debug(&mut self, note: String) {
        if self.style.level >= Level::Debug {
            self.event(&Progress::Note(note), "debug");
        }
    }

    /// The last words: how long the parts took, and the image.
    pub(super) fn finish(&mut self, digest: &str) {
        let parts: Vec<String> = self
            .phases
            .iter()
            .map(|(phase, took)| format!("{} {}", phase.name(), seconds(*took)))
            .collect();
        let words = format!("built {digest} ({})", parts.join(", "));
        if self.style.form == Form::Json {
            let times: serde_json::Map<String, Value> = self
                .phases
                .iter()
                .map(|(phase, took)| (phase.name().to_owned(), json!(took.as_secs_f64())))
                .collect();
            let object = json!({"event": FINISHED, "digest": digest, "seconds": times});
            self.object(object, ("info", words));
            self.let_go();
        } else if self.style.level >= Level::Info {
            self.line(&words);
        }
    }

    /// The last words where the image was there already.
    pub(super) fn reused(&mut self, digest: &str) {
        let words = format!("{digest} is there already, nothing is built");
        if self.style.form == Form::Json {
            let mut line = json!({"event": FINISHED, "digest": digest, "seconds": {}});
            line["reused"] = true.into();
            self.object(line, ("info", words));
            self.let_go();
        } else if self.style.level >= Level::Info {
            self.line(&words);
        }
    }

    fn object(&mut self, mut object: Value, (level, words): (&str, String)) {
        self.count += 1;
        object["n"] = self.count.into();
        object["level"] = level.into();
        object["msg"] = words.into();
        object["time"] = format!("{:.3}", jiff::Timestamp::now()).into();
        let line = object.to_string();
        if let Some(copy) = &mut self.copy {
            // In one write, so that no reader sees half of a line. One that misses lines reads
            // the log itself.
            let _ = copy.write_all(format!("{line}\n").as_bytes());
        }
        self.line(&line);
    }

    /// After the last object.
    fn let_go(&mut self) {
        if let Some(copy) = self.copy.take() {
            wait_for_readers(&copy);
        }
    }

    fn line(&mut self, line: &str) {
        let time = if self.style.time && self.style.form != Form::Json {
            format!("{:.3} ", jiff::Timestamp::now())
        } else {
            String::new()
        };
        let _ = writeln!(self.to, "{time}{line}");
        let _ = self.to.flush();
    }

    fn text(&self, event: &Progress, form: Form) -> Option<String> {
        let paint = |code: &str, text: &str| match form {
            Form::Color => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        };
        let name = |step: &StepId| paint("36", &format!("[{step}]"));
        Some(match event {
            Progress::Note(text) => text.clone(),
            Progress::Warning(text) => format!("{} {text}", paint("33", "warning:")),
            Progress::StepStarted { step, text } => format!("{} {text}", name(step)),
            Progress::Output { step, line } => format!("{}   {line}", name(step)),
            Progress::StepEnded { step, end, took } => {
                let word = match end {
                    StepEnd::Done => "done",
                    StepEnd::Unchanged => "done, no files changed",
                    StepEnd::Cached => "cached",
                    StepEnd::Failed => "FAILED",
                    StepEnd::Stopped => "stopped",
                };
                format!("{} {word} in {}", name(step), seconds(*took))
            }
            Progress::Phase { phase, took } if self.style.form == Form::Json => {
                format!("{} took {}", phase.name(), seconds(*took))
            }
            Progress::Phase { .. } => return None,
            Progress::Pushed { image, digest } => format!("pushed {image}@{digest}"),
        })
    }
}

/// logrus' name of an event's level.
fn level_of(event: &Progress) -> &'static str {
    match event {
        Progress::Warning(_) => "warning",
        Progress::StepEnded {
            end: StepEnd::Failed,
            ..
        } => "error",
        _ => "info",
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1}s", took.as_secs_f64())
}

fn object(event: &Progress) -> Value {
    let of = |step: &StepId| json!({"stage": step.stage, "number": step.number, "of": step.of});
    match event {
        Progress::Note(text) => json!({"event": "note", "text": text}),
        Progress::Warning(text) => json!({"event": "warning", "text": text}),
        Progress::StepStarted { step, text } => {
            json!({"event": "stepStarted", "step": of(step), "text": text})
        }
        Progress::Output { step, line } => {
            json!({"event": "output", "step": of(step), "line": line})
        }
        Progress::StepEnded { step, end, took } => {
            let end = match end {
                StepEnd::Done => "done",
                StepEnd::Unchanged => "unchanged",
                StepEnd::Cached => "cached",
                StepEnd::Failed => "failed",
                StepEnd::Stopped => "stopped",
            };
            json!({"event": "stepEnded", "step": of(step), "end": end, "seconds": took.as_secs_f64()})
        }
        Progress::Phase { phase, took } => {
            json!({"event": "phase", "phase": phase.name(), "seconds": took.as_secs_f64()})
        }
        Progress::Pushed { image, digest } => {
            json!({"event": "pushed", "image": image, "digest": digest})
        }
    }
}
