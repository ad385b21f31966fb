//! What the loop does next, and why it waits.
//!
//! One pure function from [`State`] to actions and holds. The driver calls it
//! after every event, performs the actions, and shows the holds. The rules, in
//! the order in which they are applied:
//!
//! 1. A changed configuration stops all work; when all of it has stopped, the
//!    configuration is read again.
//! 2. Work for a state that is no longer wanted is stopped. What is stopped is
//!    started again only after it has ended, so that one image never has two
//!    builds, and one project never two deploys.
//! 3. An image whose inputs are not what runs is synced if every changed file
//!    has a place in the container, and otherwise built: after the images that
//!    it requires, and no more than `concurrency` at once.
//! 4. What failed is tried again after the next change, whichever file it is.
//!    Until then the image stays dirty.
//! 5. Once no image is dirty, what is wanted is deployed, unless it runs
//!    already. An image that was only synced is built first, because new pods
//!    would start without the copied files.

use super::state::{Deploy, DeployWork, Desired, Failed, Image, State, SyncVerdict, Work};

/// Something for the driver to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Build the image from its inputs as they are now.
    Build(String),
    /// Copy changed files into its running containers.
    Sync(String),
    /// Stop what is being done for the image.
    Cancel(String),
    /// Render, apply and wait.
    Deploy(Desired),
    /// Stop the running deploy.
    CancelDeploy,
    /// Read the configuration again.
    Reload,
}

/// Why something that is wanted does not happen now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// An image's name, or `deploy`.
    pub what: String,
    /// What it waits for.
    pub why: Why,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// An image that it requires is not built yet.
    Requires(String),
    /// As many builds run as are allowed.
    Concurrency(usize),
    /// The work that a change made pointless has not ended yet.
    Stopping,
    /// It failed; the next change tries again.
    FailedUntilChange,
    /// An image is still being built.
    Building(String),
    /// An image's build failed.
    ImageFailed(String),
    /// Files are being copied.
    Syncing(String),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Requires(image) => write!(f, "requires {image}, which is not built yet"),
            Self::Concurrency(limit) => write!(f, "{limit} builds run already (build concurrency)"),
            Self::Stopping => f.write_str("the work that the change made pointless is stopping"),
            Self::FailedUntilChange => f.write_str("failed; the next change tries again"),
            Self::Building(image) => write!(f, "{image} is not built yet"),
            Self::ImageFailed(image) => write!(f, "the build of {image} failed"),
            Self::Syncing(image) => write!(f, "files of {image} are being copied"),
        }
    }
}

/// Actions to perform now, and reasons for what is not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// To perform, in this order.
    pub actions: Vec<Action>,
    /// To show.
    pub holds: Vec<Hold>,
}

impl Decision {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn hold(&mut self, what: &str, why: Why) {
        self.holds.push(Hold {
            what: what.to_owned(),
            why,
        });
    }
}

/// Decides. Pure: the same state gives the same decision.
pub fn decide(state: &State) -> Decision {
    let mut decision = Decision::default();
    if state.reload {
        stop_everything(state, &mut decision);
        return decision;
    }
    let deploy_due = deploy_due(state);
    let mut running = state
        .images
        .iter()
        .filter(|i| matches!(i.work, Work::Building(_)))
        .count();
    for image in &state.images {
        running += usize::from(decide_image(
            state,
            image,
            deploy_due,
            running,
            &mut decision,
        ));
    }
    if state.deploy.enabled {
        decide_deploy(state, &mut decision);
    }
    decision
}

/// Rule 1.
fn stop_everything(state: &State, decision: &mut Decision) {
    let mut busy = false;
    for image in &state.images {
        match image.work {
            Work::Idle => {}
            Work::Stopping => busy = true,
            Work::Building(_) | Work::Syncing(_) => {
                busy = true;
                decision.act(Action::Cancel(image.name.clone()));
            }
        }
    }
    match state.deploy.work {
        DeployWork::Idle => {}
        DeployWork::Stopping => busy = true,
        DeployWork::Running(_) => {
            busy = true;
            decision.act(Action::CancelDeploy);
        }
    }
    if busy {
        decision.hold("configuration", Why::Stopping);
    } else {
        decision.act(Action::Reload);
    }
}

