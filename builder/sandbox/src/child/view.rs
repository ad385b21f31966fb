//! `B` builds what the command sees as its file system.
//!
//! Everything that comes from outside is cloned while the old root is still there, and attached
//! only after the pivot: targets are then resolved by the kernel inside the new root, so that the
//! links of an image (`/var/run` to `/run`) are followed and can lead nowhere else.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount_change, mount_move, move_mount, open_tree, unmount,
};

use super::overlay::{self, Layers};
use crate::error::Failure;
use crate::idmap::IdMap;
use crate::rootfs::{MountPoint, Rootfs};
use crate::step::{Access, Network, Root, Step, Tmpfs};
use crate::sys;

/// The device nodes of every container (OCI runtime specification, default devices).
const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// The links of every container's `/dev` (OCI runtime specification).
const DEV_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// What Docker covers in `/proc` and `/sys`: root inside may be root of the machine outside.
const MASKED: [&str; 9] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// What Docker makes read-only in `/proc`.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// A mount that waits for the pivot.
struct Pending {
    tree: OwnedFd,
    target: PathBuf,
    kind: MountPoint,
}

/// Makes the step's file system the present process's own.
pub(super) fn enter(step: &Step, ids: &IdMap) -> Result<(), Failure> {
    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )
    .map_err(|error| Failure::new("make the mounts private", error))?;
    // Before the root is mounted: a volume that holds the store must not show the step itself.
    let system = system_trees()?;
    let nodes = device_nodes()?;
    let outside = outside_trees(step)?;
    let point = mount_root(step, &outside)?;
    pivot(&point)?;
    for pending in &system {
        attach(pending)?;
    }
    build_dev(&nodes, ids)?;
    protect_system()?;
    let volumes = step.volumes.len();
    for pending in &outside[..volumes] {
        attach(pending)?;
    }
    let (within, before): (Vec<_>, Vec<_>) = step.tmpfs.iter().partition(|tmpfs| {
        let mut binds = step.binds.iter();
        binds.any(|bind| tmpfs.target != bind.target && tmpfs.target.starts_with(&bind.target))
    });
    for tmpfs in before {
        mount_tmpfs(tmpfs)?;
    }
    for pending in &outside[volumes..] {
        attach(pending)?;
    }
    for tmpfs in within {
        mount_tmpfs(tmpfs)?;
    }
    hide(step)?;
    if let Some(name) = &step.hostname {
        rustix::system::sethostname(name.as_bytes())
            .map_err(|error| Failure::new(format!("set the host name {name:?}"), error))?;
    }
    if step.network == Network::None {
        match sys::loopback_up() {
            // A pod with users of its own may make a network and lacks NET_ADMIN in it: without
            // any network is still what was asked for.
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {}
            result => {
                result.map_err(|error| Failure::new("bring up the loopback device", error))?;
            }
        }
    }
    Ok(())
}

/// `/proc`, a fresh one where the kernel allows it (no part of the caller's may be covered), and
/// `/sys`, read-only.
fn system_trees() -> Result<Vec<Pending>, Failure> {
    let proc = match fresh_proc() {
        Ok(proc) => proc,
        Err(_) => clone_tree(Path::new("/proc"))?,
    };
    let sys_tree = clone_tree(Path::new("/sys"))?;
    sys::add_mount_attributes(&sys_tree, libc::MOUNT_ATTR_RDONLY)
        .map_err(|error| Failure::new("make /sys read-only", error))?;
    Ok([("/proc", proc), ("/sys", sys_tree)]
        .into_iter()
        .map(|(target, tree)| Pending {
            tree,
            target: PathBuf::from(target),
            kind: MountPoint::Directory,
        })
        .collect())
}

fn fresh_proc() -> Result<OwnedFd, Errno> {
    let proc = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(proc.as_fd())?;
    fsmount(
        proc.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )
}

