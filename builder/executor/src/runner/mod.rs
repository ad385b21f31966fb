//! Performs a plan: stage by stage, each step a layer on top of the others.

mod agent;
mod archive;
mod at_hand;
mod built;
mod checkout;
mod copied;
pub mod copy;
mod download;
mod files;
pub mod identity;
mod mounts;
mod plain_root;
mod process;
mod single;
mod stage;
mod stages;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kiln_dockerfile::Position;
use kiln_sandbox::ladder::{self, Ladder, LadderError};
use kiln_sandbox::users::{MORE_IDS, Owners};
use kiln_sandbox::{Cancel, Rung};
use kiln_store::{Digest, Store, StoreError};

use crate::cache::Cache;
use crate::cache::key::Reader;
use crate::cache::resolve::Choice;
use crate::cache::{Found, Outcomes};
use crate::layer::blob::{BlobError, Format};
use crate::layer::tar::Times;
use crate::layer::view::View;
use crate::plan::{Base, ImageKey, Op, Plan, Stage, Step};
use crate::progress::{Phase, Progress, StepId};
use crate::remote::{BaseError, BaseImage, LayerError, Remote, Want};
use crate::request::Request;
pub use built::{BaseStack, Blob, Built, BuiltLayer, Pending};
use copy::CopyError;
use identity::IdentityError;
use stages::Board;

/// Why a build stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A command failed.
    #[error("{position}: {source_line}: the command ended with {end}")]
    Command {
        /// Where the instruction stands.
        position: Position,
        /// The instruction.
        source_line: String,
        /// `exit code 3` or `signal 9`.
        end: String,
        /// What a shell would report.
        code: i32,
    },
    /// A step could not be done.
    #[error("{position}: {source_line}")]
    Step {
        /// Where the instruction stands.
        position: Position,
        /// The instruction.
        source_line: String,
        /// Why.
        #[source]
        source: Box<StepError>,
    },
    /// A base image.
    #[error("{position}: FROM")]
    Base {
        /// Where the instruction stands.
        position: Position,
        /// Why.
        #[source]
        source: Box<BaseError>,
    },
    /// Commands cannot be isolated as asked.
    #[error("cannot run commands")]
    Ladder(#[from] LadderError),
    /// A layer.
    #[error(transparent)]
    Layer(#[from] BlobError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No thread or file descriptor is left for a stage.
    #[error("the system gives the build no more threads or files")]
    Resources(#[source] io::Error),
    /// Nobody wants the image any more.
    #[error("the build was cancelled")]
    Cancelled,
}

impl RunError {
    /// The instruction that it is about, when it is about one.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Command { position, .. }
            | Self::Step { position, .. }
            | Self::Base { position, .. } => Some(*position),
            Self::Ladder(_)
            | Self::Layer(_)
            | Self::Store(_)
            | Self::Resources(_)
            | Self::Cancelled => None,
        }
    }
}

