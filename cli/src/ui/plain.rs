//! Events as lines: what CI logs show, and what stands above the bars of a
//! terminal. A line starts with what it is about, so that a reader can follow
//! one image through many.

use std::collections::HashMap;

use anstyle::{AnsiColor, Style};
use kiln_schemas::event::{BuildOutcome, BuildReason, Change, Event, Failure, Phase, Readiness};

/// The colours of names, given out in order of appearance. Red is for trouble.
const PALETTE: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::Green,
    AnsiColor::Yellow,
    AnsiColor::BrightCyan,
];
const TROUBLE: Style = AnsiColor::Red.on_default().bold();
const WARN: Style = AnsiColor::Yellow.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// What becomes of the workloads.
fn at_the_end(removed_by: Option<&str>, cleans_up: bool) -> String {
    match (removed_by, cleans_up) {
        (_, true) => "ends and deletes what was deployed".to_owned(),
        (Some(command), false) => {
            format!("ends, what was deployed goes on; `{command}` deletes it")
        }
        (None, false) => "ends".to_owned(),
    }
}

/// Turns events into lines with ANSI colours; remembers which name has which.
#[derive(Debug, Default)]
pub struct Plain {
    colours: HashMap<String, AnsiColor>,
    /// The last line of each image's log that was shown.
    last_lines: HashMap<String, String>,
}

impl Plain {
    /// The lines for one event; none for those that only move bars.
    pub fn lines(&mut self, event: &Event) -> Vec<String> {
        match event {
            Event::Started {
                command,
                version,
                project,
                context,
                namespace,
            } => {
                let place = match (context, namespace) {
                    (Some(context), Some(namespace)) => {
                        format!(" on {context}, namespace {namespace}")
                    }
                    (Some(context), None) => format!(" on {context}"),
                    _ => String::new(),
                };
                vec![paint(
                    DIM,
                    &format!("kiln {version}: {command} {project}{place}"),
                )]
            }
            Event::Finished { ok: true, ms } => {
                vec![paint(DIM, &format!("done in {}", seconds(*ms)))]
            }
            Event::Finished { ok: false, .. } | Event::Transfer { .. } => Vec::new(),
            Event::Note { message } => vec![message.clone()],
            Event::Warning { message, hint } => warning(message, hint.as_deref()),
            Event::Failed { failure } => failed("", failure),
            Event::Changed { paths } => vec![format!("changed: {}", some_of(paths))],
            Event::Held { what, why } => vec![paint(DIM, &format!("{} waits: {why}", short(what)))],
            Event::Watching {
                files,
                removed_by,
                cleans_up,
            } => {
                let end = at_the_end(removed_by.as_deref(), *cleans_up);
                vec![paint(DIM, &format!("watching {files} files; Ctrl-C {end}"))]
            }
            _ => self.build_lines(event),
        }
    }

    fn build_lines(&mut self, event: &Event) -> Vec<String> {
        match event {
            Event::BuildStarted {
                image,
                reference,
                reason,
                ..
            } => {
                vec![format!(
                    "{} building {reference} ({})",
                    self.tag(image),
                    why(reason)
                )]
            }
            Event::BuildLog { image, line } => {
                self.last_lines.insert(image.clone(), line.clone());
                vec![format!("{} {line}", self.tag(image))]
            }
            Event::BuildFinished {
                image,
                reference,
                outcome,
                ms,
            } => {
                let what = match outcome {
                    BuildOutcome::Built => "built",
                    BuildOutcome::Cached => "found",
                };
                let done = paint(GOOD, &format!("{what} in {}", seconds(*ms)));
                vec![format!("{} {done}: {reference}", self.tag(image))]
            }
            Event::BuildFailed { image, failure } => {
                let tag = self.tag(image);
                let mut failure = failure.clone();
                // What has just scrolled by need not be said again.
                if self
                    .last_lines
                    .get(image)
                    .is_some_and(|line| failure.log.contains(line))
                {
                    failure.log.clear();
                }
                failed(&format!("{tag} "), &failure)
            }
            Event::BuildCancelled { image } => {
                vec![format!("{} cancelled", self.tag(image))]
            }
            Event::Timing { what, phase, ms } => {
                let tag = self.tag(what);
                vec![format!(
                    "{tag} {}",
                    paint(DIM, &format!("{}: {}", part(*phase), seconds(*ms)))
                )]
            }
            Event::Synced {
                image,
                copied,
                deleted,
                containers,
                ms,
            } => vec![format!(
                "{} {}: {copied} copied, {deleted} deleted, {containers} containers",
                self.tag(image),
                paint(GOOD, &format!("synced in {}", seconds(*ms))),
            )],
            _ => self.deploy_lines(event),
        }
    }

