//! Files that are there whole, or as they were before.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// The mode of a new file, of which the umask takes its part.
const NEW: u32 = 0o666;

/// A file that is written aside and gets its name when it is whole. What is no regular file (a
/// pipe, `/dev/stdout`), and what lies where nothing else can be made, is written where it is.
pub(super) enum Whole {
    /// Under another name.
    Aside(NamedTempFile, PathBuf),
    /// In its place.
    There(File),
}

impl Whole {
    /// Makes the directories above it as well.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        if let Some(parent) = parent {
            fs::create_dir_all(parent)?;
        }
        // A link stays one.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&path).is_ok_and(|stat| !stat.is_file()) {
            return File::create(path).map(Self::There);
        }
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let aside = tempfile::Builder::new()
            .prefix(".incomplete-")
            .permissions(Permissions::from_mode(NEW))
            .tempfile_in(parent.unwrap_or(Path::new(".")));
        match aside {
            Ok(aside) => Ok(Self::Aside(aside, path)),
            Err(_) => File::create(path).map(Self::There),
        }
    }

    /// Gives it its name.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::There(_) => Ok(()),
            Self::Aside(aside, path) => match aside.persist(&path) {
                Ok(_) => Ok(()),
                // A file that is a mount point takes no other's name.
                Err(error) => fs::copy(error.file.path(), &path).map(drop),
            },
        }
    }
}

impl io::Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Aside(file, _) => file.write(bytes),
            Self::There(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Aside(file, _) => file.flush(),
            Self::There(file) => file.flush(),
        }
    }
}
