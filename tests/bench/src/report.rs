//! The tables, and the same as JSON.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use kiln_schemas::event::Phase;
use serde_json::{Value, json};

use crate::idle::Idle;
use crate::iteration::Iteration;
use crate::kustomize::{Rendering, Target};
use crate::peers::Quote;
use crate::project::Example;
use crate::raw::Limit;
use crate::sample::{Sample, show};

/// The peer's side of a comparison.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Run just now.
    Measured(Sample),
    /// From docs/peers.md.
    Quoted(Quote),
}

/// What was measured of one example's loop.
#[derive(Debug)]
pub struct LoopResult {
    /// Which.
    pub example: Example,
    /// The turns that count.
    pub turns: Vec<Iteration>,
    /// What the total must stay under.
    pub target: Duration,
    /// The peer, where there is one.
    pub peer: Option<Peer>,
    /// What the machine itself takes.
    pub limit: Option<Limit>,
}

/// From a save to the build that it starts must stay under this.
const DETECT_TARGET: Duration = Duration::from_millis(150);
/// A build with nothing to do must stay under these.
const IDLE_TARGET: Duration = Duration::from_millis(60);
const IDLE_MEMORY_TARGET: u64 = 40_000_000;

/// The table of one loop. None without turns.
pub fn loop_table(result: &LoopResult) -> Option<String> {
    let sample =
        |of: fn(&Iteration) -> Duration| Sample::new(result.turns.iter().map(of).collect());
    let total = sample(|turn| turn.total)?;
    let mut text = format!("{}\n", result.example.title);
    row(
        &mut text,
        "part",
        &format!("{:>9}   {:>9} – max of {}", "median", "min", total.count()),
    );
    let phases: BTreeSet<Phase> = result
        .turns
        .iter()
        .flat_map(|t| t.parts.keys().copied())
        .collect();
    for phase in phases {
        // A part that a turn did not need took it no time.
        let took = |turn: &Iteration| turn.parts.get(&phase).copied().unwrap_or_default();
        let part = Sample::new(result.turns.iter().map(took).collect())?;
        row(&mut text, name(phase), &part.to_string());
    }
    row(
        &mut text,
        "unaccounted",
        &sample(|turn| turn.unaccounted)?.to_string(),
    );
    let verdict = verdict(total.median(), result.target);
    row(
        &mut text,
        "save to pod ready",
        &format!("{total}   {verdict}"),
    );
    let detect = sample(|turn| turn.until_build)?;
    let within = self::verdict(detect.max(), DETECT_TARGET);
    row(
        &mut text,
        "save to BuildStarted",
        &format!("{detect}   the slowest: {within}"),
    );
    if let Some(peer) = &result.peer {
        text.push_str(&peer_row(peer, total.median()));
    }
    if let Some(limit) = &result.limit {
        let compile = limit
            .compile
            .as_ref()
            .map(|c| format!("go build {} + ", show(c.median())));
        let parts = format!(
            "{}rollout {}",
            compile.unwrap_or_default(),
            show(limit.rollout.median())
        );
        let factor = ratio(total.median(), limit.total());
        let limit = show(limit.total());
        row(
            &mut text,
            "the machine's limit",
            &format!("{limit:>9}   {parts}; the loop takes {factor} times that"),
        );
    }
    Some(text)
}

/// The table of a build with nothing to do.
pub fn idle_table(idle: &Idle, peer: Option<&Peer>) -> String {
    let mut text = "`kiln build`, nothing changed, the registry on loopback\n".to_owned();
    row(
        &mut text,
        "",
        &format!(
            "{:>9}   {:>9} – max of {}",
            "median",
            "min",
            idle.wall.count()
        ),
    );
    let within = verdict(idle.wall.median(), IDLE_TARGET);
    row(&mut text, "wall time", &format!("{}   {within}", idle.wall));
    let memory = match idle.memory {
        None => "not measured: GNU time is missing (Debian's package `time`)".to_owned(),
        Some(bytes) => {
            let words = met(bytes < IDLE_MEMORY_TARGET);
            format!(
                "{:>9}   target under {}: {words}",
                megabytes(bytes),
                megabytes(IDLE_MEMORY_TARGET)
            )
        }
    };
    row(&mut text, "peak memory", &memory);
    if let Some(peer) = peer {
        text.push_str(&peer_row(peer, idle.wall.median()));
    }
    text
}

