//! Bars below the lines, on a terminal: one for each running build, with what
//! it does and how many bytes have moved.

use std::collections::HashMap;
use std::time::Duration;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kiln_schemas::event::{Event, Phase};

use super::Target;
use super::plain::Plain;

/// Lines above, bars below.
pub struct Progress {
    plain: Plain,
    area: MultiProgress,
    bars: HashMap<String, ProgressBar>,
    colour: ColorChoice,
}

impl Progress {
    /// Draws on the given stream, which is a terminal.
    pub fn new(target: Target) -> Self {
        // The bars write past anstream, which would obey NO_COLOR and the like by itself.
        let (draw, colour) = match target {
            Target::Stdout => (
                ProgressDrawTarget::stdout(),
                AutoStream::choice(&std::io::stdout()),
            ),
            Target::Stderr => (
                ProgressDrawTarget::stderr(),
                AutoStream::choice(&std::io::stderr()),
            ),
        };
        Self {
            plain: Plain::default(),
            area: MultiProgress::with_draw_target(draw),
            bars: HashMap::new(),
            colour,
        }
    }

    /// Shows one event.
    pub fn show(&mut self, event: &Event) {
        self.move_bars(event);
        for mut line in self.plain.lines(event) {
            if self.colour == ColorChoice::Never {
                line = strip_str(&line).to_string();
            }
            // A terminal that went away is noticed by its signal, not here.
            drop(self.area.println(line));
        }
    }

    fn move_bars(&mut self, event: &Event) {
        match event {
            Event::BuildStarted { image, .. } => {
                let bar = self.area.add(ProgressBar::new_spinner());
                bar.set_style(spinner());
                bar.set_prefix(short(image));
                bar.set_message("starting the build pod");
                bar.enable_steady_tick(Duration::from_millis(120));
                self.bars.insert(image.clone(), bar);
            }
            Event::Transfer {
                image,
                phase,
                done,
                total,
            } => {
                if let Some(bar) = self.bars.get(image) {
                    bar.set_message(moved(*phase, *done, *total));
                }
            }
            Event::BuildLog { image, line } => {
                if let Some(bar) = self.bars.get(image) {
                    bar.set_message(line.chars().take(60).collect::<String>());
                }
            }
            Event::BuildFinished { image, .. }
            | Event::BuildFailed { image, .. }
            | Event::BuildCancelled { image } => {
                if let Some(bar) = self.bars.remove(image) {
                    bar.finish_and_clear();
                }
            }
            Event::Finished { .. } => {
                for (_, bar) in self.bars.drain() {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix} {wide_msg} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn short(image: &str) -> String {
    image.rsplit('/').next().unwrap_or(image).to_owned()
}

fn moved(phase: Phase, done: u64, total: Option<u64>) -> String {
    let what = match phase {
        Phase::Context => "sending the context",
        Phase::Base => "fetching the base",
        Phase::Push => "pushing",
        _ => "working",
    };
    match total {
        Some(total) => format!("{what}: {} of {} kB", done / 1_000, total / 1_000),
        None => format!("{what}: {} kB", done / 1_000),
    }
}