/// Without what is mounted below: cloning a part of a tree whose other parts are locked is EINVAL
/// only where there is something below, and nothing is mounted on a device node.
fn device_nodes() -> Result<Vec<(&'static str, OwnedFd)>, Failure> {
    NODES
        .iter()
        .map(|name| {
            let path = Path::new("/dev").join(name);
            open_tree(
                CWD,
                &path,
                OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
            )
            .map(|tree| (*name, tree))
            .map_err(|error| Failure::new(format!("clone {}", path.display()), error))
        })
        .collect()
}

fn clone_tree(path: &Path) -> Result<OwnedFd, Failure> {
    open_tree(
        CWD,
        path,
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE,
    )
    .map_err(|error| Failure::new(format!("clone the tree {}", path.display()), error))
}

/// The volumes, then the binds, each in the step's order.
///
/// A volume that was unmounted since the caller looked is none any more; a bind was asked for by
/// name, so its absence is an error.
fn outside_trees(step: &Step) -> Result<Vec<Pending>, Failure> {
    let volumes = step
        .volumes
        .iter()
        .filter(|path| path.exists())
        .map(|path| (path, path, Access::ReadWrite));
    let binds = step
        .binds
        .iter()
        .map(|bind| (&bind.source, &bind.target, bind.access));
    volumes
        .chain(binds)
        .map(|(source, target, access)| {
            let tree = clone_tree(source)?;
            if access == Access::ReadOnly {
                sys::add_mount_attributes(&tree, libc::MOUNT_ATTR_RDONLY).map_err(|error| {
                    Failure::new(format!("make {} read-only", target.display()), error)
                })?;
            }
            let kind = kind_of(&tree)
                .map_err(|error| Failure::new(format!("look at {}", source.display()), error))?;
            Ok(Pending {
                tree,
                target: target.clone(),
                kind,
            })
        })
        .collect()
}

fn kind_of(tree: &OwnedFd) -> Result<MountPoint, Errno> {
    let stat = rustix::fs::statat(tree, "", AtFlags::EMPTY_PATH)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => MountPoint::Directory,
        _ => MountPoint::File,
    })
}

