//! Renders kustomizations: the same documents as `kustomize build` 5.7.1,
//! byte for byte, without the program.
//!
//! The boundary: a folder of a [`FileSystem`] goes in, YAML comes out. This
//! crate applies nothing to a cluster, runs no plugins and inflates no charts;
//! such a kustomization is refused with [`Error::NotNative`].
//!
//! ```
//! use kiln_kustomize::{Kustomizer, MemoryFiles};
//!
//! let mut files = MemoryFiles::default();
//! files.insert("/app/kustomization.yaml", "namePrefix: dev-\nresources: [map.yaml]\n");
//! files.insert("/app/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n");
//! let build = Kustomizer::new(&files).build("/app").unwrap();
//! assert!(build.yaml.contains("name: dev-a"));
//! assert_eq!(build.files.len(), 2);
//! ```

mod config;
mod decode;
mod documents;
mod error;
mod filter;
mod generate;
mod kustomization;
mod load;
mod origin;
mod resid;
mod resmap;
mod resource;
mod schema;
mod selector;
mod target;
mod work;
mod yaml;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

pub use error::{Error, Wrong};
use load::{Access, Loader};
pub use load::{
    Checkout, DiskFiles, FetchError, FileSystem, GitRemotes, LARGEST_FILE, LoadError, MemoryFiles,
    NoRemotes, Remotes, Repository,
};
use resmap::{LegacyOrder, ResMap};
use target::{Accumulator, Target};
use work::Work;
pub use yaml::parse::SyntaxError;
use yaml::write;

/// The version of kustomize whose output this crate reproduces.
pub const VERSION: &str = "v5.7.1";

/// Which files a kustomization may read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadRestrictions {
    /// Those in and below its folder.
    #[default]
    RootOnly,
    /// All.
    None,
}

/// The order of resources where the kustomization asks for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reorder {
    /// By kind, so that what others need comes first.
    #[default]
    Legacy,
    /// As they are listed.
    None,
}

/// How to render.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which files may be read.
    pub load_restrictions: LoadRestrictions,
    /// The order of resources.
    pub reorder: Reorder,
    /// Whether resources get the label `app.kubernetes.io/managed-by`.
    pub managed_by_label: bool,
    /// Whether [`Build::documents`] are made.
    pub separate_documents: bool,
}

/// A rendered kustomization.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Build {
    /// The documents.
    pub yaml: String,
    /// Every document as `kustomize build -o FOLDER` writes it, behind the name
    /// of its file. kustomize reads a resource in another way there: a text
    /// that took the quotes of what it replaced may be a number in a file, and
    /// a string in [`Build::yaml`].
    pub documents: Vec<(String, String)>,
    /// Every local file that was read, absolute, sorted. A change of any may
    /// change the result.
    pub files: Vec<PathBuf>,
    /// What a person should hear about, such as fields that are deprecated.
    pub warnings: Vec<String>,
}

/// A kustomization that was not rendered.
#[derive(Debug, thiserror::Error)]
#[error("the kustomization is refused")]
pub struct Refused {
    /// Why.
    #[source]
    pub error: Box<Error>,
    /// Every local file that was asked for until then, whether it is there or
    /// not: a change of any may help.
    pub files: Vec<PathBuf>,
}

/// Renders kustomizations.
pub struct Kustomizer<'a> {
    files: &'a dyn FileSystem,
    remotes: &'a dyn Remotes,
    options: Options,
}

impl<'a> Kustomizer<'a> {
    /// A renderer that reads local files only.
    #[must_use]
    pub fn new(files: &'a dyn FileSystem) -> Self {
        Self {
            files,
            remotes: &NoRemotes,
            options: Options::default(),
        }
    }

    /// Reaches remote files and bases by these means.
    #[must_use]
    pub fn with_remotes(mut self, remotes: &'a dyn Remotes) -> Self {
        self.remotes = remotes;
        self
    }

    /// Renders with these options.
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Renders a folder, or a repository in the form that kustomize knows.
    ///
    /// # Errors
    /// If anything about it is wrong; the chain of sources names the file, the
    /// field and the problem.
    pub fn build(&self, target: &str) -> Result<Build, Refused> {
        let access = Access {
            files: self.files,
            remotes: self.remotes,
            asked: RefCell::new(BTreeSet::new()),
        };
        let result = self.run(&access, target);
        let files = access.asked.into_inner().into_iter().collect();
        match result {
            Ok(build) => Ok(Build { files, ..build }),
            Err(error) => Err(Refused {
                error: Box::new(error),
                files,
            }),
        }
    }