/// Why a step could not be done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// `COPY`, `ADD`, `WORKDIR`.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// `USER`.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An image of `--from`.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// A layer of an earlier build.
    #[error(transparent)]
    Known(#[from] LayerError),
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] kiln_sandbox::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something that this version or this isolation does not do.
    #[error("{what}: {instead}")]
    Unsupported {
        /// What.
        what: String,
        /// What to do.
        instead: &'static str,
    },
    /// A required secret.
    #[error("the secret {0} is required and was not given: add --secret id={0},src=<file>")]
    Secret(String),
    /// `ADD` of something that is no address.
    #[error("{address} is no address: {why}")]
    Address {
        /// As written.
        address: String,
        /// Why.
        why: String,
    },
    /// `--checksum` with something else than a digest.
    #[error("--checksum={text} is no digest: write sha256: and 64 hexadecimal digits")]
    Checksum {
        /// As written.
        text: String,
    },
    /// `ADD` of an address that cannot be fetched.
    #[error("cannot fetch {address}")]
    Download {
        /// As written.
        address: String,
        /// Why.
        #[source]
        source: Box<kiln_registry::Error>,
    },
    /// `ADD` of a repository.
    #[error(transparent)]
    Git(#[from] crate::git::GitError),
    /// What was fetched is something else than `--checksum` says.
    #[error("{address} is {found}, and --checksum says {expected}")]
    Changed {
        /// As written.
        address: String,
        /// Its digest or commit.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// Nobody wants the image any more, or another stage failed.
    #[error("the build was stopped")]
    Cancelled,
    /// A required agent.
    #[error("the agent {0} is required and was not given: add --ssh {0}[=<socket>]")]
    Agent(String),
    /// A file.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

pub(crate) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> StepError {
    let what = what.into();
    move |source| StepError::Io { what, source }
}

/// A build on its way.
pub struct Session<'a> {
    request: &'a Request,
    plan: &'a Plan,
    store: &'a Store,
    remote: &'a Remote,
    /// The images of the plan.
    images: &'a BTreeMap<ImageKey, BaseImage>,
    /// Views of images that files were copied from.
    views: Mutex<BTreeMap<ImageKey, View>>,
    /// See [`Self::fetching`].
    fetching: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
    board: Board,
    cache: &'a Cache<'a>,
    /// What is left to do.
    found: &'a Found,
    /// What became of the steps.
    outcomes: Mutex<Outcomes>,
    /// Whether what steps make is kept under their keys.
    keeps: AtomicBool,
    /// Why not, as long as it was not said.
    untold: Mutex<Option<NotKept>>,
    /// What is needed of the stages' files.
    wants: BTreeMap<usize, Want>,
    /// A name that no other build has.
    name: String,
    ladder: Option<Ladder>,
    /// Where commands run without mounts.
    plain_root: Mutex<Option<plain_root::PlainRoot>>,
    /// Seconds since 1970: the time of directories that are made.
    now: i64,
    /// Ends the build between two steps, and a command at once.
    cancel: Option<Cancel>,
}

/// The step that is being performed.
#[derive(Clone, Copy)]
struct Current<'a> {
    stage: &'a Stage,
    step: &'a Step,
    id: &'a StepId,
}

impl Current<'_> {
    fn failed(self, source: impl Into<StepError>) -> RunError {
        RunError::of_step(self.step, source)
    }
}

impl RunError {
    fn of_step(step: &Step, source: impl Into<StepError>) -> Self {
        Self::Step {
            position: step.position,
            source_line: step.source.clone(),
            source: Box::new(source.into()),
        }
    }
}

/// Why what steps make is not what their keys say.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum NotKept {
    #[error("the context changed while it was built")]
    Changed,
    #[error("a COPY reads a volume of this machine through a link")]
    Volume,
    #[error("a RUN sees the context where something else was expected at its path")]
    Uncovered,
}

/// Where a build reports to.
pub type Report<'r> = &'r mut dyn FnMut(Progress);

impl<'a> Session<'a> {
    /// Prepares to perform what is left of a plan whose images have been found.
    #[must_use]
    pub fn new(
        request: &'a Request,
        (plan, images): (&'a Plan, &'a BTreeMap<ImageKey, BaseImage>),
        (cache, found): (&'a Cache<'a>, &'a Found),
        store: &'a Store,
        remote: &'a Remote,
    ) -> Self {
        let epoch = request.build_args.get(crate::plan::EPOCH);
        let epoch = epoch.and_then(|text| text.parse().ok());
        let now = epoch.unwrap_or_else(|| jiff::Timestamp::now().as_second());
        Self {
            request,
            plan,
            store,
            remote,
            images,
            views: Mutex::default(),
            fetching: Mutex::default(),
            board: Board::default(),
            cache,
            found,
            outcomes: Mutex::default(),
            keeps: AtomicBool::new(true),
            untold: Mutex::default(),
            wants: BTreeMap::new(),
            name: format!(
                "{}-{}",
                std::process::id(),
                jiff::Timestamp::now().as_nanosecond()
            ),
            ladder: None,
            plain_root: Mutex::default(),
            now,
            cancel: None,
        }
    }

    /// A way to end the build from another thread.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: &Cancel) -> Self {
        self.cancel = Some(cancel.clone());
        self
    }

    /// From now on nothing is kept of this build: what steps make is not what their keys say.
    fn keep_nothing(&self, why: NotKept) {
        if self.keeps.swap(false, Ordering::SeqCst) {
            *locked(&self.untold) = Some(why);
        }
    }

    /// Says once why nothing is kept any more.
    fn tell_what_is_not_kept(&self, report: Report<'_>) {
        let untold = locked(&self.untold).take();
        if let Some(why) = untold {
            report(Progress::Warning(format!(
                "{why}: nothing more of this build is kept for the next one"
            )));
        }
    }

