//! What has to be built: for every artifact its key, its tag, and whether the
//! registry has it already.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Zoned;
use kiln_dockerfile::{Dockerfile, Instruction};
use kiln_schemas::image::ImageDigest;
use kiln_schemas::model::{Artifact, Platform, TagPolicy};

use crate::cache::{CacheError, Records, Registry};
use crate::graph::Graph;
use crate::order::{Iteration, Order, RenderError, RenderTemplate};
use crate::tag::content::{self, BaseDigest, ContentInputs};
use crate::tag::{self, ContentKey, Git, TagError, TagInputs};

/// One artifact as this iteration finds it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The artifact as configured.
    pub artifact: Arc<Artifact>,
    /// Its repository after default-repo rewriting, without a tag.
    pub repository: String,
    /// How its tag is chosen.
    pub policy: TagPolicy,
    /// A tag given on the command line, instead of the policy's.
    pub fixed_tag: Option<String>,
    /// Digest over paths, modes and contents of its sources.
    pub sources: Vec<u8>,
    /// skaffold's own input digest, where the policy needs it ([`tag::needs_input_digest`]).
    pub input_digest: Option<String>,
    /// The folder that git is asked about.
    pub context: PathBuf,
    /// The Dockerfile's bytes.
    pub dockerfile_text: Vec<u8>,
    /// The same, parsed.
    pub dockerfile: Arc<Dockerfile>,
    /// Digests of the base images that its stages need.
    pub bases: BTreeMap<String, BaseDigest>,
    /// The platform, where one is decided.
    pub platform: Option<Platform>,
    /// `build.insecureRegistries`.
    pub insecure_registries: Vec<String>,
    /// Arguments that are passed where the Dockerfile declares them
    /// (`SKAFFOLD_RUN_MODE`); references of required images come on their own.
    pub provided_args: BTreeMap<String, String>,
}

/// What is to happen for one artifact.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The artifact's name.
    pub image: String,
    /// `repository:tag`.
    pub reference: String,
    /// Its key over everything that decides the bytes.
    pub key: ContentKey,
}

/// What planning needs from outside.
pub struct Surroundings<'a> {
    /// One time for the whole iteration.
    pub now: &'a Zoned,
    /// Asks git.
    pub git: &'a dyn Git,
    /// Renders templates.
    pub engine: &'a dyn RenderTemplate,
}

/// Why an artifact cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No tag.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// A field does not render.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// Something that it requires has no plan.
    #[error("{required}, which {image} requires, cannot be planned")]
    Required {
        /// The artifact.
        image: String,
        /// What it requires.
        required: String,
    },
}

/// Keys and references of all artifacts, in the graph's order. Reads no
/// network; may run git.
pub fn plan(
    graph: &Graph,
    subjects: &BTreeMap<String, Subject>,
    surroundings: &Surroundings<'_>,
) -> BTreeMap<String, Result<Plan, PlanError>> {
    let mut keys: BTreeMap<String, ContentKey> = BTreeMap::new();
    let mut plans = BTreeMap::new();
    for image in graph.order() {
        let Some(subject) = subjects.get(image) else {
            continue;
        };
        let result = plan_one(subject, &keys, surroundings);
        if let Ok(plan) = &result {
            keys.insert(image.clone(), plan.key.clone());
        }
        plans.insert(image.clone(), result);
    }
    plans
}

fn plan_one(
    subject: &Subject,
    keys: &BTreeMap<String, ContentKey>,
    surroundings: &Surroundings<'_>,
) -> Result<Plan, PlanError> {
    let image = || subject.artifact.image.clone();
    if let Some(missing) = subject
        .artifact
        .requires
        .iter()
        .find(|required| !keys.contains_key(&required.image))
    {
        return Err(PlanError::Required {
            image: image(),
            required: missing.image.clone(),
        });
    }
    let key = content_key(subject, keys, surroundings.engine)?;
    let tag = match &subject.fixed_tag {
        Some(tag) => tag.clone(),
        None => tag::choose(
            &subject.policy,
            &TagInputs {
                image: &subject.artifact.image,
                context: &subject.context,
                now: surroundings.now,
                content: &key,
                input_digest: subject.input_digest.as_deref().unwrap_or_default(),
                git: surroundings.git,
                engine: surroundings.engine,
            },
        )?,
    };
    Ok(Plan {
        image: image(),
        reference: format!("{}:{tag}", subject.repository),
        key,
    })
}

