//! The loop without a watch, as `run`, `build` and `render` want it: to its
//! end, and an error unless everything that was asked for happened.

use kiln_schemas::image::BuiltImage;
use tokio_util::sync::CancellationToken;

use crate::dev::driver::{Driver, Ending};
use crate::engine::{Inputs, Shared};
use crate::error::{CommandError, Kind};

/// Builds, and deploys where the engine does, once. What failed has been said
/// by events.
pub(super) async fn once(
    engine: &Shared,
    inputs: Inputs,
    interrupted: &CancellationToken,
) -> Result<Vec<BuiltImage>, CommandError> {
    // Nobody wants to wait for a build to be told of a folder that is not there.
    if let Some(failure) = &inputs.manifests.trouble {
        return Err(CommandError {
            kind: Kind::Deploy,
            failures: vec![failure.clone()],
        });
    }
    let mut driver = Driver::new(engine.clone(), inputs);
    let ending = driver.run(None, interrupted).await;
    match ending.map_err(|error| CommandError::from_error(Kind::General, &error))? {
        Ending::Idle { ok: true } | Ending::Reload => Ok(driver.built()),
        Ending::Idle { ok: false } => Err(CommandError::shown(driver.worst())),
        Ending::Interrupted => Err(CommandError::shown(Kind::Interrupted)),
    }
}