    fn run(&self, access: &Access<'_>, target: &str) -> Result<Build, Error> {
        let mut work = Work::default();
        let restricted = self.options.load_restrictions == LoadRestrictions::RootOnly;
        let loader = Loader::open(access, target, restricted)?;
        let mut target = Target::open(&mut work, loader)?;
        let mut all = target.accumulate(&mut work, Accumulator::default())?;
        let build = self
            .complete(&mut work, &mut all, &target)
            .map_err(|source| Error::InFile {
                file: target.file(),
                source: Box::new(source),
            })?;
        Ok(Build {
            warnings: work.warnings,
            ..build
        })
    }

    /// What happens once, after all kustomizations have had their say.
    fn complete(
        &self,
        work: &mut Work,
        all: &mut Accumulator,
        target: &Target<'_>,
    ) -> Result<Build, Error> {
        target::add_hashes(work, &all.map)?;
        all.follow_references(work)?;
        all.resolve_vars(work)?;
        Target::drop_local(work, all)?;
        self.sort(work, &mut all.map, target)?;
        self.finish(work, &all.map, target)?;
        let documents = if self.options.separate_documents {
            separate(work, &all.map)?
        } else {
            Vec::new()
        };
        Ok(Build {
            yaml: join(&all.map.values(work)?),
            documents,
            ..Build::default()
        })
    }

    fn sort(&self, work: &Work, map: &mut ResMap, target: &Target<'_>) -> Result<(), Error> {
        let Some(options) = &target.kustomization.sort else {
            if self.options.reorder == Reorder::Legacy {
                map.sort(work, &LegacyOrder::default());
            }
            return Ok(());
        };
        match (options.order.as_str(), &options.legacy) {
            ("legacy", None) => map.sort(work, &LegacyOrder::default()),
            ("legacy", Some((first, last))) => map.sort(work, &LegacyOrder::new(first, last)),
            ("fifo", None) => {}
            ("fifo", Some(_)) => {
                return Err(Error::SortOptions.in_field("sortOptions.legacySortOptions"));
            }
            (order, _) => {
                let order = order.to_owned();
                return Err(Error::SortOrder { order }.in_field("sortOptions.order"));
            }
        }
        Ok(())
    }

    fn finish(&self, work: &mut Work, map: &ResMap, target: &Target<'_>) -> Result<(), Error> {
        let metadata = &target.kustomization.build_metadata;
        let asks = |name: &str| metadata.iter().any(|known| known == name);
        if self.options.managed_by_label || asks("managedByLabel") {
            target::add_managed_by(work, map)?;
        }
        for node in map.nodes() {
            resource::remove_notes(&mut work.tree, node)?;
        }
        if !asks("originAnnotations") {
            origin::remove(work, map, resource::ORIGIN)?;
        }
        if !asks("transformerAnnotations") {
            origin::remove(work, map, resource::TRANSFORMATIONS)?;
        }
        Ok(())
    }
}

/// Names and texts of the files that hold one resource each.
fn separate(work: &Work, map: &ResMap) -> Result<Vec<(String, String)>, Error> {
    let values = map.separate_values(work)?;
    let ids: Vec<_> = map.list.iter().map(|resource| resource.id(work)).collect();
    let namespaces: BTreeSet<&str> = ids
        .iter()
        .filter(|id| !id.cluster_scoped)
        .map(resid::ResId::effective_namespace)
        .collect();
    let name = |id: &resid::ResId| {
        let parts = [&id.gvk.group, &id.gvk.version, &id.gvk.kind, &id.name];
        let parts: Vec<&str> = parts
            .into_iter()
            .map(String::as_str)
            .filter(|part| !part.is_empty())
            .collect();
        let name = format!("{}.yaml", parts.join("_")).to_lowercase();
        if namespaces.len() > 1 && !id.cluster_scoped {
            format!("{}_{name}", id.effective_namespace().to_lowercase())
        } else {
            name
        }
    };
    Ok(ids
        .iter()
        .zip(&values)
        .map(|(id, value)| (name(id), write::document(value)))
        .collect())
}

fn join(values: &[yaml::Value]) -> String {
    let documents: Vec<String> = values.iter().map(write::document).collect();
    documents.join("---\n")
}
