//! Performs what [`decide`] says and keeps the state true.
//!
//! One task per action, each with a token that cancels it. The driver itself
//! never blocks: it waits for a task to end, for files to change, or for the
//! user. `kiln run` and `kiln build` are the same loop without a watch: it
//! ends when nothing runs and nothing can be done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use kiln_schemas::event::{BuildReason, Event};
use kiln_schemas::image::BuiltImage;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::decide::{Action, Hold, Why, decide};
use super::state::{Deploy, DeployWork, Desired, Failed, Image, Key, State, SyncVerdict, Work};
use super::watch::{Batch, Watch, WatchError};
use crate::engine::{Engine, Inputs, Stopped};
use crate::error::Kind;

/// How the loop came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing is left to do; `ok` when nothing failed either.
    Idle {
        /// Whether every image was built and the deploy succeeded.
        ok: bool,
    },
    /// The user asked for it.
    Interrupted,
    /// A configuration file changed; all work has stopped.
    Reload,
}

/// Which task a token or a result belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Image(String),
    Deploy,
}

/// How a task ended.
enum Done {
    Built {
        image: String,
        key: Key,
        result: Result<BuiltImage, Stopped>,
    },
    Synced {
        image: String,
        key: Key,
        result: Result<(), Stopped>,
    },
    Deployed {
        desired: Desired,
        result: Result<(), Stopped>,
    },
}

/// The loop of one configuration.
pub struct Driver {
    engine: Arc<Engine>,
    state: State,
    inputs: Inputs,
    /// What was read when each image was built or synced last.
    live: BTreeMap<String, Arc<crate::engine::ImageInputs>>,
    built: BTreeMap<String, BuiltImage>,
    tasks: JoinSet<Done>,
    cancels: BTreeMap<Task, CancellationToken>,
    changed_at: Option<SystemTime>,
    shown: BTreeSet<String>,
    has_deployed: bool,
    /// Without a watch nothing that is waited for will come by a change.
    watching: bool,
}

impl Driver {
    /// A loop over what the engine's project names.
    pub fn new(engine: Arc<Engine>, inputs: Inputs) -> Self {
        let images = engine.images().map(|(name, requires)| Image {
            name,
            requires,
            wanted: Key(String::new()),
            built: None,
            synced: None,
            work: Work::Idle,
            failed: None,
            sync: SyncVerdict::Rebuild,
        });
        let state = State {
            images: images.collect(),
            deploy: Deploy {
                enabled: engine.deploys(),
                manifests: Key(String::new()),
                have: None,
                work: DeployWork::Idle,
                failed: None,
            },
            reload: false,
            generation: 1,
            concurrency: engine.concurrency(),
        };
        let mut driver = Self {
            engine,
            state,
            inputs,
            live: BTreeMap::new(),
            built: BTreeMap::new(),
            tasks: JoinSet::new(),
            cancels: BTreeMap::new(),
            changed_at: None,
            shown: BTreeSet::new(),
            has_deployed: false,
            watching: false,
        };
        driver.take_inputs();
        driver
    }

    /// Images that are in the registry now, in file order.
    pub fn built(&self) -> Vec<BuiltImage> {
        self.state
            .images
            .iter()
            .filter_map(|i| self.built.get(&i.name).cloned())
            .collect()
    }

    /// The exit code's kind when not everything happened: builds come first,
    /// because a deploy waits for them.
    pub fn worst(&self) -> Kind {
        let built = self
            .state
            .images
            .iter()
            .all(|i| i.built.as_ref() == Some(&i.wanted));
        if built { Kind::Deploy } else { Kind::Build }
    }

    /// Whether anything was deployed, so that clean-up has something to do.
    pub fn has_deployed(&self) -> bool {
        self.has_deployed
    }

