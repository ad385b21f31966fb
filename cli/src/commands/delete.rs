//! `kiln delete`: delete what was deployed.

use kiln_deployer::apply::Prune;

use super::{Call, Outcome, result};
use crate::args::DeleteCommand;
use crate::engine::{Choices, Engine, Setup};
use crate::error::{CommandError, Kind};

pub(super) async fn run(call: &Call, args: DeleteCommand) -> Outcome {
    let engine = Setup::new(call, &args.project).engine(Choices::for_delete(&args.project))?;
    if args.dry_run {
        for object in engine.deployed().await.map_err(|failure| CommandError {
            kind: Kind::Cluster,
            failures: vec![failure],
        })? {
            result::print(&object.to_string());
        }
        return Ok(());
    }
    let reach = if args.all {
        Prune::Everything
    } else {
        Prune::SparingData
    };
    let wait = args.wait.then(Engine::delete_wait);
    engine
        .delete_all(reach, wait)
        .await
        .map_err(|_| CommandError::shown(Kind::Cluster))
}
