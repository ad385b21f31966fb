//! The base images of an artifact: which digest each name leads to now, and what it does when it
//! is built upon. Asked for from this host, and from inside of the cluster where this host does not
//! reach the registry.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kiln_builder::cluster::Answer;
use kiln_builder::order::{Iteration, Order};
use kiln_builder::sources::OnbuildKnowledge;
use kiln_builder::tag::content::BaseDigest;
use kiln_dockerfile::graph::{Reference, StageGraph};
use kiln_dockerfile::scope::{BuildFor, Globals};
use kiln_dockerfile::{Dockerfile, Instruction};
use kiln_schemas::event::{Event, Failure};
use kiln_schemas::model::{Artifact, Module};
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::inputs::{Memory, dockerfile_path};
use super::onbuild::Onbuild;

/// How far the search for a base may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// What this host reaches.
    Host,
    /// What a pod of the cluster reaches, too.
    Cluster,
}

impl Engine {
    /// Digests of base images, from the registry or remembered; their ONBUILD triggers are learned
    /// on the way. With an artifact, the cluster is asked for what this host does not reach.
    pub(super) async fn look_up_bases(
        &self,
        names: Vec<String>,
        inside: Option<(&Module, &Artifact)>,
        memory: &mut Memory,
    ) -> BTreeMap<String, BaseDigest> {
        // What nobody could say is not asked for at every save.
        let (unknown, others): (Vec<_>, Vec<_>) = names
            .into_iter()
            .partition(|name| is_ours(name) || memory.unanswered.contains(name));
        let found = memory
            .bases
            .look_up(&others, &self.registry, Timestamp::now())
            .await;
        let mut learned = false;
        for (name, digest) in &found.digests {
            if let BaseDigest::Known(digest) = digest {
                learned |= memory.onbuild.learn(&self.registry, name, digest).await;
            }
        }
        let mut digests = found.digests;
        let mut hidden = Vec::new();
        for (name, error) in &found.unknown {
            tracing::info!(base = name, %error, "the base's digest is not known here");
            hidden.push(name.clone());
        }
        if let Some(artifact) = inside.filter(|_| !hidden.is_empty()) {
            let answers = self.look_up_inside(artifact, &hidden).await;
            learned |= remember(memory, &hidden, answers, &mut digests);
        }
        if learned {
            memory.onbuild.save();
        }
        if let Err(error) = memory.bases.save() {
            tracing::debug!(%error, "digests of bases are not remembered");
        }
        // What our own are made of is in the key by way of the required image's own key.
        digests.extend(unknown.into_iter().map(|name| (name, BaseDigest::Unknown)));
        digests
    }

    /// Asks a pod. Without a cluster, or where the pod cannot start, nothing is known, and the build
    /// will say why.
    async fn look_up_inside(
        &self,
        (module, artifact): (&Module, &Artifact),
        names: &[String],
    ) -> BTreeMap<String, Answer> {
        let asked = async {
            let backend = self.backend(module).await?;
            let repository = self.repository(&artifact.image).await.map_err(|error| {
                let first = error.failures.into_iter().next();
                first.unwrap_or_else(|| Failure::new("there is no registry"))
            })?;
            let iteration = Iteration {
                reference: format!("{repository}:latest"),
                insecure_registries: module.build.insecure_registries.clone(),
                ..Iteration::default()
            };
            let like = Order::render(artifact.clone().into(), iteration, &self.templates())
                .map_err(|error| Failure::from_error(&error))?;
            self.say_once(Event::Note {
                message: format!(
                    "{} cannot be asked for from here: a pod of the cluster asks",
                    names.join(", ")
                ),
            });
            backend
                .look_up(&like, names, &CancellationToken::new())
                .await
                .map_err(|error| error.failure())
        };
        asked.await.unwrap_or_else(|failure| {
            tracing::info!(
                error = failure.message,
                "the cluster was not asked for bases"
            );
            BTreeMap::new()
        })
    }

    /// What a base does when it is built upon.
    pub(super) fn onbuild(
        &self,
        base: &str,
        bases: &BTreeMap<String, BaseDigest>,
        known: &Onbuild,
    ) -> OnbuildKnowledge {
        if let Some(image) = base.strip_prefix(OURS) {
            return self.onbuild_of_ours(image);
        }
        let triggers = match bases.get(base) {
            Some(BaseDigest::Known(digest)) => known.get(digest),
            _ => None,
        };
        match triggers {
            None => OnbuildKnowledge::Unknown,
            Some([]) => OnbuildKnowledge::None,
            Some(triggers) => OnbuildKnowledge::Triggers(triggers.to_vec()),
        }
    }

    /// An image of this project triggers what its own Dockerfile says; triggers
    /// of its base were used up by its own build.
    fn onbuild_of_ours(&self, image: &str) -> OnbuildKnowledge {
        let dockerfile = self
            .project
            .artifacts()
            .find(|(_, a)| sentinel(&a.image) == format!("{OURS}{image}"));
        let parsed = dockerfile.and_then(|(_, artifact)| {
            let path = dockerfile_path(artifact);
            self.parse(&path, &self.dockerfile_text(&path).ok()?).ok()
        });
        let has_triggers = parsed.is_none_or(|parsed| {
            let mut all = parsed.stages.iter().flat_map(|stage| &stage.instructions);
            all.any(|located| matches!(located.value, Instruction::Onbuild(_)))
        });
        if has_triggers {
            OnbuildKnowledge::Unknown
        } else {
            OnbuildKnowledge::None
        }
    }
}

/// Keeps what the cluster said. Returns whether triggers were learned.
fn remember(
    memory: &mut Memory,
    names: &[String],
    mut answers: BTreeMap<String, Answer>,
    digests: &mut BTreeMap<String, BaseDigest>,
) -> bool {
    let mut learned = false;
    for name in names {
        let Some(Answer::Image { digest, onbuild }) = answers.remove(name) else {
            // Each save would start a pod for it again.
            memory.unanswered.insert(name.clone());
            continue;
        };
        if let Some(triggers) = onbuild {
            learned |= memory.onbuild.know(&digest, triggers);
        }
        memory.bases.know(name, &digest, Timestamp::now());
        digests.insert(name.clone(), BaseDigest::Known(digest));
    }
    learned
}

/// Stands in front of the name of an image that this project builds, where a
/// Dockerfile names it by a build argument. No registry is called that.
const OURS: &str = "kiln-required.invalid/";

/// The name that stands for an image of this project.
pub(super) fn sentinel(image: &str) -> String {
    let plain: String = image
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!("{OURS}{}", plain.to_lowercase())
}

fn is_ours(name: &str) -> bool {
    name.starts_with(OURS)
}

/// External images that the target's stages are built from or copy from.
pub(super) fn base_images(
    dockerfile: &Dockerfile,
    build: &BuildFor,
    build_args: &BTreeMap<String, String>,
) -> Result<Vec<String>, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::new(error.to_string());
    let globals = Globals::evaluate(dockerfile, build, build_args).map_err(|e| failed(&e))?;
    let graph = StageGraph::new(dockerfile, &globals).map_err(|e| failed(&e))?;
    let target = graph
        .target(build.stage.as_deref())
        .map_err(|e| failed(&e))?;
    let stages = graph.needed(target).map_err(|e| failed(&e))?;
    let mut names = BTreeSet::new();
    for stage in stages {
        let references = std::iter::once(graph.base(stage)).chain(graph.needs(stage));
        names.extend(references.filter_map(|reference| match reference {
            Reference::External(name) if name != "scratch" => Some(name.clone()),
            _ => None,
        }));
    }
    Ok(names.into_iter().collect())
}
