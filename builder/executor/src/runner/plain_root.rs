//! `RUN` without mounts: the layers of a stage are put into one plain directory, the command runs
//! there, and what it changed is found by looking before and after.
//!
//! In place that directory is the container's own `/`: one stage at a time, and only in a
//! container, since it is overwritten. Mounts, the executor's own directory, the context and the
//! network files are left alone. For chroot it is a directory of the store.

mod chroot;
mod stand_in;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_sandbox::rootfs::RootfsError;
use kiln_sandbox::snapshot::{Difference, Names, Snapshot, bystanders};
use kiln_sandbox::{Root, Rootfs, Rung, mounts};
use kiln_store::Scratch;
use rustix::fs::{FileType, Timespec};

use super::mounts::Mounts;
use super::stage::Made;
use super::{Built, Report, Session, StepError, io_error, locked};
use crate::layer::delta::{Delta, Item, Kind, Node};
use crate::layer::dir::{Form, LayerDir};
use crate::layer::upper;
use crate::layer::view::{Tree, View};
use stand_in::StandIns;

/// Trees that belong to the machine, not to the image.
const SYSTEM: [&str; 3] = ["/proc", "/sys", "/dev"];
/// A runtime's mark in a container's own root.
const MARK: &str = "/.dockerenv";

/// A directory that holds the layers of one stage at a time.
#[derive(Debug)]
pub(super) struct PlainRoot {
    /// As this process sees it.
    dir: PathBuf,
    /// The store's directory that it is, for chroot.
    scratch: Option<Scratch>,
    /// The layers that were put there, base first.
    applied: Vec<PathBuf>,
}

impl PlainRoot {
    /// The container's own.
    fn own() -> Self {
        Self::of(PathBuf::from("/"))
    }

    fn of(dir: PathBuf) -> Self {
        Self {
            dir,
            scratch: None,
            applied: Vec::new(),
        }
    }

    /// What the sandbox makes of it.
    fn of_step(&self) -> Root {
        match self.scratch {
            None => Root::InPlace,
            Some(_) => Root::Directory(self.dir.clone()),
        }
    }

    fn open(&self) -> io::Result<Rootfs> {
        Rootfs::open(&self.dir).map_err(plain)
    }

    /// Lays further layers over what is there, or `layers` in its place.
    fn hold(&mut self, layers: Vec<PathBuf>, skip: &[PathBuf]) -> Result<(), StepError> {
        if !layers.starts_with(&self.applied) {
            self.open()
                .and_then(|root| clear(&root, Path::new("/"), skip))
                .map_err(io_error("cannot clear / for the next stage"))?;
            self.applied.clear();
        }
        for layer in &layers[self.applied.len()..] {
            apply(layer, &self.dir, skip).map_err(io_error(format!(
                "cannot put the layer {} into /",
                layer.display()
            )))?;
        }
        self.applied = layers;
        Ok(())
    }

    fn snapshot(&self, skip: &[PathBuf]) -> Result<Snapshot, StepError> {
        Snapshot::take(&self.dir, skip)
            .map_err(|error| io_error("cannot look at /")(io::Error::other(error)))
    }

    /// Gives `/etc` the time that it has where the network files are mounted: making a place for
    /// one that the image lacks touches it.
    fn touch_etc(&self, view: &View, now: i64) -> io::Result<()> {
        let etc = Path::new("/etc");
        let Some(found) = view.find(etc)?.filter(|found| found.node.is_dir()) else {
            return Ok(());
        };
        let mut time = found.node.meta.mtime;
        for file in mounts::NETWORK_FILES.map(Path::new) {
            if file.exists() && view.find(file)?.is_none() {
                time = now;
            }
        }
        let time = Timespec {
            tv_sec: time,
            tv_nsec: 0,
        };
        self.open()?.set_modified(etc, time).map_err(plain)
    }

    /// What changed since, without names whose file was changed by another name: they get back
    /// what the image has there, as they would have kept it in an overlay.
    fn changes_since(&self, before: Before) -> Result<Delta, StepError> {
        let after = self.snapshot(&before.skip)?;
        let mut difference = before.snapshot.difference(&after);
        if let Some(written) = before.names.and_then(Names::written) {
            let others = bystanders((&before.snapshot, &after), &mut difference, &written);
            self.give_back(&others, &before.image).map_err(io_error(
                "cannot part the names of a file that one of them changed",
            ))?;
        }
        before
            .stand_ins
            .finish()
            .map_err(io_error("cannot take out what was mounted"))?;
        self.changes(&difference)
            .map_err(io_error("cannot read what the command changed"))
    }

    fn give_back(&self, paths: &[PathBuf], image: &View) -> io::Result<()> {
        let mut dir = LayerDir::open(&self.dir, Form::Applied)?;
        for path in paths {
            if let Some(found) = image.find_link(path)? {
                let mut content = found.node.open()?;
                dir.put(path, &found.node, &mut content)?;
            }
        }
        dir.finish()
    }

