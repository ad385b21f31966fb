//! Keys of steps: a pure function of the plan and of digests of what the build reads.
//!
//! A step's key is a digest of the key of the step before it and of everything that decides what
//! the step does, each part with its length in front, so that nothing can move from one part into
//! the next. Files count by mode, content and link name; owners and times of a checkout do not.
//! `COPY --from` counts by the key of the stage that it copies from, not by the files, so all keys
//! of a build are known before anything is built or fetched.
//!
//! A step without a key (its inputs are not known beforehand) is always performed, and so are all
//! steps after it in its stage and what is copied from that stage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use kiln_dockerfile::mount::{Mount as Options, MountKind};
use kiln_store::Digest;

use super::framed::Framed;
use crate::layer::blob::Format;
use crate::plan::{Base, Copy, From, ImageKey, Mount, Op, Plan, Run, Source, Stage};

/// A step of a plan, or one of the mounts of a `RUN`, that reads files of the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reader {
    /// Place of the stage in the file.
    pub stage: usize,
    /// Place of the step in the stage.
    pub step: usize,
    /// Place of the mount, for a mount.
    pub mount: Option<usize>,
}

/// What commands of a stage see beside their image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sight {
    /// Volumes that the stage mentions.
    pub volumes: Vec<PathBuf>,
    /// The digest of the whole context, where the stage mentions its path.
    pub context: Option<Digest>,
}

/// What is known of the things that a build reads.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The diff ids of images, base first.
    pub images: &'a BTreeMap<ImageKey, Vec<Digest>>,
    /// Digests of what is copied from the context; one that could not be read has none.
    pub contents: &'a BTreeMap<Reader, Digest>,
    /// How layers are written: another compression makes other blobs.
    pub format: Format,
    /// Stages whose commands see the context or a volume at its own path.
    pub sights: &'a BTreeMap<usize, Sight>,
    /// Paths that never get into a layer.
    pub ignored: &'a [PathBuf],
    /// Paths that are the machine's and not the image's: what a copy from a stage reads there is not
    /// known.
    pub volumes: &'a [PathBuf],
    /// `SOURCE_DATE_EPOCH`: the time of what is made.
    pub epoch: Option<Timestamp>,
}

/// The keys of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageKeys {
    /// That of what the stage starts from.
    pub base: Option<Digest>,
    /// That of the state after each step. A step that changes only the configuration has the key
    /// of the one before it.
    pub steps: Vec<Option<Digest>>,
}

impl StageKeys {
    /// The key of the finished stage.
    #[must_use]
    pub fn last(&self) -> Option<Digest> {
        self.steps.last().copied().unwrap_or(self.base)
    }
}

/// The keys of all stages, by their places in the file.
pub type Keys = BTreeMap<usize, StageKeys>;

/// Computes the keys of a plan.
#[must_use]
pub fn keys(inputs: &Inputs<'_>) -> Keys {
    let plan = inputs.plan;
    let mut keys = Keys::new();
    for stage in &plan.stages {
        let base = base(stage, inputs, &keys);
        let mut last = base;
        let mut steps = Vec::with_capacity(stage.steps.len());
        for (index, step) in stage.steps.iter().enumerate() {
            let reader = Reader {
                stage: stage.index,
                step: index,
                mount: None,
            };
            last = match &step.op {
                Op::Config => last,
                Op::Workdir { path, owner } => last.map(|before| {
                    let mut hash = Framed::after(before, "workdir");
                    hash.text(path);
                    hash.text(owner);
                    hash.finish()
                }),
                Op::Run(op) => last.and_then(|before| run(before, op, reader, (inputs, &keys))),
                Op::Copy(op) => last.and_then(|before| copy(before, op, reader, (inputs, &keys))),
            };
            steps.push(last);
        }
        keys.insert(stage.index, StageKeys { base, steps });
    }
    keys
}

/// The key of all steps of a stage as one layer (`--single-snapshot`).
#[must_use]
pub fn single(last: Digest) -> Digest {
    Framed::after(last, "one layer").finish()
}

/// A name under which the store keeps the files that one performance of a step made. Another
/// performance of the same step gets another: a record never names files that are not its own.
#[must_use]
pub fn directory(step: Digest, created: &str, at: &Path) -> Digest {
    let mut hash = Framed::after(step, "directory");
    hash.text(created);
    hash.text(text_of(at));
    hash.finish()
}

fn base(stage: &Stage, inputs: &Inputs<'_>, keys: &Keys) -> Option<Digest> {
    let mut hash = Framed::new("base");
    hash.text(&format!("{:?}", inputs.format.for_key()));
    hash.text(&stage.platform.to_string());
    hash.list(inputs.epoch.map(|at| at.to_string()).as_deref());
    match &stage.base {
        Base::Scratch => hash.text("scratch"),
        Base::Image(key) => {
            hash.text("image");
            hash.digests(inputs.images.get(key)?);
        }
        Base::Stage(below) => {
            hash.text("stage");
            hash.digest(keys.get(below)?.last()?);
        }
    }
    Some(hash.finish())
}