/// The key of one artifact, given the keys of those that it requires.
pub fn content_key(
    subject: &Subject,
    keys: &BTreeMap<String, ContentKey>,
    engine: &dyn RenderTemplate,
) -> Result<ContentKey, RenderError> {
    let required = subject
        .artifact
        .requires
        .iter()
        .filter_map(|required| Some((required.alias.clone(), keys.get(&required.image)?.clone())))
        .collect();
    let declared = declared_args(&subject.dockerfile);
    let iteration = Iteration {
        // The tag follows from the key; templates see none here.
        reference: format!("{}:", subject.repository),
        provided_args: keep_declared(&subject.provided_args, &declared),
        platform: subject.platform.clone(),
        insecure_registries: Vec::new(),
    };
    let order = Order::render(subject.artifact.clone(), iteration, engine)?;
    Ok(content::key(&ContentInputs {
        sources: &subject.sources,
        dockerfile: &subject.dockerfile_text,
        target: subject.artifact.target.as_deref(),
        build_args: &order.build_args,
        labels: &order.labels,
        env: &order.env,
        flags: &subject.artifact.flags,
        platform: subject.platform.as_ref(),
        required: &required,
        bases: &subject.bases,
    }))
}

/// The order for a planned build. `required` holds the pinned references of
/// the images that it requires, by image name.
pub fn order(
    subject: &Subject,
    plan: &Plan,
    required: &BTreeMap<String, String>,
    engine: &dyn RenderTemplate,
) -> Result<Order, RenderError> {
    let mut provided = subject.provided_args.clone();
    for requirement in &subject.artifact.requires {
        if let Some(reference) = required.get(&requirement.image) {
            provided.insert(requirement.alias.clone(), reference.clone());
        }
    }
    let iteration = Iteration {
        reference: plan.reference.clone(),
        provided_args: keep_declared(&provided, &declared_args(&subject.dockerfile)),
        platform: subject.platform.clone(),
        insecure_registries: subject.insecure_registries.clone(),
    };
    Order::render(subject.artifact.clone(), iteration, engine)
}

/// The reference under which the registry has this content, if it has it at all.
///
/// A content tag says it by itself. No other tag says what is in the image (neither git's nor one
/// that was typed): `records` remembers which digest a key had.
pub fn candidate(plan: &Plan, subject: &Subject, records: &Records) -> Option<String> {
    if subject.policy == TagPolicy::Content && subject.fixed_tag.is_none() {
        return Some(plan.reference.clone());
    }
    let digest = records.digest(&plan.key, &plan.reference)?;
    Some(format!("{}@{digest}", subject.repository))
}

/// Asks the registry whether a planned image is there already; a digest that is still in the
/// repository is given the wanted tag again.
///
/// # Errors
/// [`CacheError`] where the registry gives no answer.
pub async fn look_up(
    plan: &Plan,
    candidate: &str,
    registry: &impl Registry,
) -> Result<Option<ImageDigest>, CacheError> {
    let digest = candidate
        .split_once('@')
        .and_then(|(_, digest)| ImageDigest::parse(digest).ok());
    match digest {
        None => registry.digest(&plan.reference).await,
        Some(digest) => {
            let there = registry.retag(&digest, &plan.reference).await?;
            Ok(there.then_some(digest))
        }
    }
}

/// Every name that an `ARG` of the Dockerfile declares, in any stage or before
/// the first.
pub fn declared_args(dockerfile: &Dockerfile) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for stage in &dockerfile.stages {
        for located in &stage.instructions {
            if let Instruction::Arg(args) = &located.value {
                names.extend(args.iter().map(|arg| arg.name.clone()));
            }
        }
    }
    names.extend(
        dockerfile
            .meta_args
            .iter()
            .map(|arg| arg.value.name.clone()),
    );
    names
}

fn keep_declared(
    args: &BTreeMap<String, String>,
    declared: &BTreeSet<String>,
) -> BTreeMap<String, String> {
    args.iter()
        .filter(|(name, _)| declared.contains(*name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