    /// Runs until nothing is left to do (without a watch), the user
    /// interrupts, or the configuration changes. All tasks have ended when it
    /// returns.
    pub async fn run(
        &mut self,
        mut watch: Option<&mut Watch>,
        interrupt: &CancellationToken,
    ) -> Result<Ending, WatchError> {
        self.watching = watch.is_some();
        if let Some(watch) = watch.as_deref_mut() {
            self.follow(watch).await?;
            // What was saved after it was read and before it was watched.
            self.state.reload = self.engine.configuration_changed();
        }
        loop {
            let decision = decide(&self.state);
            self.show(&decision.holds);
            for action in decision.actions {
                if action == Action::Reload {
                    return Ok(Ending::Reload);
                }
                self.perform(action);
            }
            if self.tasks.is_empty() {
                match watch.as_deref() {
                    None => return Ok(Ending::Idle { ok: self.is_done() }),
                    Some(_) => self.engine.say_watching(&self.inputs),
                }
            }
            tokio::select! {
                biased;
                () = interrupt.cancelled() => {
                    self.stop_all().await;
                    return Ok(Ending::Interrupted);
                }
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    // A task that panicked is a bug of ours; its panic goes on here.
                    self.settle(done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())));
                }
                batch = next_batch(watch.as_deref_mut()) => {
                    if let Some(watch) = watch.as_deref_mut() {
                        self.changed(&batch, watch).await?;
                    }
                }
            }
        }
    }

    /// Cancels everything and waits for it: pods are deleted by their tasks.
    async fn stop_all(&mut self) {
        for token in self.cancels.values() {
            token.cancel();
        }
        while let Some(done) = self.tasks.join_next().await {
            if let Ok(done) = done {
                self.settle(done);
            }
        }
    }

    fn is_done(&self) -> bool {
        let images = self
            .state
            .images
            .iter()
            .all(|i| i.built.as_ref() == Some(&i.wanted));
        let deploy = !self.state.deploy.enabled || self.state.deploy.have.is_some();
        images && deploy && self.state.deploy.failed.is_none()
    }

    /// Each reason to wait is said once while it holds.
    fn show(&mut self, holds: &[Hold]) {
        let now: BTreeSet<String> = holds
            .iter()
            .map(|h| format!("{} {}", h.what, h.why))
            .collect();
        for hold in holds {
            // That a deploy comes after its builds goes without saying, and
            // without a watch no change will come.
            let obvious =
                hold.what == "deploy" && matches!(hold.why, Why::Building(_) | Why::Syncing(_));
            let vain = matches!(hold.why, Why::FailedUntilChange | Why::ImageFailed(_));
            if obvious || (vain && !self.watching) {
                continue;
            }
            if !self.shown.contains(&format!("{} {}", hold.what, hold.why)) {
                let held = Event::Held {
                    what: hold.what.clone(),
                    why: hold.why.to_string(),
                };
                self.engine.events().emit(held);
            }
        }
        self.shown = now;
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Build(image) => self.build(image),
            Action::Sync(image) => self.sync(image),
            Action::Cancel(image) => {
                self.cancel(&Task::Image(image.clone()));
                self.image(&image).work = Work::Stopping;
            }
            Action::Deploy(desired) => self.deploy(desired),
            Action::CancelDeploy => {
                self.cancel(&Task::Deploy);
                self.state.deploy.work = DeployWork::Stopping;
            }
            Action::Reload => {}
        }
    }

    fn build(&mut self, name: String) {
        let Some(Ok(inputs)) = self.inputs.images.get(&name) else {
            return;
        };
        let inputs = Arc::clone(inputs);
        let reason = self.reason(&name);
        let changed_at = matches!(reason, BuildReason::Changed(_))
            .then_some(self.changed_at)
            .flatten();
        let required = self.engine.requires(&name);
        let required = required
            .into_iter()
            .filter_map(|r| Some((r.clone(), self.built.get(&r)?.pinned())));
        let required: BTreeMap<String, String> = required.collect();
        let image = self.image(&name);
        let key = image.wanted.clone();
        image.work = Work::Building(key.clone());
        self.live.insert(name.clone(), Arc::clone(&inputs));
        let cancel = self.token(Task::Image(name.clone()));
        let engine = Arc::clone(&self.engine);
        self.tasks.spawn(async move {
            let start = crate::engine::Start {
                reason,
                changed_at,
                required,
            };
            let result = engine.build(&inputs, start, &cancel).await;
            Done::Built {
                image: name,
                key,
                result,
            }
        });
    }

    fn sync(&mut self, name: String) {
        let (Some(Ok(inputs)), Some(before)) =
            (self.inputs.images.get(&name), self.live.get(&name))
        else {
            return;
        };
        let Some(built) = self.built.get(&name).cloned() else {
            return;
        };
        let (inputs, before) = (Arc::clone(inputs), Arc::clone(before));
        let image = self.image(&name);
        let key = image.wanted.clone();
        image.work = Work::Syncing(key.clone());
        let cancel = self.token(Task::Image(name.clone()));
        let engine = Arc::clone(&self.engine);
        self.tasks.spawn(async move {
            let result = tokio::select! {
                result = engine.sync(&before, &inputs, &built) => result,
                () = cancel.cancelled() => Err(Stopped::Cancelled),
            };
            Done::Synced {
                image: name,
                key,
                result,
            }
        });
    }

    fn deploy(&mut self, desired: Desired) {
        self.state.deploy.work = DeployWork::Running(desired.clone());
        // Should this one fail or be cancelled, what ran before does not run
        // any more either.
        self.state.deploy.have = None;
        self.has_deployed = true;
        let images = self.built();
        let cancel = self.token(Task::Deploy);
        let engine = Arc::clone(&self.engine);
        self.tasks.spawn(async move {
            let result = engine.deploy(&images, &cancel).await;
            Done::Deployed { desired, result }
        });
    }

    fn settle(&mut self, done: Done) {
        let generation = self.state.generation;
        match done {
            Done::Built {
                image: name,
                key,
                result,
            } => {
                self.cancels.remove(&Task::Image(name.clone()));
                let image = self.image(&name);
                image.work = Work::Idle;
                match result {
                    Ok(built) => {
                        image.built = Some(key);
                        image.synced = None;
                        image.failed = None;
                        self.built.insert(name, built);
                    }
                    Err(Stopped::Cancelled) => {}
                    Err(Stopped::Failed(_)) => {
                        image.failed = Some(Failed {
                            target: key,
                            generation,
                        });
                    }
                }
            }
            Done::Synced {
                image: name,
                key,
                result,
            } => {
                self.cancels.remove(&Task::Image(name.clone()));
                let now = self
                    .inputs
                    .images
                    .get(&name)
                    .and_then(|i| i.as_ref().ok())
                    .cloned();
                let image = self.image(&name);
                image.work = Work::Idle;
                match result {
                    Ok(()) => {
                        let current = image.wanted == key;
                        image.synced = Some(key);
                        image.failed = None;
                        if let (true, Some(now)) = (current, now) {
                            self.live.insert(name, now);
                        }
                    }
                    Err(Stopped::Cancelled) => {}
                    // What could not be copied is built.
                    Err(Stopped::Failed(_)) => image.sync = SyncVerdict::Rebuild,
                }
            }
            Done::Deployed { desired, result } => {
                self.cancels.remove(&Task::Deploy);
                let deploy = &mut self.state.deploy;
                deploy.work = DeployWork::Idle;
                match result {
                    Ok(()) => {
                        deploy.have = Some(desired);
                        deploy.failed = None;
                    }
                    Err(Stopped::Cancelled) => {}
                    Err(Stopped::Failed(_)) => {
                        deploy.failed = Some(Failed {
                            target: desired,
                            generation,
                        });
                    }
                }
            }
        }
    }

    /// Files may have changed: reads what they decide, again.
    async fn changed(&mut self, batch: &Batch, watch: &mut Watch) -> Result<(), WatchError> {
        if self.engine.is_configuration(&batch.paths) {
            self.state.reload = self.engine.configuration_changed();
        }
        let inputs = self.engine.scan(Some((&self.inputs, batch))).await;
        let changed = inputs.changed_since(&self.inputs);
        self.inputs = inputs;
        if !changed.is_empty() {
            self.state.generation += 1;
            self.changed_at = newest(&changed);
            let paths = changed.iter().map(|path| self.engine.shown(path)).collect();
            self.engine.events().emit(Event::Changed { paths });
        }
        self.take_inputs();
        self.follow(watch).await
    }

    /// Watches what the inputs were read from. What happened in a folder
    /// before it was watched was not seen, so it is read again.
    async fn follow(&mut self, watch: &mut Watch) -> Result<(), WatchError> {
        while watch.follow(&self.inputs.folders)? {
            let inputs = self.engine.scan(None).await;
            let same = inputs.folders == self.inputs.folders;
            self.inputs = inputs;
            self.take_inputs();
            if same {
                break;
            }
        }
        Ok(())
    }

    /// Brings the state's keys in line with the inputs.
    fn take_inputs(&mut self) {
        self.state.deploy.manifests = self.inputs.manifests.key.clone();
        let generation = self.state.generation;
        for image in &mut self.state.images {
            match self.inputs.images.get(&image.name) {
                Some(Ok(inputs)) => {
                    image.wanted = inputs.key.clone();
                    let before = self.live.get(&image.name);
                    image.sync = before.map_or(SyncVerdict::Rebuild, |b| {
                        self.engine
                            .sync_verdict(b, inputs, self.built.get(&image.name))
                    });
                }
                Some(Err(failure)) => {
                    let wanted = Key(format!("unreadable: {}", failure.message));
                    if image.wanted != wanted {
                        let event = Event::BuildFailed {
                            image: image.name.clone(),
                            failure: failure.clone(),
                        };
                        self.engine.events().emit(event);
                    }
                    image.failed = Some(Failed {
                        target: wanted.clone(),
                        generation,
                    });
                    image.wanted = wanted;
                }
                None => {}
            }
        }
    }

    fn reason(&self, name: &str) -> BuildReason {
        let Some(image) = self.state.images.iter().find(|i| i.name == name) else {
            return BuildReason::First;
        };
        if image
            .failed
            .as_ref()
            .is_some_and(|f| f.target == image.wanted)
        {
            return BuildReason::Dirty;
        }
        let (Some(Ok(now)), Some(before)) = (self.inputs.images.get(name), self.live.get(name))
        else {
            return BuildReason::First;
        };
        let paths = now.changed_since(before);
        if !paths.is_empty() {
            return BuildReason::Changed(paths);
        }
        image
            .requires
            .first()
            .map_or(BuildReason::Dirty, |r| BuildReason::Required(r.clone()))
    }

    fn image(&mut self, name: &str) -> &mut Image {
        // Names come from the state itself.
        let at = self
            .state
            .images
            .iter()
            .position(|image| image.name == name)
            .unwrap_or_default();
        &mut self.state.images[at]
    }

    fn token(&mut self, task: Task) -> CancellationToken {
        let token = CancellationToken::new();
        self.cancels.insert(task, token.clone());
        token
    }

    fn cancel(&mut self, task: &Task) {
        if let Some(token) = self.cancels.get(task) {
            token.cancel();
        }
    }
}

async fn next_batch(watch: Option<&mut Watch>) -> Batch {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

/// The newest modification time among the paths that exist.
fn newest(paths: &[std::path::PathBuf]) -> Option<SystemTime> {
    paths
        .iter()
        .filter_map(|path| path.symlink_metadata().ok()?.modified().ok())
        .max()
}
