//! One image: found in its registry, or built in the cluster.

use std::time::{Instant, SystemTime};

use kiln_builder::cluster::{BuildTree, ExecutorBinary, Place, Session, Supply};
use kiln_builder::hooks::{When, build_env, run_hooks};
use kiln_builder::plan::{Plan, candidate, look_up, order};
use kiln_builder::{ClusterBackend, cluster};
use kiln_schemas::event::{BuildOutcome, Event, Failure, Phase};
use kiln_schemas::image::{BuiltImage, ImageDigest};
use kiln_schemas::model::Module;
use tokio_util::sync::CancellationToken;

use super::deploy::millis;
use super::{Engine, ImageInputs, Start, Stopped, registries};
use crate::error::CommandError;

impl Engine {
    /// Makes sure that the image is in its registry.
    pub async fn build(
        &self,
        inputs: &ImageInputs,
        start: Start,
        cancel: &CancellationToken,
    ) -> Result<BuiltImage, Stopped> {
        self.forget_watching();
        let started = Instant::now();
        let image = inputs.image.clone();
        self.say_started(inputs, &start);
        let result = self.find_or_build(inputs, &start, cancel).await;
        match result {
            Ok((built, outcome)) => {
                let ms = millis(started.elapsed());
                let reference = built.pinned();
                self.events.emit(Event::BuildFinished {
                    image,
                    reference,
                    outcome,
                    ms,
                });
                Ok(built)
            }
            Err(Stopped::Cancelled) => {
                self.events.emit(Event::BuildCancelled { image });
                Err(Stopped::Cancelled)
            }
            Err(Stopped::Failed(failure)) => {
                Err(self.failed(|failure| Event::BuildFailed { image, failure }, failure))
            }
        }
    }

    fn say_started(&self, inputs: &ImageInputs, start: &Start) {
        let detect_ms = start
            .changed_at
            .and_then(|at| SystemTime::now().duration_since(at).ok())
            .map(millis);
        self.events.emit(Event::BuildStarted {
            image: inputs.image.clone(),
            reference: inputs.plan.reference.clone(),
            reason: start.reason.clone(),
            detect_ms,
        });
        if let Some(ms) = detect_ms {
            let what = inputs.image.clone();
            self.events.emit(Event::Timing {
                what,
                phase: Phase::Detect,
                ms,
            });
        }
    }

    async fn find_or_build(
        &self,
        inputs: &ImageInputs,
        start: &Start,
        cancel: &CancellationToken,
    ) -> Result<(BuiltImage, BuildOutcome), Stopped> {
        let looked = cancel.run_until_cancelled(self.look_up(inputs)).await;
        let reuse = match looked.ok_or(Stopped::Cancelled)? {
            Lookup::Found(digest) => return Ok((image(inputs, digest), BuildOutcome::Cached)),
            Lookup::Nothing => None,
            Lookup::OutOfReach(candidate) => Some(candidate),
        };
        let Some((module, artifact)) = self.project.artifact(&inputs.image) else {
            return Err(Stopped::Failed(Failure::new(
                "the artifact is gone from the project",
            )));
        };
        let hooks = self.hook_runner(module);
        let env = build_env(&inputs.plan.reference, &artifact.context);
        let os = std::env::consts::OS;
        // Those with outputs have run: the image's files were read after them.
        let hooks_left = artifact.hooks.without_outputs();
        let run = |pair, when| run_hooks((pair, when), &inputs.image, os, &env, &hooks);
        let before = cancel
            .run_until_cancelled(run(&hooks_left, When::Before))
            .await;
        before.ok_or(Stopped::Cancelled)?.map_err(failed)?;
        let (digest, outcome) = match &self.local {
            Some(local) => {
                let digest = self.build_here(local, inputs, start, cancel).await?;
                (digest, BuildOutcome::Built)
            }
            None => {
                let built = self
                    .build_in_cluster((module, inputs), start, reuse, cancel)
                    .await?;
                (built.digest, built.outcome)
            }
        };
        let after = cancel
            .run_until_cancelled(run(&artifact.hooks, When::After))
            .await;
        after.ok_or(Stopped::Cancelled)?.map_err(failed)?;
        if self.local.is_none() {
            self.remember_build(&inputs.plan, &digest).await;
        }
        Ok((image(inputs, digest), outcome))
    }