    fn deploy_lines(&mut self, event: &Event) -> Vec<String> {
        let deploy = paint(Style::new().bold(), "deploy");
        match event {
            Event::Rendered { objects, ms } => {
                vec![format!(
                    "{deploy} rendered {objects} objects in {}",
                    seconds(*ms)
                )]
            }
            Event::Applied {
                change: Change::Unchanged,
                ..
            } => Vec::new(),
            Event::Applied { object, change } => {
                vec![format!("{deploy} {object} {}", done(*change))]
            }
            Event::Status {
                object,
                readiness,
                message,
            } => {
                let style = match readiness {
                    Readiness::InProgress => DIM,
                    Readiness::Ready => GOOD,
                    Readiness::Failed => TROUBLE,
                };
                vec![format!("{deploy} {object}: {}", paint(style, message))]
            }
            Event::DeployReady { objects, ms } => {
                vec![format!(
                    "{deploy} {} ({objects} objects)",
                    paint(GOOD, &format!("ready in {}", seconds(*ms)))
                )]
            }
            Event::DeployFailed { failure } => failed(&format!("{deploy} "), failure),
            Event::Log {
                line,
                container,
                prefix,
                ..
            } => {
                let colour = self.colour(container).on_default();
                vec![format!("{}{line}", paint(colour, prefix))]
            }
            Event::Forwarding {
                resource,
                local,
                remote,
            } => {
                vec![format!("{resource} port {remote} is at http://{local}")]
            }
            Event::ForwardLost { resource, reason } => {
                vec![format!(
                    "{} {resource}: {reason}; trying again",
                    paint(WARN, "forward lost")
                )]
            }
            _ => Vec::new(),
        }
    }

    fn colour(&mut self, name: &str) -> AnsiColor {
        let next = PALETTE[self.colours.len() % PALETTE.len()];
        *self.colours.entry(name.to_owned()).or_insert(next)
    }

    fn tag(&mut self, name: &str) -> String {
        let colour = self.colour(name);
        // Image names are long; the last part is what people call them.
        paint(colour.on_default(), &format!("[{}]", short(name)))
    }
}

/// The last part of a name.
fn short(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

fn warning(message: &str, hint: Option<&str>) -> Vec<String> {
    let mut lines = vec![format!("{} {message}", paint(WARN, "warning:"))];
    lines.extend(hint.map(|hint| format!("  {} {hint}", paint(GOOD, "hint:"))));
    lines
}

fn failed(prefix: &str, failure: &Failure) -> Vec<String> {
    let mut lines = vec![format!(
        "{prefix}{} {}",
        paint(TROUBLE, "error:"),
        failure.message
    )];
    lines.extend(
        failure
            .causes
            .iter()
            .map(|cause| format!("  caused by: {cause}")),
    );
    lines.extend(
        failure
            .log
            .iter()
            .map(|line| format!("  {} {line}", paint(DIM, "|"))),
    );
    lines.extend(
        failure
            .hints
            .iter()
            .map(|hint| format!("  {} {hint}", paint(GOOD, "hint:"))),
    );
    lines
}

fn why(reason: &BuildReason) -> String {
    match reason {
        BuildReason::First => "not built yet".to_owned(),
        BuildReason::Changed(paths) => format!("changed: {}", some_of(paths)),
        BuildReason::Required(image) => format!("{image} was built"),
        BuildReason::Dirty => "the last attempt did not finish".to_owned(),
    }
}

fn some_of(paths: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = paths
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    match paths.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn done(change: Change) -> &'static str {
    match change {
        Change::Created => "created",
        Change::Configured => "configured",
        Change::Unchanged => "unchanged",
        Change::Replaced => "replaced (deleted and created: a field cannot be changed)",
        Change::Pruned => "pruned: it is gone from the manifests",
        Change::Deleted => "deleted",
        Change::Kept => "kept: its kind is only deleted when asked for",
    }
}

fn part(phase: Phase) -> &'static str {
    match phase {
        Phase::Detect => "detect",
        Phase::Cache => "cache",
        Phase::PodStart => "pod start",
        Phase::Context => "context",
        Phase::Base => "base",
        Phase::Run => "RUN",
        Phase::Layers => "layers",
        Phase::Push => "push",
        Phase::Render => "render",
        Phase::Apply => "apply",
        Phase::Rollout => "rollout",
    }
}

/// Milliseconds as people read them: `340 ms`, `6.2 s`, `2 min 05 s`.
pub fn seconds(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {:02} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(event: &Event) -> String {
        let lines = Plain::default().lines(event);
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(seconds(0), "0 ms");
        assert_eq!(seconds(999), "999 ms");
        assert_eq!(seconds(6_249), "6.2 s");
        assert_eq!(seconds(125_000), "2 min 05 s");
    }

    #[test]
    fn a_failure_shows_message_causes_log_and_hint_in_that_order() {
        let mut failure = Failure::new("RUN go build failed").hint("declare the import");
        failure.causes.push("exit status 1".into());
        failure.log.push("main.go:3: undefined: x".into());
        let event = Event::BuildFailed {
            image: "r.example/team/app".into(),
            failure,
        };
        assert_eq!(
            text(&event),
            "[app] error: RUN go build failed\n  caused by: exit status 1\n  | main.go:3: \
             undefined: x\n  hint: declare the import"
        );
    }

    #[test]
    fn long_lists_of_changes_are_cut_with_their_number() {
        let paths: Vec<String> = (0..6).map(|n| format!("f{n}")).collect();
        assert_eq!(
            text(&Event::Changed { paths }),
            "changed: f0, f1, f2, f3 and 2 more"
        );
    }
}
