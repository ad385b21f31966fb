//! What rendering reads, at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kiln_deployer::render::{RenderError, Watched, watched_paths};
use kiln_schemas::event::Failure;
use kiln_schemas::model::Module;

use super::Engine;
use crate::dev::state::Key;
use crate::dev::watch::Batch;

/// Everything that decides what is rendered, images aside.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    /// Names all of it.
    pub key: Key,
    /// Why nothing can be rendered, where no hook can change that in the meantime.
    pub trouble: Option<Failure>,
    /// Contents by path; nothing where a file is not there.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Folders to watch.
    pub folders: BTreeSet<PathBuf>,
}

impl Manifests {
    /// Paths whose bytes differ from an earlier reading.
    pub fn changed_since(&self, before: &Self) -> Vec<PathBuf> {
        let differs = |path: &&PathBuf| self.files.get(*path) != before.files.get(*path);
        let all: BTreeSet<&PathBuf> = self.files.keys().chain(before.files.keys()).collect();
        all.into_iter().filter(differs).cloned().collect()
    }

    /// Whether a change may be one of these. To find out which files there are
    /// takes a rendering, which is not to be had for every save of a source.
    pub fn concerned_by(&self, batch: &Batch) -> bool {
        // The same folder may be watched under two names, and a change comes
        // with one of them.
        let real = |path: &Path| path.canonicalize().ok();
        let mut places = self.folders.clone();
        places.extend(self.folders.iter().filter_map(|folder| real(folder)));
        let is_place = |path: &Path| {
            places.contains(path) || real(path).is_some_and(|path| places.contains(&path))
        };
        batch.rescan
            || batch
                .paths
                .iter()
                .any(|path| is_place(path) || path.parent().is_some_and(is_place))
    }
}

impl Engine {
    /// Reads them, where they are wanted.
    pub(super) fn manifests(&self, before: Option<&Manifests>) -> Manifests {
        let mut manifests = Manifests::default();
        if !self.choices.deploy {
            return manifests;
        }
        let mut paths = BTreeSet::new();
        for module in &self.project.modules {
            let trouble = match self.watched(module) {
                Ok(watched) => {
                    paths.extend(watched.paths);
                    watched.trouble.as_ref().map(told)
                }
                Err(failure) => Some(failure),
            };
            if let Some(before) = before.filter(|_| trouble.is_some()) {
                // What comes behind the trouble is not known now. It is no
                // change that nobody can see it.
                paths.extend(before.files.keys().cloned());
                manifests.folders.extend(before.folders.iter().cloned());
            }
            if let Some(trouble) = trouble.filter(|_| !has_hooks(module)) {
                manifests.trouble.get_or_insert(trouble);
            }
        }
        for path in paths {
            if path.is_dir() {
                manifests.folders.insert(path);
                continue;
            }
            manifests.folders.extend(path.parent().map(Path::to_owned));
            let bytes = std::fs::read(&path).unwrap_or_default();
            manifests.files.insert(path, bytes);
        }
        let mut hasher = blake3::Hasher::new();
        for (path, bytes) in &manifests.files {
            for part in [path.as_os_str().as_encoded_bytes(), bytes] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        manifests.key = Key(hasher.finalize().to_hex().to_string());
        manifests
    }

    fn watched(&self, module: &Module) -> Result<Watched, Failure> {
        let sources = self.manifest_sources(module)?;
        let kustomize = self.kustomize();
        Ok(tokio::task::block_in_place(|| {
            watched_paths(&sources, kustomize.as_ref())
        }))
    }
}

fn told(error: &RenderError) -> Failure {
    Failure::from_error(error)
}

/// Whether commands run before the manifests are read.
fn has_hooks(module: &Module) -> bool {
    let builds = module.build.artifacts.iter();
    let mut hooks = builds
        .map(|artifact| &artifact.hooks)
        .chain([&module.build.hooks, &module.deploy.hooks]);
    hooks.any(|hooks| !hooks.is_empty()) || !module.manifests.before.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(paths: &[&Path]) -> Batch {
        Batch {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            rescan: false,
        }
    }

    #[test]
    fn a_save_of_a_source_renders_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = dir.path().join("k8s");
        std::fs::create_dir_all(&overlay).unwrap();
        std::os::unix::fs::symlink("k8s", dir.path().join("link")).unwrap();
        let manifests = Manifests {
            folders: [dir.path().join("link")].into(),
            ..Manifests::default()
        };
        let at = |name: &str| dir.path().join(name);
        assert!(!manifests.concerned_by(&batch(&[&at("src/main.rs"), &at("src")])));
        for path in ["k8s/app.yaml", "link/app.yaml", "k8s", "link", "k8s/new"] {
            assert!(manifests.concerned_by(&batch(&[&at(path)])), "{path}");
        }
        let lost = Batch {
            rescan: true,
            ..Batch::default()
        };
        assert!(manifests.concerned_by(&lost));
    }

    #[test]
    fn files_that_appear_change_or_go_are_changes() {
        let with = |files: &[(&str, &str)]| Manifests {
            files: files
                .iter()
                .map(|(name, text)| (PathBuf::from(name), text.as_bytes().to_vec()))
                .collect(),
            ..Manifests::default()
        };
        let before = with(&[("/gone", "1"), ("/same", "1"), ("/other", "1")]);
        let after = with(&[("/new", "1"), ("/same", "1"), ("/other", "2")]);
        let expected: Vec<PathBuf> = ["/gone", "/new", "/other"].map(Into::into).into();
        assert_eq!(after.changed_since(&before), expected);
    }
}