    /// Whether the image is in the registry. Where this host does not reach the registry, the
    /// build's pod does, and finds out.
    async fn look_up(&self, inputs: &ImageInputs) -> Lookup {
        if !self.choices.cache_artifacts {
            return Lookup::Nothing;
        }
        if let Some(local) = &self.local {
            let known = local.known(&inputs.plan);
            return known.map_or(Lookup::Nothing, Lookup::Found);
        }
        let started = Instant::now();
        let candidate = {
            let records = &self.memory.lock().await.records;
            candidate(&inputs.plan, &inputs.subject, records)
        };
        let Some(candidate) = candidate else {
            return Lookup::Nothing;
        };
        match look_up(&inputs.plan, &candidate, &self.registry).await {
            Ok(found) => {
                self.took(&inputs.image, Phase::Cache, started.elapsed());
                found.map_or(Lookup::Nothing, Lookup::Found)
            }
            Err(error) => {
                tracing::info!(image = inputs.image, %error, "the registry was not asked for the image");
                Lookup::OutOfReach(candidate)
            }
        }
    }

    async fn build_in_cluster(
        &self,
        (module, inputs): (&Module, &ImageInputs),
        start: &Start,
        reuse: Option<String>,
        cancel: &CancellationToken,
    ) -> Result<cluster::Built, Stopped> {
        let mut order = order(
            &inputs.subject,
            &inputs.plan,
            &start.required,
            &self.templates(),
        )
        .map_err(failed)?;
        order.reuse = reuse;
        let artifact = &inputs.subject.artifact;
        let files = inputs.sources.files.iter().map(|file| file.path.clone());
        let tree = BuildTree::new(&artifact.context, files, &inputs.dockerfile);
        let backend = self.backend(module).await.map_err(Stopped::Failed)?;
        match backend.build(&order, &tree, cancel).await {
            Ok(built) => Ok(built),
            Err(cluster::BuildError::Cancelled) => Err(Stopped::Cancelled),
            Err(error) => Err(Stopped::Failed(error.failure())),
        }
    }

    async fn remember_build(&self, plan: &Plan, digest: &ImageDigest) {
        let mut memory = self.memory.lock().await;
        memory.records.record(&plan.key, &plan.reference, digest);
        if let Err(error) = memory.records.save() {
            tracing::debug!(%error, "what was built is not remembered");
        }
    }

