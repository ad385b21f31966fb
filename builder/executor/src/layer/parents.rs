//! Directories that a layer has files in without naming them.
//!
//! Bazel, ko and others write such layers. Applied in order, as Docker does it, the directory
//! keeps the owner and mode that the layers below gave it. A stack of directories would show the
//! ones that unpacking made up (root's, 0755), so that a further layer on top puts them right.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::delta::{Delta, Item, Kind, Node};
use super::index::Line;
use super::view::{Found, Tree, View};

/// Collects, entry by entry, which directories a layer uses and which it names.
#[derive(Debug, Default)]
pub struct Parents {
    named: BTreeSet<PathBuf>,
    used: BTreeSet<PathBuf>,
    /// The directory that was used last; entries come in runs.
    last: PathBuf,
}

impl Parents {
    /// Takes note of an entry.
    pub fn see(&mut self, line: &Line) {
        match line {
            Line::Put(path, node) => {
                if node.is_dir() {
                    self.named.insert(path.clone());
                }
                self.uses(path.parent());
            }
            Line::Removed(path) => self.uses(path.parent()),
            Line::Opaque(path) => self.uses(Some(path)),
        }
    }

    fn uses(&mut self, dir: Option<&Path>) {
        let mut dir = dir.filter(|dir| !dir.as_os_str().is_empty());
        match dir {
            Some(path) if path.as_os_str() == self.last.as_os_str() => return,
            Some(path) => path.clone_into(&mut self.last),
            None => return,
        }
        // Where one is known, those above it are.
        while let Some(path) = dir.filter(|dir| !self.used.contains(*dir)) {
            self.used.insert(path.to_owned());
            dir = path.parent().filter(|dir| *dir != Path::new(""));
        }
    }

    /// The directories that are used and not named, relative to the root.
    #[must_use]
    pub fn unnamed(self) -> BTreeSet<PathBuf> {
        self.used.difference(&self.named).cloned().collect()
    }
}

/// The directories that a list uses and does not name.
#[must_use]
pub fn unnamed(delta: &Delta) -> BTreeSet<PathBuf> {
    let mut parents = Parents::default();
    for (path, item) in &delta.items {
        if matches!(item, Item::Put(node) if node.is_dir()) {
            parents.named.insert(path.clone());
        }
        parents.uses(path.parent());
    }
    parents.unnamed()
}

/// The directories whose owner and mode a stack of these layers shows wrongly, as they should be.
/// Layers come base first, each with its unnamed directories. What is above a directory of the
/// answer is part of it.
///
/// # Errors
/// When a layer cannot be read.
pub fn corrections(layers: &[(Tree, BTreeSet<PathBuf>)]) -> io::Result<Delta> {
    let mut right = Delta::default();
    // The topmost first.
    let mut below: Vec<Tree> = Vec::new();
    for (tree, unnamed) in layers {
        if !(unnamed.is_empty() && right.is_empty()) {
            right = over(&right, (tree, unnamed), &below)?;
        }
        below.insert(0, tree.clone());
    }
    Ok(right)
}

/// The corrections for one layer more.
fn over(
    right: &Delta,
    (tree, unnamed): (&Tree, &BTreeSet<PathBuf>),
    below: &[Tree],
) -> io::Result<Delta> {
    let corrected = Tree::Delta(Arc::new(right.clone()));
    let stack = |top: &[&Tree]| {
        let top = top.iter().map(|tree| (*tree).clone());
        View::new(top.chain(below.iter().cloned()).collect())
    };
    let own = View::new(vec![tree.clone()]);
    let (under, all, plain) = (
        stack(&[&corrected]),
        stack(&[tree, &corrected]),
        stack(&[tree]),
    );
    let mut next = Delta::default();
    for path in unnamed {
        if own.at(path)?.is_some_and(|found| found.node.is_dir())
            && !covers(&own, path)?
            && let Some(found) = directory(under.at(path)?)
        {
            next.put(path.clone(), found);
        }
    }
    // Earlier ones hold on where this layer has nothing to say.
    for path in right.items.keys() {
        if own.at(path)?.is_none()
            && let Some(found) = directory(all.at(path)?)
        {
            next.put(path.clone(), found);
        }
    }
    let gaps = self::unnamed(&next);
    for path in gaps {
        if let Some(found) = directory(plain.at(&path)?) {
            next.put(path, found);
        }
    }
    Ok(next)
}

