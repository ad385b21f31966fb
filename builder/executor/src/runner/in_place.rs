//! `RUN` without namespaces: the layers are put into the container's own `/`, the command runs
//! there, and what it changed is found by looking before and after.
//!
//! One stage at a time, and only in a container: its `/` is overwritten. Mounts, the executor's
//! own directory and the network files are left alone.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_sandbox::mounts;
use kiln_sandbox::snapshot::{Difference, Snapshot};

use super::stage::Made;
use super::{Built, Session, StepError, io_error};
use crate::layer::delta::{Delta, Item, Kind, Node};
use crate::layer::dir::{Form, LayerDir};
use crate::layer::upper;
use crate::layer::view::Tree;

/// Trees that belong to the container, not to the image.
const CONTAINER: [&str; 4] = ["/proc", "/sys", "/dev", "/.dockerenv"];

/// What `/` holds.
#[derive(Debug, Default)]
pub(super) struct InPlace {
    /// The layers that were put there, base first.
    applied: Vec<PathBuf>,
}

impl Session<'_> {
    /// Makes `/` hold the layers of a stage, and remembers every file of it.
    pub(super) fn enter(&mut self, built: &mut Built) -> Result<Snapshot, StepError> {
        let mut layers = self.lowers(built)?;
        layers.reverse();
        let skip = self.untouchable();
        if !layers.starts_with(&self.in_place.applied) {
            clear(Path::new("/"), &skip).map_err(io_error("cannot clear / for the next stage"))?;
            self.in_place.applied.clear();
        }
        for layer in &layers[self.in_place.applied.len()..] {
            apply(layer, &skip).map_err(io_error(format!(
                "cannot put the layer {} into /",
                layer.display()
            )))?;
        }
        self.in_place.applied = layers;
        Snapshot::take(Path::new("/"), &skip)
            .map_err(|error| io_error("cannot look at /")(io::Error::other(error)))
    }

    /// What a command changed since [`Session::enter`], as a layer of its own.
    pub(super) fn leave(
        &mut self,
        before: &Snapshot,
        built: &mut Built,
    ) -> Result<Made, StepError> {
        let after = Snapshot::take(Path::new("/"), &self.untouchable())
            .map_err(|error| io_error("cannot look at /")(io::Error::other(error)))?;
        let read = || "cannot read what the command changed";
        let mut changed = changes(&before.difference(&after)).map_err(io_error(read()))?;
        changed.items.retain(|path, _| !self.is_excluded(path));
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
            self.in_place.applied.push(dir.clone());
        }
        built.scratch.push(scratch);
        Ok(Made {
            delta,
            tree: Some(Tree::Layer(dir)),
            kept: None,
        })
    }

    fn untouchable(&self) -> Vec<PathBuf> {
        let mut skip: Vec<PathBuf> = CONTAINER.map(PathBuf::from).to_vec();
        skip.extend(mounts::NETWORK_FILES.map(PathBuf::from));
        skip.extend(self.request.sandbox.hidden.iter().cloned());
        skip.push(self.request.context.dir.clone());
        let mounted = mounts::read().unwrap_or_default();
        skip.extend(
            mounted
                .into_iter()
                .map(|mount| mount.mount_point)
                .filter(|path| path != Path::new("/")),
        );
        skip.sort();
        skip.dedup();
        skip
    }
}

fn is_skipped(path: &Path, skip: &[PathBuf]) -> bool {
    skip.iter().any(|skip| path.starts_with(skip))
}

/// Puts a layer into `/`.
fn apply(layer: &Path, skip: &[PathBuf]) -> io::Result<()> {
    let mut delta = upper::read(layer)?;
    delta.items.retain(|path, item| {
        let path = Path::new("/").join(path);
        let holds_mount = skip.iter().any(|skip| skip.starts_with(&path));
        // A directory above a mount can be changed but not removed or replaced.
        let is_dir = matches!(item, Item::Put(node) if node.is_dir() && !node.opaque);
        !is_skipped(&path, skip) && (!holds_mount || is_dir)
    });
    let mut root = LayerDir::open(Path::new("/"), Form::Applied)?;
    root.write(&delta)?;
    root.finish()
}

/// Removes everything that may be removed.
fn clear(dir: &Path, skip: &[PathBuf]) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if is_skipped(&path, skip) {
            continue;
        }
        let holds_mount = skip.iter().any(|skip| skip.starts_with(&path));
        match (entry.file_type()?.is_dir(), holds_mount) {
            (true, true) => clear(&path, skip)?,
            (true, false) => fs::remove_dir_all(&path)?,
            (false, _) => fs::remove_file(&path)?,
        }
    }
    Ok(())
}

/// A difference as a layer, with the directories above each change.
fn changes(difference: &Difference) -> io::Result<Delta> {
    let mut delta = Delta::default();
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    for path in difference.added.iter().chain(&difference.changed) {
        above(path, &mut delta)?;
        if let Some((mut node, stat)) = look(path)? {
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
        above(path, &mut delta)?;
        delta.items.insert(path.clone(), Item::Removed);
    }
    Ok(delta)
}

fn above(path: &Path, delta: &mut Delta) -> io::Result<()> {
    let parents = path
        .ancestors()
        .skip(1)
        .filter(|parent| !parent.as_os_str().is_empty());
    for parent in parents {
        if delta.get(parent).is_none()
            && let Some((node, _)) = look(parent)?
        {
            delta.items.insert(parent.to_owned(), Item::Put(node));
        }
    }
    Ok(())
}

fn look(path: &Path) -> io::Result<Option<(Node, fs::Metadata)>> {
    let host = Path::new("/").join(path);
    match fs::symlink_metadata(&host) {
        Ok(stat) => Ok(upper::node(&host, &stat)?.map(|node| (node, stat))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
