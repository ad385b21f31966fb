//! What a build reads of its context, as digests; and which commands see the context or a volume
//! at its own path.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use kiln_dockerfile::mount::MountKind;
use kiln_store::{Digest, Hasher};

use super::key::{Framed, Reader};
use crate::folder::Folder;
use crate::layer::delta::{Delta, Item, Kind, Node};
use crate::plan::{self, Base, From, Op, Plan, Stage};
use crate::request::{ContextInRun, Request};
use crate::runner::copy::{self, CopyError};

/// What commands of a stage see beside their image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sight {
    /// Volumes that the stage mentions.
    pub volumes: Vec<PathBuf>,
    /// The digest of the whole context, where the stage mentions its path.
    pub context: Option<Digest>,
}

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
pub fn contents(plan: &Plan, request: &Request) -> Contents {
    let mut contents = Contents::default();
    // Steps often read the same files.
    let mut files = Files::default();
    for stage in &plan.stages {
        for (step, op) in stage.steps.iter().map(|step| &step.op).enumerate() {
            let reader = Reader {
                stage: stage.index,
                step,
                mount: None,
            };
            match op {
                Op::Copy(op) => {
                    if let Some(folder) = Folder::of(&op.from, request) {
                        let view = folder.view();
                        let place = folder.place(&view);
                        let parts = copy::refuse_unmatched(plan, op, place)
                            .and_then(|()| copy::parts(op, place));
                        contents.add(reader, parts, &mut files);
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
                            let whole = copy::whole(path, folder.place(&folder.view()));
                            let parts = whole.map(|delta| vec![(path.to_owned(), delta)]);
                            contents.add(reader, parts, &mut files);
                        }
                    }
                }
                _ => {}
            }
        }
    }
    contents
}

impl Contents {
    /// The words of the instruction are part of the key anyway.
    fn add(
        &mut self,
        reader: Reader,
        read: Result<Vec<(PathBuf, Delta)>, CopyError>,
        files: &mut Files,
    ) {
        let Ok(parts) = read else {
            return;
        };
        if parts.iter().all(|(_, delta)| is_empty(delta)) {
            self.empty.insert(reader);
        }
        let mut hash = Framed::new("sources");
        hash.number(parts.len() as u64);
        for (path, delta) in &parts {
            hash.bytes(path.as_os_str().as_bytes());
            let Ok(digest) = files.digest(delta) else {
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
            // RUN sees the folder itself, whatever is kept from COPY.
            let all = Folder::whole_context(request);
            let delta = copy::whole(Path::new(""), all.place(&all.view()));
            let delta = delta.map_err(io::Error::other)?;
            whole = Some(Files::default().digest(&delta)?);
        }
        if sees || !volumes.is_empty() {
            let context = whole.filter(|_| sees);
            sights.insert(stage.index, Sight { volumes, context });
        }
    }
    Ok(sights)
}

/// Whether a stage names a directory: as working directory, or in a command.
pub fn mentions(stage: &Stage, dir: &Path) -> bool {
    let text = dir.to_string_lossy();
    stage.steps.iter().any(|step| match &step.op {
        Op::Workdir { path, .. } => Path::new(path).starts_with(dir),
        Op::Run(run) => {
            Path::new(&run.cwd).starts_with(dir)
                || run.argv.iter().any(|word| word.contains(&*text))
                || run.script.iter().any(|(_, body)| body.contains(&*text))
                || run.env.iter().any(|(_, value)| value.contains(&*text))
        }
        _ => false,
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

/// Digests of files, each read once.
#[derive(Default)]
struct Files {
    known: BTreeMap<PathBuf, Digest>,
}

impl Files {
    /// The digest of a tree: names, kinds, modes, links, attributes and contents.
    fn digest(&mut self, delta: &Delta) -> io::Result<Digest> {
        self.read(delta)?;
        let mut hash = Framed::new("files");
        hash.number(delta.items.len() as u64);
        for (path, item) in &delta.items {
            hash.bytes(path.as_os_str().as_bytes());
            match item {
                Item::Removed => hash.text("removed"),
                Item::Put(node) => self.node(&mut hash, node)?,
            }
        }
        Ok(hash.finish())
    }

    fn node(&self, hash: &mut Framed, node: &Node) -> io::Result<()> {
        hash.number(u64::from(node.meta.mode & 0o7777));
        hash.number(node.xattrs.len() as u64);
        for (name, value) in &node.xattrs {
            hash.text(name);
            hash.bytes(value);
        }
        match &node.kind {
            Kind::File(size) => {
                hash.text("file");
                hash.number(*size);
                match host(node).and_then(|host| self.known.get(host)) {
                    Some(digest) => hash.digest(*digest),
                    None => hash.digest(digest_of(&mut node.open()?)?),
                }
            }
            Kind::Symlink(target) => {
                hash.text("link");
                hash.bytes(target.as_os_str().as_bytes());
            }
            Kind::Hardlink(first) => {
                hash.text("further name");
                hash.bytes(first.as_os_str().as_bytes());
            }
            other => hash.text(&format!("{other:?}")),
        }
        Ok(())
    }

    /// Reads the files that are not known yet, on all cores.
    fn read(&mut self, delta: &Delta) -> io::Result<()> {
        let hosts: Vec<&Path> = delta
            .items
            .values()
            .filter_map(|item| match item {
                Item::Put(node) => host(node),
                Item::Removed => None,
            })
            .filter(|host| !self.known.contains_key(*host))
            .collect();
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Vec::with_capacity(hosts.len()));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let work = || {
            while let Some(host) = hosts.get(next.fetch_add(1, Ordering::Relaxed)) {
                let digest = std::fs::File::open(host).and_then(|mut file| digest_of(&mut file));
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.push(digest.map(|digest| (host.to_path_buf(), digest)));
            }
        };
        if hosts.len() < 8 {
            work(); // not worth a thread
        } else {
            std::thread::scope(|scope| {
                for _ in 0..cores {
                    scope.spawn(work);
                }
            });
        }
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        for entry in found {
            let (host, digest) = entry?;
            self.known.insert(host, digest);
        }
        Ok(())
    }
}

fn host(node: &Node) -> Option<&Path> {
    match (&node.kind, &node.content) {
        (Kind::File(size), Some(crate::layer::delta::Content::Host(host))) if *size > 0 => {
            Some(host)
        }
        _ => None,
    }
}

fn digest_of(bytes: &mut dyn Read) -> io::Result<Digest> {
    let mut hasher = io::BufWriter::with_capacity(1 << 16, Hasher::new(io::sink()));
    io::copy(bytes, &mut hasher)?;
    let hasher = hasher
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    Ok(hasher.finish().1)
}
