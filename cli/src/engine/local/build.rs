//! An image built on this machine, and left in the store.

use std::path::{Path, PathBuf};

use kiln_builder::order::{EnvEntry, Order};
use kiln_builder::plan::{Plan, order};
use kiln_executor::cli::UnpackedError;
use kiln_executor::progress::{Phase as Part, Progress};
use kiln_executor::remote::BaseImage;
use kiln_executor::unpacked::{Stored, Unpacked};
use kiln_local::desired::Image;
use kiln_sandbox::Cancel;
use kiln_schemas::event::{Event, Events, Failure, Phase};
use kiln_schemas::image::ImageDigest;
use kiln_store::Digest;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::super::deploy::millis;
use super::super::{Engine, ImageInputs, Start, Stopped};
use super::Local;

/// What the store remembers of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    digest: String,
    /// Names everything that decided its bytes, where this project built it.
    key: Option<String>,
    pub(super) image: Image,
    /// What images that are built from it need.
    #[serde(default)]
    stored: Option<Stored>,
}

impl Local {
    fn key(name: &str) -> Digest {
        Digest::of(format!("image {name} for this machine").as_bytes())
    }

    /// An image that is in the store with all of its layers.
    pub(super) fn kept(&self, name: &str) -> Option<Kept> {
        let store = self.store().ok()?;
        let bytes = store.index(&Self::key(name)).ok()??;
        let kept: Kept = serde_json::from_slice(&bytes).ok()?;
        // Looked up in the store: what is found stays while this process lives.
        let is_there = |layer: &PathBuf| {
            let name = layer.file_name().and_then(|name| name.to_str());
            let name = name.and_then(|name| format!("sha256:{name}").parse().ok());
            name.is_some_and(|name| store.layer(&name).is_some())
        };
        kept.image.layers.iter().all(is_there).then_some(kept)
    }

    /// The digest of an image that is in the store, if it is what would be built now.
    pub fn known(&self, plan: &Plan) -> Option<ImageDigest> {
        let kept = self.kept(&plan.reference)?;
        let same = kept.key.as_deref() == Some(plan.key.hex());
        ImageDigest::parse(&kept.digest).ok().filter(|_| same)
    }

    /// An image of this project that another one is built from, under the name by which that
    /// one's Dockerfile finds it.
    fn required(&self, reference: &str) -> Result<BaseImage, Failure> {
        let name = reference
            .split_once('@')
            .map_or(reference, |(name, _)| name);
        let stored = self.kept(name).and_then(|kept| kept.stored);
        let stored = stored
            .ok_or_else(|| Failure::new(format!("the image {name} is not on this machine")))?;
        let image = stored.image(reference);
        image.map_err(|error| Failure::from_error(&error))
    }

