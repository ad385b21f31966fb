//! One image to build now: an artifact with everything filled in that this
//! iteration decides (its reference, rendered arguments, the platform).
//!
//! The artifact itself is never written to: rendering twice with two tags
//! gives two independent orders.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_schemas::model::{Artifact, BuildArg, Platform, Template};
use kiln_schemas::template;
use serde_json::Value;

/// Renders one Go template with the given special variables laid over
/// whatever the caller's environment offers.
///
/// The error is the reason in one line; who asked is added by [`Order::render`].
pub trait RenderTemplate {
    /// Renders `template`; `vars` win over the environment.
    fn render(
        &self,
        template: &Template,
        vars: &BTreeMap<String, String>,
    ) -> Result<String, String>;
}

impl<F> RenderTemplate for F
where
    F: Fn(&Template, &BTreeMap<String, String>) -> Result<String, String>,
{
    fn render(
        &self,
        template: &Template,
        vars: &BTreeMap<String, String>,
    ) -> Result<String, String> {
        self(template, vars)
    }
}

/// The project's own templates: the environment and functions of `self`, with
/// the special variables laid over them.
impl RenderTemplate for template::Vars {
    fn render(&self, text: &Template, vars: &BTreeMap<String, String>) -> Result<String, String> {
        let all = vars
            .iter()
            .fold(self.clone(), |all, (name, value)| all.with(name, value));
        template::render(text, &all).map_err(|error| error.to_string())
    }
}

/// A field of an artifact could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot render {field} of {image}: {reason}")]
pub struct RenderError {
    /// The artifact.
    pub image: String,
    /// Which field, for example `build argument VERSION`.
    pub field: String,
    /// The template engine's words.
    pub reason: String,
}

/// An environment variable of the build container, rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvEntry {
    /// A plain value.
    Value {
        /// Name.
        name: String,
        /// Value; an empty one is left out of the pod.
        value: String,
    },
    /// `valueFrom` in the Kubernetes shape.
    From {
        /// Name.
        name: String,
        /// The `valueFrom` object.
        source: Value,
    },
}

impl EnvEntry {
    /// The variable's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Value { name, .. } | Self::From { name, .. } => name,
        }
    }
}

/// Everything a backend needs to know about one build, apart from the files.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The artifact as configured.
    pub artifact: Arc<Artifact>,
    /// `repository:tag` to push, after default-repo rewriting.
    pub reference: String,
    /// Build arguments; `None` means "named without a value".
    pub build_args: BTreeMap<String, Option<String>>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Environment of the build container, in the order of the pod.
    pub env: Vec<EnvEntry>,
    /// `--registry-certificate`: host to path in the pod.
    pub registry_certificates: BTreeMap<String, String>,
    /// The platform to build for; the node's when absent.
    pub platform: Option<Platform>,
    /// Registry hosts without TLS, of the whole build.
    pub insecure_registries: Vec<String>,
    /// Where only the pod reaches the registry: the image (a reference) that is the result, if it
    /// is there.
    pub reuse: Option<String>,
}

/// What [`Order::render`] adds to an artifact.
#[derive(Debug, Clone, Default)]
pub struct Iteration {
    /// `repository:tag` to push.
    pub reference: String,
    /// Arguments that the Dockerfile declares and Kiln provides: references of
    /// required images under their aliases, `SKAFFOLD_RUN_MODE`.
    pub provided_args: BTreeMap<String, String>,
    /// The platform, where one is decided.
    pub platform: Option<Platform>,
    /// `build.insecureRegistries`.
    pub insecure_registries: Vec<String>,
}

impl Order {
    /// Fills in an artifact for one iteration.
    ///
    /// Templates see `IMAGE_REPO`, `IMAGE_NAME` and `IMAGE_TAG` of the
    /// reference. User-set build arguments win over provided ones, user-set
    /// environment variables over the generated three.
    pub fn render(
        artifact: Arc<Artifact>,
        iteration: Iteration,
        engine: &dyn RenderTemplate,
    ) -> Result<Self, RenderError> {
        let vars = image_vars(&iteration.reference);
        let field = |what: String, template: &Template| {
            engine
                .render(template, &vars)
                .map_err(|reason| RenderError {
                    image: artifact.image.clone(),
                    field: what,
                    reason,
                })
        };

        let mut build_args: BTreeMap<String, Option<String>> = iteration
            .provided_args
            .into_iter()
            .map(|(k, v)| (k, Some(v)))
            .collect();
        for (name, arg) in &artifact.build_args {
            let value = match arg {
                BuildArg::FromEnvironment => None,
                BuildArg::Value(template) => {
                    Some(field(format!("build argument {name}"), template)?)
                }
            };
            build_args.insert(name.clone(), value);
        }
        let mut labels = BTreeMap::new();
        for (name, template) in &artifact.labels {
            labels.insert(name.clone(), field(format!("label {name}"), template)?);
        }
        let mut registry_certificates = BTreeMap::new();
        for (host, template) in &artifact.flags.registry_certificates {
            let path = field(format!("registry certificate of {host}"), template)?;
            registry_certificates.insert(host.clone(), path);
        }
        let mut env = Vec::new();
        for variable in &artifact.env {
            let name = variable.name.clone();
            env.push(match &variable.value_from {
                Some(source) => EnvEntry::From {
                    name,
                    source: source.clone(),
                },
                None => {
                    let value = field(format!("environment variable {name}"), &variable.value)?;
                    EnvEntry::Value { name, value }
                }
            });
        }
        for (name, value) in generated_env(&vars) {
            if !env.iter().any(|entry| entry.name() == name) {
                env.push(EnvEntry::Value { name, value });
            }
        }

        Ok(Self {
            reference: iteration.reference,
            build_args,
            labels,
            env,
            registry_certificates,
            platform: iteration.platform,
            insecure_registries: iteration.insecure_registries,
            reuse: None,
            artifact,
        })
    }

    /// Registry, port included, of the reference.
    pub fn registry(&self) -> &str {
        registry_of(&self.reference)
    }
}

/// The registry part of a reference as go-containerregistry reads it: what
/// stands before the first `/` if it looks like a host, else Docker Hub.
pub(crate) fn registry_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "index.docker.io",
    }
}

/// `IMAGE_REPO`, `IMAGE_NAME` and `IMAGE_TAG` of a reference: what is before
/// the last `/`, the last path component, and the tag (`latest` without one).
pub fn image_vars(reference: &str) -> BTreeMap<String, String> {
    let (name, tag) = split_tag(reference);
    let (repo, last) = name.rsplit_once('/').unwrap_or(("", name));
    BTreeMap::from([
        ("IMAGE_REPO".into(), repo.into()),
        ("IMAGE_NAME".into(), last.into()),
        ("IMAGE_TAG".into(), tag.unwrap_or("latest").into()),
    ])
}

/// Splits `name[:tag][@digest]` into name and tag; a registry's port is not a tag.
pub(crate) fn split_tag(reference: &str) -> (&str, Option<&str>) {
    let reference = reference
        .split_once('@')
        .map_or(reference, |(name, _)| name);
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (reference, None),
    }
}

fn generated_env(vars: &BTreeMap<String, String>) -> Vec<(String, String)> {
    ["IMAGE_REPO", "IMAGE_NAME", "IMAGE_TAG"]
        .into_iter()
        .filter_map(|name| vars.get(name).map(|value| (name.to_owned(), value.clone())))
        .collect()
}

#[cfg(test)]
mod tests;
