//! Two layers become one.

use std::path::Path;

use super::delta::{Delta, Item};
use super::further::FurtherNames;

impl Delta {
    /// Lays `upper` over this layer: the two become one (`--single-snapshot`).
    pub fn absorb(&mut self, upper: Self) {
        let mut further = FurtherNames::of(self);
        for file in further.files() {
            // A layer replaces names: the file goes on under those that it leaves alone.
            if upper.covers(&file)
                && let Some(Item::Put(node)) = self.items.get(&file).cloned()
            {
                further.inherit(self, (&file, node), |name| upper.covers(name));
            }
        }
        for (path, item) in upper.items {
            match item {
                Item::Put(node) => {
                    if node.opaque {
                        self.remove_below(&path);
                    }
                    self.put(path, node);
                }
                Item::Removed => {
                    self.remove_below(&path);
                    self.items.insert(path, Item::Removed);
                }
            }
        }
    }

    /// Whether nothing that a lower layer has at this path is seen through this one.
    fn covers(&self, path: &Path) -> bool {
        let hides = |above: &Path| match self.get(above) {
            Some(Item::Put(node)) => node.opaque || !node.is_dir(),
            Some(Item::Removed) => true,
            None => false,
        };
        self.get(path).is_some() || path.ancestors().skip(1).any(hides)
    }
}
