//! The programs of the cluster and of its clients: pinned, built from Go modules (one is
//! a package of npm) once, and kept in the cache under a key of everything that they are
//! made of.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::error::{AtPath, Error};
use crate::layout::Layout;
use crate::machine;
use crate::process::{command_line, last_lines};
use crate::state::Lock;

/// One `go build`, `go install` or `npm install`.
struct Recipe {
    name: &'static str,
    source: Source,
    /// The programs that it makes.
    programs: &'static [&'static str],
    cgo: bool,
    flags: &'static [&'static str],
}

enum Source {
    /// Packages of a published module, all at one version.
    Published {
        packages: &'static [&'static str],
        version: &'static str,
    },
    /// A module of our own: file names and contents.
    Own(&'static [(&'static str, &'static str)]),
    /// A package of npm.
    Npm {
        package: &'static str,
        version: &'static str,
    },
}

const STRIP: &[&str] = &["-ldflags=-s -w"];

const RECIPES: [Recipe; 9] = [
    Recipe {
        name: "kube",
        source: Source::Own(&[
            ("go.mod", include_str!("../parts/kube/go.mod")),
            ("go.sum", include_str!("../parts/kube/go.sum")),
            ("main.go", include_str!("../parts/kube/main.go")),
            ("dns.go", include_str!("../parts/kube/dns.go")),
        ]),
        programs: &["kube"],
        cgo: false,
        flags: &[
            "-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v1.34.4 \
             -X k8s.io/component-base/version.gitMajor=1 \
             -X k8s.io/component-base/version.gitMinor=34",
        ],
    },
    Recipe {
        name: "tokens",
        source: Source::Own(&[
            ("go.mod", include_str!("../parts/tokens/go.mod")),
            ("main.go", include_str!("../parts/tokens/main.go")),
        ]),
        programs: &["tokens"],
        cgo: false,
        flags: STRIP,
    },
    Recipe {
        name: "containerd",
        source: Source::Published {
            packages: &[
                "github.com/containerd/containerd/v2/cmd/containerd",
                "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            ],
            version: "v2.4.2",
        },
        programs: &["containerd", "containerd-shim-runc-v2"],
        cgo: false,
        flags: STRIP,
    },
    Recipe {
        name: "runc",
        source: Source::Published {
            packages: &["github.com/opencontainers/runc"],
            version: "v1.5.2",
        },
        programs: &["runc"],
        // Pods ask for the default seccomp profile, which needs the C library.
        cgo: true,
        flags: &["-ldflags=-s -w", "-tags=seccomp"],
    },
    Recipe {
        name: "cni",
        source: Source::Published {
            packages: &[
                "github.com/containernetworking/plugins/plugins/main/bridge",
                "github.com/containernetworking/plugins/plugins/main/loopback",
                "github.com/containernetworking/plugins/plugins/ipam/host-local",
                "github.com/containernetworking/plugins/plugins/meta/portmap",
            ],
            version: "v1.9.1",
        },
        programs: &["bridge", "loopback", "host-local", "portmap"],
        cgo: false,
        flags: STRIP,
    },
    Recipe {
        name: "registry",
        source: Source::Published {
            packages: &["github.com/distribution/distribution/v3/cmd/registry"],
            version: "v3.0.0",
        },
        programs: &["registry"],
        cgo: false,
        flags: STRIP,
    },
    Recipe {
        name: "kustomize",
        source: Source::Published {
            packages: &["sigs.k8s.io/kustomize/kustomize/v5"],
            version: "v5.7.1",
        },
        programs: &["kustomize"],
        cgo: false,
        flags: STRIP,
    },
    // The registry client of another project, with which tests look at images.
    Recipe {
        name: "crane",
        source: Source::Published {
            packages: &["github.com/google/go-containerregistry/cmd/crane"],
            version: "v0.20.6",
        },
        programs: &["crane"],
        cgo: false,
        flags: STRIP,
    },
    // Azure's storage, for contexts in it.
    Recipe {
        name: "azurite",
        source: Source::Npm {
            package: "azurite",
            version: "3.37.0",
        },
        programs: &["azurite-blob"],
        cgo: false,
        flags: &[
            // What it depends on as it was then, so that every machine has the same.
            "--before=2026-08-26",
            "--ignore-scripts",
            "--omit=dev",
            "--no-audit",
            "--no-fund",
            // Without a way out it has to fail soon.
            "--fetch-retries=1",
        ],
    },
];

/// The folders of all built parts.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    folder: PathBuf,
}

