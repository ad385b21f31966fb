//! What the machine itself must bring: root, Go, and a few Debian packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{AtPath, Error};
use crate::process::{output, run};

/// Where programs of the base system are looked for.
const PROGRAM_DIRS: [&str; 7] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/local/go/bin",
];

/// A file that a Debian package brings.
struct Provided {
    package: &'static str,
    file: &'static str,
}

/// What must be there before the parts are built and the cluster is started.
/// A file without a slash is a program.
const PACKAGES: [Provided; 11] = [
    Provided {
        package: "iproute2",
        file: "ip",
    },
    Provided {
        package: "util-linux",
        file: "nsenter",
    },
    Provided {
        package: "mount",
        file: "mount",
    },
    Provided {
        package: "iptables",
        file: "iptables",
    },
    Provided {
        package: "busybox-static",
        file: "busybox",
    },
    Provided {
        package: "curl",
        file: "curl",
    },
    // What `scripts/images` needs; tests call it where there is no way out.
    Provided {
        package: "patchelf",
        file: "patchelf",
    },
    Provided {
        package: "git",
        file: "git",
    },
    Provided {
        package: "gcc",
        file: "gcc",
    },
    Provided {
        package: "pkg-config",
        file: "pkg-config",
    },
    Provided {
        package: "libseccomp-dev",
        file: "/usr/include/seccomp.h",
    },
];

/// The first program of that name in the usual folders.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    PROGRAM_DIRS
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}

/// Says what this machine lacks for running a cluster at all, if anything.
pub(crate) fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("a cluster of real nodes needs root".to_owned());
    }
    if program("go").is_none() {
        return Some("there is no Go toolchain to build Kubernetes with".to_owned());
    }
    None
}

/// Installs the Debian packages that are missing.
///
/// # Errors
/// [`Error::Missing`] where there is no apt-get, and its failure otherwise.
pub(crate) fn install_packages() -> Result<(), Error> {
    let missing = PACKAGES.iter().filter(|provided| {
        if provided.file.starts_with('/') {
            !Path::new(provided.file).exists()
        } else {
            program(provided.file).is_none()
        }
    });
    install(&missing.map(|provided| provided.package).collect::<Vec<_>>())
}

/// Installs Debian packages; with none it does nothing.
pub(crate) fn install(packages: &[&str]) -> Result<(), Error> {
    if packages.is_empty() {
        return Ok(());
    }
    if program("apt-get").is_none() {
        return Err(Error::Missing {
            what: packages.join(", "),
            remedy: "install these packages (their Debian names)".to_owned(),
        });
    }
    let install = || {
        run(Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "--no-install-recommends"])
            .args(packages))
    };
    // A fresh machine has no package lists, and updating them takes longer than most
    // installations.
    if install().is_ok() {
        return Ok(());
    }
    run(Command::new("apt-get").arg("update"))?;
    install()
}

/// What the images and containers of a run take, in bytes, with the kubelet's own limit
/// (`evictionHard`) far away: once that is reached no pod is placed, and every test would
/// wait in vain.
const ROOM: u64 = 2 << 30;

/// Fails where the disk of `folder` is nearly full.
///
/// # Errors
/// [`Error::Missing`] with what is free.
pub(crate) fn require_room(folder: &Path) -> Result<(), Error> {
    let disk = rustix::fs::statvfs(folder)
        .map_err(std::io::Error::from)
        .at("ask for the room left at", folder)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= ROOM {
        return Ok(());
    }
    Err(Error::Missing {
        what: "room on disk".to_owned(),
        remedy: format!(
            "a run takes {} MiB, and {} MiB are free at {}",
            ROOM >> 20,
            free >> 20,
            folder.display()
        ),
    })
}

/// A value of the Go toolchain's environment.
pub(crate) fn go_env(name: &str) -> Result<PathBuf, Error> {
    let text = output(Command::new(go()?).args(["env", name]))?;
    Ok(PathBuf::from(text.trim()))
}

/// Downloads every module that a project (a folder with a `go.mod`) needs, from outside of the
/// cluster's network, for [`crate::Cluster::module_proxy`] to serve.
///
/// # Errors
/// Without Go, or when a module cannot be downloaded.
pub fn download_modules(project: &Path) -> Result<(), Error> {
    let mut download = Command::new(go()?);
    output(download.args(["mod", "download"]).current_dir(project)).map(drop)
}

/// The Go command.
pub(crate) fn go() -> Result<PathBuf, Error> {
    program("go").ok_or_else(|| Error::Missing {
        what: "go".to_owned(),
        remedy: "install the Go toolchain (go.dev/dl) in /usr/local/go".to_owned(),
    })
}