/// Mounts the new root somewhere and returns where.
fn mount_root(step: &Step, outside: &[Pending]) -> Result<PathBuf, Failure> {
    let make_mount_points = |root: &Rootfs| -> Result<(), Failure> {
        let system = ["/proc", "/sys", "/dev"].map(Path::new);
        let directories = system
            .into_iter()
            .map(|target| (target, MountPoint::Directory));
        for tmpfs in &step.tmpfs {
            make_place_of_tmpfs(root, tmpfs)?;
        }
        let others = outside
            .iter()
            .map(|pending| (pending.target.as_path(), pending.kind));
        for (target, kind) in directories.chain(others) {
            make_mount_point(root, target, kind)?;
        }
        Ok(())
    };
    let (tree, point) = match &step.root {
        Root::Overlay {
            lowers,
            upper,
            work,
            scratch,
        } => {
            let layers = Layers {
                lowers: lowers.clone(),
                upper,
                work,
            };
            let tree = overlay::with_stubs(layers, scratch, make_mount_points)?;
            (tree, scratch.join("root"))
        }
        Root::Directory(directory) => {
            let tree = clone_tree(directory)?;
            let root = Rootfs::open(directory).map_err(|error| {
                Failure::new(format!("open {}", directory.display()), error.errno())
            })?;
            make_mount_points(&root)?;
            (tree, directory.clone())
        }
        Root::InPlace => return Err(Failure::new("enter /", Errno::INVAL)),
    };
    move_mount(
        &tree,
        "",
        CWD,
        &point,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(|error| Failure::new(format!("mount the root on {}", point.display()), error))?;
    Ok(point)
}

/// A directory that was not there has the mode that the tmpfs is to have.
fn make_place_of_tmpfs(root: &Rootfs, tmpfs: &Tmpfs) -> Result<(), Failure> {
    let is_new = root
        .stat_following(&tmpfs.target)
        .is_err_and(|error| error.is_not_found());
    make_mount_point(root, &tmpfs.target, MountPoint::Directory)?;
    if is_new {
        let mode = root
            .canonicalize(&tmpfs.target)
            .and_then(|path| root.chmod(&path, tmpfs.mode));
        mode.map_err(|error| {
            let what = format!("set the mode of {}", tmpfs.target.display());
            Failure::new(what, error.errno())
        })?;
    }
    Ok(())
}

fn make_mount_point(root: &Rootfs, target: &Path, kind: MountPoint) -> Result<(), Failure> {
    root.make_mount_point(target, kind).map_err(|error| {
        Failure::new(
            format!("create the mount point {}", target.display()),
            error.errno(),
        )
    })
}

/// Makes the mount at `point` the root, and lets go of the old one. Some seccomp profiles refuse
/// pivot_root but not mount: then it is moved over the old root, as an initramfs does.
///
/// The old root must be gone before a target is resolved: it lies on top of the new one, and a
/// link through `..` (`/etc/resolv.conf` to `../run/...`) would come out on it.
fn pivot(point: &Path) -> Result<(), Failure> {
    let failed = |operation: &'static str| move |error| Failure::new(operation, error);
    let old = rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed("open the old root"))?;
    rustix::process::chdir(point).map_err(failed("enter the new root"))?;
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => rustix::process::fchdir(&old)
            .and_then(|()| unmount(".", UnmountFlags::DETACH))
            .map_err(failed("let go of the old root"))?,
        Err(Errno::PERM | Errno::NOSYS) => {
            mount_move(".", "/").map_err(failed("move the new root over the old one"))?;
            rustix::process::chroot(".").map_err(failed("chroot to the new root"))?;
        }
        Err(error) => return Err(Failure::new("pivot to the new root", error)),
    }
    rustix::process::chdir("/").map_err(failed("enter the new root"))
}

/// Attaches a tree. A mount point that an earlier mount has covered is made again inside that
/// one, as Docker does.
fn attach(pending: &Pending) -> Result<(), Failure> {
    let Pending { tree, target, kind } = pending;
    let attach = || {
        move_mount(
            tree,
            "",
            CWD,
            target,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS,
        )
    };
    let failed = |error| Failure::new(format!("mount {}", target.display()), error);
    match attach() {
        Err(Errno::NOENT) => {
            make_mount_point(&present_root()?, target, *kind)?;
            attach().map_err(failed)
        }
        result => result.map_err(failed),
    }
}

fn present_root() -> Result<Rootfs, Failure> {
    Rootfs::open(Path::new("/")).map_err(|error| Failure::new("open the new root", error.errno()))
}

fn attach_at(tree: OwnedFd, target: impl Into<PathBuf>, kind: MountPoint) -> Result<(), Failure> {
    attach(&Pending {
        tree,
        target: target.into(),
        kind,
    })
}

