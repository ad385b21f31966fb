//! The whole way from a request to an image.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kiln_dockerfile::{Dockerfile, Instruction, Position, lint};
use kiln_registry::Reference;
use kiln_store::{Limits, Store};

use crate::cache::key::Keys;
use crate::cache::{Ask, Cache, CacheError, Found, Outcomes};
use crate::export::{self, ExportError};
use crate::plan::{self, ImageKey, Images, Input, Outcome, Plan, PlanError};
use crate::progress::{self, Phase, Progress};
use crate::remote::{BaseError, BaseImage, Remote};
use crate::request::{CheckPush, PushMode, Request};
use crate::runner::{Report, RunError, Session};

/// How often old things are looked for in a store.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// How many images are asked for at the same time.
const ASKED_AT_ONCE: usize = 16;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile cannot be built as it is.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The file asks that remarks on it stop the build.
    #[error("`# check=error=true`, and there are {0} warnings")]
    Checks(usize),
    /// A destination refuses before anything was done.
    #[error("cannot push to {destination}")]
    Destination {
        /// As it was named.
        destination: Box<Reference>,
        /// Why.
        source: Box<kiln_registry::Error>,
    },
    /// A base image cannot be found.
    #[error("{position}: {source}")]
    Base {
        /// Where it is named.
        position: Position,
        /// Why.
        source: BaseError,
    },
    /// The layer cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A step failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The image could not be delivered.
    #[error(transparent)]
    Export(#[from] ExportError),
}

impl BuildError {
    /// The instruction that it is about, when it is about one.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Plan(error) => error.position(),
            Self::Run(error) => error.position(),
            Self::Base { position, .. } => Some(*position),
            Self::Checks(_) | Self::Destination { .. } | Self::Cache(_) | Self::Export(_) => None,
        }
    }

    /// Whether it was asked for: nobody wants the image any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Run(RunError::Cancelled))
    }

    /// What a process should exit with: that of the command that failed, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Run(RunError::Command { code, .. }) => u8::try_from(*code).unwrap_or(1).max(1),
            _ => 1,
        }
    }
}

/// Builds an image, delivers it, and returns the digest of its manifest.
///
/// # Errors
/// [`BuildError`]
pub fn build(
    request: &Request,
    store: &Store,
    remote: &Remote,
    report: Report<'_>,
) -> Result<kiln_registry::Digest, BuildError> {
    // Whether a push is allowed is asked beside everything else that is asked.
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| check_destinations(request, remote));
        let allowed = || match asked.join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        build_when(request, store, remote, allowed, report)
    })
}

/// An error when a destination would refuse the push, in order.
fn check_destinations(request: &Request, remote: &Remote) -> Result<(), BuildError> {
    let output = &request.output;
    if output.push == PushMode::NoPush || output.check == CheckPush::No {
        return Ok(());
    }
    for destination in &output.destinations {
        let answer = remote.wait(remote.client().check_push(destination));
        answer.map_err(|source| BuildError::Destination {
            destination: Box::new(destination.clone()),
            source: Box::new(source),
        })?;
    }
    Ok(())
}

/// Plans, and goes on when it is `allowed`.
fn build_when(
    request: &Request,
    store: &Store,
    remote: &Remote,
    allowed: impl FnOnce() -> Result<(), BuildError>,
    report: Report<'_>,
) -> Result<kiln_registry::Digest, BuildError> {
    let start = Instant::now();
    let planned = planned(request, remote, report);
    allowed()?;
    let (plan, images) = planned?;
    if plan.skipped > 0 {
        let stages = if plan.skipped == 1 {
            "stage is"
        } else {
            "stages are"
        };
        report(Progress::Note(format!(
            "{} {stages} not needed",
            plan.skipped
        )));
    }
    let cache = Cache::new(request, (&plan, &images), store, remote)?;
    cache.check()?;
    let place = (store, remote);
    let found = cache.find(request, Ask::Everywhere, report);
    let first = perform(request, (&plan, &images), (&cache, &found), place, report);
    let (digest, outcomes) = match first {
        Err(error) if found.is_from_elsewhere() && lacks_a_blob(&error) => {
            report(Progress::Warning(format!(
                "the layer cache names a layer that is not there any more, so it is not used: {}",
                progress::chain(&error)
            )));
            let found = cache.find(request, Ask::StoreOnly, report);
            perform(request, (&plan, &images), (&cache, &found), place, report)?
        }
        result => result?,
    };
    cache.publish(&outcomes, &request.output.destinations, report);
    cache.publish_headers(images.values(), report);
    tidy(store, request);
    report(Progress::Phase {
        phase: Phase::Total,
        took: start.elapsed(),
    });
    Ok(digest)
}

