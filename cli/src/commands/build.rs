//! `kiln build`: build and push images.

use kiln_schemas::build_artifacts;
use kiln_schemas::image::BuiltImage;

use super::once::once;
use super::{Call, Outcome, result};
use crate::args::BuildCommand;
use crate::engine::{Choices, Setup};
use crate::error::{CommandError, Kind};
use crate::interrupt;

pub(super) async fn run(call: &Call, args: BuildCommand) -> Outcome {
    let choices = Choices::for_build("build", &args.project, &args.build);
    let engine = Setup::new(call, &args.project).engine(choices)?;
    let interrupted =
        interrupt::watch().map_err(|e| CommandError::from_error(Kind::General, &e))?;
    let scanned = interrupted.run_until_cancelled(engine.scan(None)).await;
    let inputs = scanned.ok_or_else(|| CommandError::shown(Kind::Interrupted))?;
    if args.dry_run {
        let planned = inputs.references()?;
        return print(&args, &planned);
    }
    let built = once(&engine, inputs, &interrupted).await?;
    print(&args, &built)
}

fn print(args: &BuildCommand, built: &[BuiltImage]) -> Outcome {
    let json = build_artifacts::write(built);
    if args.quiet || args.dry_run {
        result::print(&json);
    }
    match &args.file_output {
        Some(path) => result::write(path, &json),
        None => Ok(()),
    }
}
