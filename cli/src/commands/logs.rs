//! `kiln logs`: the lines of containers.

use super::{Call, Outcome, result};
use crate::args::LogsCommand;
use crate::engine::{Choices, Setup, Wish};
use crate::error::{CommandError, Kind};
use crate::interrupt;

pub(super) async fn run(call: &Call, args: LogsCommand) -> Outcome {
    let engine =
        Setup::new(call, &args.project).engine(Choices::for_look("logs", &args.project))?;
    let interrupted =
        interrupt::watch().map_err(|e| CommandError::from_error(Kind::General, &e))?;
    // With one pod and container there is nothing to tell apart.
    let plain = args.pod.is_some() && args.container.is_some();
    let wish = Wish {
        terminal: false,
        pod: args.pod,
        container: args.container,
        follow: args.follow,
    };
    let mut show = |pod: &str, container: &str, line: &str| {
        if plain {
            result::print(&format!("{line}\n"));
        } else {
            result::print(&format!("[{pod} {container}] {line}\n"));
        }
    };
    let lines = engine.lines(&wish, &mut show);
    match interrupted.run_until_cancelled(lines).await {
        None | Some(Ok(())) => Ok(()),
        Some(Err(failure)) => Err(CommandError {
            kind: Kind::Cluster,
            failures: vec![failure],
        }),
    }
}
