//! Which stages and steps a build has, and the configuration that each leaves: a pure function of
//! the Dockerfile, the arguments and the configurations of the base images.
//!
//! Planning starts at the target and follows `FROM`, `COPY --from` and `RUN --mount=from`, so a
//! stage that nothing needs is never looked at. The configurations of base images come from the
//! network and are only known one after another (an `ONBUILD` trigger may name a further image):
//! [`plan`] therefore answers either with a [`Plan`] or with the images that it needs to go on.

mod error;
mod files;
mod history;
mod metadata;
mod names;
mod render;
mod stage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_dockerfile::glob::Glob;
use kiln_dockerfile::ignore::Patterns;
use kiln_dockerfile::instruction::Network;
use kiln_dockerfile::platform::Platform;
use kiln_dockerfile::scope::{BuildFor, Globals};
use kiln_dockerfile::{Dockerfile, Position};

pub use error::PlanError;
pub use metadata::absolute;
pub use render::{render, render_keyed};

use crate::git::{self, Address};
use crate::image::{History, ImageConfig};

/// The build argument that gives the time of the image and of what the build makes, in seconds
/// since 1970 (<https://reproducible-builds.org/specs/source-date-epoch/>).
pub const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What is to be built.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The file.
    pub dockerfile: &'a Dockerfile,
    /// `--build-arg`.
    pub build_args: &'a BTreeMap<String, String>,
    /// The platforms, and the stage that was asked for.
    pub build: &'a BuildFor,
    /// `--build-context`, by name in lower case.
    pub contexts: &'a BTreeMap<String, NamedContext>,
}

/// What `--build-context` puts in the place of a stage or image of that name.
#[derive(Debug, Clone)]
pub enum NamedContext {
    /// A directory, with what its own `.dockerignore` leaves out.
    Directory(Directory),
    /// An image.
    Image(String),
}

/// A directory that files come from.
#[derive(Debug, Clone)]
pub struct Directory {
    /// Absolute, without links.
    pub dir: PathBuf,
    /// What is left out, and the file that says so.
    pub ignore: Option<(Patterns, String)>,
}

/// An image in a registry, for one platform.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageKey {
    /// The name as the Dockerfile has it, expanded.
    pub name: String,
    /// `os/arch[/variant]`.
    pub platform: String,
}

/// The configurations that are known so far.
pub type Images = BTreeMap<ImageKey, ImageConfig>;

/// The answer of [`plan`].
#[derive(Debug, Clone)]
pub enum Outcome {
    /// All that is needed is known.
    Ready(Box<Plan>),
    /// The configurations of these images have to be found first.
    Needs(Vec<ImageKey>),
}

/// The stages of a build in an order in which they can be built.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Only what the target needs; the target is the last.
    pub stages: Vec<Stage>,
    /// How many stages of the file nothing needs.
    pub skipped: usize,
}

impl Plan {
    /// The stage that becomes the image.
    #[must_use]
    pub fn target(&self) -> &Stage {
        &self.stages[self.stages.len() - 1]
    }

    /// The stage with this 0-based place in the file.
    #[must_use]
    pub fn stage(&self, index: usize) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.index == index)
    }

    /// Whether a stage, or one that it is based on, runs a command.
    #[must_use]
    pub fn runs(&self, index: usize) -> bool {
        let mut at = self.stage(index);
        while let Some(stage) = at {
            if stage.steps.iter().any(|step| matches!(step.op, Op::Run(_))) {
                return true;
            }
            at = match stage.base {
                Base::Stage(below) => self.stage(below),
                Base::Scratch | Base::Image(_) => None,
            };
        }
        false
    }

    /// Every image that some stage is based on or reads from.
    #[must_use]
    pub fn images(&self) -> Vec<&ImageKey> {
        let mut images: Vec<&ImageKey> = Vec::new();
        for stage in &self.stages {
            if let Base::Image(key) = &stage.base {
                images.push(key);
            }
            for step in &stage.steps {
                match &step.op {
                    Op::Copy(copy) => {
                        if let From::Image(key) = &copy.from {
                            images.push(key);
                        }
                    }
                    Op::Run(run) => {
                        images.extend(run.mounts.iter().filter_map(|mount| match &mount.from {
                            From::Image(key) => Some(key),
                            _ => None,
                        }));
                    }
                    _ => {}
                }
            }
        }
        images.sort();
        images.dedup();
        images
    }
}

