//! `kiln run`: build and deploy once.

use super::{Call, Outcome};
use crate::args::RunArgs;
use crate::dev::driver::{Driver, Ending};
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
    let inputs = engine.scan(None).await;
    let mut driver = Driver::new(engine.clone(), inputs);
    let ending = driver.run(None, &interrupted).await;
    match ending.map_err(|error| CommandError::from_error(Kind::General, &error))? {
        Ending::Idle { ok: true } | Ending::Reload => {
            if engine.follows() {
                engine.follow_until(&interrupted).await;
            }
            Ok(())
        }
        Ending::Idle { ok: false } => Err(CommandError::shown(driver.worst())),
        Ending::Interrupted => Err(CommandError::shown(Kind::Interrupted)),
    }
}
