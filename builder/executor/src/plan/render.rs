//! A plan as text: what `--dryrun` prints.

use std::fmt::Write as _;

use super::{Base, From, Op, Plan, Stage, Step};
use crate::cache::key::Keys;

/// Digits of a key that are shown.
const SHOWN: usize = 12;

/// The plan, a line for each stage and each step.
#[must_use]
pub fn render(plan: &Plan) -> String {
    render_keyed(plan, &Keys::new())
}

/// As [`render`], with the first digits of each step's key: two plans show from where on a cache
/// misses. A step that is always performed has a dash.
#[must_use]
pub fn render_keyed(plan: &Plan, keys: &Keys) -> String {
    let mut text = String::new();
    for stage in &plan.stages {
        let _ = writeln!(text, "stage {} ({})", stage.name, stage.platform);
        let _ = writeln!(text, "  base {}", base(stage, plan));
        let keys = keys.get(&stage.index);
        for (index, step) in stage.steps.iter().enumerate() {
            let key = match (keys, &step.op) {
                (None, _) | (_, Op::Config) => String::new(),
                (Some(keys), _) => match keys.steps.get(index) {
                    Some(Some(key)) => format!(" [{}]", &key.hex()[..SHOWN]),
                    _ => " [-]".to_owned(),
                },
            };
            let _ = writeln!(text, "  {}{key}", line(step, plan));
        }
    }
    let runtime = serde_json::to_string(&plan.target().config.config).unwrap_or_default();
    let _ = writeln!(text, "config {runtime}");
    if plan.skipped > 0 {
        let _ = writeln!(text, "skipped {}", plan.skipped);
    }
    text
}

fn base(stage: &Stage, plan: &Plan) -> String {
    match &stage.base {
        Base::Scratch => "scratch".to_owned(),
        Base::Image(key) => format!("image {} for {}", key.name, key.platform),
        Base::Stage(index) => format!("stage {}", name(*index, plan)),
    }
}

fn name(index: usize, plan: &Plan) -> String {
    plan.stage(index)
        .map_or_else(|| index.to_string(), |stage| stage.name.clone())
}

fn line(step: &Step, plan: &Plan) -> String {
    let line = step.position.line;
    let created_by = step.history.created_by.as_deref().unwrap_or_default();
    match &step.op {
        Op::Config => format!("{line}: config {created_by}"),
        Op::Workdir { path, .. } => format!("{line}: mkdir {path}"),
        Op::Run(run) => {
            let user = if run.user.is_empty() {
                "root"
            } else {
                &run.user
            };
            format!("{line}: run {:?} in {} as {user}", run.argv, run.cwd)
        }
        Op::Copy(copy) => {
            let from = match &copy.from {
                From::Context => "context".to_owned(),
                From::Named(name) => format!("context {name}"),
                From::Stage(index) => format!("stage {}", name(*index, plan)),
                From::Image(key) => format!("image {}", key.name),
                From::Scratch => "scratch".to_owned(),
            };
            format!(
                "{line}: copy {:?} from {from} to {}",
                copy.sources, copy.dest
            )
        }
    }
}