/// The table of one overlay's rendering.
pub fn rendering_table(rendering: &Rendering) -> String {
    let mut text = format!("rendering {}\n", rendering.title);
    let count = rendering.kiln.count();
    row(
        &mut text,
        "",
        &format!("{:>9}   {:>9} – max of {count}", "median", "min"),
    );
    let library = match &rendering.library {
        None => "not measured: --renderer names no program".to_owned(),
        Some(sample) => match rendering.target {
            Target::Library(target) => format!("{sample}   {}", verdict(sample.median(), target)),
            Target::Ratio(_) => sample.to_string(),
        },
    };
    row(&mut text, "as a library", &library);
    row(
        &mut text,
        "kiln kustomize build",
        &rendering.kiln.to_string(),
    );
    let (theirs, ours) = (rendering.kustomize.median(), rendering.kiln.median());
    let target = match rendering.target {
        Target::Ratio(least) => {
            let is_met = theirs.as_secs_f64() >= least * ours.as_secs_f64();
            format!("; target at least {least}: {}", met(is_met))
        }
        Target::Library(_) => String::new(),
    };
    row(
        &mut text,
        "kustomize build",
        &format!(
            "{}   {} times Kiln's{target}",
            rendering.kustomize,
            ratio(theirs, ours)
        ),
    );
    if let Some(library) = &rendering.library {
        let factor = ratio(theirs, library.median());
        row(&mut text, "", &format!("{factor} times the library's"));
    }
    text
}

/// The figures of renderings, in microseconds.
pub fn rendering_json(renderings: &[Rendering]) -> Value {
    let overlays = renderings.iter().map(|rendering| {
        json!({
            "title": rendering.title,
            "libraryUs": rendering.library.as_ref().map(|s| us(s.median())),
            "kilnUs": us(rendering.kiln.median()),
            "kustomizeUs": us(rendering.kustomize.median()),
        })
    });
    json!({"case": "kustomize", "overlays": overlays.collect::<Vec<_>>()})
}

/// The figures of a loop, in milliseconds.
pub fn loop_json(result: &LoopResult) -> Value {
    let turns = result.turns.iter().map(|turn| {
        let parts = turn
            .parts
            .iter()
            .map(|(phase, took)| (name(*phase).to_owned(), ms(*took)));
        json!({
            "total": ms(turn.total), "untilBuild": ms(turn.until_build),
            "unaccounted": ms(turn.unaccounted), "parts": parts.collect::<serde_json::Map<_, _>>(),
        })
    });
    json!({
        "case": result.example.folder, "title": result.example.title,
        "targetMs": ms(result.target), "turnsMs": turns.collect::<Vec<_>>(),
        "peer": result.peer.as_ref().map(peer_json),
        "limitMs": result.limit.as_ref().map(|limit| json!({
            "compile": limit.compile.as_ref().map(|c| ms(c.median())),
            "rollout": ms(limit.rollout.median()),
        })),
    })
}

/// The figures of a build with nothing to do.
pub fn idle_json(idle: &Idle) -> Value {
    json!({
        "case": "idle", "medianMs": ms(idle.wall.median()), "minMs": ms(idle.wall.min()),
        "maxMs": ms(idle.wall.max()), "peakMemoryBytes": idle.memory,
    })
}

fn peer_json(peer: &Peer) -> Value {
    match peer {
        Peer::Measured(sample) => json!({"measuredMs": ms(sample.median())}),
        Peer::Quoted(quote) => json!({"quoted": quote.text}),
    }
}

fn peer_row(peer: &Peer, ours: Duration) -> String {
    let mut text = String::new();
    let (figure, theirs, source) = match peer {
        Peer::Measured(sample) => (show(sample.median()), sample.median(), "measured now"),
        Peer::Quoted(quote) => (quote.text.clone(), quote.time, "quoted, docs/peers.md"),
    };
    let factor = ratio(theirs, ours);
    row(
        &mut text,
        "skaffold + kaniko",
        &format!("{figure:>9}   {source}; {factor} times Kiln's"),
    );
    text
}

fn row(text: &mut String, label: &str, rest: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  {label:<21} {rest}");
}

