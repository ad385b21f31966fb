//! `kiln context IMAGE`: what would be sent, largest first, and which ignore
//! rule dropped the rest.

use kiln_builder::sources::{FileKind, Why};

use super::{Call, Outcome, result};
use crate::args::ContextCommand;
use crate::engine::{Choices, Setup};
use crate::error::{CommandError, Kind};

pub(super) async fn run(call: &Call, args: ContextCommand) -> Outcome {
    let engine = Setup::new(call, &args.project).engine(Choices::for_context(&args.project))?;
    let names: Vec<String> = engine.images().map(|(name, _)| name).collect();
    let matches: Vec<&String> = names
        .iter()
        .filter(|name| is_meant(name, &args.image))
        .collect();
    let [image] = matches.as_slice() else {
        let what = if matches.is_empty() {
            "no image is called"
        } else {
            "several images are called"
        };
        return Err(
            CommandError::new(Kind::Usage, format!("{what} {}", args.image))
                .hint(format!("the project builds: {}", names.join(", "))),
        );
    };
    let sources = engine
        .sources(image)
        .await
        .map_err(|failure| CommandError {
            kind: Kind::Build,
            failures: vec![failure],
        })?;
    let mut files: Vec<_> = sources
        .files
        .iter()
        .filter(|file| file.kind != FileKind::Folder)
        .collect();
    files.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
    let total: u64 = files.iter().map(|file| file.size).sum();
    let mut lines: Vec<String> = files
        .iter()
        .map(|file| format!("{:>12}  {}", bytes(file.size), file.path.display()))
        .collect();
    lines.push(format!("{:>12}  in {} files", bytes(total), files.len()));
    if let Some(reason) = &sources.whole_context {
        lines.push(format!("the whole context is sent: {reason}"));
    }
    for dropped in &sources.dropped {
        let why = match &dropped.why {
            Why::Ignored(rule) => format!("ignored by `{}` in line {}", rule.pattern, rule.line),
            Why::Special => "a socket, pipe or device".to_owned(),
        };
        lines.push(format!("{:>12}  {} ({why})", "-", dropped.path.display()));
    }
    result::print(&lines.join("\n"));
    Ok(())
}

/// The whole name, or its last parts.
fn is_meant(name: &str, wanted: &str) -> bool {
    name == wanted
        || name
            .strip_suffix(wanted)
            .is_some_and(|before| before.ends_with('/'))
}

/// Bytes as people read them, in units of 1,000.
fn bytes(size: u64) -> String {
    match size {
        0..1_000 => format!("{size} B"),
        1_000..1_000_000 => format!("{}.{} kB", size / 1_000, size % 1_000 / 100),
        _ => format!("{}.{} MB", size / 1_000_000, size % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_meant_by_its_name_or_the_end_of_it() {
        assert!(is_meant("r.example/team/app", "app"));
        assert!(is_meant("r.example/team/app", "team/app"));
        assert!(is_meant("app", "app"));
        assert!(!is_meant("r.example/team/my-app", "app"));
    }

    #[test]
    fn sizes_are_in_units_of_a_thousand() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_250), "1.2 kB");
        assert_eq!(bytes(12_345_678), "12.3 MB");
    }
}
