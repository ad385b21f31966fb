//! Older versions become the latest one step at a time, on the tree that
//! keeps its places: a value that moved still points at its old line.
//!
//! A version that only added fields has no step here: the latest schema
//! knows them. `tests/upgrade/<from>-<to>/` holds a pair for every hop.

mod renderers;

use super::version::{GROUP, VERSIONS, Version};
use crate::diagnostic::Diagnostic;
use crate::report::Report;
use crate::yaml::{Map, Node};

/// Brings a document from `from` to the latest version.
pub(super) fn to_latest(document: &mut Node, from: Version, report: &Report) {
    for index in from.0..Version::LATEST.0 {
        one_step(document, Version(index), report);
    }
}

/// Brings a document from `from` to the version after it.
pub(super) fn one_step(document: &mut Node, from: Version, report: &Report) {
    let Some(map) = document.as_map_mut() else {
        return;
    };
    match from.name() {
        "v2beta16" => each_docker(map, |docker| drop_secret_destination(docker, report)),
        "v2beta22" => each_docker(map, secret_to_list),
        "v2beta27" => each_artifact(map, ko_platforms_to_artifact),
        "v2beta29" => {
            each_pipeline(map, |pipeline| {
                renderers::split_from_deployers(pipeline, report);
            });
            renderers::rewrite_patches(map);
        }
        "v3" => each_pipeline(map, renderers::move_remote_manifests),
        "v4beta4" => each_artifact(map, drop_disabled_no_push),
        _ => {}
    }
    if let Some(version) = map.get_mut("apiVersion") {
        *version = Node::string(&version.span, &format!("{GROUP}{}", VERSIONS[from.0 + 1]));
    }
}

/// The document's own pipeline and that of each of its profiles.
fn each_pipeline(document: &mut Map, mut change: impl FnMut(&mut Map)) {
    change(document);
    let profiles = document.get_mut("profiles").and_then(Node::as_list_mut);
    for profile in profiles.into_iter().flatten() {
        if let Some(pipeline) = profile.as_map_mut() {
            change(pipeline);
        }
    }
}

fn each_artifact(document: &mut Map, mut change: impl FnMut(&mut Map)) {
    each_pipeline(document, |pipeline| {
        let artifacts = pipeline
            .get_mut("build")
            .and_then(Node::as_map_mut)
            .and_then(|build| build.get_mut("artifacts"))
            .and_then(Node::as_list_mut);
        for artifact in artifacts.into_iter().flatten() {
            if let Some(artifact) = artifact.as_map_mut() {
                change(artifact);
            }
        }
    });
}

fn each_docker(document: &mut Map, mut change: impl FnMut(&mut Map)) {
    each_artifact(document, |artifact| {
        if let Some(docker) = artifact.get_mut("docker").and_then(Node::as_map_mut) {
            change(docker);
        }
    });
}

/// `secret.dst` never had an effect and was dropped in v2beta17.
fn drop_secret_destination(docker: &mut Map, report: &Report) {
    let secret = docker.get_mut("secret").and_then(Node::as_map_mut);
    if let Some((key, _)) = secret.and_then(|secret| secret.remove("dst")) {
        let message = "`docker.secret.dst` has no effect since v2beta17 and is left out";
        report.note(Diagnostic::at(&key.span, message));
    }
}

/// One `secret` became a list of `secrets` in v2beta23.
fn secret_to_list(docker: &mut Map) {
    if let Some((mut key, secret)) = docker.remove("secret") {
        "secrets".clone_into(&mut key.name);
        let list = Node::list(&secret.span.clone(), vec![secret]);
        docker.insert(key, list);
    }
}

/// `ko.platforms` moved to the artifact in v2beta28.
fn ko_platforms_to_artifact(artifact: &mut Map) {
    let ko = artifact.get_mut("ko").and_then(Node::as_map_mut);
    if let Some((key, platforms)) = ko.and_then(|ko| ko.remove("platforms")) {
        artifact.insert(key, platforms);
    }
}

/// `kaniko.noPush` went away in v4beta5; `true` stays for the reader to refuse.
fn drop_disabled_no_push(artifact: &mut Map) {
    if let Some(kaniko) = artifact.get_mut("kaniko").and_then(Node::as_map_mut) {
        kaniko.retain(|key, value| key.name != "noPush" || value.as_bool() == Some(true));
    }
}

#[cfg(test)]
mod tests;