/// One stage.
#[derive(Debug, Clone)]
pub struct Stage {
    /// 0-based place in the file.
    pub index: usize,
    /// The name after `AS`, or the index.
    pub name: String,
    /// What it starts from.
    pub base: Base,
    /// The name after `FROM`, expanded; for the log.
    pub base_name: String,
    /// Where `FROM` stands.
    pub position: Position,
    /// What it is built for.
    pub platform: Platform,
    /// The steps in order, triggers of the base included.
    pub steps: Vec<Step>,
    /// The configuration at its end. History and layers are those of an image base; what the
    /// steps add to them is known when they have run.
    pub config: ImageConfig,
}

impl Stage {
    /// The stages whose files it needs, each perhaps several times.
    pub fn needs(&self) -> impl Iterator<Item = usize> {
        let steps = self.steps.iter().flat_map(|step| step.op.stages());
        self.base.stages().chain(steps)
    }

    /// Steps that do something to files, and `FROM`: what the log counts.
    #[must_use]
    pub fn visible_steps(&self) -> usize {
        1 + self
            .steps
            .iter()
            .filter(|step| !matches!(step.op, Op::Config))
            .count()
    }
}

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An image.
    Image(ImageKey),
    /// Another stage, by its place in the file.
    Stage(usize),
}

/// One instruction.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where the instruction stands; of a trigger: where `FROM` stands.
    pub position: Position,
    /// The instruction as written, on one line.
    pub source: String,
    /// What it does to the file system.
    pub op: Op,
    /// Its entry in the history; [`History::empty_layer`] is set when it cannot make a layer.
    pub history: History,
}

/// What an instruction does to the file system.
#[derive(Debug, Clone)]
pub enum Op {
    /// Nothing: only the configuration changes.
    Config,
    /// Makes a directory with its parents.
    Workdir {
        /// Absolute.
        path: String,
        /// `USER` as configured, who gets what is made; empty for root.
        owner: String,
    },
    /// Runs a command.
    Run(Box<Run>),
    /// Copies files.
    Copy(Box<Copy>),
}

impl Base {
    /// The stage that it is.
    pub fn stages(&self) -> impl Iterator<Item = usize> {
        match self {
            Self::Stage(index) => Some(*index),
            Self::Scratch | Self::Image(_) => None,
        }
        .into_iter()
    }
}

impl Op {
    /// The stages whose files it reads.
    pub fn stages(&self) -> impl Iterator<Item = usize> {
        let (copy, mounts) = match self {
            Self::Copy(copy) => (Some(&copy.from), &[][..]),
            Self::Run(run) => (None, run.mounts.as_slice()),
            Self::Config | Self::Workdir { .. } => (None, &[][..]),
        };
        let from = copy
            .into_iter()
            .chain(mounts.iter().map(|mount| &mount.from));
        from.filter_map(|from| match from {
            From::Stage(index) => Some(*index),
            _ => None,
        })
    }
}

/// `RUN`.
#[derive(Debug, Clone)]
pub struct Run {
    /// The program and its arguments, the shell included.
    pub argv: Vec<String>,
    /// A script file (name, content) to put into `/dev/pipes/`, which `argv` runs.
    pub script: Option<(String, String)>,
    /// The environment: the image's and declared arguments.
    pub env: Vec<(String, String)>,
    /// The proxy arguments that were given: they go before the environment, and count for no key.
    pub proxies: Vec<(String, String)>,
    /// The working directory, absolute.
    pub cwd: String,
    /// `USER` as configured: `name`, `uid`, `name:group`, …; empty for root.
    pub user: String,
    /// `--mount`, in order.
    pub mounts: Vec<Mount>,
    /// `--network`.
    pub network: Network,
}

/// `RUN --mount`.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Its options, expanded.
    pub options: kiln_dockerfile::mount::Mount,
    /// Where it appears, absolute; a secret may be only a variable.
    pub target: Option<String>,
    /// The id of a cache or secret, with the defaults applied.
    pub identity: Option<String>,
    /// Where a bind (or the first content of a cache) comes from.
    pub from: From,
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// The build context.
    Context,
    /// A directory of `--build-context`, by its name.
    Named(String),
    /// Another stage, by its place in the file.
    Stage(usize),
    /// An image.
    Image(ImageKey),
    /// `scratch`: nothing.
    Scratch,
}

