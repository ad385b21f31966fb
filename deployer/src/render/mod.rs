//! Manifests with images in them: [`collect`] reads and renders what the
//! configuration names, [`rewrite`] puts images, namespace and labels in.

mod dependencies;
pub mod kustomize;
pub mod manifest;
mod native;
mod ownership;
pub mod raw;
pub mod remote;
mod selector;
pub(crate) mod substitute;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_schemas::image::BuiltImage;
use kiln_schemas::model::{Manifests, ResourceSelector, Template};

use crate::object::Object;
pub use kiln_kustomize::Build;
pub use kustomize::{CommandKustomize, Inputs, Kustomize, KustomizeError, Overlay, Text};
pub use manifest::ManifestError;
pub use native::{Form, NativeKustomize};
pub use ownership::NamespaceConflict;
pub use raw::RawError;
pub use selector::SelectorError;

/// What to render, with templates expanded and paths absolute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Files, globs and `https://` URLs, in order.
    pub raw: Vec<String>,
    /// Kustomizations, in order.
    pub overlays: Vec<Overlay>,
}

impl Sources {
    /// Expands the templates of a module's manifests and resolves relative
    /// paths against `dir`, the module's folder. `expand` renders one
    /// template; its first error ends the work.
    pub fn expand<E>(
        manifests: &Manifests,
        dir: &Path,
        expand: impl Fn(&Template) -> Result<String, E>,
    ) -> Result<Self, E> {
        let absolute = |text: String| {
            if kustomize::is_remote(&text) || Path::new(&text).is_absolute() {
                text
            } else {
                dir.join(text).to_string_lossy().into_owned()
            }
        };
        let raw = manifests
            .raw
            .iter()
            .map(|item| expand(item).map(absolute))
            .collect::<Result<_, E>>()?;
        let overlays = manifests
            .kustomize
            .iter()
            .map(|item| {
                let path = absolute(expand(&item.path)?);
                Ok(Overlay {
                    path,
                    build_args: item.build_args.clone(),
                })
            })
            .collect::<Result<_, E>>()?;
        Ok(Self { raw, overlays })
    }
}

/// Why nothing was rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A plain manifest.
    #[error(transparent)]
    Raw(#[from] RawError),
    /// An overlay.
    #[error(transparent)]
    Kustomize(#[from] KustomizeError),
    /// Text that is not manifests.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// An object that lives elsewhere than where it was told to.
    #[error(transparent)]
    Namespace(#[from] NamespaceConflict),
    /// A resource selector that cannot be understood.
    #[error(transparent)]
    Selector(#[from] SelectorError),
}

/// What [`rewrite`] puts into manifests.
#[derive(Debug, Clone, Copy)]
pub struct Rewrite<'a> {
    /// Images that were built, by the names that manifests use.
    pub images: &'a [BuiltImage],
    /// Kinds that are rewritten besides the built-in ones, and which are not.
    pub selector: &'a ResourceSelector,
    /// The namespace that every namespaced object must live in, as `-n` says.
    pub namespace: Option<&'a str>,
    /// Labels for every object, never for pod templates. A label that the
    /// manifest itself sets stays.
    pub labels: &'a BTreeMap<String, String>,
}

/// Objects that are ready to be applied or printed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rendered {
    /// In the order in which they were written.
    pub objects: Vec<Object>,
    /// Names of images that no object uses; worth a warning.
    pub unused_images: Vec<String>,
}

impl Rendered {
    /// As YAML documents.
    pub fn to_yaml(&self) -> Result<String, ManifestError> {
        manifest::to_yaml(&self.objects)
    }
}

/// What [`collect`] has read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collected {
    /// In the order in which the configuration names them.
    pub objects: Vec<Object>,
    /// What the renderer has to say of overlays.
    pub warnings: Vec<String>,
}

/// Reads plain manifests and renders overlays, in the order in which the
/// configuration names them, plain manifests first.
pub async fn collect(
    sources: &Sources,
    kustomize: &dyn Kustomize,
    http: &reqwest::Client,
) -> Result<Collected, RenderError> {
    let mut collected = Collected::default();
    for item in &sources.raw {
        collected.objects.extend(raw::read(item, http).await?);
    }
    for overlay in &sources.overlays {
        let text = kustomize.build(overlay).await?;
        let objects = manifest::parse(&text.yaml, &overlay.path)?;
        collected.objects.extend(objects);
        collected.warnings.extend(text.warnings);
    }
    Ok(collected)
}

/// Puts images, namespace and labels into objects.
pub fn rewrite(mut objects: Vec<Object>, rewrite: &Rewrite<'_>) -> Result<Rendered, RenderError> {
    let selector = selector::Selector::compile(rewrite.selector)?;
    let unused_images = substitute::substitute(&mut objects, rewrite.images, &selector);
    if let Some(namespace) = rewrite.namespace {
        ownership::put_into_namespace(&mut objects, namespace)?;
    }
    ownership::add_labels(&mut objects, rewrite.labels, &selector);
    Ok(Rendered {
        objects,
        unused_images,
    })
}

/// What is to be watched.
#[derive(Debug, Default)]
pub struct Watched {
    /// Every local file and folder that decides what [`collect`] returns,
    /// sorted. Remote sources have none.
    pub paths: Vec<PathBuf>,
    /// Why [`collect`] would fail now, as far as that is known.
    pub trouble: Option<RenderError>,
}

/// Finds out what is to be watched; no other machine is asked.
pub fn watched_paths(sources: &Sources, kustomize: &dyn Kustomize) -> Watched {
    let mut watched = Watched::default();
    for item in &sources.raw {
        match raw::watched(item) {
            Ok(paths) => watched.paths.extend(paths),
            Err(error) => {
                watched.trouble.get_or_insert(error.into());
            }
        }
    }
    for overlay in &sources.overlays {
        let inputs = kustomize.inputs(overlay);
        watched.paths.extend(inputs.files);
        if let Some(error) = inputs.trouble {
            watched.trouble.get_or_insert(error.into());
        }
    }
    watched.paths.sort();
    watched.paths.dedup();
    watched
}