    /// A difference as a layer, with the directories above each change.
    fn changes(&self, difference: &Difference) -> io::Result<Delta> {
        let mut delta = Delta::default();
        let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
        // In order, so that the first name of a file is written before the others.
        let there: BTreeSet<&PathBuf> =
            difference.added.iter().chain(&difference.changed).collect();
        for path in there {
            self.above(path, &mut delta)?;
            if let Some((mut node, stat)) = self.look(path)? {
                if !node.is_dir() && stat.nlink() > 1 {
                    let first = links
                        .entry((stat.dev(), stat.ino()))
                        .or_insert_with(|| path.clone());
                    if first != path {
                        node.kind = Kind::Hardlink(first.clone());
                        node.content = None;
                    }
                }
                delta.items.insert(path.clone(), Item::Put(node));
            }
        }
        for path in &difference.deleted {
            self.above(path, &mut delta)?;
            delta.items.insert(path.clone(), Item::Removed);
        }
        Ok(delta)
    }

    fn above(&self, path: &Path, delta: &mut Delta) -> io::Result<()> {
        let parents = path
            .ancestors()
            .skip(1)
            .filter(|parent| !parent.as_os_str().is_empty());
        for parent in parents {
            if delta.get(parent).is_none()
                && let Some((node, _)) = self.look(parent)?
            {
                delta.items.insert(parent.to_owned(), Item::Put(node));
            }
        }
        Ok(())
    }