/// A new file system in memory or of ptys, with its parameters.
fn new_file_system(
    kind: &str,
    parameters: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Failure> {
    let make = || {
        let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in parameters {
            if value.is_empty() {
                fsconfig_set_flag(fs.as_fd(), *key)?;
            } else {
                fsconfig_set_string(fs.as_fd(), *key, *value)?;
            }
        }
        fsconfig_create(fs.as_fd())?;
        fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().map_err(|error| Failure::new(format!("make a new {kind}"), error))
}

fn build_dev(nodes: &[(&str, OwnedFd)], ids: &IdMap) -> Result<(), Failure> {
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let nowhere = quiet | MountAttrFlags::MOUNT_ATTR_NODEV;
    let dev = new_file_system(
        "tmpfs",
        &[("mode", "0755"), ("size", "65536k")],
        MountAttrFlags::MOUNT_ATTR_NOSUID,
    )?;
    attach_at(dev, "/dev", MountPoint::Directory)?;
    for (name, node) in nodes {
        let target = Path::new("/dev").join(name);
        make_mount_point(&present_root()?, &target, MountPoint::File)?;
        move_mount(
            node,
            "",
            CWD,
            &target,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .map_err(|error| Failure::new(format!("mount {}", target.display()), error))?;
    }
    let mut pty = vec![("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
    // Group 5 is tty; a single-id namespace has no such group.
    if ids.allows_groups() {
        pty.push(("gid", "5"));
    }
    attach_at(
        new_file_system("devpts", &pty, quiet)?,
        "/dev/pts",
        MountPoint::Directory,
    )?;
    let shm = new_file_system("tmpfs", &[("mode", "1777"), ("size", "65536k")], nowhere)?;
    attach_at(shm, "/dev/shm", MountPoint::Directory)?;
    // A kernel may be built without it, and few programs use it.
    if let Ok(mqueue) = new_file_system("mqueue", &[], nowhere) {
        attach_at(mqueue, "/dev/mqueue", MountPoint::Directory)?;
    }
    for (name, target) in DEV_LINKS {
        rustix::fs::symlink(target, Path::new("/dev").join(name))
            .map_err(|error| Failure::new(format!("link /dev/{name}"), error))?;
    }
    Ok(())
}

fn protect_system() -> Result<(), Failure> {
    for path in READ_ONLY
        .map(Path::new)
        .into_iter()
        .filter(|path| path.exists())
    {
        let tree = clone_tree(path)?;
        sys::add_mount_attributes(&tree, libc::MOUNT_ATTR_RDONLY)
            .map_err(|error| Failure::new(format!("make {} read-only", path.display()), error))?;
        let kind = if path.is_dir() {
            MountPoint::Directory
        } else {
            MountPoint::File
        };
        attach_at(tree, path, kind)?;
    }
    for path in MASKED
        .map(Path::new)
        .into_iter()
        .filter(|path| path.exists())
    {
        cover(path)?;
    }
    Ok(())
}

/// Puts an empty read-only directory, or an empty file, over what is at `path`.
fn cover(path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        let empty = new_file_system(
            "tmpfs",
            &[("mode", "0755"), ("size", "4k")],
            MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV,
        )?;
        attach_at(empty, path, MountPoint::Directory)
    } else {
        let null = open_tree(
            CWD,
            "/dev/null",
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )
        .map_err(|error| Failure::new("clone /dev/null", error))?;
        attach_at(null, path, MountPoint::File)
    }
}

fn mount_tmpfs(tmpfs: &Tmpfs) -> Result<(), Failure> {
    // A directory that it covers lends it its mode (runc).
    let covered = fs::metadata(&tmpfs.target);
    let mode = covered.map_or(tmpfs.mode, |covered| covered.mode());
    let mode = format!("{:o}", mode & 0o7777);
    let size = tmpfs.size.map(|bytes| bytes.to_string());
    let mut parameters = vec![("mode", mode.as_str())];
    parameters.extend(size.as_deref().map(|size| ("size", size)));
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    if tmpfs.access == Access::ReadOnly {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    attach_at(
        new_file_system("tmpfs", &parameters, attributes)?,
        &tmpfs.target,
        MountPoint::Directory,
    )
}

/// Covers the hidden host paths wherever a volume or a bind shows them.
fn hide(step: &Step) -> Result<(), Failure> {
    let volumes = step.volumes.iter().map(|path| (path, path));
    let binds = step.binds.iter().map(|bind| (&bind.source, &bind.target));
    for (source, target) in volumes.chain(binds) {
        for hidden in &step.hidden {
            // The caller binds a hidden path itself only where it means to show it.
            let Some(below) = hidden
                .strip_prefix(source)
                .ok()
                .filter(|path| *path != Path::new(""))
            else {
                continue;
            };
            let inside = target.join(below);
            if inside
                .symlink_metadata()
                .is_ok_and(|found| !found.is_symlink())
            {
                cover(&inside)?;
            }
        }
    }
    Ok(())
}
