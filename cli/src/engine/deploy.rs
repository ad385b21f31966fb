//! Render, apply, wait: one deploy of all modules.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use kiln_builder::hooks::{RunHook, When};
use kiln_deployer::apply::{ApplySettings, Replace, SetName, Validation};
use kiln_deployer::render::{
    self, Collected, CommandKustomize, Kustomize, NativeKustomize, Rewrite, Sources,
};
use kiln_deployer::{Applied, Cluster, Object, Rendered};
use kiln_schemas::event::{Event, Failure, Phase};
use kiln_schemas::image::BuiltImage;
use kiln_schemas::model::{HookPair, Module, RemoteManifest};
use tokio_util::sync::CancellationToken;

use super::hooks::HostHooks;
use super::{Engine, Stopped};

impl Engine {
    /// Renders every module, applies it, and waits until all of it is ready.
    pub async fn deploy(
        &self,
        images: &[BuiltImage],
        cancel: &CancellationToken,
    ) -> Result<(), Stopped> {
        self.forget_watching();
        let work = async {
            if let Some(local) = &self.local {
                return self.deploy_here(local, images, cancel).boxed().await;
            }
            let cluster = self.cluster().await?;
            let set = self.render_all(images, Some(&cluster)).await?;
            let mut applied = Vec::new();
            let applying = Instant::now();
            for (module, rendered) in &set {
                self.deploy_hooks(module, When::Before).await?;
                applied.push((
                    *module,
                    self.apply_module(module, rendered, &cluster).await?,
                ));
            }
            self.took("deploy", Phase::Apply, applying.elapsed());
            let objects: Vec<&Applied> = applied.iter().map(|(_, a)| a).collect();
            self.follow(&cluster, &objects, images).await?;
            self.wait(&applied, &cluster).await?;
            for (module, _) in &applied {
                self.deploy_hooks(module, When::After).await?;
            }
            Ok(())
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Stopped::Cancelled),
            result = work => result.map_err(|failure| {
                self.failed(|failure| Event::DeployFailed { failure }, failure)
            }),
        }
    }

    /// Manifests of all modules with images, namespace and labels in them.
    pub async fn render_all(
        &self,
        images: &[BuiltImage],
        cluster: Option<&Cluster>,
    ) -> Result<Vec<(&Module, Rendered)>, Failure> {
        let started = Instant::now();
        let mut all = Vec::new();
        let mut unused: Option<Vec<String>> = None;
        for module in &self.project.modules {
            let rendered = self.render_module(module, images, cluster).await?;
            let here = rendered.unused_images.clone();
            unused = Some(match unused {
                None => here,
                Some(before) => before.into_iter().filter(|i| here.contains(i)).collect(),
            });
            all.push((module, rendered));
        }
        let ms = millis(started.elapsed());
        let objects = all.iter().map(|(_, r)| r.objects.len()).sum();
        self.events.emit(Event::Rendered { objects, ms });
        self.events.emit(Event::Timing {
            what: "deploy".into(),
            phase: Phase::Render,
            ms,
        });
        for image in unused.unwrap_or_default() {
            // An image that only others are built from need not be in a manifest.
            if !self.images().any(|(_, requires)| requires.contains(&image)) {
                let message = format!("no manifest uses the image {image}");
                let hint = Some("manifests name images as the configuration does".to_owned());
                self.events.emit(Event::Warning { message, hint });
            }
        }
        Ok(all)
    }

    async fn render_module(
        &self,
        module: &Module,
        images: &[BuiltImage],
        cluster: Option<&Cluster>,
    ) -> Result<Rendered, Failure> {
        let runner = self.hook_runner(module);
        for hook in &module.manifests.before {
            runner
                .run(hook, &BTreeMap::new())
                .await
                .map_err(|r| hook_failed("before rendering", &r))?;
        }
        let sources = self.manifest_sources(module)?;
        let kustomize = self.kustomize();
        let http = reqwest::Client::new();
        let Collected {
            mut objects,
            warnings,
        } = render::collect(&sources, kustomize.as_ref(), &http)
            .await
            .map_err(failure)?;
        for message in warnings {
            self.say_once(Event::Warning {
                message,
                hint: None,
            });
        }
        for remote in &module.manifests.remote {
            let origin = self.origin(remote, cluster).await?;
            objects.push(
                render::remote::fetch(&origin, &remote.manifest)
                    .await
                    .map_err(failure)?,
            );
        }
        let rewrite = Rewrite {
            images,
            selector: &module.resource_selector,
            namespace: self.choices.namespace.as_deref(),
            labels: &self.labels(module),
        };
        let mut rendered = render::rewrite(objects, &rewrite).map_err(failure)?;
        for hook in &module.manifests.after {
            if hook.with_change {
                let text = rendered.to_yaml().map_err(failure)?;
                let text = runner
                    .filter(&hook.hook, &text)
                    .await
                    .map_err(|r| hook_failed("after rendering", &r))?;
                rendered.objects =
                    render::manifest::parse(&text, "a hook's output").map_err(failure)?;
            } else {
                runner
                    .run(&hook.hook, &BTreeMap::new())
                    .await
                    .map_err(|r| hook_failed("after rendering", &r))?;
            }
        }
        Ok(rendered)
    }

    /// The cluster that an object is taken from.
    async fn origin(
        &self,
        remote: &RemoteManifest,
        here: Option<&Cluster>,
    ) -> Result<Cluster, Failure> {
        match (&remote.kube_context, here) {
            (Some(context), _) => self.cluster_of(context).await,
            (None, Some(here)) => Ok(here.clone()),
            (None, None) => self.cluster().await,
        }
    }

    /// Where a module's manifests come from, templates filled in.
    pub(super) fn manifest_sources(&self, module: &Module) -> Result<Sources, Failure> {
        Sources::expand(&module.manifests, &module.dir, |template| {
            self.expand(template)
        })
        .map_err(Failure::new)
    }

    /// The program that was named, else Kiln's own renderer.
    pub(super) fn kustomize(&self) -> Box<dyn Kustomize> {
        match &self.choices.kustomize_binary {
            Some(program) => Box::new(CommandKustomize::named(program.clone())),
            None => {
                let path = self.env.var("PATH").map(std::ffi::OsStr::new);
                Box::new(NativeKustomize::new(CommandKustomize::find(path)))
            }
        }
    }

    fn labels(&self, module: &Module) -> BTreeMap<String, String> {
        let mut labels = module.deploy.labels.clone();
        labels.extend(self.choices.labels.clone());
        labels
    }

    /// Applies objects that were rendered before, as the first module's set.
    pub(super) async fn apply_objects(&self, objects: Vec<Object>) -> Result<(), Failure> {
        let Some(module) = self.project.modules.first() else {
            return Ok(());
        };
        let cluster = self.cluster().await?;
        let rendered = Rendered {
            objects,
            ..Rendered::default()
        };
        let applied = vec![(
            module,
            self.apply_module(module, &rendered, &cluster).await?,
        )];
        let objects: Vec<&Applied> = applied.iter().map(|(_, a)| a).collect();
        self.follow(&cluster, &objects, &[]).await?;
        self.wait(&applied, &cluster).await
    }

    async fn apply_module(
        &self,
        module: &Module,
        rendered: &Rendered,
        cluster: &Cluster,
    ) -> Result<Applied, Failure> {
        let cluster = self.module_cluster(module, cluster)?;
        let settings = ApplySettings {
            replace: if module.deploy.force || self.choices.force {
                Replace::Force
            } else {
                Replace::WhereSafe
            },
            validation: if module.deploy.skip_validation {
                Validation::Ignore
            } else {
                Validation::Strict
            },
            ..ApplySettings::default()
        };
        let set = self.set_name(module, &cluster);
        kiln_deployer::apply(&cluster, &rendered.objects, &set, &settings, &self.events)
            .boxed()
            .await
            .map_err(|error| error.failure())
    }

    /// The cluster with the module's default namespace.
    pub(super) fn module_cluster(
        &self,
        module: &Module,
        cluster: &Cluster,
    ) -> Result<Cluster, Failure> {
        match (&self.choices.namespace, &module.deploy.default_namespace) {
            (None, Some(template)) => {
                let namespace = self.expand(template).map_err(Failure::new)?;
                Ok(cluster.with_namespace(namespace))
            }
            _ => Ok(cluster.clone()),
        }
    }

    /// Under which name the module's objects are remembered.
    pub(super) fn set_name(&self, module: &Module, cluster: &Cluster) -> SetName {
        SetName {
            project: self.project.name.clone(),
            module: module.name.clone(),
            namespace: cluster.namespace().to_owned(),
        }
    }

    async fn wait(&self, applied: &[(&Module, Applied)], cluster: &Cluster) -> Result<(), Failure> {
        let started = Instant::now();
        let waits = applied.iter().filter_map(|(module, applied)| {
            let mut check = module.deploy.status;
            check.enabled = self.choices.status_check.unwrap_or(check.enabled);
            check.tolerate_failures = self
                .choices
                .tolerate_failures
                .unwrap_or(check.tolerate_failures);
            check.enabled.then_some((applied, check))
        });
        let waits = waits.map(|(applied, check)| async move {
            kiln_deployer::wait_ready(cluster, applied, &check, &self.events).await
        });
        let waits: Vec<_> = waits.map(FutureExt::boxed).collect();
        let results = futures_util::future::join_all(waits).await;
        for result in results {
            result.map_err(|error| error.failure())?;
        }
        self.took("deploy", Phase::Rollout, started.elapsed());
        Ok(())
    }

    pub(super) async fn deploy_hooks(&self, module: &Module, when: When) -> Result<(), Failure> {
        let HookPair { before, after } = &module.deploy.hooks;
        let (hooks, words) = match when {
            When::Before => (before, "before deploying"),
            When::After => (after, "after deploying"),
        };
        let runner = self.hook_runner(module);
        let mut env = BTreeMap::new();
        if let Some(connected) = self.connected.get() {
            env.insert(
                "SKAFFOLD_KUBE_CONTEXT".to_owned(),
                connected.context.clone(),
            );
            let namespace = self
                .choices
                .namespace
                .clone()
                .unwrap_or(connected.namespace.clone());
            env.insert("SKAFFOLD_NAMESPACES".to_owned(), namespace);
        }
        env.insert("SKAFFOLD_RUN_ID".to_owned(), self.id.clone());
        for hook in hooks {
            if hook.os.is_empty() || hook.os.iter().any(|os| os == std::env::consts::OS) {
                runner
                    .run(hook, &env)
                    .await
                    .map_err(|reason| hook_failed(words, &reason))?;
            }
        }
        Ok(())
    }

    pub(super) fn hook_runner(&self, module: &Module) -> HostHooks {
        let mut vars = BTreeMap::new();
        vars.insert(
            "SKAFFOLD_WORK_DIR".to_owned(),
            self.env.cwd.display().to_string(),
        );
        if let Some(repo) = &self.default_repo {
            vars.insert("SKAFFOLD_DEFAULT_REPO".to_owned(), repo.clone());
        }
        HostHooks {
            dir: module.dir.clone(),
            events: self.events.clone(),
            vars,
        }
    }

    pub(super) fn took(&self, what: &str, phase: Phase, took: Duration) {
        self.events.emit(Event::Timing {
            what: what.to_owned(),
            phase,
            ms: millis(took),
        });
    }
}

fn hook_failed(when: &str, reason: &str) -> Failure {
    let mut failure = Failure::new(format!("a hook {when} failed"));
    failure.causes.push(reason.to_owned());
    failure
}

fn failure(error: impl std::error::Error + 'static) -> Failure {
    Failure::from_error(&error)
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
