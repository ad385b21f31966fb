//! Who a container runs as, and what it may do.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::LaunchError;
use crate::desired::Image;

/// A container's user and privileges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Capabilities, one bit each.
    pub capabilities: u64,
    /// Whether set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// Whether the root is read-only.
    pub read_only_root: bool,
}

/// Names in the order of their numbers (linux/capability.h).
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containers have by default (containerd's list).
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

fn bit(name: &str) -> u64 {
    let name = name.strip_prefix("CAP_").unwrap_or(name);
    let at = CAPABILITIES.iter().position(|known| *known == name);
    at.map_or(0, |at| 1 << at)
}

/// Reads security contexts, the container's over the pod's, and the image's `USER`.
///
/// # Errors
/// [`LaunchError::User`], [`LaunchError::Root`]
pub fn identity(
    spec: &PodSpec,
    container: &Container,
    image: &Image,
) -> Result<Identity, LaunchError> {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let id = |number: Option<i64>| number.and_then(|n| u32::try_from(n).ok());
    let image_user = by_name(&image.user, image)?;
    let uid = id(own.run_as_user.or(pod.run_as_user));
    let gid = id(own.run_as_group.or(pod.run_as_group));
    let gid = gid.unwrap_or(match uid {
        // A number of its own has that user's group, where the image knows it.
        Some(uid) => by_name(&uid.to_string(), image)?.1,
        None => image_user.1,
    });
    let uid = uid.unwrap_or(image_user.0);
    if own.run_as_non_root.or(pod.run_as_non_root) == Some(true) && uid == 0 {
        return Err(LaunchError::Root);
    }
    let mut groups: Vec<u32> = pod
        .supplemental_groups
        .iter()
        .flatten()
        .copied()
        .collect::<Vec<_>>()
        .into_iter()
        .filter_map(|group| id(Some(group)))
        .collect();
    groups.extend(id(pod.fs_group));
    let mut capabilities = DEFAULT.iter().fold(0, |set, name| set | bit(name));
    let all = (1 << CAPABILITIES.len()) - 1;
    if let Some(change) = &own.capabilities {
        for name in change.drop.iter().flatten() {
            capabilities &= if name == "ALL" { 0 } else { !bit(name) };
        }
        for name in change.add.iter().flatten() {
            capabilities |= if name == "ALL" { all } else { bit(name) };
        }
    }
    Ok(Identity {
        uid,
        gid,
        groups,
        capabilities,
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        read_only_root: own.read_only_root_filesystem == Some(true),
    })
}

/// `user[:group]`, each by name or number.
fn by_name(text: &str, image: &Image) -> Result<(u32, u32), LaunchError> {
    if text.is_empty() {
        return Ok((0, 0));
    }
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let passwd = read(image, "etc/passwd");
    let unknown = || LaunchError::User(text.to_owned());
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (name, uid, gid) = (fields.first()?, fields.get(2)?, fields.get(3)?);
        (*name == user || *uid == user).then(|| Some((uid.parse().ok()?, gid.parse().ok()?)))?
    });
    let (uid, own_gid) = match (entry, user.parse::<u32>()) {
        (Some(found), _) => found,
        (None, Ok(number)) => (number, 0),
        (None, Err(_)) => return Err(unknown()),
    };
    let gid = match group {
        None => own_gid,
        Some(group) => match group.parse() {
            Ok(number) => number,
            Err(_) => read(image, "etc/group")
                .lines()
                .find_map(|line| {
                    let fields: Vec<&str> = line.split(':').collect();
                    (*fields.first()? == group).then(|| fields.get(2)?.parse().ok())?
                })
                .ok_or_else(unknown)?,
        },
    };
    Ok((uid, gid))
}

/// A small file of the image, empty when there is none.
fn read(image: &Image, path: &str) -> String {
    for layer in &image.layers {
        let file = layer.join(path);
        match file.symlink_metadata() {
            Ok(found) if found.is_file() => {
                return std::fs::read_to_string(file).unwrap_or_default();
            }
            // Removed by this layer, or a link that an image has no reason for.
            Ok(_) => break,
            Err(_) if hides(layer, Path::new(path)) => break,
            Err(_) => {}
        }
    }
    String::new()
}

/// Whether the folder of `path` is no folder in this layer, so that nothing below counts.
fn hides(layer: &Path, path: &Path) -> bool {
    let folder = path.parent().map(|parent| layer.join(parent));
    folder.is_some_and(|folder| folder.symlink_metadata().is_ok_and(|found| !found.is_dir()))
}
