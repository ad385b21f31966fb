//! Which isolation a RUN gets: rungs from the best to none, tried once, each refusal explained.
//!
//! [`decide`] is pure: observed [`Facts`] in, what to try or the result out. [`probe`] observes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::idmap::IdMap;
use crate::observe::{
    self, CHOWN, DAC_OVERRIDE, FOWNER, SETGID, SETPCAP, SETUID, SYS_ADMIN, SYS_CHROOT,
};

/// One way to run a command, from the most isolated to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rung {
    /// The pod is itself in a user namespace and may mount (`hostUsers: false` and SYS_ADMIN).
    UserNamespacedPod,
    /// A user namespace of our own: an ordinary pod without a seccomp profile, or a plain host.
    UserNamespace,
    /// An ordinary user's own namespace, which the whole program runs in
    /// ([`users::start_anew`](crate::users::start_anew)): with the ids of `newuidmap`, or one.
    Rootless,
    /// `chroot` into a prepared directory: no /proc, no volumes. Only on request.
    Chroot,
    /// In the container's own `/`, as kaniko does.
    InPlace,
    /// Commands cannot be run; builds without RUN still work.
    NoRun,
}

impl Rung {
    /// Every rung, the best first.
    pub const ALL: [Self; 6] = [
        Self::UserNamespacedPod,
        Self::UserNamespace,
        Self::Rootless,
        Self::Chroot,
        Self::InPlace,
        Self::NoRun,
    ];

