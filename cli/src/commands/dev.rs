//! `kiln dev`: build, deploy, and again after each change.

use std::time::Duration;

use kiln_schemas::event::Event;
use tokio_util::sync::CancellationToken;

use super::{Call, Outcome};
use crate::args::DevArgs;
use crate::dev::driver::{Driver, Ending};
use crate::dev::watch::{Watch, WatchError};
use crate::engine::{Choices, Presence, Setup, Shared};
use crate::error::{CommandError, Kind};
use crate::interrupt;

pub(super) async fn run(call: &Call, args: DevArgs) -> Outcome {
    let interrupted =
        interrupt::watch().map_err(|e| CommandError::from_error(Kind::General, &e))?;
    let choices = Choices::for_loop(
        "dev",
        &args.project,
        &args.build,
        &args.deploy,
        &args.follow,
    )
    .with_sync(args.auto_sync)
    .with_cleanup(args.cleanup);
    let setup = Setup::new(call, &args.project);
    let mut engine = setup.engine(choices.clone())?;
    engine.sweep().await;
    if args.once {
        let inputs = engine.scan(None).await;
        super::once::once(&engine, inputs, &interrupted).await?;
        return finish(&engine, &args, (true, None)).await;
    }
    let presence = engine.join();
    loop {
        let (ending, deployed) = iterate(&engine, &args, &interrupted).await?;
        match ending {
            Ending::Reload => {
                call.events.emit(Event::Note {
                    message: "the configuration changed; reading it".into(),
                });
                engine.stop_following().await;
                engine = reload(&setup, &choices, &engine, &args, &interrupted).await?;
                if interrupted.is_cancelled() {
                    return finish(&engine, &args, (true, presence)).await;
                }
            }
            Ending::Interrupted | Ending::Idle { .. } => {
                return finish(&engine, &args, (deployed, presence)).await;
            }
        }
    }
}

async fn iterate(
    engine: &Shared,
    args: &DevArgs,
    interrupted: &CancellationToken,
) -> Result<(Ending, bool), CommandError> {
    let mut watch = new_watch(args).map_err(|e| watch_error(&e))?;
    let Some(inputs) = interrupted.run_until_cancelled(engine.scan(None)).await else {
        return Ok((Ending::Interrupted, false));
    };
    if let Some(failure) = &inputs.manifests.trouble {
        engine.events().emit(Event::Warning {
            message: format!("it will not be deployed: {}", failure.message),
            hint: (!failure.causes.is_empty()).then(|| failure.causes.join(": ")),
        });
    }
    let mut driver = Driver::new(engine.clone(), inputs);
    let ending = driver
        .run(Some(&mut watch), interrupted)
        .await
        .map_err(|e| watch_error(&e))?;
    Ok((ending, driver.has_deployed()))
}

fn new_watch(args: &DevArgs) -> Result<Watch, WatchError> {
    Watch::new(
        Duration::from_millis(args.debounce),
        args.watch_poll.map(Duration::from_millis),
    )
}

/// Reads the configuration again; one that is wrong is shown, and the next
/// change of its files is waited for.
async fn reload(
    setup: &Setup<'_>,
    choices: &Choices,
    before: &Shared,
    args: &DevArgs,
    interrupted: &CancellationToken,
) -> Result<Shared, CommandError> {
    // Watched before it is read, so that no save falls in between.
    let mut watch = new_watch(args).map_err(|e| watch_error(&e))?;
    let folders = before.configuration_folders();
    watch.follow(&folders).map_err(|e| watch_error(&e))?;
    loop {
        match setup.engine(choices.clone()) {
            Ok(engine) => return Ok(engine),
            Err(error) if error.kind == Kind::Config => error.show(before.events()),
            Err(error) => return Err(error),
        }
        loop {
            let batch = tokio::select! {
                batch = watch.next() => batch,
                () = interrupted.cancelled() => return Ok(before.clone()),
            };
            watch.follow(&folders).map_err(|e| watch_error(&e))?;
            if batch.rescan || before.is_configuration(&batch.paths) {
                break;
            }
        }
    }
}

/// Leaves the workloads or deletes them.
async fn finish(
    engine: &Shared,
    args: &DevArgs,
    (deployed, presence): (bool, Option<Presence>),
) -> Outcome {
    engine.stop_following().await;
    let cleanup = match args.once {
        // It is over as soon as things run, and they are what was asked for.
        true => args.cleanup == Some(true),
        false => engine.cleans_up(),
    };
    if cleanup && deployed && presence.is_some_and(|presence| !presence.ends_as_last()) {
        engine.events().emit(Event::Note {
            message: "what was deployed goes on with the other `kiln dev` of this project".into(),
        });
        return Ok(());
    }
    if cleanup && deployed {
        engine
            .delete()
            .await
            .map_err(|_| CommandError::shown(Kind::Cluster))?;
    }
    Ok(())
}

fn watch_error(error: &WatchError) -> CommandError {
    let shown = CommandError::from_error(Kind::General, error);
    match error {
        WatchError::Limit { .. } => shown
            .hint("raise the limit: sysctl fs.inotify.max_user_watches=524288")
            .hint("or look at the files regularly: --watch-poll=1000"),
        WatchError::Start(_) | WatchError::Folder { .. } => {
            shown.hint("on a file system without notifications use --watch-poll=1000")
        }
    }
}
