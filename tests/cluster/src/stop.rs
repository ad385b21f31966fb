//! Stopping a cluster so that nothing of it is left: processes, mounts, control
//! groups, network.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::error::{AtPath, Error};
use crate::layout::Layout;
use crate::network::Network;
use crate::process::{Process, start_time};
use crate::state::{Lock, State};

const CGROUPS: &str = "/sys/fs/cgroup";
const PATIENCE: Duration = Duration::from_secs(20);

/// Stops the cluster of `layout`, if there is one. The logs stay until the next start.
pub(crate) fn stop(layout: &Layout) -> Result<(), Error> {
    let _run = Lock::take(&layout.run_lock())?;
    match State::load(layout)? {
        Some(state) => remove(layout, &state),
        None => Ok(()),
    }
}

/// Removes everything that `state` names. Can be repeated after it was interrupted.
pub(crate) fn remove(layout: &Layout, state: &State) -> Result<(), Error> {
    let is_runtime = |process: &&Process| process.name == "containerd";
    // The kubelet goes first, for it would start anew what ends below; containerd
    // stays until its pods are gone.
    for process in state
        .processes
        .iter()
        .rev()
        .filter(|process| !is_runtime(process))
    {
        process.stop(PATIENCE);
    }
    kill_all(|| processes_in(&state.network));
    kill_all(|| shims(layout));
    for process in state.processes.iter().filter(is_runtime) {
        process.stop(PATIENCE);
    }
    unmount_below(layout.run())?;
    remove_cgroups(&state.network)?;
    state.network.remove()?;
    for entry in fs::read_dir(layout.run()).at("list", layout.run())? {
        let path = entry.at("list", layout.run())?.path();
        if path == layout.logs() || path == layout.state() {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path).at("remove", &path)?;
        } else {
            fs::remove_file(&path).at("remove", &path)?;
        }
    }
    // Last, so that an interrupted removal is taken up again.
    fs::remove_file(layout.state()).at("remove", &layout.state())
}

/// Sends SIGKILL to the processes found, until none is found.
fn kill_all(find: impl Fn() -> BTreeSet<i32>) {
    let end = Instant::now() + PATIENCE;
    loop {
        let found: Vec<i32> = find()
            .into_iter()
            .filter(|pid| start_time(*pid).is_some())
            .collect();
        if found.is_empty() || Instant::now() > end {
            return;
        }
        for pid in found.into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes of all containers: those in the cluster's own control groups.
fn processes_in(network: &Network) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    for root in cgroup_roots(network).iter().filter(|root| root.exists()) {
        visit(root, &mut |folder| {
            let list = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()));
        });
    }
    found
}

/// containerd's shims outlive it by design; each names its containerd's socket.
fn shims(layout: &Layout) -> BTreeSet<i32> {
    let socket = layout.containerd_socket();
    let belongs = |pid: &i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = words.split(|byte| *byte == 0);
        let program = words.next().unwrap_or_default();
        program.ends_with(b"containerd-shim-runc-v2")
            && words.any(|word| word == socket.as_os_str().as_bytes())
    };
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeSet::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(belongs)
        .collect()
}

/// Unmounts what the kubelet and containerd mounted below `folder`, last first.
fn unmount_below(folder: &Path) -> Result<(), Error> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).at("read", table)?;
    for point in mount_points(&text, folder).into_iter().rev() {
        match unmount(&point, UnmountFlags::DETACH) {
            // It went away with another one.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(source) => {
                return Err(Error::System {
                    action: format!("unmount {}", point.display()),
                    source,
                });
            }
        }
    }
    Ok(())
}

/// Field 5 of each line of mountinfo that is below `folder` (proc(5)).
fn mount_points(table: &str, folder: &Path) -> Vec<PathBuf> {
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        // The kernel escapes space, tab, newline and backslash in octal.
        .map(|point| point.replace("\\040", " ").replace("\\011", "\t"))
        .map(|point| PathBuf::from(point.replace("\\012", "\n").replace("\\134", "\\")))
        .filter(|point| point.starts_with(folder))
        .collect()
}

/// Makes the root of the cluster's control groups in every hierarchy; the kubelet
/// makes the groups below, but not that one.
pub(crate) fn make_cgroups(network: &Network) -> Result<(), Error> {
    for root in cgroup_roots(network) {
        fs::create_dir_all(&root).at("create", &root)?;
    }
    Ok(())
}

fn remove_cgroups(network: &Network) -> Result<(), Error> {
    for root in cgroup_roots(network).iter().filter(|root| root.exists()) {
        let mut folders = Vec::new();
        visit(root, &mut |folder| folders.push(folder.to_owned()));
        for folder in folders.iter().rev() {
            // A group is busy for a moment after its last process.
            let end = Instant::now() + PATIENCE;
            while let Err(error) = fs::remove_dir(folder) {
                if error.kind() == std::io::ErrorKind::NotFound {
                    break;
                }
                if Instant::now() > end {
                    return Err(error).at("remove the control group", folder);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    Ok(())
}

/// Version 2 has one hierarchy, version 1 one per controller; a hybrid has both.
fn cgroup_roots(network: &Network) -> Vec<PathBuf> {
    let root = Path::new(CGROUPS);
    if root.join("cgroup.controllers").exists() {
        return vec![root.join(network.cgroup())];
    }
    let Ok(entries) = fs::read_dir(root) else {
        return Vec::new();
    };
    let mut roots: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        // Links stand for controllers that share a hierarchy ("cpu" and "cpuacct").
        .filter(|path| path.is_dir() && !path.is_symlink())
        .map(|path| path.join(network.cgroup()))
        .collect();
    roots.sort();
    roots
}

/// Calls `act` for a folder and then for all below it.
fn visit(folder: &Path, act: &mut dyn FnMut(&Path)) {
    act(folder);
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
    {
        visit(&path, act);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_those_below_the_folder_with_escapes_undone() {
        let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n\
                     2 1 0:5 / /run/kiln rw - tmpfs t rw\n\
                     3 1 0:5 / /run/kiln/a\\040b rw - tmpfs t rw\n\
                     4 1 0:5 / /run/kilnother rw - tmpfs t rw\n";
        let found = mount_points(table, Path::new("/run/kiln"));
        assert_eq!(
            found,
            [PathBuf::from("/run/kiln"), PathBuf::from("/run/kiln/a b")]
        );
    }
}
