//! Places for mounts: made where they are missing, through whatever links the image has.

use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Result, Rootfs, RootfsError};

/// What a mount needs below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountPoint {
    /// A directory.
    Directory,
    /// Anything but a directory.
    File,
}

impl Rootfs {
    /// Makes sure that something can be mounted on `target`: creates missing directories (mode
    /// 0755) and, for a file, an empty file (mode 0644). Links are followed inside the root, a
    /// dangling last one to the place where it points.
    ///
    /// # Errors
    /// When something of the wrong kind is there or in the way.
    pub fn make_mount_point(&self, target: &Path, kind: MountPoint) -> Result<()> {
        let failed = |error| RootfsError::new("create the mount point", target, error);
        let found = match self.stat_following(target) {
            Ok(found) => found,
            Err(error) if error.is_not_found() => {
                self.create_mount_point(target, kind).map_err(failed)?;
                self.stat_following(target)?
            }
            Err(error) => return Err(error),
        };
        let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        match (is_directory, kind) {
            (true, MountPoint::File) => Err(failed(Errno::ISDIR)),
            (false, MountPoint::Directory) => Err(failed(Errno::NOTDIR)),
            _ => Ok(()),
        }
    }

    fn create_mount_point(&self, target: &Path, kind: MountPoint) -> Result<(), Errno> {
        if kind == MountPoint::Directory {
            return self
                .create_directories(target, 0o755)
                .map(|_| ())
                .map_err(|error| errno_of(&error));
        }
        let mut target = target.to_path_buf();
        for _ in 0..super::MOST_LINKS {
            let parent = target.parent().ok_or(Errno::INVAL)?.to_path_buf();
            let name = target.file_name().ok_or(Errno::INVAL)?.to_os_string();
            let directory = self
                .create_directories(&parent, 0o755)
                .map_err(|error| errno_of(&error))?;
            match directory.read_link(&name) {
                // Dangling, as nothing was found through it.
                Ok(link) => target = parent.join(link),
                Err(_) => {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                    return rustix::fs::openat(
                        &directory,
                        &name,
                        flags,
                        Mode::from_raw_mode(0o644),
                    )
                    .map(|_| ());
                }
            }
        }
        Err(Errno::LOOP)
    }
}

fn errno_of(error: &RootfsError) -> Errno {
    Errno::from_raw_os_error(error.source.raw_os_error().unwrap_or(libc::EIO))
}