    /// Remembers an image under a name.
    pub(super) fn keep(
        &self,
        name: &str,
        key: Option<&str>,
        unpacked: &Unpacked,
    ) -> Result<Image, Failure> {
        let image = image(unpacked);
        let kept = Kept {
            digest: unpacked.digest.clone(),
            key: key.map(str::to_owned),
            image: image.clone(),
            stored: unpacked.stored.clone(),
        };
        let failed = |error: &(dyn std::error::Error + 'static)| Failure::from_error(error);
        let store = self.store().map_err(|error| failed(&error))?;
        let bytes = serde_json::to_vec(&kept).map_err(|error| failed(&error))?;
        store
            .put_index(&Self::key(name), &bytes)
            .map_err(|error| failed(&error))?;
        Ok(image)
    }
}

fn image(unpacked: &Unpacked) -> Image {
    let runtime = unpacked.runtime.clone();
    Image {
        layers: unpacked.layers.clone(),
        entrypoint: runtime.entrypoint.unwrap_or_default(),
        cmd: runtime.cmd.unwrap_or_default(),
        env: runtime.env,
        working_dir: runtime.working_dir,
        user: runtime.user,
        stop_signal: runtime.stop_signal,
    }
}

impl Engine {
    /// Builds with the executor's library, in this process.
    pub(in crate::engine) async fn build_here(
        &self,
        local: &Local,
        inputs: &ImageInputs,
        start: &Start,
        cancel: &CancellationToken,
    ) -> Result<ImageDigest, Stopped> {
        let required = start.required.values();
        let required: Result<Vec<_>, _> = required.map(|name| local.required(name)).collect();
        let required = required.map_err(Stopped::Failed)?;
        let order = order(
            &inputs.subject,
            &inputs.plan,
            &start.required,
            &self.templates(),
        )
        .map_err(|error| Stopped::Failed(Failure::from_error(&error)))?;
        let insecure =
            super::super::registries::insecure(&self.project, &self.choices, &self.settings);
        let words = words(&order, &inputs.dockerfile, &local.store_dir, &insecure);
        let mut env = self.env.vars.clone();
        env.extend(order.env.iter().filter_map(|entry| match entry {
            EnvEntry::Value { name, value } => Some((name.clone(), value.clone())),
            EnvEntry::From { .. } => None,
        }));
        let (events, name) = (self.events.clone(), inputs.image.clone());
        let ended = Cancel::new().map_err(|error| Stopped::Failed(Failure::from_error(&error)))?;
        let cancelled = ended.clone();
        let mut work = tokio::task::spawn_blocking(move || {
            let mut say = |progress| tell(progress, &events, &name);
            kiln_executor::cli::build_unpacked(&words, &env, required, &mut say, &cancelled)
        });
        // What a cancelled build has finished stays in the store; it does not begin anything new.
        let built = tokio::select! {
            built = &mut work => built,
            () = cancel.cancelled() => {
                ended.cancel();
                work.await
            }
        };
        let built = built.map_err(|error| Stopped::Failed(Failure::from_error(&error)))?;
        let unpacked = built.map_err(stopped)?;
        local
            .keep(
                &inputs.plan.reference,
                Some(inputs.plan.key.hex()),
                &unpacked,
            )
            .map_err(Stopped::Failed)?;
        ImageDigest::parse(&unpacked.digest)
            .map_err(|error| Stopped::Failed(Failure::from_error(&error)))
    }
}

/// The executor's flags.
fn words(order: &Order, dockerfile: &Path, store: &Path, insecure: &[String]) -> Vec<String> {
    let artifact = &order.artifact;
    let context = match &artifact.context_sub_path {
        Some(below) => artifact.context.join(below),
        None => artifact.context.clone(),
    };
    let mut words = vec![
        "--no-push".to_owned(),
        format!("--context=dir://{}", context.display()),
        format!("--dockerfile={}", dockerfile.display()),
        format!("--store-dir={}", store.display()),
        format!("--destination={}", order.reference),
    ];
    for (name, value) in &order.build_args {
        words.push(match value {
            Some(value) => format!("--build-arg={name}={value}"),
            None => format!("--build-arg={name}"),
        });
    }
    let labels = order.labels.iter();
    words.extend(labels.map(|(name, value)| format!("--label={name}={value}")));
    words.extend(
        artifact
            .target
            .iter()
            .map(|target| format!("--target={target}")),
    );
    let platform = order.platform.iter();
    words.extend(platform.map(|platform| format!("--custom-platform={platform}")));
    words.extend(
        insecure
            .iter()
            .map(|host| format!("--insecure-registry={host}")),
    );
    let ignored = artifact.flags.ignore_paths.iter();
    words.extend(ignored.map(|path| format!("--ignore-path={path}")));
    if artifact.flags.reproducible {
        words.push("--reproducible".to_owned());
    }
    if artifact.flags.single_snapshot {
        words.push("--single-snapshot".to_owned());
    }
    words
}

fn stopped(error: UnpackedError) -> Stopped {
    let UnpackedError::Failed(error) = error else {
        return Stopped::Cancelled;
    };
    let mut failure = Failure::new(error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        failure.causes.push(cause.to_string());
        source = cause.source();
    }
    Stopped::Failed(failure)
}

/// The executor's progress as Kiln's events.
fn tell(progress: Progress, events: &Events, image: &str) {
    let log = |line: String| {
        events.emit(Event::BuildLog {
            image: image.to_owned(),
            line,
        });
    };
    match progress {
        // Stages are built at the same time: each line says whose it is.
        Progress::StepStarted { step, text } => log(format!("[{step}] {text}")),
        Progress::Output { step, line } => log(format!("[{step}]   {line}")),
        Progress::Warning(message) => log(format!("warning: {message}")),
        Progress::Phase { phase, took } => {
            let phase = match phase {
                Part::Base | Part::Resolve => Phase::Base,
                Part::Run => Phase::Run,
                Part::Layers | Part::Copy => Phase::Layers,
                Part::Context | Part::Push | Part::Total => return,
            };
            events.emit(Event::Timing {
                what: image.to_owned(),
                phase,
                ms: millis(took),
            });
        }
        _ => {}
    }
}