    /// What is at a path that a snapshot named: no link is on its way, and nothing runs any more
    /// that could put one there.
    fn look(&self, path: &Path) -> io::Result<Option<(Node, fs::Metadata)>> {
        let host = self.dir.join(path);
        match fs::symlink_metadata(&host) {
            Ok(stat) => Ok(upper::node(&host, &stat)?.map(|node| (node, stat))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What is known of the directory before a command runs.
pub(super) struct Before {
    snapshot: Snapshot,
    names: Option<Names>,
    stand_ins: StandIns,
    /// The image below, for what is to be as it was.
    image: View,
    _network: Network,
    /// What is not the image's.
    skip: Vec<PathBuf>,
}

impl Session<'_> {
    /// Makes the directory of this rung hold the layers of a stage, and remembers every file of
    /// it. Also says what becomes the command's `/`.
    pub(super) fn enter(
        &self,
        rung: Rung,
        built: &mut Built,
        mounts: &Mounts,
        report: Report<'_>,
    ) -> Result<(Root, Before), StepError> {
        let mut layers = self.lowers(built)?;
        layers.reverse();
        let mut below = built.clone();
        below.grafts.clear();
        let image = below.view().map_err(io_error("cannot read the image"))?;
        if rung == Rung::InPlace {
            self.own_context_only(&image)?;
        }
        let mut skip = self.untouchable(rung, built);
        let root = locked(&self.plain_root).take();
        let mut root = match (root, rung) {
            (Some(root), Rung::Chroot) if layers.starts_with(&root.applied) => root,
            (_, Rung::Chroot) => {
                PlainRoot::in_store(self.store.scratch()?, report).map_err(prepare())?
            }
            (root, _) => root.unwrap_or_else(PlainRoot::own),
        };
        root.hold(layers, &skip)?;
        if rung == Rung::Chroot {
            root.put_network_files().map_err(prepare())?;
            root.take_in(&built.grafts).map_err(prepare())?;
        }
        root.touch_etc(&image, self.now).map_err(prepare())?;
        let stand_ins = StandIns::place(&root.dir, &mounts.binds, &mounts.caches())
            .map_err(io_error("cannot put what is mounted into its place"))?;
        skip.extend(stand_ins.paths().cloned());
        let network = Network::of(rung);
        let snapshot = root.snapshot(&skip)?;
        let names = Names::watch(&root.dir, &snapshot);
        let before = Before {
            snapshot,
            names,
            stand_ins,
            image,
            _network: network,
            skip,
        };
        let of_step = root.of_step();
        *locked(&self.plain_root) = Some(root);
        Ok((of_step, before))
    }

    /// What a command changed since [`Session::enter`], as a layer of its own.
    pub(super) fn leave(
        &self,
        rung: Rung,
        before: Before,
        built: &mut Built,
    ) -> Result<Made, StepError> {
        let root = locked(&self.plain_root).take();
        let Some(mut root) = root else {
            return Err(io_error("nothing was entered")(
                io::ErrorKind::NotFound.into(),
            ));
        };
        let mut changed = root.changes_since(before)?;
        let read = || "cannot read what the command changed";
        changed.items.retain(|path, _| !self.is_excluded(path));
        if rung == Rung::Chroot {
            root.let_out(&built.grafts)
                .map_err(io_error("cannot keep the context of the stage"))?;
        }
        // The files go on changing, so the layer gets copies.
        let scratch = Arc::new(self.store.scratch()?);
        let keep = || -> io::Result<Delta> {
            let mut dir = LayerDir::open(scratch.path(), Form::Overlay)?;
            dir.write(&changed)?;
            dir.finish()?;
            upper::read(scratch.path())
        };
        let delta = keep().map_err(io_error(read()))?;
        let dir = scratch.path().to_owned();
        if !delta.is_empty() {
            root.applied.push(dir.clone());
        }
        *locked(&self.plain_root) = Some(root);
        built.scratch.push(scratch);
        Ok(Made {
            delta,
            tree: Some(Tree::Layer(dir)),
            kept: None,
        })
    }

    /// What is not the image's at these paths of the directory.
    fn untouchable(&self, rung: Rung, built: &Built) -> Vec<PathBuf> {
        let mut skip: Vec<PathBuf> = SYSTEM.map(PathBuf::from).to_vec();
        skip.extend(mounts::NETWORK_FILES.map(PathBuf::from));
        if rung == Rung::Chroot {
            skip.extend(built.grafts.iter().map(|(at, _)| at.clone()));
        } else {
            skip.push(MARK.into());
            // Of those that are not there the image may have something above: /var/run, a link.
            let hidden = self.request.sandbox.hidden.iter();
            skip.extend(hidden.filter(|path| path.exists()).cloned());
            skip.push(self.request.context.dir.clone());
            let mounted = mounts::read().unwrap_or_default();
            skip.extend(
                mounted
                    .into_iter()
                    .map(|mount| mount.mount_point)
                    .filter(|path| path != Path::new("/")),
            );
        }
        skip.sort();
        skip.dedup();
        skip
    }

    /// In place, the context is where it is: an image that has files of its own there would need
    /// a mount to cover it.
    fn own_context_only(&self, image: &View) -> Result<(), StepError> {
        let dir = &self.request.context.dir;
        let look = || io_error("cannot read the image");
        let Some(found) = image.find(dir).map_err(look())? else {
            return Ok(());
        };
        let is_empty_dir = found.node.is_dir() && image.names(&found).map_err(look())?.is_empty();
        if is_empty_dir {
            return Ok(());
        }
        Err(StepError::Unsupported {
            what: format!(
                "RUN with the isolation in-place, where the image has files of its own at {}, \
                 the path of the context",
                dir.display()
            ),
            instead: "put the context elsewhere (-c), or take --isolation=chroot",
        })
    }
}

/// The files by which the machine finds its network. In place a command sees the container's own,
/// and what it writes there must not lead the push astray.
struct Network(Vec<(&'static Path, Vec<u8>)>);

impl Network {
    fn of(rung: Rung) -> Self {
        let files = mounts::NETWORK_FILES.map(Path::new).into_iter();
        let own = files.filter(|_| rung == Rung::InPlace);
        Self(
            own.filter_map(|file| Some((file, fs::read(file).ok()?)))
                .collect(),
        )
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for (file, content) in &self.0 {
            if fs::read(file).ok().as_ref() != Some(content) {
                // Where it cannot be written, the command could not either.
                drop(fs::write(file, content));
            }
        }
    }
}

fn prepare() -> impl FnOnce(io::Error) -> StepError {
    io_error("cannot prepare the root directory of the command")
}

fn plain(error: RootfsError) -> io::Error {
    io::Error::other(error)
}

fn is_skipped(path: &Path, skip: &[PathBuf]) -> bool {
    skip.iter().any(|skip| path.starts_with(skip))
}

/// Puts a layer into a root directory.
fn apply(layer: &Path, root: &Path, skip: &[PathBuf]) -> io::Result<()> {
    let mut delta = upper::read(layer)?;
    delta.items.retain(|path, item| {
        let path = Path::new("/").join(path);
        let holds_mount = skip.iter().any(|skip| skip.starts_with(&path));
        // A directory above a mount can be changed but not removed or replaced.
        let is_dir = matches!(item, Item::Put(node) if node.is_dir() && !node.opaque);
        !is_skipped(&path, skip) && (!holds_mount || is_dir)
    });
    let mut root = LayerDir::open(root, Form::Applied)?;
    root.write(&delta)?;
    root.finish()
}

/// Removes everything below `path` that may be removed.
fn clear(root: &Rootfs, path: &Path, skip: &[PathBuf]) -> io::Result<()> {
    let dir = root.directory(path).map_err(plain)?;
    for name in dir.names().map_err(plain)? {
        let path = path.join(&name);
        if is_skipped(&path, skip) {
            continue;
        }
        let kind = FileType::from_raw_mode(dir.stat(&name).map_err(plain)?.st_mode);
        let holds_mount = skip.iter().any(|skip| skip.starts_with(&path));
        if kind == FileType::Directory && holds_mount {
            clear(root, &path, skip)?;
        } else {
            dir.remove(&name).map_err(plain)?;
        }
    }
    Ok(())
}
