//! Looks at the process and the machine, and tries rungs for the ladder.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{Error, Failure};
use crate::idmap::IdMap;
use crate::ladder::{Facts, LadderError, OwnNamespace, Rung};
use crate::rootfs::Rootfs;
use crate::run;
use crate::step::{Process, Root, Step};
use crate::users;

pub(crate) const CHOWN: u64 = 1;
pub(crate) const DAC_OVERRIDE: u64 = 1 << 1;
pub(crate) const FOWNER: u64 = 1 << 3;
pub(crate) const SETGID: u64 = 1 << 6;
pub(crate) const SETUID: u64 = 1 << 7;
pub(crate) const SETPCAP: u64 = 1 << 8;
pub(crate) const SYS_CHROOT: u64 = 1 << 18;
pub(crate) const SYS_ADMIN: u64 = 1 << 21;
pub(crate) const SETFCAP: u64 = 1 << 31;

/// Everything that can be known without trying.
pub(crate) fn facts() -> Result<Facts, LadderError> {
    let unreadable = |path| move |source| LadderError::Unreadable { path, source };
    let status =
        fs::read_to_string("/proc/self/status").map_err(unreadable("/proc/self/status"))?;
    let uid_map =
        fs::read_to_string("/proc/self/uid_map").map_err(unreadable("/proc/self/uid_map"))?;
    Ok(Facts {
        euid: rustix::process::geteuid().as_raw(),
        capabilities: field(&status, "CapEff:")
            .and_then(|hex| u64::from_str_radix(hex, 16).ok())
            .unwrap_or(0),
        in_user_namespace: !is_first_namespace(&uid_map),
        own_namespace: match (users::started_anew(), users::refusal()) {
            (true, _) => OwnNamespace::Made,
            (false, Some(failure)) => OwnNamespace::Refused(failure.clone()),
            (false, None) => OwnNamespace::None,
        },
        seccomp: field(&status, "Seccomp:") == Some("2"),
        max_user_namespaces: fs::read_to_string("/proc/sys/user/max_user_namespaces")
            .ok()
            .and_then(|number| number.trim().parse().ok()),
        apparmor: fs::read_to_string("/proc/self/attr/apparmor/current")
            .ok()
            .map(|profile| profile.trim().to_owned())
            .filter(|profile| !profile.is_empty() && profile != "unconfined"),
        in_container: in_container(),
        root_read_only: rustix::fs::statvfs("/")
            .is_ok_and(|fs| fs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY)),
        trials: std::collections::BTreeMap::new(),
    })
}

/// The effective capabilities of the calling thread.
pub(crate) fn effective_capabilities() -> io::Result<u64> {
    let sets = rustix::thread::capabilities(None)?;
    Ok(sets.effective.bits())
}

/// The id map that steps on `rung` get.
pub(crate) fn ids(rung: Rung, capabilities: u64) -> Result<IdMap, LadderError> {
    if rung != Rung::UserNamespace {
        return Ok(IdMap::present());
    }
    IdMap::best(capabilities).map_err(|source| LadderError::Unreadable {
        path: "/proc/self/uid_map",
        source,
    })
}

/// Prepares a whole step on `rung`, with an overlay in `store`, and leaves without a command.
pub(crate) fn trial(rung: Rung, store: &Path) -> Result<(), Failure> {
    let place = store.join(format!("probe-{}", std::process::id()));
    let result = rehearse_in(rung, &place);
    // What is left is empty directories; a later gc of the store may take them.
    if let (Ok(store), Some(name)) = (Rootfs::open(store), place.file_name()) {
        let _ = store.remove(Path::new(name));
    }
    result
}

fn rehearse_in(rung: Rung, place: &Path) -> Result<(), Failure> {
    let directory = |name: &str| {
        let path = place.join(name);
        fs::create_dir_all(&path)
            .map(|()| path)
            .map_err(|error| Failure::new(format!("create {}", place.display()), error))
    };
    let root = Root::Overlay {
        lowers: vec![directory("lower")?],
        upper: directory("upper")?,
        work: directory("work")?,
        scratch: directory("scratch")?,
    };
    let step = Step::new(root, Process::new(["true"]));
    run::rehearse(rung, &step).map_err(|error| match error {
        Error::Setup(failure) => failure,
        Error::Spawn(error) | Error::Channel(error) => {
            Failure::new("start the sandbox helper", error)
        }
        other => Failure {
            operation: other.to_string(),
            errno: libc::EIO,
        },
    })
}

/// The word after a name in `/proc/self/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

/// The first user namespace of a machine maps every id to itself.
fn is_first_namespace(uid_map: &str) -> bool {
    uid_map
        .split_ascii_whitespace()
        .eq(["0", "0", "4294967295"])
}

/// Container runtimes leave one of these marks; a root that is itself an overlay is the usual one.
fn in_container() -> bool {
    let marks = [
        "/.dockerenv",
        "/run/.containerenv",
        "/var/run/secrets/kubernetes.io",
        "/kaniko/executor",
    ];
    marks.iter().any(|mark| Path::new(mark).exists())
        || crate::mounts::read().is_ok_and(|mounts| {
            mounts
                .iter()
                .rev()
                .find(|mount| mount.mount_point == Path::new("/"))
                .is_some_and(|mount| mount.fs_type == "overlay")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_full_identity_map_is_the_first_namespace() {
        assert!(is_first_namespace("         0          0 4294967295\n"));
        assert!(!is_first_namespace("         0  231932928      65536\n"));
        assert!(!is_first_namespace("         0          0      65536\n"));
    }

    #[test]
    fn fields_of_the_status_file() {
        let status = "Name:\tx\nCapEff:\t00000000a80425fb\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(field(status, "CapEff:"), Some("00000000a80425fb"));
        assert_eq!(field(status, "Seccomp:"), Some("2"));
    }
}
