//! Where the executor runs the commands of a case, and what it may refuse there.

use std::fmt;

/// A rung of the privilege ladder, and how it is reached on a machine that offers better ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// What the executor finds best.
    Best,
    /// In place, in a container made for one case: a mount namespace with a root of its own.
    InPlace,
    /// No RUN at all.
    None,
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
            Self::None => "without RUN",
            Self::In(Pod::Default) => "a default pod",
            Self::In(Pod::OwnUsers) => "a pod with users of its own",
            Self::In(Pod::RuntimeDefault) => "a pod with RuntimeDefault",
            Self::In(Pod::Restricted) => "a restricted pod",
        })
    }
}

/// Where commands run in the container's own `/`, these cases differ from BuildKit: defects that
/// are known, each to be mended and then to leave this list.
pub const DIFFERENT_IN_PLACE: [&str; 11] = [
    // Names of one file that change later are told from each other by their place alone.
    "bases/odd-hard-link-pair",
    "run/hard-link-broken-later",
    "run/hard-link-to-file-of-base",
    // Nothing says that a directory above a change was touched with it.
    "copy/chown-user-made-in-run",
    "run/append",
    "run/chmod-only",
    "run/chown-only",
    "run/touch-only",
    // What was below the directory is still looked for.
    "run/directory-becomes-file",
    // There are no mounts that would keep these out.
    "run/resolv-conf-stays-out",
    "run/writes-to-proc-and-sys-stay-out",
];

/// For a user other than root, these cases differ from BuildKit: what is copied from an image or
/// an archive was unpacked first, and what is unpacked belongs to that user. Defects that are
/// known, as above.
pub const DIFFERENT_WITHOUT_ROOT: [&str; 10] = [
    "add/url-archive-unpacked",
    "copy/link-flag-from-stage",
    "from-stage/image",
    "from-stage/image-directory",
    "from-stage/image-odd",
    "from-stage/stage-link",
    "from-stage/stage-relative-path",
    "from-stage/stage-setuid-and-attributes",
    "onbuild/copy-from-image",
    "stages/scratch-with-layers-of-others",
];

impl Rung {
    /// `--isolation`
    pub(crate) fn isolation(self) -> &'static str {
        match self {
            Self::Best | Self::In(Pod::Default | Pod::OwnUsers | Pod::RuntimeDefault) => "auto",
            Self::InPlace => "in-place",
            Self::None | Self::In(Pod::Restricted) => "none",
        }
    }

    pub(crate) fn is_known_to_differ(self, case: &str) -> bool {
        let without_root = self == Self::In(Pod::Restricted);
        (self.is_in_place() && DIFFERENT_IN_PLACE.contains(&case))
            || (without_root && DIFFERENT_WITHOUT_ROOT.contains(&case))
    }

    fn is_in_place(self) -> bool {
        matches!(self, Self::InPlace | Self::In(Pod::RuntimeDefault))
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
            Self::None | Self::In(Pod::Restricted) => {
                runs && log.contains("RUN with the isolation none")
            }
            Self::Best | Self::In(Pod::Default | Pod::OwnUsers) => false,
            Self::InPlace | Self::In(Pod::RuntimeDefault) => {
                has(&["--MOUNT=", "--NETWORK=NONE", "<<", "FROM ONBUILD"])
                    && (log.contains("needs a mount namespace")
                        || log.contains("is not possible with the isolation in-place"))
            }
        }
    }
}
