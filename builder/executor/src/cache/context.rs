//! What a build reads of its context, as digests; and which commands see the context or a volume
//! at its own path.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kiln_dockerfile::mount::MountKind;
use kiln_store::Digest;

use super::files::Files;
use super::framed::Framed;
use super::key::{Reader, Sight};
use crate::folder::Folder;
use crate::layer::delta::{Delta, Item};
use crate::plan::{self, Base, From, Op, Plan, Source, Stage};
use crate::request::{ContextInRun, Request};
use crate::runner::copy::{self, CopyError, Part};

/// Digests of what steps read of the context.
#[derive(Debug, Default)]
pub struct Contents {
    /// One for each step that could be read; what is wrong with another one is said when it is
    /// performed.
    pub digests: BTreeMap<Reader, Digest>,
    /// Copies that put nothing into their destination.
    empty: BTreeSet<Reader>,
}

/// Reads what the steps of a plan take from the context and from named contexts.
#[must_use]
pub fn contents(plan: &Plan, request: &Request, files: &mut Files) -> Contents {
    let mut contents = Contents::default();
    for stage in &plan.stages {
        for step in 0..stage.steps.len() {
            contents.read((plan, request), stage, step, files);
        }
    }
    contents
}

impl Contents {
    /// Whether a step reads the same now.
    pub fn holds_of(
        &self,
        (plan, request): (&Plan, &Request),
        stage: &Stage,
        step: usize,
        files: &mut Files,
    ) -> bool {
        let of_step =
            |(reader, _): &(&Reader, &Digest)| (reader.stage, reader.step) == (stage.index, step);
        let mut then = self.digests.iter().filter(of_step).peekable();
        if then.peek().is_none() {
            return true;
        }
        let mut now = Self::default();
        now.read((plan, request), stage, step, files);
        then.eq(now.digests.iter())
    }

    /// Reads what one step takes.
    fn read(
        &mut self,
        (plan, request): (&Plan, &Request),
        stage: &Stage,
        step: usize,
        files: &mut Files,
    ) {
        let reader = Reader {
            stage: stage.index,
            step,
            mount: None,
        };
        match &stage.steps[step].op {
            Op::Copy(op) => {
                let reads = op.sources.iter().any(|one| matches!(one, Source::Path(_)));
                if let Some(folder) = Folder::of(&op.from, request).filter(|_| reads) {
                    let view = folder.view();
                    let place = folder.place(&view);
                    let parts = copy::refuse_unmatched(plan, op, place)
                        .and_then(|()| copy::parts(op, place));
                    self.add(reader, parts, files);
                }
            }
            Op::Run(run) => {
                for (index, mount) in run.mounts.iter().enumerate() {
                    let reads = match mount.options.kind {
                        MountKind::Bind => true,
                        // An unnamed cache is empty at first.
                        MountKind::Cache => mount.from != From::Context,
                        _ => false,
                    };
                    if let Some(folder) = Folder::of(&mount.from, request).filter(|_| reads) {
                        let reader = Reader {
                            mount: Some(index),
                            ..reader
                        };
                        let source = mount.options.source.as_deref().unwrap_or("/");
                        let path = plan::absolute(source, "/");
                        let path = Path::new(path.trim_matches('/'));
                        let shown = copy::shown(path, folder.place(&folder.view()));
                        self.add(reader, shown.map(|part| vec![part]), files);
                    }
                }
            }
            Op::Config | Op::Workdir { .. } => {}
        }
    }

    /// The words of the instruction are part of the key anyway.
    fn add(&mut self, reader: Reader, read: Result<Vec<Part>, CopyError>, files: &mut Files) {
        let Ok(parts) = read else {
            return;
        };
        if parts.iter().all(|part| is_empty(&part.delta)) {
            self.empty.insert(reader);
        }
        let mut hash = Framed::new("sources");
        hash.number(parts.len() as u64);
        for part in &parts {
            hash.bytes(part.path.as_os_str().as_bytes());
            hash.text(if part.is_dir { "directory" } else { "file" });
            let Ok(digest) = files.digest(&part.delta) else {
                return;
            };
            hash.digest(digest);
        }
        self.digests.insert(reader, hash.finish());
    }
}

