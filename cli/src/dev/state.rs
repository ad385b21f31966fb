//! What the loop knows. Plain values: the driver keeps them true, and
//! [`decide`](super::decide::decide) reads them.

use std::fmt;

/// Names one state of an input: equal keys mean equal bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub String);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that the next decision depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The images, in file order.
    pub images: Vec<Image>,
    /// The one deploy that all images go into.
    pub deploy: Deploy,
    /// A configuration file changed: everything above is about to be replaced.
    pub reload: bool,
    /// Counts changes that were noticed. What failed in an older generation
    /// is tried again.
    pub generation: u64,
    /// How many builds may run at once; 0 means no limit.
    pub concurrency: usize,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The artifact's name.
    pub name: String,
    /// Names of images that are built before it.
    pub requires: Vec<String>,
    /// The key of its inputs as they are now, required images included.
    pub wanted: Key,
    /// The key of the image in the registry.
    pub built: Option<Key>,
    /// The key of what the running containers hold when file sync has changed
    /// it since the build.
    pub synced: Option<Key>,
    /// What is being done for it.
    pub work: Work,
    /// The attempt that failed last, until one succeeds.
    pub failed: Option<Failed<Key>>,
    /// Whether the way from what runs to `wanted` is a file sync.
    pub sync: SyncVerdict,
}

impl Image {
    /// The key of what the running containers hold.
    pub fn live(&self) -> Option<&Key> {
        self.synced.as_ref().or(self.built.as_ref())
    }
}

/// What is being done for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    Idle,
    /// It is being built from inputs of this key.
    Building(Key),
    /// Files are being copied to reach this key.
    Syncing(Key),
    /// Its work was told to stop and has not yet stopped.
    Stopping,
}

/// Whether changed files can be copied into running containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncVerdict {
    /// Every changed file has a place in the container.
    Possible,
    /// It takes a build.
    Rebuild,
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed<T> {
    /// What it was for.
    pub target: T,
    /// The generation in which it failed.
    pub generation: u64,
}

/// What is to run: the state of the manifests and of every image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Key of everything that rendering reads.
    pub manifests: Key,
    /// Keys of the images, in file order.
    pub images: Vec<Key>,
}

/// The deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    /// Whether this command deploys at all.
    pub enabled: bool,
    /// Key of everything that rendering reads, as it is now.
    pub manifests: Key,
    /// What runs and is ready; nothing from the moment on in which another
    /// deploy begins, because that one may stop half-way.
    pub have: Option<Desired>,
    /// What is being deployed.
    pub work: DeployWork,
    /// The attempt that failed last, until one succeeds.
    pub failed: Option<Failed<Desired>>,
}

/// What the deployer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeployWork {
    /// Nothing.
    Idle,
    /// It brings this about.
    Running(Desired),
    /// It was told to stop and has not yet stopped.
    Stopping,
}
