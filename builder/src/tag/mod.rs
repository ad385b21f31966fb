//! Which tag an image gets (skaffold.md 2.6, and Kiln's own content tags).
//!
//! A tagger that cannot do its work is an error. skaffold falls back to
//! `latest` in silence there; Kiln never does.

pub mod content;
mod datetime;
mod git;
mod input_digest;

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Zoned;
use kiln_schemas::model::{TagComponent, TagPolicy, Template};

pub use content::ContentKey;
pub use datetime::{LayoutError, format as format_datetime};
pub use git::{Git, GitBinary, GitError};
pub use input_digest::input_digest;

use crate::order::RenderTemplate;

/// The length that the distribution specification allows for a tag.
const TAG_MAX: usize = 128;

/// What the policies look at. Digests are computed by the caller only where
/// the caller says so.
pub struct TagInputs<'a> {
    /// The artifact's name as configured: `IMAGE_NAME` of templates.
    pub image: &'a str,
    /// The context folder, where git is asked.
    pub context: &'a Path,
    /// The time of this build, in the local zone. One value for all artifacts
    /// of an iteration, so that they get the same tag.
    pub now: &'a Zoned,
    /// The key over everything that decides the bytes.
    pub content: &'a ContentKey,
    /// skaffold's digest over names and contents of the sources; empty where the policy does not
    /// need it ([`needs_input_digest`]).
    pub input_digest: &'a str,
    /// Asks git.
    pub git: &'a dyn Git,
    /// Renders templates over the environment.
    pub engine: &'a dyn RenderTemplate,
}

/// Why an image has no tag.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// git could not be asked.
    #[error("cannot take the tag of {image} from git")]
    Git {
        /// The artifact.
        image: String,
        /// What git said.
        #[source]
        source: GitError,
    },
    /// A template failed or left a hole.
    #[error("cannot render the tag of {image} from `{template}`: {reason}")]
    Template {
        /// The artifact.
        image: String,
        /// The template.
        template: String,
        /// Why.
        reason: String,
    },
    /// A time layout or zone is unusable.
    #[error("cannot write the time into the tag of {image}")]
    Time {
        /// The artifact.
        image: String,
        /// Why.
        #[source]
        source: LayoutError,
    },
    /// A custom template inside a custom template.
    #[error(
        "component {component} of the tag of {image} is itself a customTemplate, which is not allowed"
    )]
    Nested {
        /// The artifact.
        image: String,
        /// The component.
        component: String,
    },
    /// The result is not a tag.
    #[error(
        "`{tag}` is not a valid tag for {image}: a tag has 1 to 128 letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`"
    )]
    Invalid {
        /// The artifact.
        image: String,
        /// What came out.
        tag: String,
    },
}

/// Chooses the tag of one image. May run git; call it where blocking is fine.
pub fn choose(policy: &TagPolicy, inputs: &TagInputs<'_>) -> Result<String, TagError> {
    let tag = value(policy, inputs)?;
    if is_tag(&tag) {
        Ok(tag)
    } else {
        Err(TagError::Invalid {
            image: inputs.image.into(),
            tag,
        })
    }
}

fn value(policy: &TagPolicy, inputs: &TagInputs<'_>) -> Result<String, TagError> {
    let image = || inputs.image.to_owned();
    match policy {
        TagPolicy::Content => Ok(inputs.content.tag()),
        TagPolicy::Latest => Ok("latest".into()),
        TagPolicy::InputDigest => Ok(inputs.input_digest.to_owned()),
        TagPolicy::GitCommit {
            variant,
            prefix,
            ignore_changes,
        } => {
            let dirty = if *ignore_changes {
                git::Dirty::Ignore
            } else {
                git::Dirty::Mark
            };
            let base = git::tag(inputs.git, inputs.context, *variant, dirty).map_err(|source| {
                TagError::Git {
                    image: image(),
                    source,
                }
            })?;
            Ok(format!("{prefix}{base}"))
        }
        TagPolicy::DateTime { format, timezone } => {
            datetime::tag(inputs.now, format, timezone.as_deref()).map_err(|source| {
                TagError::Time {
                    image: image(),
                    source,
                }
            })
        }
        TagPolicy::EnvTemplate { template } => {
            let name = BTreeMap::from([("IMAGE_NAME".to_owned(), inputs.image.to_owned())]);
            render(template, &name, inputs)
        }
        TagPolicy::Custom {
            template,
            components,
        } => custom(template, components, inputs),
    }
}

/// Whether a policy looks at [`TagInputs::input_digest`], which takes reading every source anew.
pub fn needs_input_digest(policy: &TagPolicy) -> bool {
    match policy {
        TagPolicy::InputDigest => true,
        TagPolicy::Custom {
            template,
            components,
        } => {
            template.0.contains("INPUT_DIGEST")
                || components.iter().any(|c| needs_input_digest(&c.policy))
        }
        _ => false,
    }
}

/// Named components first, then the four that skaffold has built in, under
/// their fixed names unless the user took the name.
fn custom(
    template: &Template,
    components: &[TagComponent],
    inputs: &TagInputs<'_>,
) -> Result<String, TagError> {
    let mut values = BTreeMap::new();
    for component in components {
        if matches!(component.policy, TagPolicy::Custom { .. }) {
            return Err(TagError::Nested {
                image: inputs.image.into(),
                component: component.name.clone(),
            });
        }
        values.insert(component.name.clone(), value(&component.policy, inputs)?);
    }
    for (name, policy) in built_in_components() {
        // A built-in that the template does not mention must not fail it: a
        // folder without git may still be tagged by its date.
        if !values.contains_key(name) && template.0.contains(name) {
            values.insert(name.to_owned(), value(&policy, inputs)?);
        }
    }
    render(template, &values, inputs)
}

fn built_in_components() -> [(&'static str, TagPolicy); 4] {
    let git = TagPolicy::GitCommit {
        variant: kiln_schemas::model::GitVariant::Tags,
        prefix: String::new(),
        ignore_changes: false,
    };
    let date = TagPolicy::DateTime {
        format: datetime::DEFAULT_LAYOUT.into(),
        timezone: None,
    };
    [
        ("GIT", git),
        ("DATE", date),
        ("SHA", TagPolicy::Latest),
        ("INPUT_DIGEST", TagPolicy::InputDigest),
    ]
}

fn render(
    template: &Template,
    vars: &BTreeMap<String, String>,
    inputs: &TagInputs<'_>,
) -> Result<String, TagError> {
    let failed = |reason: String| TagError::Template {
        image: inputs.image.into(),
        template: template.0.clone(),
        reason,
    };
    let text = inputs.engine.render(template, vars).map_err(failed)?;
    if text.contains("<no value>") {
        return Err(failed("a variable that it names is not set".into()));
    }
    Ok(text)
}

/// Whether text is a tag (OCI distribution-spec, "Pulling manifests").
fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = text.bytes();
    bytes.next().is_some_and(word)
        && bytes.all(|b| word(b) || b == b'.' || b == b'-')
        && text.len() <= TAG_MAX
}

#[cfg(test)]
mod tests;