fn run(
    before: Digest,
    run: &Run,
    reader: Reader,
    (inputs, keys): (&Inputs<'_>, &Keys),
) -> Option<Digest> {
    // Every field, so that a new one cannot be forgotten.
    let Run {
        argv,
        script,
        env,
        // They are passed to commands and are no part of what they do (BuildKit).
        proxies: _,
        cwd,
        user,
        mounts,
        network,
    } = run;
    let mut hash = Framed::after(before, "run");
    hash.list(argv.iter().map(String::as_str));
    hash.list(
        script
            .iter()
            .flat_map(|(name, content)| [name.as_str(), content.as_str()]),
    );
    // In their order: a command sees it.
    hash.list(
        env.iter()
            .flat_map(|(name, value)| [name.as_str(), value.as_str()]),
    );
    hash.text(cwd);
    hash.text(user);
    hash.text(&format!("{network:?}"));
    hash.number(mounts.len() as u64);
    for (index, mount) in mounts.iter().enumerate() {
        let reader = Reader {
            mount: Some(index),
            ..reader
        };
        self::mount(&mut hash, mount, reader, (inputs, keys))?;
    }
    hash.list(inputs.ignored.iter().map(|path| text_of(path)));
    match inputs.sights.get(&reader.stage) {
        None => hash.text("sees nothing"),
        Some(Sight { volumes, context }) => {
            hash.list(volumes.iter().map(|path| text_of(path)));
            hash.digests(context.as_slice());
        }
    }
    Some(hash.finish())
}

fn mount(
    hash: &mut Framed,
    mount: &Mount,
    reader: Reader,
    (inputs, keys): (&Inputs<'_>, &Keys),
) -> Option<()> {
    let Mount {
        options,
        target,
        identity,
        from,
    } = mount;
    let Options {
        kind,
        from: _, // resolved below
        source,
        target: _, // resolved above
        read_only,
        size,
        id: _,      // resolved above
        sharing: _, // says how builds get along, not what they see
        required,
        mode,
        uid,
        gid,
        env,
    } = options;
    hash.text(kind.name());
    for text in [target, identity, source, env] {
        hash.list(text.iter().map(String::as_str));
    }
    hash.text(&format!(
        "{read_only} {required} {size:?} {mode:?} {uid:?} {gid:?}"
    ));
    let reads = matches!(kind, MountKind::Bind | MountKind::Cache)
        && !(*kind == MountKind::Cache && *from == From::Context);
    if reads {
        source_of(hash, from, reader, (inputs, keys))?;
    }
    Some(())
}

fn copy(
    before: Digest,
    copy: &Copy,
    reader: Reader,
    (inputs, keys): (&Inputs<'_>, &Keys),
) -> Option<Digest> {
    let Copy {
        keyword,
        from,
        sources,
        dest,
        chown,
        chmod,
        exclude,
        parents,
        placing,
        unpack_local,
        unpack_remote,
        checksum,
    } = copy;
    if let From::Stage(index) = from
        && inputs.plan.runs(*index)
        && inputs.volumes.iter().any(|at| copy.reads_below(at))
    {
        return None;
    }
    let mut hash = Framed::after(before, keyword);
    hash.number(sources.len() as u64);
    let mut has_paths = false;
    for source in sources {
        match source {
            Source::Path(path) => {
                has_paths = true;
                hash.list(["path", path]);
            }
            Source::Inline { name, content } => hash.list(["inline", name, content]),
            // What lies there now is known only with its digest.
            Source::Url(url) => hash.list(["url", url, checksum.as_deref()?]),
            Source::Git {
                text,
                address,
                history,
            } => {
                let commit = checksum.as_deref().or_else(|| address.fixed_commit())?;
                hash.list(["git", text, commit, &format!("{history:?}")]);
            }
        }
    }
    hash.text(dest);
    for text in [chown, chmod, checksum] {
        hash.list(text.iter().map(String::as_str));
    }
    hash.list(exclude.iter().map(String::as_str));
    hash.text(&format!(
        "{parents} {placing:?} {unpack_local} {unpack_remote}"
    ));
    if has_paths {
        source_of(&mut hash, from, reader, (inputs, keys))?;
    }
    Some(hash.finish())
}

/// What files come from.
fn source_of(
    hash: &mut Framed,
    from: &From,
    reader: Reader,
    (inputs, keys): (&Inputs<'_>, &Keys),
) -> Option<()> {
    match from {
        From::Context | From::Named(_) => {
            hash.text("context");
            hash.digest(*inputs.contents.get(&reader)?);
        }
        // Not keyed yet: such a step is always performed.
        From::Stage(index) => {
            hash.text("stage");
            hash.digest(keys.get(index)?.last()?);
        }
        From::Image(key) => {
            hash.text("image");
            hash.digests(inputs.images.get(key)?);
        }
        From::Scratch => hash.text("scratch"),
    }
    Some(())
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

#[cfg(test)]
mod tests;
