//! This machine as the target: which project's holder, which store, and when
//! it is chosen.

mod build;
mod deploy;
mod follow;
mod look;
mod presence;
mod terminal;

pub use self::presence::Presence;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use kiln_executor::store_of_this_user;
use kiln_local::client::Holder;
use kiln_sandbox::users;
use kiln_schemas::model::{Dialect, Project, Target};
use kiln_store::{Store, StoreError};
use tokio::task::JoinHandle;

use super::Choices;
use crate::env::Environment;
use crate::error::{CommandError, Kind};

/// What this machine needs to be a target.
pub struct Local {
    holder: Holder,
    /// The executor's store; layers of images are mounted from it.
    store_dir: PathBuf,
    /// Opened when it is needed, and kept open: what was found in it stays.
    store: OnceLock<Store>,
    /// Why it was chosen, where nobody asked for it.
    why: Option<&'static str>,
    /// Follows the logs.
    following: Mutex<Option<JoinHandle<()>>>,
}

/// Commands that only look at, or end, what runs.
const LOOKS: [&str; 4] = ["ps", "logs", "exec", "delete"];

impl Local {
    /// Decides whether things run on this machine. Only `dev` falls back to it;
    /// what only looks finds what `dev` has started.
    pub fn choose(
        env: &Environment,
        choices: &mut Choices,
        project: &Project,
        context: Option<&str>,
    ) -> Result<Option<Self>, CommandError> {
        let configured = configured(project)?;
        let asked =
            choices.local || (choices.kube_context.is_none() && configured == Some(Target::Local));
        // A service account leads a pod to its cluster.
        let nowhere = context.is_none()
            && configured.is_none()
            && project.dialect == Dialect::Kiln
            && env.var("KUBERNETES_SERVICE_HOST").is_none();
        let looks = LOOKS.contains(&choices.command);
        if !asked && !(nowhere && (looks || choices.command == "dev")) {
            return Ok(None);
        }
        let missing = |variable| {
            let message = "there is no folder for what runs on this machine";
            CommandError::new(Kind::General, message)
                .hint(format!("set {variable}, or HOME, to an absolute path"))
        };
        let state = env.state_dir().ok_or_else(|| missing("XDG_STATE_HOME"))?;
        let cache = env.cache_dir().ok_or_else(|| missing("XDG_CACHE_HOME"))?;
        let holder = Holder::of(state.join("local").join(folder(env, project)));
        if !asked && looks && !holder.is_running() {
            return Ok(None);
        }
        if users::is_ordinary() {
            let message = "an ordinary user runs containers in a user namespace";
            let error = match users::refusal() {
                Some(failure) => CommandError::from_error(Kind::General, failure).hint(message),
                None => CommandError::from_error(Kind::General, &users::start_anew()),
            };
            return Err(error);
        }
        // A rebuild takes no longer than a copy would.
        choices.sync = false;
        let local = Self {
            holder,
            store_dir: cache.join("store"),
            store: OnceLock::new(),
            why: (!asked).then_some("there is no kubeconfig"),
            following: Mutex::new(None),
        };
        if !looks {
            local.make_folders()?;
        }
        Ok(Some(local))
    }

    /// Where nothing can be kept nothing can run; that is said before anything is built.
    fn make_folders(&self) -> Result<(), CommandError> {
        for (folder, variable) in [
            (self.holder.state(), "XDG_STATE_HOME"),
            (self.store_dir.as_path(), "XDG_CACHE_HOME"),
        ] {
            let made = std::fs::create_dir_all(folder);
            made.and_then(|()| tempfile::tempfile_in(folder).map(drop))
                .map_err(|error| {
                    let mut shown = CommandError::new(
                        Kind::General,
                        format!(
                            "cannot write in {}, where what runs on this machine is kept",
                            folder.display()
                        ),
                    );
                    shown.failures[0].causes.push(error.to_string());
                    shown.hint(format!("set {variable} to a folder that can be written"))
                })?;
        }
        Ok(())
    }

    /// Where things run, in words.
    pub fn place(&self) -> String {
        match self.why {
            Some(why) => format!("this machine, because {why}"),
            None => "this machine".to_owned(),
        }
    }

    /// The executor's store.
    fn store(&self) -> Result<Store, StoreError> {
        if let Some(store) = self.store.get() {
            return Ok(store.clone());
        }
        let store = Store::open(&store_of_this_user(self.store_dir.clone()))?;
        Ok(self.store.get_or_init(|| store).clone())
    }

    /// Ends what follows the logs.
    pub fn stop_following(&self) {
        let mut following = self
            .following
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = following.take() {
            task.abort();
        }
    }
}

/// The target that the configuration names. Modules that disagree are an
/// error, because there is one loop.
fn configured(project: &Project) -> Result<Option<Target>, CommandError> {
    let mut named = project.modules.iter().map(|module| module.deploy.target);
    let first = named.next().flatten();
    if named.any(|other| other != first) {
        let message = "some modules run on this machine and others in a cluster";
        return Err(
            CommandError::new(Kind::Config, message).hint("run them one by one with --module")
        );
    }
    Ok(first)
}

/// A name for the project that no other copy of it has.
fn folder(env: &Environment, project: &Project) -> String {
    let dir = project.files.first().and_then(|file| file.parent());
    let dir = dir.unwrap_or(Path::new(""));
    let dir = env.cwd.join(dir);
    let dir = dir.canonicalize().unwrap_or(dir);
    let hash = blake3::hash(dir.as_os_str().as_encoded_bytes());
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = project.name.chars().map(plain).collect();
    format!("{name}-{}", &hash.to_hex()[..8])
}
