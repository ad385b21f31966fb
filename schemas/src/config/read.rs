//! Text to model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::check::Checker;
use super::lower::Lowering;
use super::{Document, When, profile};
use crate::activation::{self, BadPattern};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::environment::{Environment, ProfileChoice, Reading};
use crate::model::{Dialect, Module, Project};
use crate::report::Report;
use crate::yaml::{self, Node};

/// Reads a `kiln.yaml`. `file` is its path as the user gave it, absolute or
/// relative to the working directory; paths inside are below its folder.
///
/// # Errors
/// Everything that is wrong with the file, in file order.
pub fn read(
    text: &str,
    file: &Path,
    environment: &Environment,
    choice: &ProfileChoice,
) -> Result<Reading, Vec<Diagnostic>> {
    let shown = file.to_string_lossy();
    let nodes = yaml::parse(text, &shown).map_err(|error| vec![error])?;
    if nodes.is_empty() {
        let help = format!("write at least `apiVersion: {}`", super::API_VERSION);
        return Err(vec![
            Diagnostic::in_file(shown, "the file is empty").help(help),
        ]);
    }
    let path = environment.resolve(&environment.cwd, &shown);
    let folder = path.parent().unwrap_or(&environment.cwd).to_owned();
    let reader = Reader {
        schema: super::schema(),
        environment,
        choice,
        report: Report::default(),
    };
    reader.check_choice(&nodes, &shown);
    let mut profiles: Vec<String> = Vec::new();
    let mut modules: Vec<Module> = Vec::new();
    let mut merged = Vec::new();
    for node in nodes {
        let Some((document, node, active)) = reader.document(&node) else {
            continue;
        };
        let lowering = Lowering {
            node: &node,
            folder: &folder,
            environment,
            report: &reader.report,
        };
        let name = document
            .name
            .clone()
            .unwrap_or_else(|| folder_name(&folder, modules.len()));
        modules.push(lowering.module(&document, name));
        check_names(&lowering, &document);
        for name in active {
            if !profiles.contains(&name) {
                profiles.push(name);
            }
        }
        merged.push(node);
    }
    check_project(&merged, &modules, &reader.report);
    let notes = reader.report.finish()?;
    let name = modules
        .first()
        .map(|module| module.name.clone())
        .unwrap_or_default();
    let project = Project {
        name,
        dialect: Dialect::Kiln,
        modules,
        files: vec![path],
        profiles,
    };
    Ok(Reading { project, notes })
}

fn folder_name(folder: &Path, index: usize) -> String {
    let name = folder
        .file_name()
        .map_or_else(|| "project".into(), |name| name.to_string_lossy());
    if index == 0 {
        name.into_owned()
    } else {
        format!("{name}-{}", index + 1)
    }
}

struct Reader<'a> {
    schema: serde_json::Value,
    environment: &'a Environment,
    choice: &'a ProfileChoice,
    report: Report,
}