/// Does what is left to do and delivers the image.
fn perform(
    request: &Request,
    (plan, images): (&Plan, &BTreeMap<ImageKey, BaseImage>),
    (cache, found): (&Cache<'_>, &Found),
    (store, remote): (&Store, &Remote),
    report: Report<'_>,
) -> Result<(kiln_registry::Digest, Outcomes), BuildError> {
    let session = Session::new(request, (plan, images), (cache, found), store, remote);
    let (built, outcomes) = session.build(report)?;
    let digest = export::export(&built, &request.output, store, remote, report)?;
    Ok((digest, outcomes))
}

/// Whether a registry was asked for something that it does not have.
fn lacks_a_blob(error: &BuildError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if progress::registry_error(error).is_some_and(kiln_registry::Error::is_not_found) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Removes from the store what no build used for as long as the cache counts.
pub(crate) fn tidy(store: &Store, request: &Request) {
    let limits = Limits {
        max_age: request.caching.ttl,
        max_bytes: None,
    };
    if let Err(error) = store.collect_if_due(limits, TIDY_EVERY) {
        tracing::warn!(%error, "the store is not tidied");
    }
}

/// Plans a build without doing anything (`--dryrun`): the stages, and the keys of their steps.
///
/// # Errors
/// [`BuildError`]
pub fn plan_only(
    request: &Request,
    store: &Store,
    remote: &Remote,
    report: Report<'_>,
) -> Result<(Plan, Keys), BuildError> {
    let (plan, images) = planned(request, remote, report)?;
    let keys = Cache::new(request, (&plan, &images), store, remote)?.keys;
    Ok((plan, keys))
}

/// The instruction that names an image; the first `FROM` when a trigger or a variable does.
fn where_named(dockerfile: &Dockerfile, image: &str) -> Position {
    let names = |instruction: &Instruction| match instruction {
        Instruction::Copy(copy) => copy.from.as_deref() == Some(image),
        Instruction::Run(run) => run.mounts.iter().any(|mount| mount.text.contains(image)),
        _ => false,
    };
    let places = dockerfile.stages.iter().flat_map(|stage| {
        let base = (stage.base == image).then_some(stage.position);
        let instructions = stage.instructions.iter();
        let inside = instructions.filter(|located| names(&located.value));
        base.into_iter()
            .chain(inside.map(|located| located.position))
    });
    let first = dockerfile.stages.first().map(|stage| stage.position);
    places
        .chain(first)
        .next()
        .unwrap_or(Position { line: 1, column: 1 })
}

/// Asks registries for images at the same time; the answers are in their order.
fn bases(keys: &[ImageKey], remote: &Remote) -> Vec<Result<BaseImage, BaseError>> {
    std::thread::scope(|scope| {
        let asked = keys.iter().map(|key| scope.spawn(|| remote.base(key)));
        let asked: Vec<_> = asked.collect();
        let answers = asked.into_iter().map(|thread| match thread.join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        answers.collect()
    })
}

/// A remark on an image that is for another platform than was asked for.
fn wrong_platform(
    dockerfile: &Dockerfile,
    key: &ImageKey,
    image: &BaseImage,
) -> Option<lint::Warning> {
    let (os, architecture) = (&image.config.os, &image.config.architecture);
    let mut wanted = key.platform.split('/');
    let is_wanted =
        (wanted.next(), wanted.next()) == (Some(os.as_str()), Some(architecture.as_str()));
    (!is_wanted && !architecture.is_empty()).then(|| lint::Warning {
        rule: lint::Rule::InvalidBaseImagePlatform,
        position: where_named(dockerfile, &key.name),
        message: format!(
            "{} is for {os}/{architecture}, and {} was asked for",
            key.name, key.platform
        ),
    })
}

/// Reports BuildKit's remarks on the file.
fn check(
    dockerfile: &Dockerfile,
    found: &BTreeMap<ImageKey, BaseImage>,
    report: Report<'_>,
) -> Result<(), BuildError> {
    let base_env = |name: &str| {
        let (_, image) = found.iter().find(|(key, _)| key.name == name)?;
        Some(
            image
                .config
                .config
                .env_pairs()
                .map(|(name, _)| name)
                .collect(),
        )
    };
    let mut remarks = lint::check(dockerfile, &base_env);
    remarks.warnings.extend(
        found
            .iter()
            .filter(|_| !lint::is_skipped(dockerfile, lint::Rule::InvalidBaseImagePlatform))
            .filter_map(|(key, image)| wrong_platform(dockerfile, key, image)),
    );
    for warning in &remarks.warnings {
        let (rule, line) = (warning.rule.name(), warning.position.line);
        report(Progress::Warning(format!(
            "{rule}: {} (line {line})",
            warning.message
        )));
    }
    if remarks.fail && !remarks.warnings.is_empty() {
        return Err(BuildError::Checks(remarks.warnings.len()));
    }
    Ok(())
}

/// Plans, asking registries for the images that the plan needs, until it needs no more.
pub(crate) fn planned(
    request: &Request,
    remote: &Remote,
    report: Report<'_>,
) -> Result<(Plan, BTreeMap<ImageKey, BaseImage>), BuildError> {
    let start = Instant::now();
    let mut found: BTreeMap<ImageKey, BaseImage> = BTreeMap::new();
    let input = Input {
        dockerfile: &request.dockerfile,
        build_args: &request.build_args,
        build: &request.build,
        contexts: &request.contexts,
    };
    loop {
        let images: Images = found
            .iter()
            .map(|(key, image)| (key.clone(), image.config.clone()))
            .collect();
        match plan::plan(input, &images)? {
            Outcome::Ready(plan) => {
                check(&request.dockerfile, &found, report)?;
                report(Progress::Phase {
                    phase: Phase::Resolve,
                    took: start.elapsed(),
                });
                return Ok((*plan, found));
            }
            Outcome::Needs(keys) => {
                for some in keys.chunks(ASKED_AT_ONCE) {
                    for (key, image) in some.iter().zip(bases(some, remote)) {
                        let image = image.map_err(|source| BuildError::Base {
                            position: where_named(&request.dockerfile, &key.name),
                            source,
                        })?;
                        found.insert(key.clone(), image);
                    }
                }
            }
        }
    }
}
