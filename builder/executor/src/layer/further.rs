//! Further names of files (hard links) in a layer, when the name that they refer to goes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::delta::{Delta, Item, Kind, Node};

/// The further names of each file of a layer that has some, in the order of names.
pub(super) struct FurtherNames(HashMap<PathBuf, Vec<PathBuf>>);

impl FurtherNames {
    pub(super) fn of(delta: &Delta) -> Self {
        let mut names: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
        for (path, item) in &delta.items {
            if let Item::Put(Node {
                kind: Kind::Hardlink(first),
                ..
            }) = item
            {
                names.entry(first.clone()).or_default().push(path.clone());
            }
        }
        Self(names)
    }

    /// The files that have further names.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.0.keys().cloned().collect()
    }

    /// Lets the first further name of a file that leaves its place in the layer take over the file.
    /// Names for which `is_gone` holds leave with it.
    pub(super) fn inherit(
        &mut self,
        delta: &mut Delta,
        (path, file): (&Path, Node),
        is_gone: impl Fn(&Path) -> bool,
    ) {
        let mut names = self.0.remove(path).unwrap_or_default();
        names.retain(|name| delta.get(name).is_some() && !is_gone(name));
        if names.is_empty() {
            return;
        }
        let first = names.remove(0);
        delta.items.insert(first.clone(), Item::Put(file));
        for name in &names {
            if let Some(Item::Put(link)) = delta.items.get_mut(name) {
                link.kind = Kind::Hardlink(first.clone());
            }
        }
        self.0.insert(first, names);
    }
}
