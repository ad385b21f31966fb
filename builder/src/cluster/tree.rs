//! The tree that is sent to a build pod: which file of this host goes where,
//! and where in it the Dockerfile and the context are.

use std::path::{Path, PathBuf};

use crate::sources::Sources;

/// Where the context lies in the pod (skaffold's `DefaultKanikoEmptyDirMountPath`).
pub const CONTEXT_MOUNT: &str = "/kaniko/buildcontext";

/// One file, link or empty folder to send.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreeFile {
    /// Its path in the archive: relative, separated by `/`.
    pub path: String,
    /// Where it is on this host.
    pub source: PathBuf,
}

/// What is sent for one build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildTree {
    files: Vec<TreeFile>,
    dockerfile: String,
    context: &'static str,
}

impl BuildTree {
    /// The files of a context (paths relative to `root`, in any order) and its
    /// Dockerfile, wherever that is.
    ///
    /// A Dockerfile below the root keeps its path, as in skaffold. One outside
    /// is sent next to the context instead of into it, so that `COPY . .` does
    /// not see it; the context then lies one folder deeper. A
    /// `<Dockerfile>.dockerignore` beside such a Dockerfile goes with it.
    pub fn new(root: &Path, files: impl IntoIterator<Item = PathBuf>, dockerfile: &Path) -> Self {
        let inside = dockerfile.strip_prefix(root).ok().map(archive_path);
        let context = if inside.is_some() { "" } else { "context" };
        let mut tree: Vec<TreeFile> = files
            .into_iter()
            .map(|file| TreeFile {
                path: join(context, &archive_path(&file)),
                source: root.join(&file),
            })
            .collect();
        let name = inside.unwrap_or_else(|| "Dockerfile".to_owned());
        tree.push(TreeFile {
            path: name.clone(),
            source: dockerfile.to_owned(),
        });
        if !context.is_empty() {
            let mut ignore = dockerfile.as_os_str().to_owned();
            ignore.push(".dockerignore");
            let ignore = PathBuf::from(ignore);
            if ignore.is_file() {
                tree.push(TreeFile {
                    path: "Dockerfile.dockerignore".into(),
                    source: ignore,
                });
            }
        }
        tree.sort();
        tree.dedup_by(|a, b| a.path == b.path);
        Self {
            files: tree,
            dockerfile: name,
            context,
        }
    }

    /// The tree of an artifact whose sources were found in `context`.
    pub fn of(context: &Path, sources: &Sources) -> Self {
        let files = sources.files.iter().map(|file| file.path.clone());
        Self::new(context, files, &sources.dockerfile)
    }

    /// Files in archive order: sorted by path, each once.
    pub fn files(&self) -> &[TreeFile] {
        &self.files
    }

    /// The value of `--dockerfile`: relative to the context where it lies in
    /// it, absolute in the pod otherwise.
    pub fn dockerfile_arg(&self) -> String {
        if self.context.is_empty() {
            self.dockerfile.clone()
        } else {
            format!("{CONTEXT_MOUNT}/{}", self.dockerfile)
        }
    }

    /// The value of `--context`.
    pub fn context_arg(&self) -> String {
        format!("dir://{}", join(CONTEXT_MOUNT, self.context))
    }
}

fn join(base: &str, path: &str) -> String {
    match (base.is_empty(), path.is_empty()) {
        (true, _) => path.to_owned(),
        (false, true) => base.to_owned(),
        (false, false) => format!("{base}/{path}"),
    }
}

fn archive_path(path: &Path) -> String {
    let parts: Vec<_> = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(tree: &BuildTree) -> Vec<&str> {
        tree.files().iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn a_dockerfile_in_the_context_keeps_its_place() {
        let files = ["b.go", "a.go", "build/Dockerfile"].map(PathBuf::from);
        let tree = BuildTree::new(Path::new("/src"), files, Path::new("/src/build/Dockerfile"));
        assert_eq!(paths(&tree), ["a.go", "b.go", "build/Dockerfile"]);
        assert_eq!(tree.dockerfile_arg(), "build/Dockerfile");
        assert_eq!(tree.context_arg(), "dir:///kaniko/buildcontext");
    }

    #[test]
    fn an_ignored_dockerfile_is_sent_all_the_same() {
        let files = ["a.go"].map(PathBuf::from);
        let tree = BuildTree::new(Path::new("/src"), files, Path::new("/src/Dockerfile"));
        assert_eq!(paths(&tree), ["Dockerfile", "a.go"]);
    }

    #[test]
    fn a_dockerfile_outside_is_not_part_of_the_context() {
        let folder = tempfile::tempdir().unwrap();
        let dockerfile = folder.path().join("go.Dockerfile");
        std::fs::write(&dockerfile, "FROM scratch\n").unwrap();
        std::fs::write(folder.path().join("go.Dockerfile.dockerignore"), "*.md\n").unwrap();
        let tree = BuildTree::new(Path::new("/src"), [PathBuf::from("a.go")], &dockerfile);
        assert_eq!(
            paths(&tree),
            ["Dockerfile", "Dockerfile.dockerignore", "context/a.go"]
        );
        assert_eq!(tree.dockerfile_arg(), "/kaniko/buildcontext/Dockerfile");
        assert_eq!(tree.context_arg(), "dir:///kaniko/buildcontext/context");
    }
}