    /// The key under which what a step makes is kept.
    fn key(&self, reader: Reader) -> Option<Digest> {
        self.cache.key(reader).filter(|_| self.keeps())
    }

    fn keeps(&self) -> bool {
        self.keeps.load(Ordering::SeqCst)
    }

    /// An error when the build was cancelled.
    fn check_cancelled(&self) -> Result<(), RunError> {
        match &self.cancel {
            Some(cancel) if cancel.is_cancelled() => Err(RunError::Cancelled),
            _ => Ok(()),
        }
    }

    /// Builds the stages that are needed; returns the target and what became of the steps.
    ///
    /// # Errors
    /// [`RunError`] names the line.
    pub fn build(mut self, report: Report<'_>) -> Result<(Built, Outcomes), RunError> {
        let runs = self
            .performed()
            .any(|(_, step)| matches!(step.op, Op::Run(_)));
        if runs {
            let place = self.store.scratch()?;
            let ladder = ladder::probe(place.path(), self.request.sandbox.isolation)?;
            drop(place);
            report(Progress::Note(format!(
                "isolation of RUN: {}",
                ladder.chosen
            )));
            for (rung, why) in &ladder.tried {
                report(Progress::Note(format!("  not {rung}: {why}")));
            }
            if ladder.chosen.has_mounts() && !Owners::present().are_many() {
                report(Progress::Note(format!(
                    "  there is a single user id: {MORE_IDS}"
                )));
            }
            match ladder.chosen {
                Rung::InPlace => {
                    self.cache.share_context();
                    self.warn_of_visible(report);
                }
                Rung::Chroot => self.tell_what_is_missing(report),
                _ => {}
            }
            self.ladder = Some(ladder);
        }
        self.wants = self.wants();
        let cancel = match &self.cancel {
            Some(cancel) => cancel.part(),
            None => Cancel::new(),
        };
        let cancel = cancel.map_err(RunError::Resources)?;
        self.remote.end_with(Some(cancel.clone()));
        self.cancel = Some(cancel);
        let stages = self.stages(report);
        self.remote.end_with(None);
        stages?;
        let target = self.board.get(self.plan.target().index);
        let target = target.ok_or_else(|| {
            RunError::Layer(BlobError::Write(io::Error::other("the plan has no target")))
        })?;
        let built = locked(&target).clone();
        let outcomes = self.outcomes.into_inner();
        Ok((built, outcomes.unwrap_or_else(PoisonError::into_inner)))
    }

    /// Waits for the layers of steps that were done, so that the next try starts from them.
    fn settle(&self) {
        for outcome in locked(&self.outcomes).values() {
            if let crate::cache::Made::Layer(pending) = &outcome.made {
                drop(pending.wait()); // the build has failed for another reason
            }
        }
    }

