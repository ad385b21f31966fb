//! The overlay that a step lives in, as a mount that is not attached anywhere yet.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, open_tree,
    unmount,
};

use crate::error::Failure;
use crate::rootfs::Rootfs;

/// The kernel cuts a parameter of `fsconfig` off at 256 bytes.
const LONGEST_PARAMETER: usize = 250;

/// One page, with room for the words around: the limit of the options of mount(2).
const LONGEST_OPTIONS: usize = 4000;

/// The directories of an overlay; the lower ones topmost first.
pub(super) struct Layers<'a> {
    pub lowers: Vec<PathBuf>,
    pub upper: &'a Path,
    pub work: &'a Path,
}

/// Makes the overlay of a step. `make_mount_points` is given a first overlay whose upper is
/// thrown in as a lower of the second, so that mount points exist without being changes.
pub(super) fn with_stubs(
    layers: Layers<'_>,
    scratch: &Path,
    make_mount_points: impl FnOnce(&Rootfs) -> Result<(), Failure>,
) -> Result<OwnedFd, Failure> {
    let stub = scratch.join("stub");
    let stub_work = scratch.join("stub-work");
    let point = scratch.join("root");
    for directory in [&stub, &stub_work, &point] {
        fs::create_dir_all(directory)
            .map_err(|error| Failure::new(format!("create {}", directory.display()), error))?;
    }
    let layers = Layers {
        lowers: distinct(layers.lowers),
        ..layers
    };
    // The root of an overlay looks like its topmost directory.
    let like = &layers.lowers[0];
    copy_root(like, &stub)?;
    copy_root(like, layers.upper)?;
    let first = attachable(
        &Layers {
            lowers: layers.lowers.clone(),
            upper: &stub,
            work: &stub_work,
        },
        &point,
    )?;
    make_mount_points(&Rootfs::from_fd(first))?;
    let mut lowers = layers.lowers;
    lowers.insert(0, stub);
    attachable(&Layers { lowers, ..layers }, &point)
}

/// Each directory once, where it is topmost: further down it would add nothing, and the kernel
/// refuses it (ELOOP). Images often have a layer twice, the empty one above all.
fn distinct(lowers: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut lowers = lowers;
    lowers.retain(|lower| seen.insert(lower.clone()));
    lowers
}

fn copy_root(from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |error| {
        Failure::new(
            format!(
                "give {} the mode and owner of {}",
                to.display(),
                from.display()
            ),
            error,
        )
    };
    let metadata = fs::metadata(from).map_err(failed)?;
    // An owner that the namespace does not know, or may not give, stays as it is.
    let _ = std::os::unix::fs::chown(to, Some(metadata.uid()), Some(metadata.gid()));
    fs::set_permissions(to, metadata.permissions()).map_err(failed)
}

/// A detached overlay mount.
fn attachable(layers: &Layers<'_>, point: &Path) -> Result<OwnedFd, Failure> {
    let failed = |error: Errno| {
        Failure::new(
            format!("mount an overlay with upper {}", layers.upper.display()),
            error,
        )
    };
    match by_parameters(layers) {
        // Kernels before 6.5 do not know `lowerdir+`, those before 5.2 no fsopen.
        Err(Errno::INVAL | Errno::NOSYS) => by_options(layers, point).map_err(failed),
        result => result.map_err(failed),
    }
}

fn by_parameters(layers: &Layers<'_>) -> Result<OwnedFd, Errno> {
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_flag(overlay.as_fd(), "userxattr")?;
    let mut held = Vec::new();
    for lower in &layers.lowers {
        let path = short(lower, &mut held)?;
        fsconfig_set_string(overlay.as_fd(), "lowerdir+", &path)?;
    }
    let upper = short(layers.upper, &mut held)?;
    fsconfig_set_string(overlay.as_fd(), "upperdir", &upper)?;
    let work = short(layers.work, &mut held)?;
    fsconfig_set_string(overlay.as_fd(), "workdir", &work)?;
    fsconfig_create(overlay.as_fd())?;
    fsmount(
        overlay.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}

/// The path itself, or a name of its descriptor, which `held` keeps open, when it is too long
/// or holds a character with a meaning in options.
fn short(path: &Path, held: &mut Vec<OwnedFd>) -> Result<PathBuf, Errno> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() <= LONGEST_PARAMETER && !bytes.iter().any(|byte| b"\\:,".contains(byte)) {
        return Ok(path.to_path_buf());
    }
    let fd = rustix::fs::openat(
        CWD,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let name = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    held.push(fd);
    Ok(name)
}

fn by_options(layers: &Layers<'_>, point: &Path) -> Result<OwnedFd, Errno> {
    let mut held = Vec::new();
    let mut options = b"userxattr,lowerdir=".to_vec();
    for (index, lower) in layers.lowers.iter().enumerate() {
        if index > 0 {
            options.push(b':');
        }
        options.extend_from_slice(short(lower, &mut held)?.as_os_str().as_bytes());
    }
    for (key, path) in [(",upperdir=", layers.upper), (",workdir=", layers.work)] {
        options.extend_from_slice(key.as_bytes());
        options.extend_from_slice(short(path, &mut held)?.as_os_str().as_bytes());
    }
    if options.len() > LONGEST_OPTIONS {
        return Err(Errno::TOOBIG);
    }
    let options =
        std::ffi::CString::new(OsString::from_vec(options).into_vec()).map_err(|_| Errno::INVAL)?;
    mount(
        "overlay",
        point,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )?;
    let tree = open_tree(
        CWD,
        point,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    );
    unmount(point, UnmountFlags::DETACH)?;
    tree
}
