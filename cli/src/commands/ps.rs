//! `kiln ps`: the pods of what was deployed.

use super::{Call, Outcome, result};
use crate::args::PsCommand;
use crate::engine::{Choices, Setup};
use crate::error::{CommandError, Kind};

pub(super) async fn run(call: &Call, args: PsCommand) -> Outcome {
    let engine = Setup::new(call, &args.project).engine(Choices::for_look("ps", &args.project))?;
    let pods = engine.pods().await.map_err(|failure| CommandError {
        kind: Kind::Cluster,
        failures: vec![failure],
    })?;
    let mut rows = vec![["NAME", "READY", "STATUS", "RESTARTS", "AGE"].map(str::to_owned)];
    rows.extend(pods.into_iter().map(|pod| {
        [
            pod.name,
            format!("{}/{}", pod.ready.0, pod.ready.1),
            pod.status,
            pod.restarts.to_string(),
            age(pod.age),
        ]
    }));
    result::print(&table(&rows));
    Ok(())
}

/// Seconds as kubectl shows them, roughly.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Columns as wide as their widest cell.
fn table(rows: &[[String; 5]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths);
        let cells = cells.map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_pods_has_columns() {
        let row = |words: [&str; 5]| words.map(str::to_owned);
        let rows = [
            row(["NAME", "A", "B", "C", "AGE"]),
            row(["long-name", "1", "2", "3", "4s"]),
        ];
        assert_eq!(
            table(&rows),
            "NAME        A   B   C   AGE\nlong-name   1   2   3   4s"
        );
        assert_eq!(
            [age(119), age(120), age(7_200), age(172_800)],
            ["119s", "2m", "2h", "2d"]
        );
    }
}
