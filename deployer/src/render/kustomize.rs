//! Overlays become YAML: what renders them, and the programs that can.

use std::ffi::OsStr;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;

use kiln_schemas::diagnostic::Diagnostic;
use tokio::process::Command;

use super::dependencies;

/// An overlay to render.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Folder, absolute, or a URL that kustomize understands.
    pub path: String,
    /// Flags for `kustomize build`.
    pub build_args: Vec<String>,
}

/// An overlay that was rendered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// YAML documents.
    pub yaml: String,
    /// What is to be known of how it was made, one line each, such as fields that are deprecated.
    pub warnings: Vec<String>,
}

/// Renders overlays.
pub trait Kustomize: Send + Sync {
    /// The overlay as YAML documents.
    fn build<'a>(
        &'a self,
        overlay: &'a Overlay,
    ) -> Pin<Box<dyn Future<Output = Result<Text, KustomizeError>> + Send + 'a>>;

    /// The local files that decide what [`Kustomize::build`] returns. Asks no
    /// other machine.
    fn inputs(&self, overlay: &Overlay) -> Inputs;
}

/// What an overlay is made of.
#[derive(Debug, Default)]
pub struct Inputs {
    /// Absolute, sorted. Those that are not there count: their appearance is a
    /// change.
    pub files: Vec<PathBuf>,
    /// Why the overlay cannot be rendered now, as far as that is known; then
    /// `files` are those that could change it.
    pub trouble: Option<KustomizeError>,
}

/// Why an overlay was not rendered or its files are not known.
#[derive(Debug, thiserror::Error)]
pub enum KustomizeError {
    /// Neither program is there.
    #[error("neither `kustomize` nor `kubectl` is on the PATH; install one of them")]
    NotInstalled,
    /// A flag that Kiln's own renderer does not have, and no program that may.
    #[error(
        "cannot render {overlay}: the flag `{flag}` needs `kustomize` or `kubectl`, and neither is on the PATH; \
         install one of them, or leave the flag out"
    )]
    Flag {
        /// The overlay.
        overlay: String,
        /// The flag.
        flag: String,
    },
    /// The program did not start.
    #[error("cannot run {}", .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// kustomize refused the overlay.
    #[error("cannot render {overlay}: {message}")]
    Refused {
        /// The overlay.
        overlay: String,
        /// What kustomize wrote to its standard error.
        message: String,
    },
    /// Kiln's own renderer refused the overlay.
    #[error("cannot render {overlay}")]
    Native {
        /// The overlay.
        overlay: String,
        /// Why.
        source: Box<kiln_kustomize::Error>,
    },
    /// The output is not text.
    #[error("the rendered {overlay} is not UTF-8")]
    NotText {
        /// The overlay.
        overlay: String,
        /// Where.
        source: std::string::FromUtf8Error,
    },
    /// A folder has no kustomization file.
    #[error("{} has no kustomization.yaml, kustomization.yml or Kustomization", .dir.display())]
    NoKustomization {
        /// The folder.
        dir: PathBuf,
    },
    /// A kustomization file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A kustomization file is not YAML.
    #[error(transparent)]
    Syntax(Box<Diagnostic>),
}

/// Runs `kustomize build` or `kubectl kustomize`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandKustomize {
    /// The `kustomize` program.
    Kustomize(PathBuf),
    /// The `kubectl` program, which contains a kustomize.
    Kubectl(PathBuf),
    /// None was found; an error as soon as an overlay has to be rendered, so
    /// that projects without overlays need no program.
    Missing,
}

impl CommandKustomize {
    /// Takes `kustomize`, else `kubectl`, from the folders of `path` (the
    /// value of `PATH`).
    pub fn find(path: Option<&OsStr>) -> Self {
        let find = |program: &str| {
            std::env::split_paths(path?)
                .map(|dir| dir.join(format!("{program}{}", std::env::consts::EXE_SUFFIX)))
                .find(|candidate| is_executable(candidate))
        };
        if let Some(program) = find("kustomize") {
            return Self::Kustomize(program);
        }
        find("kubectl").map_or(Self::Missing, Self::Kubectl)
    }

    /// The program that a person named; it is a kubectl if it is called so.
    #[must_use]
    pub fn named(program: PathBuf) -> Self {
        if program.file_stem().is_some_and(|name| name == "kubectl") {
            Self::Kubectl(program)
        } else {
            Self::Kustomize(program)
        }
    }