/// Whether a source puts nothing, or one bare directory, where it is copied to.
fn is_empty(delta: &Delta) -> bool {
    let is_directory = |item: &Item| matches!(item, Item::Put(node) if node.is_dir());
    delta.items.len() <= 1 && delta.items.values().all(is_directory)
}

/// Which stages have commands that see the context or volumes, and what they see.
///
/// # Errors
/// When the context has to be read and cannot.
pub fn sights(
    plan: &Plan,
    request: &Request,
    contents: &Contents,
    files: &mut Files,
) -> io::Result<BTreeMap<usize, Sight>> {
    let context = &request.context;
    let mut whole = None;
    let mut sights = BTreeMap::new();
    for stage in &plan.stages {
        let volumes: Vec<PathBuf> = request
            .sandbox
            .volumes
            .iter()
            .filter(|volume| mentions(stage, volume))
            .cloned()
            .collect();
        let sees = context.in_run == ContextInRun::Visible
            && mentions(stage, &context.dir)
            && !is_covered(plan, stage, &context.dir, contents);
        if sees && whole.is_none() {
            whole = Some(visible(request, files)?);
        }
        if sees || !volumes.is_empty() {
            let context = whole.filter(|_| sees);
            sights.insert(stage.index, Sight { volumes, context });
        }
    }
    Ok(sights)
}

/// The digest of the context as commands see it: where it is, what is kept from them, the rest.
///
/// # Errors
/// When it cannot be read.
pub fn visible(request: &Request, files: &mut Files) -> io::Result<Digest> {
    let dir = &request.context.dir;
    // RUN sees the folder itself, whatever is kept from COPY.
    let folder = Folder::whole_context(request);
    let all = copy::whole(Path::new(""), folder.place(&folder.view()));
    let mut all = all.map_err(io::Error::other)?;
    let mut hash = Framed::new("context at its own path");
    hash.bytes(dir.as_os_str().as_bytes());
    for hidden in request.sandbox.hidden_below(dir) {
        hash.bytes(hidden.as_os_str().as_bytes());
        all.items.retain(|path, _| !path.starts_with(hidden));
    }
    hash.digest(files.digest(&all)?);
    Ok(hash.finish())
}

/// Whether a stage names a directory: as working directory, or in a command.
pub fn mentions(stage: &Stage, dir: &Path) -> bool {
    let names = |text: &str| names(text, &dir.to_string_lossy());
    stage.steps.iter().any(|step| match &step.op {
        Op::Workdir { path, .. } => Path::new(path).starts_with(dir),
        Op::Run(run) => {
            Path::new(&run.cwd).starts_with(dir)
                || run.argv.iter().any(|word| names(word))
                || run.script.iter().any(|(_, body)| names(body))
                || run.env.iter().any(|(_, value)| names(value))
        }
        _ => false,
    })
}

/// Whether a path is in a text, and not only the beginning of another name (`/work` in `/workers`).
fn names(text: &str, path: &str) -> bool {
    let goes_on = |ch: char| ch.is_alphanumeric() || matches!(ch, '_' | '-');
    text.match_indices(path).any(|(at, _)| {
        let behind = &text[at + path.len()..];
        !behind.starts_with(goes_on)
    })
}

/// Whether files of the context are put at or below its own path before the first command: then
/// commands see these and not the context. What a base has there is not known here, and does not
/// have to be: a digest too many only makes a key change more often.
fn is_covered(plan: &Plan, stage: &Stage, dir: &Path, contents: &Contents) -> bool {
    for (step, op) in stage.steps.iter().map(|step| &step.op).enumerate() {
        let reader = Reader {
            stage: stage.index,
            step,
            mount: None,
        };
        match op {
            Op::Run(_) => break,
            Op::Copy(op)
                if op.from == From::Context
                    && Path::new(&op.dest).starts_with(dir)
                    && contents.digests.contains_key(&reader)
                    && !contents.empty.contains(&reader) =>
            {
                return true;
            }
            _ => {}
        }
    }
    match stage.base {
        Base::Stage(below) => plan
            .stage(below)
            .is_some_and(|below| is_covered(plan, below, dir, contents)),
        _ => false,
    }
}
