//! `skaffold.yaml`, read as it is: schema versions v2beta16 to v4beta14.
//!
//! A document goes through five steps, all on a tree that knows where each
//! value was written: its version is brought to the latest (`upgrade`),
//! profiles are laid over it (`profile`, `patch`), the fields are read into
//! the model (`pipeline` and below), and rules that span several fields are
//! checked (`validate`). Everything that is wrong is reported at once.

mod build;
mod builders;
mod cluster;
mod deploy;
mod hooks;
mod patch;
mod pipeline;
mod profile;
mod sync;
mod tags;
mod upgrade;
mod validate;
mod version;

use std::path::Path;

use crate::fields::Fields;
use version::Version;

use crate::diagnostic::Diagnostic;
use crate::environment::{Environment, ProfileChoice, Reading};
use crate::model::{Dialect, Module, Project, Template};
use crate::report::Report;
use crate::yaml::{self, Node};

/// What skaffold renders when a configuration names nothing.
const DEFAULT_MANIFESTS: &str = "k8s/*.yaml";

/// Reads a `skaffold.yaml`. `file` is its path as the user gave it, absolute
/// or relative to the working directory.
///
/// Relative paths inside it are resolved against the working directory, as
/// skaffold does with the root configuration; a note says so where that is
/// not the file's own folder.
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
    let mut documents = yaml::parse(text, &shown).map_err(|error| vec![error])?;
    if documents.is_empty() {
        let help = format!(
            "write at least `apiVersion: {}{}`",
            version::GROUP,
            Version::LATEST.name()
        );
        return Err(vec![
            Diagnostic::in_file(shown, "the file is empty").help(help),
        ]);
    }
    let report = Report::default();
    let versions: Vec<Diagnostic> = documents
        .iter_mut()
        .filter_map(|document| prepare(document, &report).err())
        .collect();
    if !versions.is_empty() {
        // Fields of a version that is not read would only be noise.
        return Err(versions);
    }
    for finding in profile::check_choice(&documents, choice, &shown) {
        report.error(finding);
    }
    note_other_folder(file, environment, &report);
    let single = documents.len() == 1;
    let mut profiles: Vec<String> = Vec::new();
    let mut modules = Vec::new();
    for document in &mut documents {
        let applied = profile::apply(document, choice, environment, &report);
        let mut module = read_document(document, environment, &report);
        if module.name.is_empty() {
            module.name = nameless(file, environment, modules.len());
        }
        validate::module(document, &module, &report);
        validate::profile_context(document, &module, &applied, environment, &report);
        if single && validate::renders_nothing(&module) {
            module
                .manifests
                .raw
                .push(Template(DEFAULT_MANIFESTS.to_owned()));
        }
        for name in applied.names {
            if !profiles.contains(&name) {
                profiles.push(name);
            }
        }
        modules.push(module);
    }
    validate::project(&documents, &modules, &report);
    let notes = report.finish()?;
    let name = modules
        .first()
        .map(|module| module.name.clone())
        .unwrap_or_default();
    let files = vec![environment.resolve(&environment.cwd, &shown)];
    let project = Project {
        name,
        dialect: Dialect::Skaffold,
        modules,
        files,
        profiles,
    };
    Ok(Reading { project, notes })
}

/// Checks the version, drops keys that only hold anchors, and upgrades.
fn prepare(document: &mut Node, report: &Report) -> Result<(), Diagnostic> {
    let version = Version::of(document)?;
    if let Some(map) = document.as_map_mut() {
        map.retain(|key, _| !key.name.starts_with('.'));
    }
    upgrade::to_latest(document, version, report);
    Ok(())
}

fn read_document(document: &Node, environment: &Environment, report: &Report) -> Module {
    let fields = Fields::of(document, "", report);
    fields.string("apiVersion");
    if fields.required("kind").is_some_and(|kind| kind != "Config") {
        let message = "`kind` must be `Config`";
        report.error(Diagnostic::at(fields.place("kind"), message));
    }
    let mut name = None;
    if let Some(metadata) = fields.section("metadata") {
        name = metadata.string("name");
        // Descriptive only; nothing reads them.
        metadata.map("labels");
        metadata.map("annotations");
    }
    fields.refuse(
        "requires",
        "put the documents into one file, separated by `---`",
    );
    let pipeline = pipeline::read(&fields, environment);
    Module {
        name: name.unwrap_or_default(),
        dir: environment.cwd.clone(),
        build: pipeline.build,
        manifests: pipeline.manifests,
        deploy: pipeline.deploy,
        forward: pipeline.forward,
        resource_selector: pipeline.resource_selector,
    }
}

/// The folder's name, with a number from the second nameless document on.
fn nameless(file: &Path, environment: &Environment, index: usize) -> String {
    let path = environment.resolve(&environment.cwd, &file.to_string_lossy());
    let folder = path.parent().and_then(Path::file_name);
    let folder = folder.map_or_else(|| "project".into(), |name| name.to_string_lossy());
    if index == 0 {
        folder.into_owned()
    } else {
        format!("{folder}-{}", index + 1)
    }
}

fn note_other_folder(file: &Path, environment: &Environment, report: &Report) {
    let path = environment.resolve(&environment.cwd, &file.to_string_lossy());
    let folder = path.parent().unwrap_or(&environment.cwd);
    if folder != environment.cwd {
        let message = format!(
            "relative paths in it are below {}, not beside it, as in skaffold",
            environment.cwd.display()
        );
        let help = format!("run the command in {}", folder.display());
        report.note(Diagnostic::in_file(file.to_string_lossy(), message).help(help));
    }
}
