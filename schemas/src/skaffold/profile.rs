//! Profiles: which are active, and how one is laid over the configuration
//! (skaffold's `schema/profiles.go`).

use std::collections::BTreeSet;

use super::patch::{self, Patch};
use super::pipeline;
use crate::activation::{self, BadPattern};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::environment::{Environment, ProfileChoice};
use crate::fields::Fields;
use crate::report::Report;
use crate::yaml::{Map, Node};

/// Sections whose fields are merged one by one; everything else that a
/// profile sets replaces what was there.
const MERGED: [&str; 8] = [
    "build",
    "build.hooks",
    "manifests",
    "manifests.hooks",
    "deploy",
    "deploy.logs",
    "deploy.logs.jsonParse",
    "resourceSelector",
];

/// Of these, a profile's choice replaces the others.
const BUILDERS: [&str; 3] = ["local", "googleCloudBuild", "cluster"];

/// The fields of a profile that are not part of its pipeline.
const HEADER: [&str; 4] = ["name", "activation", "requiresAllActivations", "patches"];

/// What the profiles of one document did.
#[derive(Default)]
pub(super) struct Applied {
    /// Active profiles, in the order in which they were applied.
    pub(super) names: Vec<String>,
    /// The kube-context activated one of them.
    pub(super) by_kube_context: bool,
}

/// Reports names on the command line that no document has.
pub(super) fn check_choice(
    documents: &[Node],
    choice: &ProfileChoice,
    file: &str,
) -> Vec<Diagnostic> {
    let known: BTreeSet<&str> = documents
        .iter()
        .flat_map(profiles_of)
        .filter_map(|profile| profile.get("name").and_then(Node::as_text))
        .collect();
    let mut named = choice.wanted();
    named.extend(choice.unwanted());
    named
        .into_iter()
        .filter(|name| !known.contains(name))
        .map(|name| {
            let finding = Diagnostic::in_file(file, format!("there is no profile `{name}`"));
            match did_you_mean(name, known.iter().copied()) {
                Some(meant) => finding.help(format!("did you mean `{meant}`?")),
                None if known.is_empty() => finding.help("the file has no profiles"),
                None => {
                    let list: Vec<&str> = known.iter().copied().collect();
                    finding.help(format!("the profiles are: {}", list.join(", ")))
                }
            }
        })
        .collect()
}

/// Takes the profiles out of a document and applies the active ones.
pub(super) fn apply(
    document: &mut Node,
    choice: &ProfileChoice,
    environment: &Environment,
    report: &Report,
) -> Applied {
    let profiles: Vec<Node> = profiles_of(document).cloned().collect();
    check_profiles_field(document, report);
    if let Some(map) = document.as_map_mut() {
        map.remove("profiles");
    }
    let mut applied = Applied::default();
    let mut active: Vec<&Node> = Vec::new();
    let unwanted = choice.unwanted();
    for (index, profile) in profiles.iter().enumerate() {
        let header = Header::read(profile, index, environment, report);
        let Some(name) = header.name else { continue };
        let asked_for = choice.wanted().contains(&name.as_str());
        if choice.automatic && header.activated && !asked_for && !unwanted.contains(&name.as_str())
        {
            applied.by_kube_context |= header.by_kube_context;
            active.push(profile);
            applied.names.push(name);
        }
    }
    for name in choice.wanted() {
        let found = profiles
            .iter()
            .find(|p| p.get("name").and_then(Node::as_text) == Some(name));
        if let Some(profile) = found.filter(|_| !unwanted.contains(&name)) {
            active.push(profile);
            applied.names.push(name.to_owned());
        }
    }
    for (index, profile) in profiles.iter().enumerate() {
        if !active.iter().any(|one| std::ptr::eq(*one, profile)) {
            check_inactive(profile, index, environment, report);
        }
    }
    for profile in active {
        overlay(document, profile);
        apply_patches(document, profile, report);
    }
    applied
}

/// A profile that is not active must be well-formed, but may use what is not
/// supported.
fn check_inactive(node: &Node, index: usize, environment: &Environment, report: &Report) {
    report.without_refusals(|| {
        let fields = Fields::of(node, &format!("profiles[{index}]"), report);
        for name in HEADER {
            fields.node(name);
        }
        pipeline::read(&fields, environment);
    });
}

fn profiles_of(document: &Node) -> impl Iterator<Item = &Node> {
    document
        .get("profiles")
        .and_then(Node::as_list)
        .into_iter()
        .flatten()
}

fn check_profiles_field(document: &Node, report: &Report) {
    if let Some(node) = document.get("profiles")
        && node.as_list().is_none()
        && !node.is_null()
    {
        let message = format!("`profiles` must be a list, not {}", node.describe());
        report.error(Diagnostic::at(&node.span, message));
    }
    let mut seen = BTreeSet::new();
    for name in profiles_of(document).filter_map(|profile| profile.get("name")) {
        if !seen.insert(name.as_text().unwrap_or_default()) {
            let message = format!(
                "profile `{}` stands twice",
                name.as_text().unwrap_or_default()
            );
            report.error(Diagnostic::at(&name.span, message));
        }
    }
}

