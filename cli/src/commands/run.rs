//! `kiln run`: build and deploy once.

use super::once::once;
use super::{Call, Outcome};
use crate::args::RunArgs;
use crate::engine::{Choices, Setup};
use crate::error::{CommandError, Kind};
use crate::interrupt;

pub(super) async fn run(call: &Call, args: RunArgs) -> Outcome {
    let choices = Choices::for_loop(
        "run",
        &args.project,
        &args.build,
        &args.deploy,
        &args.follow,
    );
    let engine = Setup::new(call, &args.project).engine(choices)?;
    let interrupted =
        interrupt::watch().map_err(|e| CommandError::from_error(Kind::General, &e))?;
    engine.sweep().await;
    let scanned = interrupted.run_until_cancelled(engine.scan(None)).await;
    let inputs = scanned.ok_or_else(|| CommandError::shown(Kind::Interrupted))?;
    once(&engine, inputs, &interrupted).await?;
    if engine.follows() {
        engine.follow_until(&interrupted).await;
    }
    Ok(())
}
