//! Which user and group ids a self-made user namespace has, and who writes its maps.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use rustix::thread::CapabilitySet;

use crate::error::Failure;
use crate::observe;

/// The ids that a step's processes can have, and how they look from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdMap {
    /// No namespace of our own: ids are the caller's.
    Inherited,
    /// Every id of the caller's own namespace, unchanged; written with `CAP_SETUID`,
    /// `CAP_SETGID` and `CAP_SETFCAP`. Pairs of first id and count, users then groups.
    Identity {
        /// Ranges of user ids.
        users: Vec<(u32, u32)>,
        /// Ranges of group ids.
        groups: Vec<(u32, u32)>,
    },
    /// The caller is root, the ids from 1 on are its subordinate ones (`/etc/subuid`,
    /// `/etc/subgid`); written by `newuidmap` and `newgidmap`.
    Subordinate {
        /// First subordinate user id and their number.
        users: (u32, u32),
        /// First subordinate group id and their number.
        groups: (u32, u32),
    },
    /// The caller is root and nobody else exists: `chown` to others is refused, files of others
    /// belong to nobody.
    Single,
}

impl IdMap {
    /// The user id inside of a file that the caller sees as `uid`; `None` when it has none.
    #[must_use]
    pub fn user_inside(&self, uid: u32) -> Option<u32> {
        self.inside(uid, rustix::process::geteuid().as_raw(), |map| match map {
            Self::Subordinate { users, .. } => *users,
            _ => (0, 0),
        })
    }

    /// The group id inside of a file that the caller sees as `gid`; `None` when it has none.
    #[must_use]
    pub fn group_inside(&self, gid: u32) -> Option<u32> {
        self.inside(gid, rustix::process::getegid().as_raw(), |map| match map {
            Self::Subordinate { groups, .. } => *groups,
            _ => (0, 0),
        })
    }

    fn inside(&self, id: u32, own: u32, range: impl Fn(&Self) -> (u32, u32)) -> Option<u32> {
        match self {
            Self::Inherited | Self::Identity { .. } => Some(id),
            _ if id == own => Some(0),
            Self::Single => None,
            Self::Subordinate { .. } => {
                let (first, count) = range(self);
                let offset = id.checked_sub(first).filter(|offset| *offset < count)?;
                offset.checked_add(1)
            }
        }
    }

    /// Whether `setgroups` is allowed inside: the kernel forbids it where an unprivileged
    /// process wrote the group map (user_namespaces(7)).
    pub(crate) fn allows_groups(&self) -> bool {
        !matches!(self, Self::Single)
    }

    /// What a process that makes no namespace of its own lives with: [`IdMap::Single`] where the
    /// namespace forbids `setgroups`, else [`IdMap::Inherited`].
    pub(crate) fn present() -> Self {
        match fs::read_to_string("/proc/self/setgroups") {
            Ok(word) if word.trim() == "deny" => Self::Single,
            _ => Self::Inherited,
        }
    }

    /// The best map that the calling process can give.
    pub(crate) fn best(capabilities: u64) -> io::Result<Self> {
        if Self::present() == Self::Single {
            return Ok(Self::Single);
        }
        let wanted = observe::SETUID | observe::SETGID | observe::SETFCAP;
        if capabilities & wanted == wanted {
            return Ok(Self::Identity {
                users: own_ranges("/proc/self/uid_map")?,
                groups: own_ranges("/proc/self/gid_map")?,
            });
        }
        let uid = rustix::process::geteuid().as_raw();
        let subordinate = |file: &str| -> Option<(u32, u32)> {
            let names = fs::read_to_string("/etc/passwd").unwrap_or_default();
            subordinate_range(&fs::read_to_string(file).ok()?, &names, uid)
        };
        match (subordinate("/etc/subuid"), subordinate("/etc/subgid")) {
            (Some(users), Some(groups)) if tools_can_work() => {
                Ok(Self::Subordinate { users, groups })
            }
            _ => Ok(Self::Single),
        }
    }

