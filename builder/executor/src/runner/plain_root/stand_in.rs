//! What stands where a mount would be: copies of files and directories, put into the root before
//! a command and taken out after it. What the image has there lies aside meanwhile, and none of it
//! gets into the layer. What the command changes in a cache is done to the cache as well.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kiln_sandbox::snapshot::Snapshot;
use kiln_sandbox::{Access, Bind, Rootfs};
use rustix::fs::{AtFlags, Timespec};
use rustix::io::Errno;

use super::{PlainRoot, plain};
use crate::layer::dir::{Form, LayerDir};
use crate::layer::view::View;
use crate::runner::copied::write_copy;

/// How what the image has at such a place is called meanwhile, with a number behind.
const ASIDE: &str = ".kiln-aside-";

/// All stand-ins of one command. When it is dropped, the root is as it was.
#[derive(Debug, Default)]
pub(super) struct StandIns {
    placed: Vec<Placed>,
}

#[derive(Debug)]
struct Placed {
    /// The root directory, as this process sees it.
    root: PathBuf,
    /// Where it is in that root, with no link on the way.
    target: PathBuf,
    /// Where what was there is.
    aside: Option<PathBuf>,
    /// Directories that were missing on the way, the topmost first.
    made: Vec<PathBuf>,
    /// A cache, and what it had.
    cache: Option<(PathBuf, Snapshot)>,
}

impl StandIns {
    /// Puts files and directories to where these mounts would show them. Those in `caches` get
    /// back what the command changes.
    pub(super) fn place(root: &Path, binds: &[Bind], caches: &[PathBuf]) -> io::Result<Self> {
        let mut stand_ins = Self::default();
        for bind in binds {
            stand_ins.put(root, bind).map_err(|error| {
                let target = bind.target.display();
                io::Error::new(error.kind(), format!("{target}: {error}"))
            })?;
        }
        // When all are there: one may lie within another.
        for (placed, bind) in stand_ins.placed.iter_mut().zip(binds) {
            if caches.contains(&bind.source) && bind.access == Access::ReadWrite {
                let before = Snapshot::take(&placed.host(&placed.target), &[]);
                let before = before.map_err(io::Error::other)?;
                placed.cache = Some((bind.source.clone(), before));
            }
        }
        Ok(stand_ins)
    }

    /// Paths that are not the image's while the command runs.
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let own = self.placed.iter().map(|placed| &placed.target);
        own.chain(
            self.placed
                .iter()
                .filter_map(|placed| placed.aside.as_ref()),
        )
    }

    /// Gives caches what the command changed there, and takes everything out again.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let mut result = Ok(());
        while let Some(placed) = self.placed.pop() {
            result = result.and(placed.keep_cache()).and(placed.take_out());
        }
        result
    }

    fn put(&mut self, root: &Path, bind: &Bind) -> io::Result<()> {
        let tree = Rootfs::open(root).map_err(plain)?;
        let mut placed = Placed {
            root: root.to_owned(),
            target: PathBuf::new(),
            aside: None,
            made: Vec::new(),
            cache: None,
        };
        placed.find_target(&tree, &bind.target)?;
        let time = placed.time_above(&tree);
        let result = placed.clear_way(&tree, self.placed.len());
        let result = result.and_then(|()| fill(&bind.source, &placed.host(&placed.target)));
        let result = result.and_then(|()| placed.set_time_above(&tree, time));
        // Also when it failed half-way: what was made so far has to go.
        self.placed.push(placed);
        result
    }
}

impl Drop for StandIns {
    fn drop(&mut self) {
        while let Some(placed) = self.placed.pop() {
            // The command did not come to its end; that is what gets reported.
            drop(placed.take_out());
        }
    }
}

impl Placed {
    fn host(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Follows links to where the mount belongs, as far as something is there.
    fn find_target(&mut self, tree: &Rootfs, target: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        let mut known = target;
        let real = loop {
            match tree.canonicalize(known) {
                Ok(real) => break real,
                Err(error) if error.is_not_found() => {
                    missing.extend(known.file_name());
                    known = known.parent().unwrap_or(Path::new("/"));
                }
                Err(error) => return Err(plain(error)),
            }
        };
        self.target = real;
        for name in missing.iter().rev() {
            self.target.push(name);
            self.made.push(self.target.clone());
        }
        // The last one is what is put there.
        self.made.pop();
        match self.target == Path::new("/") {
            true => Err(io::Error::other("the root directory cannot be covered")),
            false => Ok(()),
        }
    }

    /// The directory whose entries change.
    fn above(&self) -> &Path {
        let first = self.made.first().unwrap_or(&self.target);
        first.parent().unwrap_or(Path::new("/"))
    }

    fn time_above(&self, tree: &Rootfs) -> Option<Timespec> {
        let stat = tree.stat(self.above()).ok()?;
        Some(Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec.cast_signed(),
        })
    }

    /// That a mount point is made is no change of the image.
    fn set_time_above(&self, tree: &Rootfs, time: Option<Timespec>) -> io::Result<()> {
        match time {
            Some(time) => tree.set_modified(self.above(), time).map_err(plain),
            None => Ok(()),
        }
    }

    fn clear_way(&mut self, tree: &Rootfs, number: usize) -> io::Result<()> {
        for path in &self.made {
            tree.create_directories(path, 0o755).map_err(plain)?;
        }
        if tree.stat(&self.target).is_ok() {
            let aside = self.target.with_file_name(format!("{ASIDE}{number}"));
            fs::rename(self.host(&self.target), self.host(&aside))?;
            self.aside = Some(aside);
        }
        Ok(())
    }

