//! `kiln apply`: apply manifests that were rendered before.

use super::{Call, Outcome, input};
use crate::args::ApplyCommand;
use crate::engine::{Choices, Setup, Stopped};
use crate::error::{CommandError, Kind};
use crate::interrupt;

pub(super) async fn run(call: &Call, args: ApplyCommand) -> Outcome {
    let choices = Choices::for_deploy("apply", &args.project, &args.deploy, &args.follow);
    let engine = Setup::new(call, &args.project).engine(choices)?;
    let interrupted =
        interrupt::watch().map_err(|e| CommandError::from_error(Kind::General, &e))?;
    let mut objects = Vec::new();
    for file in &args.manifests {
        let text = input::read(file)?;
        let parsed = kiln_deployer::render::manifest::parse(&text, &file.display().to_string());
        objects.extend(parsed.map_err(|e| CommandError::from_error(Kind::Deploy, &e))?);
    }
    match engine.apply(objects, &interrupted).await {
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