    /// Writes the maps of the user namespace that the process `pid` has just made.
    pub(crate) fn write(&self, pid: u32) -> Result<(), Failure> {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let file = |name: &str, content: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::write(&path, content).map_err(|error| {
                Failure::new(
                    format!("write {:?} to /proc/<sandbox>/{name}", content.trim_end()),
                    error,
                )
            })
        };
        match self {
            Self::Inherited => Ok(()),
            Self::Identity { users, groups } => {
                file("uid_map", &identity_lines(users))?;
                file("gid_map", &identity_lines(groups))
            }
            Self::Subordinate { users, groups } => {
                run_tool("newuidmap", pid, uid, *users)?;
                run_tool("newgidmap", pid, gid, *groups)
            }
            Self::Single => {
                file("setgroups", "deny")?;
                file("uid_map", &format!("0 {uid} 1\n"))?;
                file("gid_map", &format!("0 {gid} 1\n"))
            }
        }
    }
}

fn identity_lines(ranges: &[(u32, u32)]) -> String {
    let mut lines = String::new();
    for (first, count) in ranges {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{first} {first} {count}");
    }
    lines
}

fn own_ranges(file: &str) -> io::Result<Vec<(u32, u32)>> {
    Ok(parse_ranges(&fs::read_to_string(file)?))
}

/// The inside ranges of a `uid_map` or `gid_map` file.
fn parse_ranges(map: &str) -> Vec<(u32, u32)> {
    map.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let first = words.next()?.parse().ok()?;
            let count = words.nth(1)?.parse().ok()?;
            Some((first, count))
        })
        .collect()
}

/// The first range that `/etc/subuid` or `/etc/subgid` gives to a user, by name or by number
/// (subuid(5)).
fn subordinate_range(file: &str, passwd: &str, uid: u32) -> Option<(u32, u32)> {
    let number = uid.to_string();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then_some(name)
    });
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        if owner != number && Some(owner) != name {
            return None;
        }
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// Where Linux distributions put `newuidmap` and `newgidmap`.
const TOOL_DIRECTORIES: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"];

fn tool(name: &str) -> Option<PathBuf> {
    TOOL_DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists())
}

/// Whether the set-user-id tools are there and would get their capabilities: a pod with
/// `allowPrivilegeEscalation: false` or with everything dropped keeps them from it.
fn tools_can_work() -> bool {
    let bounded =
        |capability| rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false);
    tool("newuidmap").and(tool("newgidmap")).is_some()
        && !rustix::thread::no_new_privs().unwrap_or(true)
        && bounded(CapabilitySet::SETUID)
        && bounded(CapabilitySet::SETGID)
}

fn run_tool(name: &str, pid: u32, own: u32, range: (u32, u32)) -> Result<(), Failure> {
    let operation = || format!("{name} <sandbox> 0 {own} 1 1 {} {}", range.0, range.1);
    let missing = || io::Error::from_raw_os_error(libc::ENOENT);
    let path = tool(name).ok_or_else(|| Failure::new(operation(), missing()))?;
    let output = Command::new(path)
        .args([pid, 0, own, 1, 1, range.0, range.1].map(|number| number.to_string()))
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::new(operation(), error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure {
        operation: format!("{} (it says: {})", operation(), said.trim()),
        errno: libc::EPERM,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_user_namespaced_pod() {
        assert_eq!(
            parse_ranges("         0  231932928      65536\n"),
            [(0, 65536)]
        );
        assert_eq!(identity_lines(&[(0, 65536)]), "0 0 65536\n");
    }

    #[test]
    fn subordinate_ids_by_name_and_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
        let by_name = "other:1:2\nuser:100000:65536\n";
        assert_eq!(
            subordinate_range(by_name, passwd, 1000),
            Some((100_000, 65536))
        );
        assert_eq!(subordinate_range("1000:5:6\n", passwd, 1000), Some((5, 6)));
        assert_eq!(subordinate_range("other:5:6\n", passwd, 1000), None);
    }

    #[test]
    fn owners_seen_from_inside() {
        let own = rustix::process::geteuid().as_raw();
        let map = IdMap::Subordinate {
            users: (100_000, 65536),
            groups: (200_000, 65536),
        };
        assert_eq!(map.user_inside(own), Some(0));
        assert_eq!(map.user_inside(100_000), Some(1));
        assert_eq!(map.user_inside(100_999), Some(1000));
        assert_eq!(map.user_inside(165_536), None);
        assert_eq!(map.group_inside(200_041), Some(42));
        assert_eq!(IdMap::Single.user_inside(own + 7), None);
        assert_eq!(IdMap::Inherited.user_inside(77), Some(77));
    }
}