/// Rules 2 to 4 for one image. Returns whether a build was started.
fn decide_image(
    state: &State,
    image: &Image,
    deploy_due: bool,
    running: usize,
    decision: &mut Decision,
) -> bool {
    match &image.work {
        Work::Building(key) | Work::Syncing(key) => {
            if *key != image.wanted {
                decision.act(Action::Cancel(image.name.clone()));
            }
            return false;
        }
        Work::Stopping => {
            decision.hold(&image.name, Why::Stopping);
            return false;
        }
        Work::Idle => {}
    }
    if !is_dirty(image, deploy_due) {
        return false;
    }
    if is_failed(image.failed.as_ref(), &image.wanted, state.generation) {
        decision.hold(&image.name, Why::FailedUntilChange);
        return false;
    }
    let copies_suffice = image.sync == SyncVerdict::Possible && image.built.is_some();
    if copies_suffice && !deploy_due {
        decision.act(Action::Sync(image.name.clone()));
        return false;
    }
    if let Some(required) = unbuilt_requirement(state, image) {
        decision.hold(&image.name, Why::Requires(required.to_owned()));
        return false;
    }
    if state.concurrency != 0 && running >= state.concurrency {
        decision.hold(&image.name, Why::Concurrency(state.concurrency));
        return false;
    }
    decision.act(Action::Build(image.name.clone()));
    true
}

/// Whether the image must be built or synced before it is as wanted.
fn is_dirty(image: &Image, deploy_due: bool) -> bool {
    let have = if deploy_due {
        image.built.as_ref()
    } else {
        image.live()
    };
    have != Some(&image.wanted)
}

/// Rule 4.
fn is_failed<T: PartialEq>(failed: Option<&Failed<T>>, wanted: &T, generation: u64) -> bool {
    failed.is_some_and(|f| f.target == *wanted && f.generation >= generation)
}

fn unbuilt_requirement<'a>(state: &'a State, image: &'a Image) -> Option<&'a str> {
    image.requires.iter().map(String::as_str).find(|required| {
        state
            .images
            .iter()
            .any(|other| other.name == **required && other.built.as_ref() != Some(&other.wanted))
    })
}

/// Whether a deploy is needed for another reason than files that sync can
/// bring: the first one, changed manifests, or an image that takes a build.
fn deploy_due(state: &State) -> bool {
    let deploy = &state.deploy;
    if !deploy.enabled {
        return true;
    }
    let Some(have) = &deploy.have else {
        return true;
    };
    if have.manifests != deploy.manifests {
        return true;
    }
    state
        .images
        .iter()
        .zip(&have.images)
        .any(|(image, deployed)| {
            image.built.as_ref() != Some(deployed)
                || (image.live() != Some(&image.wanted) && image.sync == SyncVerdict::Rebuild)
        })
}

/// Rule 5.
fn decide_deploy(state: &State, decision: &mut Decision) {
    let deploy = &state.deploy;
    match desired(state) {
        Some(desired) => match &deploy.work {
            DeployWork::Running(target) if *target == desired => {}
            DeployWork::Running(_) => decision.act(Action::CancelDeploy),
            DeployWork::Stopping => decision.hold("deploy", Why::Stopping),
            DeployWork::Idle => start_deploy(state, deploy, desired, decision),
        },
        None => {
            if matches!(deploy.work, DeployWork::Running(_)) {
                decision.act(Action::CancelDeploy);
            }
            if let Some(why) = waits_for_image(state) {
                decision.hold("deploy", why);
            }
        }
    }
}

fn start_deploy(state: &State, deploy: &Deploy, desired: Desired, decision: &mut Decision) {
    if deploy.have.as_ref() == Some(&desired) {
        return;
    }
    if is_failed(deploy.failed.as_ref(), &desired, state.generation) {
        decision.hold("deploy", Why::FailedUntilChange);
        return;
    }
    decision.act(Action::Deploy(desired));
}

/// What should run, once every image is either built as wanted or, with what
/// runs otherwise unchanged, synced to what is wanted.
fn desired(state: &State) -> Option<Desired> {
    let due = deploy_due(state);
    let mut images = Vec::with_capacity(state.images.len());
    for image in &state.images {
        if image.work != Work::Idle || is_dirty(image, due) {
            return None;
        }
        images.push(image.built.clone()?);
    }
    Some(Desired {
        manifests: state.deploy.manifests.clone(),
        images,
    })
}

fn waits_for_image(state: &State) -> Option<Why> {
    let due = deploy_due(state);
    state.images.iter().find_map(|image| match &image.work {
        Work::Building(_) => Some(Why::Building(image.name.clone())),
        Work::Syncing(_) => Some(Why::Syncing(image.name.clone())),
        Work::Stopping => Some(Why::Stopping),
        Work::Idle if !is_dirty(image, due) => None,
        Work::Idle if is_failed(image.failed.as_ref(), &image.wanted, state.generation) => {
            Some(Why::ImageFailed(image.name.clone()))
        }
        Work::Idle => Some(Why::Building(image.name.clone())),
    })
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