    /// Does to a cache what the command did to its stand-in.
    fn keep_cache(&self) -> io::Result<()> {
        let Some((cache, before)) = &self.cache else {
            return Ok(());
        };
        // The command may have put a link in the way: the kernel opens it within the root.
        let tree = Rootfs::open(&self.root).map_err(plain)?;
        let opened = tree.directory(&self.target).map_err(plain)?;
        let dir = PathBuf::from(format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd()));
        let after = Snapshot::take(&dir, &[]).map_err(io::Error::other)?;
        let changed = PlainRoot::of(dir).changes(&before.difference(&after))?;
        let mut cache = LayerDir::open(cache, Form::Applied)?;
        cache.write(&changed)?;
        cache.finish()
    }

    fn take_out(&self) -> io::Result<()> {
        let tree = Rootfs::open(&self.root).map_err(plain)?;
        let time = self.time_above(&tree);
        tree.remove(&self.target).map_err(plain)?;
        if let Some(aside) = &self.aside {
            let (from, name) = tree.parent(aside).map_err(plain)?;
            let (to, own) = tree.parent(&self.target).map_err(plain)?;
            rustix::fs::renameat(&from, name, &to, own)?;
        }
        for path in self.made.iter().rev() {
            // What the command put there stays, and so does the directory.
            let Ok((parent, name)) = tree.parent(path) else {
                continue; // the command took it away
            };
            match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::NOTDIR) => break,
                Err(Errno::NOENT) => {}
                result => result?,
            }
        }
        self.set_time_above(&tree, time)
    }
}

/// Makes `to` what `from` is.
fn fill(from: &Path, to: &Path) -> io::Result<()> {
    let stat = fs::metadata(from)?;
    if stat.file_type().is_socket() {
        // Nobody can talk to a copy. On one file system it can be moved, else only pointed to.
        return fs::rename(from, to).or_else(|_| std::os::unix::fs::symlink(from, to));
    }
    if stat.is_dir() {
        fs::create_dir(to)?;
        write_copy(&View::plain(from.to_owned()), Path::new(""), to)?;
    } else {
        fs::copy(from, to)?;
    }
    std::os::unix::fs::chown(to, Some(stat.uid()), Some(stat.gid()))?;
    // After the owner, whose change takes the set-id bits away.
    fs::set_permissions(to, fs::Permissions::from_mode(stat.mode() & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn what_stood_there_comes_back_and_a_cache_keeps_what_was_done() {
        let dir = tempfile::tempdir().unwrap();
        let (root, cache) = (dir.path().join("root"), dir.path().join("cache"));
        fs::create_dir_all(root.join("srv/own")).unwrap();
        fs::write(root.join("srv/own/file"), "image").unwrap();
        fs::create_dir(&cache).unwrap();
        for name in ["kept", "changed", "removed"] {
            fs::write(cache.join(name), "old").unwrap();
        }
        let bind = Bind::writable(cache.clone(), "/srv/own");
        let placed = StandIns::place(&root, &[bind], std::slice::from_ref(&cache)).unwrap();
        assert!(!root.join("srv/own/file").exists());
        fs::write(root.join("srv/own/changed"), "new").unwrap();
        fs::write(root.join("srv/own/added"), "new").unwrap();
        fs::remove_file(root.join("srv/own/removed")).unwrap();
        placed.finish().unwrap();
        assert_eq!(text(&root.join("srv/own/file")), "image");
        assert_eq!(fs::read_dir(root.join("srv")).unwrap().count(), 1);
        let names = ["kept", "changed", "added"].map(|name| text(&cache.join(name)));
        assert_eq!(names, ["old", "new", "new"]);
        assert!(!cache.join("removed").exists());
    }

    #[test]
    fn directories_on_the_way_go_unless_something_was_put_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let secret = dir.path().join("secret");
        fs::write(&secret, "s").unwrap();
        for used in [false, true] {
            let bind = Bind::read_only(secret.clone(), "/a/b/key");
            let placed = StandIns::place(&root, &[bind], &[]).unwrap();
            assert_eq!(text(&root.join("a/b/key")), "s");
            if used {
                fs::write(root.join("a/mine"), "").unwrap();
            }
            placed.finish().unwrap();
            assert!(!root.join("a/b").exists());
            assert_eq!(root.join("a").exists(), used);
        }
    }

    #[test]
    fn a_link_that_the_command_put_in_the_way_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (root, cache) = (dir.path().join("root"), dir.path().join("cache"));
        let outside = dir.path().join("outside/b");
        for path in [&root, &cache, &outside] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(outside.join("key"), "secret").unwrap();
        let bind = Bind::writable(cache.clone(), "/a/b");
        let placed = StandIns::place(&root, &[bind], std::slice::from_ref(&cache)).unwrap();
        fs::remove_dir_all(root.join("a")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), root.join("a")).unwrap();
        drop(placed.finish());
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 0);
        assert_eq!(text(&outside.join("key")), "secret");
    }

    #[test]
    fn a_command_that_was_cancelled_leaves_the_root_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("real")).unwrap();
        std::os::unix::fs::symlink("/real", root.join("link")).unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let bind = Bind::writable(file, "/link/file");
        drop(StandIns::place(&root, &[bind], &[]).unwrap());
        assert_eq!(fs::read_dir(root.join("real")).unwrap().count(), 0);
    }
}