pub fn verdict(took: Duration, target: Duration) -> String {
    format!("target under {}: {}", show(target), met(took < target))
}

fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

fn ratio(of: Duration, to: Duration) -> String {
    if to.is_zero() {
        return "?".to_owned();
    }
    format!("{:.1}", of.as_secs_f64() / to.as_secs_f64())
}

fn ms(duration: Duration) -> Value {
    u64::try_from(duration.as_millis()).map_or(Value::Null, Value::from)
}

fn us(duration: Duration) -> Value {
    u64::try_from(duration.as_micros()).map_or(Value::Null, Value::from)
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

/// The words for a part in the table.
pub fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Detect => "detect",
        Phase::Cache => "ask the registry",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::COPY_ONLY;
    use std::collections::BTreeMap;

    fn turn(total: u64, push: u64) -> Iteration {
        let ms = Duration::from_millis;
        Iteration {
            until_build: ms(40),
            parts: BTreeMap::from([(Phase::Push, ms(push)), (Phase::Detect, ms(40))]),
            unaccounted: ms(5),
            total: ms(total),
        }
    }

    fn result(totals: [u64; 3]) -> LoopResult {
        let sample = |ms| Sample::new(vec![Duration::from_millis(ms)]);
        LoopResult {
            example: COPY_ONLY,
            turns: totals.map(|total| turn(total, 120)).to_vec(),
            target: Duration::from_millis(3500),
            peer: Quote::of("copy-only").map(Peer::Quoted),
            limit: sample(1000).map(|rollout| Limit {
                compile: sample(250),
                rollout,
            }),
        }
    }

    #[test]
    fn a_table_has_the_parts_in_order_the_total_and_both_ratios() {
        let table = loop_table(&result([2500, 2400, 9000])).unwrap();
        let line = |start: &str| {
            let found = table
                .lines()
                .find(|line| line.trim_start().starts_with(start));
            found
                .unwrap_or_else(|| panic!("no {start} in\n{table}"))
                .trim()
                .to_owned()
        };
        assert!(
            table.find("detect").unwrap() < table.find("push").unwrap(),
            "{table}"
        );
        assert_eq!(
            line("push"),
            "push                     120 ms      120 ms – 120 ms"
        );
        let total = line("save to pod ready");
        assert!(
            total.ends_with("2.50 s      2.40 s – 9.00 s   target under 3.50 s: met"),
            "{total}"
        );
        assert!(
            line("skaffold").ends_with("docs/peers.md; 3.2 times Kiln's"),
            "{table}"
        );
        let limit = line("the machine's limit");
        assert!(
            limit.ends_with("go build 250 ms + rollout 1.00 s; the loop takes 2.0 times that"),
            "{limit}"
        );
    }

    #[test]
    fn a_missed_target_is_said_and_no_more_than_said() {
        let table = loop_table(&result([3500, 3600, 3400])).unwrap();
        assert!(table.contains("target under 3.50 s: MISSED"), "{table}");
        let idle = Idle {
            wall: Sample::new(vec![IDLE_TARGET]).unwrap(),
            memory: Some(39_000_000),
        };
        let table = idle_table(&idle, None);
        assert!(table.contains("target under 60 ms: MISSED"), "{table}");
        assert!(table.contains("39 MB   target under 40 MB: met"), "{table}");
    }

    #[test]
    fn a_rendering_is_held_against_its_target_and_the_program() {
        let sample = |us: u64| Sample::new(vec![Duration::from_micros(us)]).unwrap();
        let mut rendering = Rendering {
            title: "two".to_owned(),
            library: Some(sample(560)),
            kiln: sample(9_000),
            kustomize: sample(44_000),
            target: Target::Library(Duration::from_millis(2)),
        };
        let table = rendering_table(&rendering);
        assert!(
            table.contains("0.56 ms – 0.56 ms   target under 2.00 ms: met"),
            "{table}"
        );
        assert!(table.contains("4.9 times Kiln's\n"), "{table}");
        assert!(table.contains("78.6 times the library's"), "{table}");
        rendering.target = Target::Ratio(5.0);
        let table = rendering_table(&rendering);
        assert!(
            table.contains("4.9 times Kiln's; target at least 5: MISSED"),
            "{table}"
        );
    }
}