    fn command(&self) -> Result<(&Path, Command), KustomizeError> {
        let (program, verb) = match self {
            Self::Kustomize(program) => (program, "build"),
            Self::Kubectl(program) => (program, "kustomize"),
            Self::Missing => return Err(KustomizeError::NotInstalled),
        };
        let mut command = Command::new(program);
        command.arg(verb).stdin(Stdio::null()).kill_on_drop(true);
        Ok((program, command))
    }

    async fn run(&self, overlay: &Overlay) -> Result<Text, KustomizeError> {
        let (program, mut command) = self.command()?;
        let output = command
            .args(&overlay.build_args)
            .arg(&overlay.path)
            .output()
            .await
            .map_err(|source| KustomizeError::Start {
                program: program.to_owned(),
                source,
            })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said
                .trim()
                .trim_start_matches("Error: ")
                .trim_start_matches("error: ");
            let message = if said.is_empty() {
                output.status.to_string()
            } else {
                said.to_owned()
            };
            return Err(KustomizeError::Refused {
                overlay: overlay.path.clone(),
                message,
            });
        }
        let yaml = String::from_utf8(output.stdout).map_err(|source| KustomizeError::NotText {
            overlay: overlay.path.clone(),
            source,
        })?;
        // What it says and goes on is a warning.
        let said = String::from_utf8_lossy(&output.stderr);
        let lines = said
            .lines()
            .map(|line| line.trim_start_matches("# Warning: ").trim());
        let warnings = lines.filter(|line| !line.is_empty()).map(str::to_owned);
        Ok(Text {
            yaml,
            warnings: warnings.collect(),
        })
    }
}

impl Kustomize for CommandKustomize {
    fn build<'a>(
        &'a self,
        overlay: &'a Overlay,
    ) -> Pin<Box<dyn Future<Output = Result<Text, KustomizeError>> + Send + 'a>> {
        Box::pin(self.run(overlay))
    }

    fn inputs(&self, overlay: &Overlay) -> Inputs {
        dependencies::of_overlay(overlay)
    }
}

/// Whether a path of a kustomization leads off this machine: a URL, an
/// `git@host:` address, or `host.tld/owner/repository`
/// (kustomize `api/internal/git/repospec.go`).
pub(crate) fn is_remote(path: &str) -> bool {
    path.contains("://")
        || path.starts_with("git@")
        || path.starts_with("github.com/")
        || path.starts_with("github.com:")
        || path.contains("?ref=")
        || path.contains("_git/")
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    fn program(dir: &Path, name: &str, script: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn kustomize_is_preferred_and_gets_flags_before_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let kubectl = program(dir.path(), "kubectl", "echo \"kubectl $*\"");
        assert_eq!(
            CommandKustomize::find(Some(dir.path().as_os_str())),
            CommandKustomize::Kubectl(kubectl)
        );
        program(dir.path(), "kustomize", "echo \"kustomize $*\"");
        let found = CommandKustomize::find(Some(dir.path().as_os_str()));
        let overlay = Overlay {
            path: "/o".into(),
            build_args: vec!["--enable-helm".into()],
        };
        assert_eq!(
            found.build(&overlay).await.unwrap().yaml,
            "kustomize build --enable-helm /o\n"
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn what_kustomize_warns_of_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let script = "echo \"# Warning: 'bases' is deprecated.\" >&2; echo 'a: b'";
        program(dir.path(), "kustomize", script);
        let overlay = Overlay {
            path: "/o".into(),
            build_args: vec![],
        };
        let found = CommandKustomize::find(Some(dir.path().as_os_str()));
        let text = found.build(&overlay).await.unwrap();
        assert_eq!(text.yaml, "a: b\n");
        assert_eq!(text.warnings, ["'bases' is deprecated."]);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn what_kustomize_says_is_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        program(
            dir.path(),
            "kustomize",
            "echo 'Error: no such resource' >&2; exit 1",
        );
        let found = CommandKustomize::find(Some(dir.path().as_os_str()));
        let overlay = Overlay {
            path: "/o".into(),
            build_args: vec![],
        };
        let error = found.build(&overlay).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot render /o: no such resource");
    }

    #[tokio::test]
    async fn without_a_program_the_error_says_what_to_install() {
        let overlay = Overlay {
            path: "/o".into(),
            build_args: vec![],
        };
        let error = CommandKustomize::find(None)
            .build(&overlay)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("install one of them"), "{error}");
    }
}