impl Parts {
    /// Builds what is not in the cache yet. `report` hears of each part that is built, and
    /// of those that the cluster does without.
    pub(crate) fn build(layout: &Layout, report: &mut dyn FnMut(&str)) -> Result<Self, Error> {
        let parts = Self {
            folder: layout.parts(),
        };
        for recipe in &RECIPES {
            let home = parts.home(recipe);
            if !home.exists() {
                report(&format!("building {}", recipe.name));
                match build(recipe, &home) {
                    // Only tests use it, and they say that it is missing.
                    Err(error) if matches!(recipe.source, Source::Npm { .. }) => {
                        report(&format!("there is no {}: {error}", recipe.name));
                    }
                    built => built?,
                }
            }
        }
        Ok(parts)
    }

    /// The path of a built program.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        let recipe = RECIPES
            .iter()
            .find(|recipe| recipe.programs.contains(&name));
        recipe.map_or_else(
            || PathBuf::from(name),
            |recipe| self.home(recipe).join(name),
        )
    }

    /// The folder that holds a program and those built with it.
    pub(crate) fn folder_of(&self, name: &str) -> PathBuf {
        let program = self.program(name);
        program.parent().map(Path::to_owned).unwrap_or_default()
    }

    fn home(&self, recipe: &Recipe) -> PathBuf {
        self.folder.join(format!("{}-{}", recipe.name, key(recipe)))
    }
}

/// A program of the cluster for use without one, such as `kustomize` or
/// `crane`; it is built when the cache does not have it. `report` hears of that.
///
/// # Errors
/// When it cannot be built, or is none of the cluster's programs.
pub fn program(
    layout: &Layout,
    name: &str,
    report: &mut dyn FnMut(&str),
) -> Result<PathBuf, Error> {
    let parts = Parts {
        folder: layout.parts(),
    };
    let path = parts.program(name);
    let recipe = RECIPES
        .iter()
        .find(|recipe| recipe.programs.contains(&name));
    if let Some(recipe) = recipe
        && !path.exists()
    {
        let _cache = Lock::take(&layout.cache_lock())?;
        // Somebody else may have built it in the meantime.
        if !path.exists() {
            report(&format!("building {name}"));
            build(recipe, &parts.home(recipe))?;
        }
    }
    fs::metadata(&path).at("find the program", &path)?;
    Ok(path)
}

