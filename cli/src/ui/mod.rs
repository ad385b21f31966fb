//! The words on the screen. Every one of them renders an [`Event`]; nothing
//! else in Kiln prints.
//!
//! [`plain`] turns an event into lines and is used everywhere; `progress`
//! adds bars below them on a terminal; `json` writes the events themselves.

mod json;
pub mod plain;
mod progress;

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;

use kiln_schemas::event::{Event, Events};

use self::plain::Plain;
use self::progress::Progress;

/// How events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// Bars on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// Lines.
    Plain,
    /// The event stream, one JSON object a line.
    Json,
}

/// Where events go. Events are written to standard error when a command's
/// result belongs on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What one command may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Form.
    pub output: Output,
    /// Stream.
    pub target: Target,
    /// Only warnings and failures (`--quiet`).
    pub quiet: bool,
}

enum Renderer {
    Lines(Plain),
    Bars(Progress),
    Json,
}

/// The one sink of all events of a command.
pub fn events(style: Style) -> Events {
    let renderer = match style.output {
        Output::Json => Renderer::Json,
        Output::Auto if is_terminal(style.target) && !style.quiet => {
            Renderer::Bars(Progress::new(style.target))
        }
        Output::Auto | Output::Plain => Renderer::Lines(Plain::default()),
    };
    let renderer = Mutex::new(renderer);
    Events::new(move |event| {
        if style.quiet && !is_trouble(&event) {
            return;
        }
        // A poisoned lock means that a thread panicked while printing; what
        // is left to say is still worth saying.
        let mut renderer = renderer
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        show(&mut renderer, style.target, &event);
    })
}

fn show(renderer: &mut Renderer, target: Target, event: &Event) {
    match renderer {
        Renderer::Json => write_line(target, &json::line(event)),
        Renderer::Bars(progress) => progress.show(event),
        Renderer::Lines(plain) => {
            for line in plain.lines(event) {
                write_line(target, &line);
            }
        }
    }
}

/// Writes a line, with colours where the stream shows them. A closed pipe is
/// not an error: nobody reads any more.
fn write_line(target: Target, line: &str) {
    let written = match target {
        Target::Stdout => writeln!(anstream::stdout(), "{line}"),
        Target::Stderr => writeln!(anstream::stderr(), "{line}"),
    };
    drop(written);
}

fn is_terminal(target: Target) -> bool {
    match target {
        Target::Stdout => io::stdout().is_terminal(),
        Target::Stderr => io::stderr().is_terminal(),
    }
}

fn is_trouble(event: &Event) -> bool {
    matches!(
        event,
        Event::Warning { .. }
            | Event::Failed { .. }
            | Event::BuildFailed { .. }
            | Event::DeployFailed { .. }
    )
}
