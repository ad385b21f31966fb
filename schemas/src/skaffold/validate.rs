//! Rules that a single field cannot see (skaffold's `schema/validation`).

use std::collections::{BTreeMap, BTreeSet};

use super::profile::Applied;
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::environment::Environment;
use crate::model::{Artifact, Module};
use crate::report::Report;
use crate::yaml::{Node, Span};

/// Whether a module names no source of manifests at all.
pub(super) fn renders_nothing(module: &Module) -> bool {
    let manifests = &module.manifests;
    manifests.raw.is_empty() && manifests.kustomize.is_empty() && manifests.remote.is_empty()
}

/// Checks one document.
pub(super) fn module(document: &Node, module: &Module, report: &Report) {
    for (index, artifact) in document_artifacts(document).enumerate() {
        let Some(image) = artifact.get("image") else {
            continue;
        };
        let name = image.as_text().unwrap_or_default();
        if let Some(rest) = crate::image::tag_or_digest(name) {
            let message = format!("`{name}` must carry neither tag nor digest");
            let help = format!("remove `{rest}`: `build.tagPolicy` makes the tag");
            report.error(Diagnostic::at(&image.span, message).help(help));
        }
        if let Some(read) = module
            .build
            .artifacts
            .get(index)
            .filter(|read| read.image == name)
        {
            volume_mounts(artifact, read, module, report);
        }
    }
}

/// Checks what spans documents: names, and who requires whom.
pub(super) fn project(documents: &[Node], modules: &[Module], report: &Report) {
    let mut names = BTreeSet::new();
    for (document, module) in documents.iter().zip(modules) {
        if !names.insert(&module.name) {
            let span = document
                .pointer("/metadata/name")
                .map_or(&document.span, |node| &node.span);
            let message = format!("two documents are named `{}`", module.name);
            report.error(Diagnostic::at(span, message));
        }
    }
    let mut places: BTreeMap<&str, &Span> = BTreeMap::new();
    let nodes = || documents.iter().flat_map(document_artifacts);
    for image in nodes().filter_map(|artifact| artifact.get("image")) {
        let name = image.as_text().unwrap_or_default();
        if let Some(first) = places.insert(name, &image.span) {
            let message = format!("image `{name}` is built twice");
            let help = format!("the first one is on line {}", first.line);
            report.error(Diagnostic::at(&image.span, message).help(help));
        }
    }
    for node in nodes() {
        requirements(node, &places, report);
    }
    cycles(modules, &places, report);
}

/// A profile that the kube-context activated cannot change the context
/// (skaffold's `validation.go`, validateKubectlManifests and profiles.go).
pub(super) fn profile_context(
    document: &Node,
    module: &Module,
    applied: &Applied,
    environment: &Environment,
    report: &Report,
) {
    let (Some(wanted), true) = (&module.deploy.kube_context, applied.by_kube_context) else {
        return;
    };
    if environment.kube_context.as_ref() == Some(wanted) {
        return;
    }
    let span = document
        .pointer("/deploy/kubeContext")
        .map_or(&document.span, |node| &node.span);
    let actual = environment.kube_context.as_deref().unwrap_or("none");
    let message = format!(
        "the kube-context `{actual}` activated a profile, but the deployment goes to `{wanted}`"
    );
    let help = "choose one: `--kube-context`, or `deploy.kubeContext` without that activation";
    report.error(Diagnostic::at(span, message).help(help));
}

fn document_artifacts(document: &Node) -> impl Iterator<Item = &Node> {
    document
        .pointer("/build/artifacts")
        .and_then(Node::as_list)
        .into_iter()
        .flatten()
}

/// Every mount needs its volume; the API server would say so much later.
fn volume_mounts(node: &Node, artifact: &Artifact, module: &Module, report: &Report) {
    let volumes: Vec<&str> = module
        .build
        .cluster
        .volumes
        .iter()
        .filter_map(|volume| volume["name"].as_str())
        .collect();
    for (index, mount) in artifact.volume_mounts.iter().enumerate() {
        let Some(name) = mount["name"]
            .as_str()
            .filter(|name| !volumes.contains(name))
        else {
            continue;
        };
        let place = node.pointer(&format!("/kaniko/volumeMounts/{index}/name"));
        let span = place.map_or(&node.span, |node| &node.span);
        let finding = Diagnostic::at(span, format!("`build.cluster.volumes` has no `{name}`"));
        report.error(match did_you_mean(name, volumes.iter().copied()) {
            Some(known) => finding.help(format!("did you mean `{known}`?")),
            None => finding.help("add the volume there"),
        });
    }
}

fn requirements(artifact: &Node, images: &BTreeMap<&str, &Span>, report: &Report) {
    let mut aliases = BTreeSet::new();
    let required = artifact
        .get("requires")
        .and_then(Node::as_list)
        .into_iter()
        .flatten();
    for requirement in required {
        let Some(image) = requirement.get("image") else {
            continue;
        };
        let name = image.as_text().unwrap_or_default();
        if !images.contains_key(name) {
            let finding = Diagnostic::at(&image.span, format!("no artifact builds `{name}`"));
            report.error(match did_you_mean(name, images.keys().copied()) {
                Some(known) => finding.help(format!("did you mean `{known}`?")),
                None => {
                    finding.help("add it to `build.artifacts`, or name it in the Dockerfile's FROM")
                }
            });
        }
        let Some(node) = requirement.get("alias").filter(|alias| !alias.is_null()) else {
            continue;
        };
        let alias = node.as_text().unwrap_or_default();
        if !is_identifier(alias) {
            let message = format!("`{alias}` cannot be the name of a build argument");
            let help = "use letters, digits and `_`, not beginning with a digit";
            report.error(Diagnostic::at(&node.span, message).help(help));
        }
        if !aliases.insert(alias.to_owned()) {
            let message = format!("alias `{alias}` stands twice");
            report.error(Diagnostic::at(&node.span, message));
        }
    }
}

fn is_identifier(alias: &str) -> bool {
    !alias.starts_with(|c: char| c.is_ascii_digit())
        && !alias.is_empty()
        && alias
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Follows `requires` from each artifact; coming back to it is a cycle.
fn cycles(modules: &[Module], places: &BTreeMap<&str, &Span>, report: &Report) {
    let artifacts = modules.iter().flat_map(|module| &module.build.artifacts);
    let graph: BTreeMap<&str, Vec<&str>> = artifacts
        .map(|a| {
            (
                a.image.as_str(),
                a.requires.iter().map(|r| r.image.as_str()).collect(),
            )
        })
        .collect();
    if let Some(path) = crate::graph::cycle(&graph)
        && let Some(span) = path.first().and_then(|image| places.get(image))
    {
        let message = format!(
            "images require each other in a circle: {}",
            path.join(" -> ")
        );
        report.error(Diagnostic::at(span, message));
    }
}