/// A source of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path or pattern, relative to the root of where files come from.
    Path(String),
    /// A file from the web; `ADD` only.
    Url(String),
    /// A repository; `ADD` only.
    Git {
        /// As written, expanded.
        text: String,
        /// What it means.
        address: Box<Address>,
        /// Whether `.git` stays.
        history: git::History,
    },
    /// A file given in the Dockerfile.
    Inline {
        /// The name of the file.
        name: String,
        /// What is in it.
        content: String,
    },
}

/// `COPY` or `ADD`.
#[derive(Debug, Clone)]
pub struct Copy {
    /// `COPY` or `ADD`; for messages.
    pub keyword: &'static str,
    /// Where the paths lead.
    pub from: From,
    /// What is copied, in this order.
    pub sources: Vec<Source>,
    /// Absolute; with a `/` at its end when it is certainly a directory.
    pub dest: String,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `--parents`.
    pub parents: bool,
    /// Whether the image below counts.
    pub placing: Placing,
    /// Local archives are unpacked.
    pub unpack_local: bool,
    /// Downloaded archives are unpacked.
    pub unpack_remote: bool,
    /// `--checksum` of the one remote file.
    pub checksum: Option<String>,
}

impl Copy {
    /// Whether a source is a directory or lies in it, as far as its words say. A part of a source
    /// may be a pattern.
    #[must_use]
    pub fn reads_below(&self, dir: &Path) -> bool {
        self.sources.iter().any(|source| {
            let Source::Path(path) = source else {
                return false;
            };
            let clean = absolute(path, "/");
            let mut parts = clean.split('/').filter(|part| !part.is_empty());
            dir.iter().skip(1).all(|name| {
                let name = name.to_string_lossy();
                parts.next().is_some_and(|part| {
                    part == name
                        || (self.parents && part == "**")
                        || Glob::parse(part).is_ok_and(|glob| glob.matches(&name))
                })
            })
        })
    }
}

/// See [`Copy::placing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placing {
    /// Links of the image are followed, names of owners are looked up in it.
    Within,
    /// `--link`: the layer is made as if there were nothing below it.
    Alone,
}

/// Plans the build, or names the images whose configurations are needed first.
///
/// # Errors
/// [`PlanError`] names the line and what to do about it.
pub fn plan(input: Input<'_>, images: &Images) -> Result<Outcome, PlanError> {
    let globals = Globals::evaluate(input.dockerfile, input.build, input.build_args)
        .map_err(|error| PlanError::Scope(Box::new(error)))?;
    let target = find_target(input)?;
    let mut planner = stage::Planner::new(input, &globals, images);
    planner.visit(target)?;
    if !planner.missing.is_empty() {
        return Ok(Outcome::Needs(planner.missing));
    }
    let mut stages = planner.done;
    // In the file's order, as kaniko has it, if no mount is of a stage further down.
    if stages
        .iter()
        .all(|stage| stage.needs().all(|need| need < stage.index))
    {
        stages.sort_by_key(|stage| stage.index);
    }
    if let Some(target) = stages.last_mut() {
        target
            .config
            .be_for(&input.build.target, &input.build.build);
    }
    let skipped = input.dockerfile.stages.len() - stages.len();
    Ok(Outcome::Ready(Box::new(Plan { stages, skipped })))
}

/// The stage of `--target` by its name (any case) or number; the last one without it.
fn find_target(input: Input<'_>) -> Result<usize, PlanError> {
    let stages = &input.dockerfile.stages;
    let Some(wanted) = &input.build.stage else {
        return Ok(stages.len() - 1);
    };
    let by_name = stages.iter().rposition(|stage| {
        stage
            .name
            .as_ref()
            .is_some_and(|name| name.eq_ignore_ascii_case(wanted))
    });
    let by_number = || {
        wanted
            .parse()
            .ok()
            .filter(|index: &usize| *index < stages.len())
    };
    by_name
        .or_else(by_number)
        .ok_or_else(|| PlanError::UnknownTarget {
            target: wanted.clone(),
            known: stages
                .iter()
                .filter_map(|stage| stage.name.clone())
                .collect(),
        })
}
