//! Which configuration file is meant, and what it says.

use std::io::Read;
use std::path::{Path, PathBuf};

use kiln_schemas::model::{Module, Project};
use kiln_schemas::{Diagnostic, ProfileChoice, Reading};

use crate::args::ProjectArgs;
use crate::env::Environment;
use crate::error::{CommandError, Kind};

/// File names that are looked for, in this order.
const NAMES: [&str; 4] = ["kiln.yaml", "kiln.yml", "skaffold.yaml", "skaffold.yml"];

/// The text of a configuration and where it came from.
struct Text {
    path: PathBuf,
    text: String,
}

/// Reads the configuration that the arguments mean. `command` is what
/// profiles may ask for; `kube_context` is the context in effect.
pub fn read(
    env: &Environment,
    args: &ProjectArgs,
    command: &str,
    kube_context: Option<&str>,
) -> Result<Reading, CommandError> {
    let source = find(env, args.filename.as_deref())?;
    let surroundings = kiln_schemas::Environment {
        vars: env.vars.clone(),
        cwd: env.cwd.clone(),
        kube_context: kube_context.map(str::to_owned),
        command: command.to_owned(),
    };
    let profiles = ProfileChoice {
        names: args.profile.clone(),
        automatic: args.profile_auto_activation,
    };
    let reading = if is_kiln(&source.text) {
        kiln_schemas::config::read(&source.text, &source.path, &surroundings, &profiles)
    } else {
        kiln_schemas::skaffold::read(&source.text, &source.path, &surroundings, &profiles)
    };
    let mut reading = reading.map_err(|found| CommandError::config(&found))?;
    reading.project = only_modules(reading.project, &args.module)?;
    Ok(reading)
}

fn find(env: &Environment, given: Option<&Path>) -> Result<Text, CommandError> {
    if given == Some(Path::new("-")) {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| {
                let finding =
                    Diagnostic::in_file("standard input", format!("cannot be read: {error}"));
                CommandError::config(&[finding])
            })?;
        return Ok(Text {
            path: PathBuf::from("-"),
            text,
        });
    }
    if let Some(path) = given {
        if path
            .to_str()
            .is_some_and(|text| text.starts_with("http://") || text.starts_with("https://"))
        {
            return Err(
                CommandError::new(Kind::Config, "a configuration is not read from a URL")
                    .hint("download it, then name the file with -f"),
            );
        }
        return text_of(path);
    }
    let present: Vec<&str> = NAMES
        .into_iter()
        .filter(|name| env.cwd.join(name).is_file())
        .collect();
    match present.first() {
        Some(name) => text_of(Path::new(name)),
        None => Err(
            CommandError::new(Kind::Config, "there is no kiln.yaml or skaffold.yaml here")
                .hint("go to the project's folder, or name the file with -f"),
        ),
    }
}

fn text_of(path: &Path) -> Result<Text, CommandError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Text {
            path: path.to_owned(),
            text,
        }),
        Err(error) => {
            let finding = Diagnostic::in_file(
                path.display().to_string(),
                format!("cannot be read: {error}"),
            );
            Err(CommandError::config(&[finding]))
        }
    }
}

/// Whether a text says of itself that it is a kiln.yaml. Anything else is
/// left to skaffold's reader, which says what is wrong with it.
fn is_kiln(text: &str) -> bool {
    text.lines()
        .filter_map(|line| line.strip_prefix("apiVersion:"))
        .any(|value| {
            value
                .trim_start()
                .trim_start_matches(['"', '\''])
                .starts_with("kiln.dev/")
        })
}

fn only_modules(mut project: Project, wanted: &[String]) -> Result<Project, CommandError> {
    if wanted.is_empty() {
        return Ok(project);
    }
    let known: Vec<String> = project.modules.iter().map(|m| m.name.clone()).collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        return Err(
            CommandError::new(Kind::Config, format!("there is no module {unknown}"))
                .hint(format!("the file has: {}", known.join(", "))),
        );
    }
    project
        .modules
        .retain(|module: &Module| wanted.contains(&module.name));
    Ok(project)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_itself_which_dialect_it_is() {
        assert!(is_kiln("apiVersion: kiln.dev/v1\n"));
        assert!(is_kiln("# mine\napiVersion: \"kiln.dev/v1\"\n"));
        assert!(!is_kiln("apiVersion: skaffold/v4beta14\n"));
        assert!(!is_kiln("x:\n  apiVersion: kiln.dev/v1\n"));
    }
}
