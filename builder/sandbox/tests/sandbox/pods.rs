//! The kinds of pod that the cases run in, as far as they can be had without a cluster.

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use kiln_sandbox::{IdMap, Rung, ladder};

use crate::confined;

/// One kind of pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pod {
    /// However the tests were started.
    AsStarted,
    /// Root with the capabilities that containers get by default.
    DefaultCapabilities,
    /// `drop: [ALL], add: [SETUID, SETGID, SETFCAP]`.
    FewestCapabilities,
    /// `hostUsers: false` with SYS_ADMIN.
    UserNamespaced,
    /// A seccomp profile that refuses pivot_root but not mount.
    NoPivot,
    /// The seccomp profile RuntimeDefault: no unshare.
    RuntimeDefault,
    /// User 1000 without capabilities, escalation not allowed: a single id.
    Single,
    /// User 1000 with ids of its own in /etc/subuid and a set-user-id newuidmap.
    Subordinate,
}

/// The user that is nobody else's.
pub const USER: u32 = 1000;

impl Pod {
    pub const OTHERS: [Self; 7] = [
        Self::DefaultCapabilities,
        Self::FewestCapabilities,
        Self::UserNamespaced,
        Self::NoPivot,
        Self::RuntimeDefault,
        Self::Single,
        Self::Subordinate,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::AsStarted => "as started",
            Self::DefaultCapabilities => "default capabilities",
            Self::FewestCapabilities => "fewest capabilities",
            Self::UserNamespaced => "user namespaced",
            Self::NoPivot => "no pivot_root",
            Self::RuntimeDefault => "RuntimeDefault",
            Self::Single => "single id",
            Self::Subordinate => "subordinate ids",
        }
    }

    pub fn from_name(name: &str) -> Self {
        Self::OTHERS
            .into_iter()
            .find(|pod| pod.name() == name)
            .unwrap_or(Self::AsStarted)
    }

    /// The rung that it has.
    pub fn rung(self) -> Rung {
        match self {
            Self::UserNamespaced => Rung::UserNamespacedPod,
            Self::RuntimeDefault => Rung::InPlace,
            _ => Rung::UserNamespace,
        }
    }

    /// Whether more than one id exists inside.
    pub fn has_ids(self) -> bool {
        self != Self::Single
    }

    /// Whether files of others belong to the same ids outside.
    pub fn is_root(self) -> bool {
        !matches!(self, Self::Single | Self::Subordinate)
    }

    /// Runs the cases as this pod in a process of its own: how many failed, or why not at all.
    pub fn start(self, filters: &[&str]) -> Result<usize, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("needs root to give rights away".to_owned());
        }
        let itself = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = if self == Self::UserNamespaced {
            let mut unshare = Command::new("unshare");
            unshare.args([
                "--user",
                "--",
                "sh",
                "-c",
                "read _; exec \"$@\"",
                "sh",
                "setpriv",
            ]);
            unshare
        } else {
            Command::new("setpriv")
        };
        match self {
            Self::DefaultCapabilities => command.arg(
                "--bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,\
                 +setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap",
            ),
            Self::FewestCapabilities => command.arg("--bounding-set=-all,+setuid,+setgid,+setfcap"),
            Self::Single => command.args([
                &format!("--reuid={USER}"),
                &format!("--regid={USER}"),
                "--clear-groups",
                "--bounding-set=-all",
                "--no-new-privs",
            ]),
            Self::Subordinate => command.args([
                &format!("--reuid={USER}"),
                &format!("--regid={USER}"),
                "--clear-groups",
            ]),
            // Their filters are installed by `confine`.
            Self::UserNamespaced | Self::NoPivot | Self::RuntimeDefault | Self::AsStarted => {
                &mut command
            }
        };
        let child = command
            .arg("--inh-caps=-all")
            .arg("--")
            .arg(itself)
            .arg(format!("--pod={}", self.name()))
            .args(filters)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn();
        let status = child.and_then(|mut child| {
            if self == Self::UserNamespaced {
                map_its_ids(&child)?;
            }
            let mut stdin = child.stdin.take();
            stdin
                .iter_mut()
                .try_for_each(|stdin| stdin.write_all(b"\n"))?;
            child.wait()
        });
        match status {
            Ok(status) if status.success() => Ok(0),
            Ok(_) => Ok(1),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err("setpriv and unshare of util-linux are not installed".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Gives up what setpriv cannot take, and looks whether the machine is prepared for the rest.
    pub fn confine(self) -> Result<(), String> {
        let refused = match self {
            Self::NoPivot => confined::refuse(&[libc::SYS_pivot_root]),
            Self::RuntimeDefault => confined::refuse(&[
                libc::SYS_unshare,
                libc::SYS_pivot_root,
                libc::SYS_mount,
                libc::SYS_fsopen,
                libc::SYS_open_tree,
            ]),
            _ => Ok(()),
        };
        refused.map_err(|error| error.to_string())?;
        if self == Self::Subordinate && !has_subordinate_ids() {
            return Err(format!(
                "user {USER} has no ids in /etc/subuid, or newuidmap is not installed"
            ));
        }
        Ok(())
    }
}

/// Gives a process 65536 ids as soon as it is in a user namespace of its own.
fn map_its_ids(child: &Child) -> io::Result<()> {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/user"));
    let pid = child.id().to_string();
    while of(&pid)? == of("self")? {
        thread::sleep(Duration::from_millis(1));
    }
    fs::write(format!("/proc/{pid}/uid_map"), "0 0 65536\n")?;
    fs::write(format!("/proc/{pid}/gid_map"), "0 0 65536\n")
}

fn has_subordinate_ids() -> bool {
    let store = std::env::temp_dir().join(format!("kiln-sandbox-ids-{}", std::process::id()));
    let made = fs::create_dir(&store);
    let ladder = ladder::probe(&store, Some(Rung::UserNamespace));
    let removed = fs::remove_dir(&store);
    made.and(removed).is_ok()
        && ladder.is_ok_and(|ladder| matches!(ladder.ids, IdMap::Subordinate { .. }))
}