/// Whether a layer hides what is below it at this path.
fn covers(own: &View, path: &Path) -> io::Result<bool> {
    for dir in path.ancestors() {
        if own.at(dir)?.is_some_and(|found| found.node.opaque) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn directory(found: Option<Found>) -> Option<Node> {
    let node = found?.node;
    node.is_dir().then(|| Node {
        xattrs: node.xattrs,
        ..Node::new(Kind::Directory, node.meta)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::delta::Meta;

    /// `d 700 path` is a directory, `o 700 path` an opaque one, `f path` a file, `- path` removed.
    fn layers(texts: &[&str]) -> Vec<(Tree, BTreeSet<PathBuf>)> {
        let layer = |text: &&str| {
            let mut delta = Delta::default();
            for line in text.split(", ") {
                let words: Vec<&str> = line.split(' ').collect();
                let meta = |mode: &str| Meta {
                    mode: u32::from_str_radix(mode, 8).unwrap(),
                    uid: 7,
                    gid: 8,
                    mtime: 9,
                };
                match words[..] {
                    ["d", mode, path] => {
                        delta.put(path.into(), Node::new(Kind::Directory, meta(mode)));
                    }
                    ["o", mode, path] => {
                        let mut node = Node::new(Kind::Directory, meta(mode));
                        node.opaque = true;
                        delta.put(path.into(), node);
                    }
                    ["f", path] => delta.put(path.into(), Node::new(Kind::File(0), meta("644"))),
                    ["-", path] => {
                        delta.items.insert(path.into(), Item::Removed);
                    }
                    _ => panic!("{line}"),
                }
            }
            let unnamed = unnamed(&delta);
            (Tree::Delta(Arc::new(delta)), unnamed)
        };
        texts.iter().map(layer).collect()
    }

    fn corrected(texts: &[&str]) -> Vec<String> {
        let delta = corrections(&layers(texts)).unwrap();
        let line = |(path, item): (&PathBuf, &Item)| match item {
            Item::Put(node) => {
                assert!(!node.opaque);
                format!("{:o} {} {}", node.meta.mode, node.meta.uid, path.display())
            }
            Item::Removed => panic!("{}", path.display()),
        };
        delta.items.iter().map(line).collect()
    }

    /// Expected is what applying the layers one after the other leaves (OCI image specification,
    /// layer.md, "Applying Changesets").
    #[test]
    fn a_directory_keeps_what_lower_layers_gave_it() {
        for (layers, expected) in [
            (&["d 1777 tmp", "f tmp/x"][..], &["1777 7 tmp"][..]),
            (
                &["d 755 a, d 700 a/b", "f a/b/c"],
                &["755 7 a", "700 7 a/b"],
            ),
            // Through a layer that says nothing, and one that has a file there too.
            (
                &["d 1777 tmp", "f other", "f tmp/x", "f tmp/y"],
                &["1777 7 tmp"],
            ),
            // Removing something does not name the directory either.
            (&["d 700 a, f a/x", "- a/x"], &["700 7 a"]),
            // The way to a corrected directory stays what it is.
            (
                &["d 711 a, d 700 a/b", "d 750 a, f a/b/c"],
                &["750 7 a", "700 7 a/b"],
            ),
        ] {
            assert_eq!(corrected(layers), expected, "{layers:?}");
        }
    }

    #[test]
    fn what_a_later_layer_says_counts() {
        for layers in [
            &["d 755 a", "d 700 a, f a/x"][..],
            &["f a/x", "f a/y"],
            &["d 700 a", "f a/x", "d 750 a"],
            &["d 700 a", "f a/x", "- a"],
            &["d 700 a", "f a/x", "f a"],
            &["d 700 a", "f a/x", "- a", "f a/y"],
            &["d 711 a, d 700 a/b", "f a/b/c", "o 755 a, f a/b/d"],
        ] {
            let found = corrected(layers);
            let only_0755: Vec<_> = found
                .iter()
                .filter(|line| !line.starts_with("755 0"))
                .collect();
            assert_eq!(only_0755, [""; 0], "{layers:?}");
        }
    }
}
