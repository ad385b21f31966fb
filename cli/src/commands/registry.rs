//! `kiln registry`: a registry of this machine, and its garbage.

use std::path::Path;
use std::time::Duration;

use kiln_registry::server::{
    Access, Anonymous, Identity, Policy, Protection, Registry, Scheme, Serving, Untagged, User,
};
use kiln_schemas::event::Event;

use super::{Call, Outcome, result};
use crate::args::{CollectArgs, RegistryCommand, RegistryLogin, ServeArgs};
use crate::error::{CommandError, Kind};
use crate::interrupt;

pub(super) async fn run(call: &Call, command: RegistryCommand) -> Outcome {
    match command {
        RegistryCommand::Serve(args) => serve(call, args).await,
        RegistryCommand::Collect(args) => collect(args).await,
    }
}

async fn serve(call: &Call, args: ServeArgs) -> Outcome {
    let interrupted =
        interrupt::watch().map_err(|error| CommandError::from_error(Kind::General, &error))?;
    let identity = identity(&args)?;
    let registry = open(&args.dir, access(&args)?)?;
    let serving = Serving::start(registry.clone(), args.listen, identity.as_ref())
        .await
        .map_err(|error| CommandError::from_error(Kind::General, &error))?;
    let scheme = if identity.is_some() { "https" } else { "http" };
    call.events.emit(Event::Note {
        message: format!(
            "serving {} at {scheme}://{}",
            args.dir.display(),
            serving.address()
        ),
    });
    let every = args
        .collect_every
        .map(|hours| Duration::from_secs(hours * 3600));
    let policy = Policy {
        grace: Duration::from_secs(3600),
        untagged: Untagged::Kept,
    };
    loop {
        let pause = async {
            match every {
                Some(every) => tokio::time::sleep(every).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = interrupted.cancelled() => break,
            () = pause => {
                let message = sweep(registry.clone(), policy).await?;
                call.events.emit(Event::Note { message });
            }
        }
    }
    serving.stop().await;
    Ok(())
}

async fn collect(args: CollectArgs) -> Outcome {
    let registry = open(&args.dir, Access::Open)?;
    let policy = Policy {
        grace: Duration::from_secs(args.grace * 60),
        untagged: if args.untagged {
            Untagged::Removed
        } else {
            Untagged::Kept
        },
    };
    result::print(&sweep(registry, policy).await?);
    Ok(())
}

/// Removes garbage and says what went.
async fn sweep(registry: Registry, policy: Policy) -> Result<String, CommandError> {
    let collected = tokio::task::spawn_blocking(move || registry.collect(&policy))
        .await
        .map_err(|error| CommandError::from_error(Kind::General, &error))?
        .map_err(|error| CommandError::from_error(Kind::General, &error))?;
    Ok(format!(
        "removed {} manifests and {} blobs of repositories; {} files with {} bytes, {} uploads",
        collected.manifests, collected.links, collected.blobs, collected.bytes, collected.uploads
    ))
}

fn open(dir: &Path, access: Access) -> Result<Registry, CommandError> {
    Registry::open(dir, access).map_err(|error| CommandError::from_error(Kind::General, &error))
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    std::fs::read(path).map_err(|error| {
        CommandError::new(
            Kind::General,
            format!("cannot read {}: {error}", path.display()),
        )
    })
}

fn identity(args: &ServeArgs) -> Result<Option<Identity>, CommandError> {
    let (Some(certificates), Some(key)) = (&args.tls_cert, &args.tls_key) else {
        return Ok(None);
    };
    Ok(Some(Identity {
        certificates: read(certificates)?,
        key: read(key)?,
    }))
}

fn access(args: &ServeArgs) -> Result<Access, CommandError> {
    let Some(path) = &args.htpasswd else {
        return Ok(Access::Open);
    };
    let text = String::from_utf8_lossy(&read(path)?).into_owned();
    let users = User::from_htpasswd(&text)
        .map_err(|error| CommandError::from_error(Kind::General, &error))?;
    Ok(Access::Protected(Protection {
        scheme: match args.login {
            RegistryLogin::Token => Scheme::Token,
            RegistryLogin::Basic => Scheme::Basic,
        },
        users,
        anonymous: if args.anonymous_pull {
            Anonymous::Pull
        } else {
            Anonymous::Nothing
        },
    }))
}