/// A profile without its pipeline.
struct Header {
    name: Option<String>,
    activated: bool,
    by_kube_context: bool,
}

impl Header {
    /// Reads it; the pipeline is read later.
    fn read(node: &Node, index: usize, environment: &Environment, report: &Report) -> Self {
        let mut fields = Fields::of(node, &format!("profiles[{index}]"), report);
        fields.allow_more();
        let name = fields.required("name");
        let all = fields.flag("requiresAllActivations");
        let activations: Vec<Activation> = fields
            .sections("activation")
            .map(|entry| Activation::read(&entry, environment))
            .collect();
        for patch in fields.sections("patches") {
            patch.required("path");
            patch.string("op");
            patch.string("from");
            patch.node("value");
        }
        let activated = if all {
            !activations.is_empty() && activations.iter().all(|entry| entry.holds)
        } else {
            activations.iter().any(|entry| entry.holds)
        };
        let by_kube_context = activated
            && activations
                .iter()
                .any(|entry| entry.holds && entry.by_kube_context);
        Self {
            name,
            activated,
            by_kube_context,
        }
    }
}

/// One entry of a profile's activation.
struct Activation {
    holds: bool,
    by_kube_context: bool,
}

impl Activation {
    fn read(fields: &Fields<'_>, environment: &Environment) -> Self {
        let env = fields
            .string("env")
            .is_none_or(|text| match text.split_once('=') {
                Some((key, wanted)) => {
                    let actual = environment.vars.get(key);
                    judge(fields, "env", activation::env_satisfies(wanted, actual))
                }
                None => {
                    let message =
                        format!("`{}` must be KEY=PATTERN, not `{text}`", fields.path("env"));
                    fields
                        .report
                        .error(Diagnostic::at(fields.place("env"), message));
                    false
                }
            });
        let wanted_context = fields.string("kubeContext").filter(|text| !text.is_empty());
        let context = wanted_context.as_deref().is_none_or(|wanted| {
            let actual = environment.kube_context.as_deref().unwrap_or_default();
            judge(fields, "kubeContext", activation::satisfies(wanted, actual))
        });
        let command = fields.string("command").filter(|text| !text.is_empty());
        let command = command.is_none_or(|wanted| {
            judge(
                fields,
                "command",
                activation::satisfies(&wanted, &environment.command),
            )
        });
        Self {
            holds: env && context && command,
            by_kube_context: wanted_context.is_some(),
        }
    }
}

/// A finding for a pattern that is none.
fn judge(fields: &Fields<'_>, field: &str, verdict: Result<bool, BadPattern>) -> bool {
    verdict.unwrap_or_else(|error| {
        fields
            .report
            .error(Diagnostic::at(fields.place(field), error.to_string()));
        false
    })
}

/// Lays a profile's sections over the document.
fn overlay(document: &mut Node, profile: &Node) {
    let (Some(target), Some(from)) = (document.as_map_mut(), profile.as_map()) else {
        return;
    };
    let mut pipeline = from.clone();
    pipeline.retain(|key, _| !HEADER.contains(&key.name.as_str()));
    merge(target, &pipeline, "");
}

fn merge(target: &mut Map, from: &Map, path: &str) {
    for (key, value) in from.iter() {
        let path = if path.is_empty() {
            key.name.clone()
        } else {
            format!("{path}.{}", key.name)
        };
        if is_unset(value, &path) {
            continue;
        }
        if path
            .strip_prefix("build.")
            .is_some_and(|name| BUILDERS.contains(&name))
        {
            target.retain(|known, _| !BUILDERS.contains(&known.name.as_str()));
        }
        match (
            target.get_mut(&key.name).and_then(Node::as_map_mut),
            value.as_map(),
        ) {
            (Some(known), Some(map)) if MERGED.contains(&path.as_str()) => merge(known, map, &path),
            _ => target.insert(key.clone(), value.clone()),
        }
    }
}

/// Go's zero values cannot be told from absent ones, so they never override.
/// A mapping is a pointer there and counts even when it is empty; so does
/// the one boolean that is a pointer.
fn is_unset(node: &Node, path: &str) -> bool {
    node.is_null()
        || node.as_list().is_some_and(<[Node]>::is_empty)
        || node.as_text().is_some_and(str::is_empty)
        || (node.as_bool() == Some(false) && path != "deploy.statusCheck")
        || node.to_value() == serde_json::json!(0)
}

fn apply_patches(document: &mut Node, profile: &Node, report: &Report) {
    let patches = profile
        .get("patches")
        .and_then(Node::as_list)
        .into_iter()
        .flatten();
    for node in patches {
        let Some(path) = node.get("path") else {
            continue;
        };
        let patch = Patch {
            op: node.get("op").and_then(Node::as_text).unwrap_or("replace"),
            path,
            from: node.get("from"),
            value: node.get("value"),
            span: &node.span,
        };
        if let Err(error) = patch::apply(document, &patch) {
            report.error(error);
            return;
        }
    }
}
