//! Where the executor runs the commands of a case, and what it may refuse there.

use std::fmt;

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
            Self::In(Pod::Default) => "a default pod",
            Self::In(Pod::OwnUsers) => "a pod with users of its own",
            Self::In(Pod::RuntimeDefault) => "a pod with RuntimeDefault",
            Self::In(Pod::Restricted) => "a restricted pod",
        })
    }
}

/// Where commands run in a plain directory, these cases differ from BuildKit, and cannot be mended:
/// an overlay gives a file that is written to a copy of its own, and its further names keep what
/// they had; in a plain directory all of them are one file, as POSIX says. What the command saw is
/// what the layer holds.
pub const DIFFERENT_WITHOUT_MOUNTS: [&str; 2] =
    ["bases/odd-hard-link-pair", "run/hard-link-broken-later"];

/// In a chroot there is no /proc and no /sys to be seen, so these cases fail.
pub const DIFFERENT_IN_CHROOT: [&str; 1] = ["run/writes-to-proc-and-sys-stay-out"];

impl Rung {
    /// `--isolation`
    pub(crate) fn isolation(self) -> &'static str {
        match self {
            Self::Best | Self::In(Pod::Default | Pod::OwnUsers | Pod::RuntimeDefault) => "auto",
            Self::InPlace => "in-place",
            Self::Chroot => "chroot",
            Self::None | Self::OrdinaryUser | Self::In(Pod::Restricted) => "none",
        }
    }

    pub(crate) fn is_known_to_differ(self, case: &str) -> bool {
        (self.has_no_mounts() && DIFFERENT_WITHOUT_MOUNTS.contains(&case))
            || (self == Self::Chroot && DIFFERENT_IN_CHROOT.contains(&case))
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
            Self::Best | Self::In(Pod::Default | Pod::OwnUsers) => false,
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
                    || has(&["--MOUNT=", "--NETWORK=NONE", "<<", "FROM ONBUILD"])
                        && (log.contains("needs a mount namespace")
                            || log.contains(&format!(
                                "is not possible with the isolation {isolation}"
                            )))
            }
        }
    }
}