/// Version and digest of everything that decides a part's bytes, short enough for a
/// folder name.
fn key(recipe: &Recipe) -> String {
    let mut hash = Sha256::new();
    for flag in recipe.flags {
        hash.update(flag);
        hash.update([0]);
    }
    let version = match &recipe.source {
        Source::Published { packages, version } => {
            for package in *packages {
                hash.update(package);
                hash.update([0]);
            }
            *version
        }
        Source::Own(files) => {
            for (name, content) in *files {
                hash.update(name);
                hash.update([0]);
                hash.update(content);
                hash.update([0]);
            }
            "own"
        }
        Source::Npm { package, version } => {
            hash.update(package);
            *version
        }
    };
    let digest = hash.finalize();
    let short: String = digest[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{version}-{short}")
}

/// Builds into a folder beside `home` and renames it when everything is there.
fn build(recipe: &Recipe, home: &Path) -> Result<(), Error> {
    let work = home.with_extension("building");
    if work.exists() {
        fs::remove_dir_all(&work).at("remove", &work)?;
    }
    fs::create_dir_all(&work).at("create", &work)?;
    let command = match recipe.source {
        Source::Npm { package, version } => npm(recipe, &format!("{package}@{version}"), &work)?,
        Source::Published { .. } | Source::Own(_) => go(recipe, &work)?,
    };
    logged(command, &work.join("build.log"))?;
    for program in recipe.programs {
        let path = work.join(program);
        fs::metadata(&path).at("find the built program", &path)?;
    }
    fs::rename(&work, home).at("rename", &work)
}

/// Builds a module into `work`.
fn go(recipe: &Recipe, work: &Path) -> Result<Command, Error> {
    let mut command = Command::new(machine::go()?);
    command
        .env("CGO_ENABLED", if recipe.cgo { "1" } else { "0" })
        .env("GOFLAGS", "-buildvcs=false")
        .env("GOTOOLCHAIN", "local")
        .env("GOBIN", work)
        .env_remove("GOOS")
        .env_remove("GOARCH");
    match &recipe.source {
        Source::Npm { .. } => {}
        Source::Published { packages, version } => {
            command.args(["install", "-trimpath"]).args(recipe.flags);
            command.args(
                packages
                    .iter()
                    .map(|package| format!("{package}@{version}")),
            );
        }
        Source::Own(files) => {
            let source = work.join("source");
            fs::create_dir(&source).at("create", &source)?;
            for (name, content) in *files {
                let path = source.join(name);
                fs::write(&path, content).at("write", &path)?;
            }
            command.current_dir(&source);
            command.args(["build", "-trimpath"]).args(recipe.flags);
            command.arg("-o").arg(work).arg(".");
        }
    }
    Ok(command)
}

/// Installs a package into `work`, with links to its programs beside it.
fn npm(recipe: &Recipe, package: &str, work: &Path) -> Result<Command, Error> {
    if machine::program("npm").is_none() {
        machine::install(&["npm"])?;
    }
    for program in recipe.programs {
        let link = work.join(program);
        std::os::unix::fs::symlink(Path::new("node_modules/.bin").join(program), &link)
            .at("link", &link)?;
    }
    let mut command = Command::new("npm");
    command.current_dir(work).arg("install").args(recipe.flags);
    command.arg("--prefix").arg(work).arg(package);
    Ok(command)
}

/// Runs a build with its output in a log file, whose end is in the error.
fn logged(mut command: Command, log: &Path) -> Result<(), Error> {
    let line = command_line(&command);
    let file = File::create(log).at("create", log)?;
    let copy = file.try_clone().at("open", log)?;
    let status = command
        .stdin(std::process::Stdio::null())
        .stdout(file)
        .stderr(copy)
        .status()
        .map_err(|source| Error::Spawn {
            program: line.clone(),
            source,
        })?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Command {
        command: line,
        status: status.to_string(),
        output: last_lines(&fs::read_to_string(log).unwrap_or_default(), 40),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_that_is_started_has_a_recipe() {
        let parts = Parts {
            folder: PathBuf::from("/cache"),
        };
        for name in [
            "kube",
            "containerd",
            "runc",
            "bridge",
            "registry",
            "tokens",
            "crane",
            "azurite-blob",
        ] {
            assert!(parts.program(name).starts_with("/cache"), "{name}");
        }
    }

    #[test]
    fn a_part_of_our_own_changes_its_key_with_its_source() {
        let part = |content| Recipe {
            name: "own",
            source: Source::Own(content),
            programs: &["own"],
            cgo: false,
            flags: STRIP,
        };
        let before = key(&part(&[("main.go", "package main")]));
        assert_ne!(before, key(&part(&[("main.go", "package main\n")])));
        assert_ne!(before, key(&part(&[("other.go", "package main")])));
    }
}