impl Reader<'_> {
    /// A document with its active profiles applied. It is checked as it is
    /// written, with the active profiles, and with each of the others alone;
    /// so a profile's mistake points into the profile, active or not.
    fn document(&self, node: &Node) -> Option<(Document, Node, Vec<String>)> {
        let written = self.checked(node)?;
        let active = self.active(node, &written);
        let mut merged = node.clone();
        for name in &active {
            lay_over(&mut merged, node, name);
        }
        for name in written
            .profiles
            .keys()
            .filter(|name| !active.contains(name))
        {
            let mut alone = node.clone();
            lay_over(&mut alone, node, name);
            self.checked(&alone);
        }
        let document = if active.is_empty() {
            written
        } else {
            self.checked(&merged)?
        };
        Some((document, merged, active))
    }

    fn checked(&self, node: &Node) -> Option<Document> {
        let value = match Checker::new(&self.schema).check(node) {
            Ok(value) => value,
            Err(errors) => {
                errors
                    .into_iter()
                    .for_each(|error| self.report.error(error));
                return None;
            }
        };
        // What the schema lets through, serde reads; a difference between
        // the two is a fault of Kiln and is still said rather than hidden.
        match serde_json::from_value(value) {
            Ok(document) => Some(document),
            Err(error) => {
                self.report
                    .error(Diagnostic::at(&node.span, error.to_string()));
                None
            }
        }
    }

    fn active(&self, node: &Node, document: &Document) -> Vec<String> {
        let (wanted, unwanted) = (self.choice.wanted(), self.choice.unwanted());
        let mut active: Vec<String> = Vec::new();
        // File order, which the document's sorted map does not keep.
        let written = node.pointer("/profiles").and_then(Node::as_map);
        for (key, _) in written.into_iter().flat_map(yaml::Map::iter) {
            let name = key.name.as_str();
            let when = document
                .profiles
                .get(name)
                .and_then(|profile| profile.when.as_ref());
            let asked = wanted.contains(&name) || unwanted.contains(&name);
            if let Some(when) = when.filter(|_| self.choice.automatic && !asked)
                && self.holds(when, node, name)
            {
                active.push(name.to_owned());
            }
        }
        let chosen = wanted.iter().filter(|name| !unwanted.contains(name));
        active.extend(
            chosen
                .filter(|n| document.profiles.contains_key(**n))
                .map(|n| (*n).to_owned()),
        );
        active
    }

    fn holds(&self, when: &When, node: &Node, profile: &str) -> bool {
        let verdict = || -> Result<bool, BadPattern> {
            for (key, wanted) in &when.env {
                if !activation::env_satisfies(wanted, self.environment.vars.get(key))? {
                    return Ok(false);
                }
            }
            let context = self.environment.kube_context.as_deref().unwrap_or_default();
            for (wanted, actual) in [
                (&when.context, context),
                (&when.command, self.environment.command.as_str()),
            ] {
                if let Some(wanted) = wanted
                    && !activation::satisfies(wanted, actual)?
                {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        verdict().unwrap_or_else(|error| {
            let when = node.pointer(&format!("/profiles/{}/when", escape(profile)));
            let span = when.map_or(&node.span, |when| &when.span);
            self.report.error(Diagnostic::at(span, error.to_string()));
            false
        })
    }

    fn check_choice(&self, nodes: &[Node], file: &str) {
        let maps = nodes
            .iter()
            .filter_map(|node| node.get("profiles").and_then(Node::as_map));
        let known: BTreeSet<&str> = maps
            .flat_map(yaml::Map::iter)
            .map(|(key, _)| key.name.as_str())
            .collect();
        let mut named = self.choice.wanted();
        named.extend(self.choice.unwanted());
        for name in named.into_iter().filter(|name| !known.contains(name)) {
            let finding = Diagnostic::in_file(file, format!("there is no profile `{name}`"));
            self.report
                .error(match did_you_mean(name, known.iter().copied()) {
                    Some(meant) => finding.help(format!("did you mean `{meant}`?")),
                    None => finding,
                });
        }
    }
}

/// Lays the profile `name` of `document` over `target`.
fn lay_over(target: &mut Node, document: &Node, name: &str) {
    let patch = document.pointer(&format!("/profiles/{}/merge", escape(name)));
    if let (Some(map), Some(patch)) = (target.as_map_mut(), patch.and_then(Node::as_map)) {
        profile::merge(map, patch);
    }
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Names that carry a meaning of their own.
fn check_names(lowering: &Lowering<'_>, document: &Document) {
    for (index, image) in document.images.iter().enumerate() {
        if let Some(rest) = crate::image::tag_or_digest(&image.name) {
            let message = format!("`{}` must carry neither tag nor digest", image.name);
            let help = format!("remove `{rest}`: `tags` says how images are tagged");
            lowering.error(&format!("/images/{index}/name"), message, Some(help));
        }
    }
}

/// What spans documents: names are unique and required images exist.
fn check_project(nodes: &[Node], modules: &[Module], report: &Report) {
    let mut names = BTreeSet::new();
    let mut places = BTreeMap::new();
    for (node, module) in nodes.iter().zip(modules) {
        if !names.insert(&module.name) {
            let span = node.get("name").map_or(&node.span, |name| &name.span);
            report.error(Diagnostic::at(
                span,
                format!("two documents are named `{}`", module.name),
            ));
        }
        for (index, artifact) in module.build.artifacts.iter().enumerate() {
            let Some(name) = node.pointer(&format!("/images/{index}/name")) else {
                continue;
            };
            if places.insert(artifact.image.as_str(), &name.span).is_some() {
                let message = format!("image `{}` is built twice", artifact.image);
                report.error(Diagnostic::at(&name.span, message));
            }
        }
    }
    let artifacts = || modules.iter().flat_map(|module| &module.build.artifacts);
    for artifact in artifacts() {
        for required in artifact
            .requires
            .iter()
            .filter(|r| !places.contains_key(r.image.as_str()))
        {
            let Some(span) = places.get(artifact.image.as_str()) else {
                continue;
            };
            let message = format!(
                "`{}` requires `{}`, which no image is named",
                artifact.image, required.image
            );
            let finding = Diagnostic::at(span, message);
            report.error(
                match did_you_mean(&required.image, places.keys().copied()) {
                    Some(meant) => finding.help(format!("did you mean `{meant}`?")),
                    None => finding.help("add it to `images`, or name it in the Dockerfile's FROM"),
                },
            );
        }
    }
    let graph = artifacts()
        .map(|a| {
            (
                a.image.as_str(),
                a.requires.iter().map(|r| r.image.as_str()).collect(),
            )
        })
        .collect();
    if let Some(path) = crate::graph::cycle(&graph)
        && let Some(span) = path.first().and_then(|name| places.get(name))
    {
        let message = format!(
            "images require each other in a circle: {}",
            path.join(" -> ")
        );
        report.error(Diagnostic::at(span, message));
    }
}