    /// The pods of a module's builds.
    pub(super) async fn backend(&self, module: &Module) -> Result<ClusterBackend, Failure> {
        let mut backends = self.backends.lock().await;
        if let Some(backend) = backends.get(&module.name) {
            return Ok(backend.clone());
        }
        let connected = self.connected().await?;
        let namespace = module.build.cluster.namespace.clone();
        let place = Place {
            client: connected.client.clone(),
            namespace: namespace.unwrap_or_else(|| connected.namespace.clone()),
        };
        let session = Session {
            project: self.project.name.clone(),
            user: self.user(),
            id: self.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let supply = self.supply().map_err(|error| Failure::from_error(&error))?;
        let build = std::sync::Arc::new(module.build.cluster.clone());
        let backend = ClusterBackend::new(place, session, supply, build, self.events.clone());
        backends.insert(module.name.clone(), backend.clone());
        drop(backends);
        self.sweep_with(&backend).await;
        Ok(backend)
    }

    /// Removes what killed runs of this project and user left behind, where
    /// images are built. A build does so too, before its first pod.
    pub async fn sweep(&self) {
        if self.local.is_some() {
            return;
        }
        let builds = |module: &&Module| !module.build.artifacts.is_empty();
        for module in self.project.modules.iter().filter(builds) {
            // Building says what is wrong with the cluster.
            drop(self.backend(module).await);
        }
    }

    async fn sweep_with(&self, backend: &ClusterBackend) {
        match backend.sweep(jiff::Timestamp::now()).await {
            Ok(swept) => {
                for pod in swept.pods {
                    let message = format!("removed the build pod {pod} of a run that was killed");
                    self.events.emit(Event::Note { message });
                }
            }
            Err(error) => tracing::info!(%error, "leftovers were not looked for"),
        }
    }

    fn supply(&self) -> std::io::Result<Supply> {
        let reach = registries::reach(
            &self.env,
            &self.choices,
            &self.project,
            &self.settings,
            self.docker_config.clone(),
        )?;
        Ok(Supply {
            policy: self.choices.executor,
            binaries: executor_binaries(&self.env.exe),
            registry: self.registry.clone(),
            reach,
        })
    }

    fn user(&self) -> String {
        let name = self
            .env
            .var("USER")
            .or_else(|| self.env.var("LOGNAME"))
            .unwrap_or("unknown");
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{name}@{}", host.trim())
    }

    /// Where an image is pushed, without a tag.
    pub async fn repository(&self, image: &str) -> Result<String, CommandError> {
        if self.local.is_some() {
            return Ok(image.to_owned());
        }
        if self.default_repo.is_some() || has_registry(image) {
            return self.rewritten(image);
        }
        let hosting = self.hosting.get_or_init(|| async {
            let connected = self.connected().await.ok()?;
            cluster::hosting::local_registry(&connected.client)
                .await
                .ok()
                .flatten()
        });
        match hosting.await {
            Some(host) => Ok(format!("{host}/{image}")),
            None => Err(CommandError::new(
                crate::error::Kind::Config,
                format!("there is no registry to push {image} to"),
            )
            .hint("name one: --default-repo=REGISTRY/TEAM, or once for all: kiln config set default-repo REGISTRY/TEAM")
            .hint("a local cluster can name its own in the ConfigMap kube-public/local-registry-hosting")),
        }
    }
}

/// The registry's answer about an image that may be there already.
enum Lookup {
    /// It is.
    Found(ImageDigest),
    /// It is not.
    Nothing,
    /// This host cannot ask for this reference.
    OutOfReach(String),
}

/// Whether a name starts with a registry host.
fn has_registry(image: &str) -> bool {
    image
        .split_once('/')
        .is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost")
}

/// The executor that ships with this binary: a static one beside it, or the
/// binary itself.
fn executor_binaries(exe: &std::path::Path) -> Vec<ExecutorBinary> {
    let folder = exe.parent().unwrap_or(std::path::Path::new("/"));
    let mut binaries = Vec::new();
    for (arch, name) in [
        ("amd64", "kiln-executor-amd64"),
        ("arm64", "kiln-executor-arm64"),
    ] {
        let path = folder.join(name);
        if path.is_file() {
            binaries.push(ExecutorBinary {
                path,
                arch: arch.into(),
            });
        }
    }
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    if !binaries.iter().any(|binary| binary.arch == arch) {
        let beside = folder.join("executor");
        let path = if beside.is_file() {
            beside
        } else {
            exe.to_owned()
        };
        binaries.push(ExecutorBinary {
            path,
            arch: arch.into(),
        });
    }
    // The first is used where no platform is asked for.
    binaries.sort_by_key(|binary| binary.arch != arch);
    binaries
}

fn image(inputs: &ImageInputs, digest: ImageDigest) -> BuiltImage {
    BuiltImage {
        name: inputs.image.clone(),
        reference: inputs.plan.reference.clone(),
        digest: Some(digest),
        placed: inputs.placed.clone(),
        workdir: inputs.workdir.clone(),
    }
}

fn failed(error: impl std::error::Error + 'static) -> Stopped {
    Stopped::Failed(Failure::from_error(&error))
}
