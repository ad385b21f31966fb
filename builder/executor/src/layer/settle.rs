//! A layer says no more than what it changes: the form in which BuildKit's overlay differ writes
//! it (`util/overlay`, `Changes`).
//!
//! - What a file system reports as written but is the same as below stays out.
//! - What is removed and was not there is not mentioned.
//! - An opaque directory becomes the removals that it stands for: some tools that unpack layers do
//!   not know opaque markers.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::delta::{Delta, Item, Kind, Node};
use super::further::FurtherNames;
use super::view::View;

/// Takes out of a layer what it does not change over `below`.
///
/// # Errors
/// When a file cannot be read.
pub fn settle(delta: &mut Delta, below: &View) -> io::Result<()> {
    let opaque: Vec<PathBuf> = delta
        .items
        .iter()
        .filter(|(_, item)| matches!(item, Item::Put(node) if node.opaque))
        .map(|(path, _)| path.clone())
        .collect();
    for dir in opaque {
        open(delta, &dir, below)?;
    }
    let mut same = Vec::new();
    for (path, item) in &delta.items {
        // Behind a link lies something else: the layer has a directory in its place.
        let found = below.at(path)?;
        let is_same = match item {
            Item::Removed => found.is_none(),
            Item::Put(node) => match found {
                Some(found) if !node.is_dir() => is_same(file_of(node, delta), &found.node)?,
                Some(found) => is_same_directory(node, &found.node),
                None => false,
            },
        };
        if is_same {
            same.push(path.clone());
        }
    }
    let mut further = FurtherNames::of(delta);
    // From the deepest up: a directory stays while something in it does.
    for path in same.into_iter().rev() {
        if !delta.has_below(&path)
            && let Some(Item::Put(node)) = delta.items.remove(&path)
        {
            further.inherit(delta, (&path, node), |_| false);
        }
    }
    Ok(())
}

/// Replaces the mark of an opaque directory by the removal of all that `below` has there and the
/// layer does not.
fn open(delta: &mut Delta, dir: &Path, below: &View) -> io::Result<()> {
    if let Some(Item::Put(node)) = delta.items.get_mut(dir) {
        node.opaque = false;
    }
    let Some(found) = below.at(dir)?.filter(|found| found.node.is_dir()) else {
        return Ok(());
    };
    for name in below.names(&found)? {
        if below.child(&found, &name)?.is_none() {
            continue;
        }
        let path = dir.join(&name);
        match delta.items.get(&path) {
            None => {
                delta.items.insert(path, Item::Removed);
            }
            Some(Item::Put(node)) if node.is_dir() => open(delta, &path, below)?,
            Some(_) => {}
        }
    }
    Ok(())
}

/// The file that a further name stands for; anything else is itself.
fn file_of<'a>(node: &'a Node, delta: &'a Delta) -> &'a Node {
    match &node.kind {
        Kind::Hardlink(first) => match delta.get(first) {
            Some(Item::Put(file)) => file,
            _ => node,
        },
        _ => node,
    }
}

fn is_same(node: &Node, other: &Node) -> io::Result<bool> {
    if node.meta != other.meta || node.kind != other.kind || node.xattrs != other.xattrs {
        return Ok(false);
    }
    match node.kind {
        Kind::File(0) | Kind::Symlink(_) => Ok(true),
        Kind::File(_) => match (&node.content, &other.content) {
            (Some(_), Some(_)) => same_bytes(&mut *node.open()?, &mut *other.open()?),
            _ => Ok(false), // only the header is known
        },
        _ => Ok(false),
    }
}

/// The time alone is no change: it follows from changes in the directory, of which none is left.
fn is_same_directory(node: &Node, other: &Node) -> bool {
    let owner = |node: &Node| (node.meta.mode, node.meta.uid, node.meta.gid);
    !node.opaque && other.is_dir() && owner(node) == owner(other) && node.xattrs == other.xattrs
}

fn same_bytes(one: &mut dyn Read, other: &mut dyn Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = fill(one, &mut left)?;
        if count != fill(other, &mut right)? || left[..count] != right[..count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or nothing is left.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