    /// The word for it on a command line and in a log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UserNamespacedPod => "userns-pod",
            Self::UserNamespace => "userns",
            Self::Rootless => "rootless",
            Self::Chroot => "chroot",
            Self::InPlace => "in-place",
            Self::NoRun => "none",
        }
    }

    /// The rung of that [name](Rung::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rung| rung.name() == name)
    }

    /// Whether a step has mounts of its own: overlays, volumes, binds, hidden paths.
    #[must_use]
    pub fn has_mounts(self) -> bool {
        matches!(
            self,
            Self::UserNamespacedPod | Self::UserNamespace | Self::Rootless
        )
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The result of a [`probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// The rung to use.
    pub chosen: Rung,
    /// The better rungs, and why each is not it, with the setting that would allow it.
    pub tried: Vec<(Rung, String)>,
    /// The ids that the chosen rung's commands have.
    pub ids: IdMap,
}

/// Why there is no ladder.
#[derive(Debug, thiserror::Error)]
pub enum LadderError {
    /// The rung that was asked for is not possible here.
    #[error("isolation {rung} is not possible here: {why}")]
    Refused {
        /// What was asked for.
        rung: Rung,
        /// What stands against it, with the setting that would allow it.
        why: String,
    },
    /// The process cannot even look at itself.
    #[error("cannot read {path}")]
    Unreadable {
        /// The file below `/proc`.
        path: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// What is known about the process and its machine. See [`probe`] for where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The effective user id.
    pub euid: u32,
    /// The effective capabilities, one bit each as in `/proc/self/status`.
    pub capabilities: u64,
    /// Whether the process is in a user namespace other than the machine's first.
    pub in_user_namespace: bool,
    /// The namespace that the program made for itself.
    pub own_namespace: OwnNamespace,
    /// Whether a seccomp filter is installed.
    pub seccomp: bool,
    /// `user.max_user_namespaces`, where the kernel tells.
    pub max_user_namespaces: Option<u64>,
    /// The AppArmor profile that confines the process, if one does.
    pub apparmor: Option<String>,
    /// Whether the process lives in a container, whose `/` may be overwritten.
    pub in_container: bool,
    /// Whether `/` is mounted read-only.
    pub root_read_only: bool,
    /// Rungs that were tried in full, without a command.
    pub trials: BTreeMap<Rung, Result<(), Failure>>,
}

/// What became of [`users::start_anew`](crate::users::start_anew).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnNamespace {
    /// It was not asked for.
    None,
    /// The process is root of it.
    Made,
    /// It could not be made.
    Refused(Failure),
}

/// What to do with the facts at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Prepare a step on this rung without a command, add the result to the facts, ask again.
    Try(Rung),
    /// Use this one; the better rungs with the reason against each.
    Use {
        /// The rung.
        chosen: Rung,
        /// The better ones and why not.
        tried: Vec<(Rung, String)>,
    },
    /// The forced rung is impossible.
    Refuse {
        /// The forced rung.
        rung: Rung,
        /// Why.
        why: String,
    },
}

/// Finds the best rung for a store in the directory `store`, or checks the `forced` one.
///
/// # Errors
/// When the forced rung is not possible, or `/proc` is not readable.
pub fn probe(store: &Path, forced: Option<Rung>) -> Result<Ladder, LadderError> {
    let mut facts = observe::facts()?;
    loop {
        match decide(&facts, forced) {
            Decision::Try(rung) => {
                let result = observe::trial(rung, store);
                facts.trials.insert(rung, result);
            }
            Decision::Use { chosen, tried } => {
                let ids = observe::ids(chosen, facts.capabilities)?;
                return Ok(Ladder { chosen, tried, ids });
            }
            Decision::Refuse { rung, why } => return Err(LadderError::Refused { rung, why }),
        }
    }
}

/// Chooses a rung by the facts, or names the next trial. Pure.
#[must_use]
pub fn decide(facts: &Facts, forced: Option<Rung>) -> Decision {
    let mut tried = Vec::new();
    for rung in Rung::ALL {
        if forced.is_some_and(|forced| forced != rung) {
            continue;
        }
        let why = match verdict(rung, facts, forced.is_some()) {
            Verdict::Good => {
                return Decision::Use {
                    chosen: rung,
                    tried,
                };
            }
            Verdict::Unknown => return Decision::Try(rung),
            Verdict::Bad(why) => why,
        };
        if forced.is_some() {
            return Decision::Refuse { rung, why };
        }
        tried.push((rung, why));
    }
    Decision::Use {
        chosen: Rung::NoRun,
        tried,
    }
}

enum Verdict {
    Good,
    Bad(String),
    Unknown,
}

fn verdict(rung: Rung, facts: &Facts, forced: bool) -> Verdict {
    let against = match rung {
        Rung::UserNamespacedPod => against_user_namespaced_pod(facts),
        Rung::UserNamespace => against_user_namespace(facts, forced),
        Rung::Rootless => against_rootless(facts),
        Rung::Chroot => against_chroot(facts, forced),
        Rung::InPlace => against_in_place(facts, forced),
        Rung::NoRun => None,
    };
    match (against, facts.trials.get(&rung)) {
        (Some(why), _) => Verdict::Bad(why),
        (None, Some(Err(failure))) => Verdict::Bad(explain(failure, facts)),
        (None, None) if rung.has_mounts() => Verdict::Unknown,
        (None, _) => Verdict::Good,
    }
}

fn against_user_namespaced_pod(facts: &Facts) -> Option<String> {
    if !facts.in_user_namespace || facts.own_namespace == OwnNamespace::Made {
        return Some(
            "the process is not in a user namespace (pod setting `hostUsers: false`)".to_owned(),
        );
    }
    // SETPCAP is what takes SYS_ADMIN away from the command again.
    let missing = missing(facts, &[(SYS_ADMIN, "SYS_ADMIN"), (SETPCAP, "SETPCAP")])?;
    Some(format!(
        "no {missing} (pod setting `securityContext.capabilities.add: [{missing}]`)"
    ))
}

fn against_user_namespace(facts: &Facts, forced: bool) -> Option<String> {
    if facts.own_namespace == OwnNamespace::Made && !forced {
        return Some("the program is in a namespace of its own already".to_owned());
    }
    (facts.max_user_namespaces == Some(0)).then(|| {
        "user namespaces are switched off on the node (sysctl user.max_user_namespaces is 0); \
         raise it, or give the pod `hostUsers: false` and SYS_ADMIN"
            .to_owned()
    })
}

fn against_rootless(facts: &Facts) -> Option<String> {
    match &facts.own_namespace {
        OwnNamespace::Made => None,
        OwnNamespace::Refused(failure) => Some(explain(failure, facts)),
        OwnNamespace::None => Some("the process does not run as an ordinary user".to_owned()),
    }
}

fn against_chroot(facts: &Facts, forced: bool) -> Option<String> {
    if let Some(missing) = missing(
        facts,
        &[
            (SYS_CHROOT, "SYS_CHROOT"),
            (SETUID, "SETUID"),
            (SETGID, "SETGID"),
        ],
    ) {
        return Some(format!(
            "no {missing} (pod setting `securityContext.capabilities.add: [{missing}]`)"
        ));
    }
    (!forced)
        .then(|| "only on request: commands would have no /proc, no /sys and no volumes".to_owned())
}

fn against_in_place(facts: &Facts, forced: bool) -> Option<String> {
    if facts.euid != 0 {
        return Some(format!(
            "the process runs as user {}, not root (pod setting `securityContext.runAsUser: 0`)",
            facts.euid
        ));
    }
    if facts.root_read_only {
        return Some(
            "the container's / is read-only (pod setting `securityContext.readOnlyRootFilesystem: false`)"
                .to_owned(),
        );
    }
    let needed = [
        (CHOWN, "CHOWN"),
        (DAC_OVERRIDE, "DAC_OVERRIDE"),
        (FOWNER, "FOWNER"),
        (SETUID, "SETUID"),
        (SETGID, "SETGID"),
    ];
    if let Some(missing) = missing(facts, &needed) {
        return Some(format!(
            "no {missing} (pod setting `securityContext.capabilities.add: [{missing}]`)"
        ));
    }
    (!facts.in_container && !forced).then(|| {
        "this does not look like a container, and the machine's own / would be overwritten"
            .to_owned()
    })
}

fn missing(facts: &Facts, wanted: &[(u64, &str)]) -> Option<String> {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(bit, _)| facts.capabilities & bit == 0)
        .map(|(_, name)| *name)
        .collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// A trial's failure in words, with the setting that would have made it work.
fn explain(failure: &Failure, facts: &Facts) -> String {
    let operation = failure.operation.as_str();
    let advice = if operation.contains("overlay") && failure.errno == libc::EINVAL {
        "the store must not lie on the container's own overlay: mount a volume there (an `emptyDir` will do)"
    } else if failure.errno == libc::ENOSPC {
        "the node's limit of user namespaces is reached (sysctl user.max_user_namespaces)"
    } else if operation.contains("/proc/<sandbox>/") {
        "the id maps need the capabilities SETUID, SETGID and SETFCAP (pod setting `securityContext.capabilities.add: [SETUID, SETGID, SETFCAP]`)"
    } else if facts.seccomp && matches!(failure.errno, libc::EPERM | libc::ENOSYS) {
        "the pod's seccomp profile forbids it (pod setting `securityContext.seccompProfile: {type: Unconfined}`, or `hostUsers: false` with SYS_ADMIN added)"
    } else if facts.apparmor.is_some() && matches!(failure.errno, libc::EACCES | libc::EPERM) {
        "the AppArmor profile forbids it (pod setting `securityContext.appArmorProfile: {type: Unconfined}`; on a plain Ubuntu host, sysctl kernel.apparmor_restrict_unprivileged_userns=0)"
    } else if operation.starts_with("unshare") && failure.errno == libc::EPERM {
        "user namespaces are forbidden here (pod setting `hostUsers: false` with SYS_ADMIN added)"
    } else {
        return failure.to_string();
    };
    format!("{failure}; {advice}")
}

#[cfg(test)]
mod tests;
