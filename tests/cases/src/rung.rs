//! Where the executor runs the commands of a case, and what it may refuse there.

use std::fmt;

use crate::user::Ids;

/// A rung of the privilege ladder, and how it is reached on a machine that offers better ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// What the executor finds best.
    Best,
    /// In place, in a container made for one case: a mount namespace with a root of its own.
    InPlace,
    /// In a directory of the store.
    Chroot,
    /// No RUN at all.
    None,
    /// No RUN at all, for a user other than root and without any capability.
    OrdinaryUser,
    /// In a namespace of an ordinary user who has subordinate ids.
    Rootless,
    /// The same for one who has none: all files are that user's.
    OneUser,
    /// What the executor finds best in a pod of this kind.
    In(Pod),
}

/// A kind of pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pod {
    /// Nothing is said of security.
    Default,
    /// `hostUsers: false`
    OwnUsers,
    /// `seccompProfile: {type: RuntimeDefault}`
    RuntimeDefault,
    /// `runAsUser: 1000`: an ordinary user with one id.
    Ordinary,
    /// The restricted profile of the Pod Security Standards: not root, no capabilities.
    Restricted,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Best => "the best rung",
            Self::InPlace => "in place",
            Self::Chroot => "in a chroot",
            Self::None => "without RUN",
            Self::OrdinaryUser => "as an ordinary user, without RUN",
            Self::Rootless => "as an ordinary user with subordinate ids",
            Self::OneUser => "as an ordinary user without subordinate ids",
            Self::In(Pod::Default) => "a default pod",
            Self::In(Pod::OwnUsers) => "a pod with users of its own",
            Self::In(Pod::RuntimeDefault) => "a pod with RuntimeDefault",
            Self::In(Pod::Ordinary) => "a pod of an ordinary user",
            Self::In(Pod::Restricted) => "a restricted pod",
        })
    }
}

/// What the kernel does not allow root of a user namespace: to make devices, and to write to a
/// set-user-id program that stays one.
pub const DIFFERENT_IN_A_NAMESPACE: [&str; 3] = [
    "run/chroot-and-mknod",
    "run/device-node",
    "run/setuid-lost-on-write",
];

/// Without mounts nothing keeps root from writing: what is written to a read-only mount is thrown
/// away.
pub const DIFFERENT_WITHOUT_MOUNTS: [&str; 2] = ["mount/bind-read-only", "mount/cache-read-only"];

/// With a single id, what is copied cannot keep its owner, and nobody is in a group of users.
pub const DIFFERENT_WITH_ONE_ID: [&str; 2] = ["bases/odd-copied-within", "run/identity"];

/// In a chroot there is no /proc and no /sys to be seen, so these cases fail.
pub const DIFFERENT_IN_CHROOT: [&str; 1] = ["run/writes-to-proc-and-sys-stay-out"];

impl Rung {
    /// `--isolation`
    pub(crate) fn isolation(self) -> &'static str {
        match self {
            Self::Best | Self::In(Pod::Default | Pod::OwnUsers | Pod::RuntimeDefault) => "auto",
            Self::InPlace => "in-place",
            Self::Chroot => "chroot",
            Self::Rootless | Self::OneUser | Self::In(Pod::Ordinary) => "rootless",
            Self::None | Self::OrdinaryUser | Self::In(Pod::Restricted) => "none",
        }
    }

    /// The ids of the ordinary user that builds, where it is not root.
    pub(crate) fn ids(self) -> Option<Ids> {
        match self {
            Self::Rootless => Some(Ids::Subordinate),
            Self::OrdinaryUser | Self::OneUser => Some(Ids::None),
            _ => None,
        }
    }

    pub(crate) fn is_known_to_differ(self, case: &str) -> bool {
        (self == Self::Best && DIFFERENT_IN_A_NAMESPACE.contains(&case))
            || (self.has_no_mounts() && DIFFERENT_WITHOUT_MOUNTS.contains(&case))
            || (self.has_one_id() && DIFFERENT_WITH_ONE_ID.contains(&case))
            || (self == Self::Chroot && DIFFERENT_IN_CHROOT.contains(&case))
    }

    fn has_one_id(self) -> bool {
        matches!(self, Self::OneUser | Self::In(Pod::Ordinary))
    }

    fn has_no_mounts(self) -> bool {
        matches!(
            self,
            Self::InPlace | Self::Chroot | Self::In(Pod::RuntimeDefault)
        )
    }

    /// Whether cases run in this process's own `/`, so that there can be only one at a time.
    pub(crate) fn shares_root(self) -> bool {
        self == Self::In(Pod::RuntimeDefault)
    }

    /// Whether this rung has to refuse a case, and its error says why.
    pub(crate) fn may_refuse(self, dockerfile: &str, log: &str) -> bool {
        let text = dockerfile.to_ascii_uppercase();
        let runs = text.contains("RUN") || text.contains("FROM ONBUILD");
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match self {
            Self::None | Self::OrdinaryUser | Self::In(Pod::Restricted) => {
                runs && log.contains("RUN with the isolation none")
            }
            Self::Best | Self::Rootless | Self::In(Pod::Default | Pod::OwnUsers) => false,
            // The log says so from the start, and what fails is asked by nobody but another user.
            Self::OneUser | Self::In(Pod::Ordinary) => {
                (has(&["CHOWN"]) && log.contains("Invalid argument"))
                    || log.contains("Invalid argument (os error 22): there is a single user id")
                    || (log.contains("become user") && log.contains("there is a single user id"))
            }
            Self::InPlace | Self::Chroot | Self::In(Pod::RuntimeDefault) => {
                let isolation = match self {
                    Self::Chroot => "chroot",
                    _ => "in-place",
                };
                // In place the context of a case lies at this path.
                let covers_context = self != Self::Chroot
                    && has(&["/WORK/CONTEXT"])
                    && log.contains("where the image has files of its own at /work/context");
                covers_context
                    || has(&["TYPE=TMPFS", "--NETWORK=NONE"])
                        && log.contains(&format!("is not possible with the isolation {isolation}"))
            }
        }
    }
}
