//! `kiln deploy`: deploy images that were built before, as in a CI job.

use super::{Call, Outcome, images};
use crate::args::DeployCommand;
use crate::engine::{Choices, Setup, Stopped};
use crate::error::{CommandError, Kind};
use crate::interrupt;

pub(super) async fn run(call: &Call, args: DeployCommand) -> Outcome {
    let choices = Choices::for_deploy("deploy", &args.project, &args.deploy, &args.follow)
        .with_default_repo(args.images.default_repo.clone());
    let engine = Setup::new(call, &args.project).engine(choices)?;
    let interrupted =
        interrupt::watch().map_err(|e| CommandError::from_error(Kind::General, &e))?;
    let images = images::given(&engine, &args.images).await?;
    match engine.deploy(&images, &interrupted).await {
        Ok(()) => {
            if engine.follows() {
                engine.follow_until(&interrupted).await;
            }
            Ok(())
        }
        Err(Stopped::Failed(_)) => Err(CommandError::shown(Kind::Deploy)),
        Err(Stopped::Cancelled) => Err(CommandError::shown(Kind::Interrupted)),
    }
}
