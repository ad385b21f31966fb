//! The directory of the store that a command is chroot()ed into, and what is put there for it:
//! devices, the network files, and the context.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kiln_sandbox::rootfs::{MountPoint, Special};
use kiln_sandbox::{Rootfs, mounts};
use kiln_store::Scratch;

use super::{PlainRoot, plain};
use crate::progress::Progress;
use crate::runner::Report;

/// The devices that every program may expect (runtime-spec, config-linux.md, "Default Devices"),
/// by major and minor number (the kernel's devices.txt).
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
/// Anyone may read and write them.
const DEVICE_MODE: u32 = 0o666;
/// Anyone may put files there, and remove his own.
const SHARED_MODE: u32 = 0o1777;

impl PlainRoot {
    /// An empty one with devices, as far as they can be made.
    pub(super) fn in_store(scratch: Scratch, report: Report<'_>) -> io::Result<Self> {
        let dir = scratch.path().to_owned();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let root = Rootfs::open(&dir).map_err(plain)?;
        for path in ["/dev", "/dev/shm"].map(Path::new) {
            root.create_directories(path, 0o755).map_err(plain)?;
        }
        root.chmod(Path::new("/dev/shm"), SHARED_MODE)
            .map_err(plain)?;
        if let Err(why) = devices(&root, &dir) {
            report(Progress::Warning(format!(
                "RUN has no /dev/null and its like: {why} (it needs the capability MKNOD, and a \
                 store on a volume that is not mounted nodev)"
            )));
        }
        Ok(Self {
            dir,
            scratch: Some(scratch),
            applied: Vec::new(),
        })
    }

    /// Copies of the files by which the machine finds its network.
    pub(super) fn put_network_files(&self) -> io::Result<()> {
        let root = self.open()?;
        for path in mounts::NETWORK_FILES.map(Path::new) {
            let content = match fs::read(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                content => content?,
            };
            root.make_mount_point(path, MountPoint::File)
                .map_err(plain)?;
            let place = root.canonicalize(path).map_err(plain)?;
            let mut file = root.create_file(&place, 0o644).map_err(plain)?;
            file.write_all(&content)?;
        }
        Ok(())
    }

    /// Moves directories to where a mount would show them. They are of the same file system, and
    /// what the command does there is done to them.
    pub(super) fn take_in(&self, grafts: &[(PathBuf, PathBuf)]) -> io::Result<()> {
        let root = self.open()?;
        for (at, dir) in grafts {
            root.create_directories(at, 0o755).map_err(plain)?;
            // In the place of an empty directory, the way there without links.
            fs::rename(dir, self.place(&root, at)?)?;
        }
        Ok(())
    }

    /// Moves them back. One that the command took away is empty then.
    pub(super) fn let_out(&self, grafts: &[(PathBuf, PathBuf)]) -> io::Result<()> {
        let root = self.open()?;
        for (at, dir) in grafts.iter().rev() {
            let is_there = root
                .stat(at)
                .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir());
            if is_there {
                fs::rename(self.place(&root, at)?, dir)?;
            } else {
                fs::create_dir(dir)?;
            }
        }
        Ok(())
    }

    fn place(&self, root: &Rootfs, path: &Path) -> io::Result<PathBuf> {
        let real = root.canonicalize(path).map_err(plain)?;
        Ok(self.dir.join(real.strip_prefix("/").unwrap_or(&real)))
    }
}

/// Makes the devices; on a failure none is there.
fn devices(root: &Rootfs, dir: &Path) -> io::Result<()> {
    let make = || -> io::Result<()> {
        for (name, major, minor) in DEVICES {
            let special = Special::Character { major, minor };
            root.create_special(&Path::new("/dev").join(name), special, DEVICE_MODE)
                .map_err(|error| error.source)?;
        }
        // On a file system that is mounted nodev they can be made, and not opened.
        fs::File::options()
            .write(true)
            .open(dir.join("dev/null"))
            .map(drop)
    };
    let made = make();
    if made.is_err() {
        for (name, ..) in DEVICES {
            root.remove(&Path::new("/dev").join(name)).map_err(plain)?;
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_taken_in_comes_back_with_what_was_done_there() {
        let dir = tempfile::tempdir().unwrap();
        let (root, context) = (dir.path().join("root"), dir.path().join("context"));
        fs::create_dir_all(root.join("real")).unwrap();
        std::os::unix::fs::symlink("/real", root.join("link")).unwrap();
        fs::create_dir(&context).unwrap();
        let root = PlainRoot {
            dir: root,
            scratch: None,
            applied: Vec::new(),
        };
        let grafts = [(PathBuf::from("/link/context"), context.clone())];
        root.take_in(&grafts).unwrap();
        fs::write(root.dir.join("real/context/new"), "").unwrap();
        root.let_out(&grafts).unwrap();
        assert!(context.join("new").exists());
        assert!(!root.dir.join("real/context").exists());

        root.take_in(&grafts).unwrap();
        fs::remove_dir_all(root.dir.join("real")).unwrap();
        root.let_out(&grafts).unwrap();
        assert!(fs::read_dir(&context).unwrap().next().is_none());
    }
}
