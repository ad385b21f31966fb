//! Files that go into running containers instead of a build.

use futures_util::FutureExt as _;
use kiln_builder::hooks::RunHook;
use kiln_deployer::sync::copy::{Place, copy};
use kiln_deployer::sync::rule::{Changes, Decision, Plan, plan};
use kiln_schemas::event::{Event, Failure};
use kiln_schemas::image::BuiltImage;
use kiln_schemas::model::{Artifact, Sync};

use super::{Engine, ImageInputs, Stopped};
use crate::dev::state::SyncVerdict;

impl Engine {
    /// Whether what changed between two readings can be copied. What the
    /// image's own build would see differently (its Dockerfile, arguments or
    /// base) takes a build, and so does an image that others are built from.
    pub fn sync_verdict(
        &self,
        before: &ImageInputs,
        now: &ImageInputs,
        built: Option<&BuiltImage>,
    ) -> SyncVerdict {
        match built.and_then(|built| self.sync_plan(before, now, built)) {
            Some(_) => SyncVerdict::Possible,
            None => SyncVerdict::Rebuild,
        }
    }

    fn sync_plan(
        &self,
        before: &ImageInputs,
        now: &ImageInputs,
        built: &BuiltImage,
    ) -> Option<Plan> {
        let (_, artifact) = self.project.artifact(&now.image)?;
        let sync = self.sync_of(artifact)?;
        if !before.differs_in_files_alone(now) {
            return None;
        }
        let (written, deleted) = now.written_and_deleted(before);
        match plan(&Changes { written, deleted }, &sync.rules, built) {
            Decision::Sync(plan) => Some(plan),
            Decision::Rebuild(_) => None,
        }
    }

    fn sync_of<'a>(&self, artifact: &'a Artifact) -> Option<&'a Sync> {
        let required = self
            .images()
            .any(|(_, requires)| requires.contains(&artifact.image));
        artifact
            .sync
            .as_ref()
            .filter(|_| self.choices.sync && !required)
    }

    /// Copies what changed between two readings into every running container.
    pub async fn sync(
        &self,
        before: &ImageInputs,
        now: &ImageInputs,
        built: &BuiltImage,
    ) -> Result<(), Stopped> {
        self.forget_watching();
        let result = self.try_sync(before, now, built).await;
        result.map_err(|failure| {
            let message = format!("{}: {}; building instead", now.image, failure.message);
            self.events.emit(Event::Warning {
                message,
                hint: failure.causes.first().cloned(),
            });
            Stopped::Failed(failure)
        })
    }

    async fn try_sync(
        &self,
        before: &ImageInputs,
        now: &ImageInputs,
        built: &BuiltImage,
    ) -> Result<(), Failure> {
        let Some((module, artifact)) = self.project.artifact(&now.image) else {
            return Ok(());
        };
        let (Some(sync), Some(plan)) = (self.sync_of(artifact), self.sync_plan(before, now, built))
        else {
            return Err(Failure::new("the changed files cannot be copied"));
        };
        let runner = self.hook_runner(module);
        let env = sync_env(&plan);
        for hook in &sync.hooks.before {
            runner.run(hook, &env).await.map_err(Failure::new)?;
        }
        let cluster = self.cluster().await?;
        let namespaces = self.follow.lock().await.namespaces.clone();
        let place = Place {
            context: &artifact.context,
            namespaces: &namespaces,
        };
        copy(&cluster, &place, built, &plan, &self.events)
            .boxed()
            .await
            .map_err(|error| Failure::from_error(&error))?;
        for hook in &sync.hooks.after {
            runner.run(hook, &env).await.map_err(Failure::new)?;
        }
        Ok(())
    }
}

/// What sync hooks are told (skaffold's documentation, "Lifecycle hooks").
fn sync_env(plan: &Plan) -> std::collections::BTreeMap<String, String> {
    let written: Vec<&str> = plan
        .copies
        .iter()
        .map(|(source, _)| source.as_str())
        .collect();
    let deleted: Vec<String> = plan
        .deletions
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    [
        (
            "SKAFFOLD_FILES_ADDED_OR_MODIFIED".to_owned(),
            written.join(";"),
        ),
        ("SKAFFOLD_FILES_DELETED".to_owned(), deleted.join(";")),
    ]
    .into()
}