    /// The steps that are left to do, with their stages.
    fn performed(&self) -> impl Iterator<Item = (&'a Stage, &'a Step)> + '_ {
        self.plan.stages.iter().flat_map(|stage| {
            let choices = self.found.resolution.get(&stage.index);
            let choices = choices.map_or(&[][..], Vec::as_slice);
            let pairs = stage.steps.iter().zip(choices);
            pairs
                .filter(|(_, choice)| **choice == Choice::Perform)
                .map(move |(step, _)| (stage, step))
        })
    }

    /// A chroot shows what is in its directory, and nothing else.
    fn tell_what_is_missing(&self, report: Report<'_>) {
        let mut missing = "RUN sees no /proc and no /sys".to_owned();
        for volume in &self.request.sandbox.volumes {
            missing += &format!(", not the volume {}", volume.display());
        }
        report(Progress::Note(format!(
            "  in a chroot nothing is mounted: {missing}; of the context a copy, where a stage \
             names its path"
        )));
    }

    /// In the container's own `/` nothing can be hidden.
    fn warn_of_visible(&self, report: Report<'_>) {
        let visible: Vec<String> = topmost(&self.request.sandbox.hidden, self.store.root())
            .into_iter()
            .filter(|path| path.exists())
            .map(|path| path.display().to_string())
            .collect();
        if !visible.is_empty() {
            report(Progress::Warning(format!(
                "RUN can read {}: hiding it needs a mount namespace",
                visible.join(", ")
            )));
        }
    }

    /// The stages whose layers become part of the image: the target and what it is based on.
    fn is_exported(&self, index: usize) -> bool {
        let mut at = self.plan.target();
        loop {
            if at.index == index {
                return true;
            }
            match &at.base {
                Base::Stage(below) => match self.plan.stage(*below) {
                    Some(stage) => at = stage,
                    None => return false,
                },
                _ => return false,
            }
        }
    }

    /// What is needed of the stages' files: commands run on them, something is copied into them, or
    /// files of them are copied elsewhere.
    fn wants(&self) -> BTreeMap<usize, Want> {
        fn raise<K: Ord>(wants: &mut BTreeMap<K, Want>, of: K, want: Want) {
            let known = wants.entry(of).or_insert(want);
            *known = want.max(*known);
        }
        let mut wants = BTreeMap::new();
        for (stage, step) in self.performed() {
            let own = match step.op {
                Op::Run(_) => Want::Files,
                _ => Want::Headers,
            };
            raise(&mut wants, stage.index, own);
            for index in step.op.stages() {
                raise(&mut wants, index, Want::Files);
            }
        }
        // What a stage is based on stands before it.
        let mut of_images = BTreeMap::new();
        for stage in self.plan.stages.iter().rev() {
            match (wants.get(&stage.index).copied(), &stage.base) {
                (Some(want), Base::Stage(below)) => raise(&mut wants, *below, want),
                (Some(want), Base::Image(key)) => raise(&mut of_images, key, want),
                _ => {}
            }
        }
        // An image is fetched once: for who needs its headers alone, too, with the files that another
        // stage needs.
        for stage in &self.plan.stages {
            if let (Some(want), Base::Image(key)) = (wants.get_mut(&stage.index), &stage.base) {
                *want = of_images.get(key).map_or(*want, |most| *most);
            }
        }
        wants
    }

    /// The lock of an image that is being fetched: a second stage waits, and finds it in the store.
    fn fetching(&self, name: &str) -> Arc<Mutex<()>> {
        let mut locks = locked(&self.fetching);
        Arc::clone(locks.entry(name.to_owned()).or_default())
    }

    /// The files of an image that something is copied from.
    fn image_view(&self, key: &ImageKey, report: Report<'_>) -> Result<View, StepError> {
        let known = locked(&self.views).get(key).cloned();
        if let Some(view) = known {
            return Ok(view);
        }
        let Some(image) = self.images.get(key) else {
            let why = "it was not found while planning".to_owned();
            return Err(BaseError::Broken {
                name: key.name.clone(),
                why,
            }
            .into());
        };
        let start = Instant::now();
        let lock = self.fetching(&image.name);
        let alone = locked(&lock);
        let mut trees = image.fetch(self.store, self.remote, Want::Copies)?;
        drop(alone);
        report(Progress::Phase {
            phase: Phase::Base,
            took: start.elapsed(),
        });
        trees.reverse();
        let view = View::new(trees);
        locked(&self.views).insert(key.clone(), view.clone());
        Ok(view)
    }

    fn format(&self) -> Format {
        Format::of(&self.request.output)
    }

    /// The time of something that is done now, as the image's history has it.
    fn stamp(&self) -> String {
        match (self.request.output.epoch, self.request.output.times) {
            (Some(epoch), _) => epoch,
            (None, Times::Zero) => jiff::Timestamp::UNIX_EPOCH,
            (None, Times::Kept) => jiff::Timestamp::now(),
        }
        .to_string()
    }

    /// Whether a path may not become part of the image.
    fn is_excluded(&self, path: &Path) -> bool {
        let absolute = Path::new("/").join(path);
        self.request.sandbox.ignored.hold(&absolute)
    }
}

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of these paths those that lie below no other, without the directory of the executor itself,
/// which holds `store`.
fn topmost<'p>(hidden: &'p [PathBuf], store: &Path) -> Vec<&'p Path> {
    let mut paths: Vec<&Path> = hidden
        .iter()
        .map(PathBuf::as_path)
        .filter(|path| !store.starts_with(path))
        .collect();
    paths.sort();
    paths.dedup_by(|below, dir| below.starts_with(*dir));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_run_can_read_in_place_is_named_once() {
        let hidden = [
            "/secret/..data/key",
            "/kaniko/store",
            "/kaniko",
            "/secret",
            "/kaniko/.docker",
            "/secrets",
        ]
        .map(PathBuf::from);
        assert_eq!(
            topmost(&hidden, Path::new("/kaniko/store")),
            ["/kaniko/.docker", "/secret", "/secrets"].map(Path::new)
        );
    }
}
