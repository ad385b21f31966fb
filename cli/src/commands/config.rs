//! `kiln config`: what the configuration amounts to, and the user-level
//! settings.

use std::path::Path;

use kiln_schemas::settings::{Scope, SettingsFile, set, unset};
use kiln_schemas::yaml;

use super::{Call, Outcome, result};
use crate::args::{ConfigCommand, ProjectArgs, SettingScope};
use crate::engine::settings_file;
use crate::error::{CommandError, Kind};
use crate::{kubernetes, project};

pub(super) fn run(call: &Call, command: ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Print { project } => print(call, &project),
        ConfigCommand::Set { name, value, scope } => {
            edit(call, &scope, |text, scope| set(text, scope, &name, &value))
        }
        ConfigCommand::Unset { name, scope } => {
            edit(call, &scope, |text, scope| unset(text, scope, &name))
        }
        ConfigCommand::List { scope } => list(call, &scope),
    }
}

fn print(call: &Call, args: &ProjectArgs) -> Outcome {
    let given = args.kube_context.as_deref();
    let kubeconfigs = kubernetes::read(&call.env, args.kubeconfig.as_deref(), given)?;
    let context = kubeconfigs.and_then(|k| k.context);
    let reading = project::read(&call.env, args, "config", context.as_deref())?;
    let value = serde_json::to_value(&reading.project)
        .map_err(|error| CommandError::from_error(Kind::General, &error))?;
    let text = yaml::to_string(&[value])
        .map_err(|error| CommandError::from_error(Kind::General, &error))?;
    result::print(&text);
    Ok(())
}

fn edit<E: std::error::Error + 'static>(
    call: &Call,
    args: &SettingScope,
    change: impl FnOnce(&str, &Scope) -> Result<String, E>,
) -> Outcome {
    let path = settings_file(&call.env, &call.global).ok_or_else(no_folder)?;
    let text = read(&path)?;
    let changed = change(&text, &scope(call, args)?)
        .map_err(|error| CommandError::from_error(Kind::Usage, &error))?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| CommandError::from_error(Kind::General, &e))?;
    }
    result::write(&path, &changed)
}

fn list(call: &Call, args: &SettingScope) -> Outcome {
    let path = settings_file(&call.env, &call.global).ok_or_else(no_folder)?;
    let file = SettingsFile::parse(&read(&path)?, &path.display().to_string())
        .map_err(|found| CommandError::config(&found))?;
    let settings = match scope(call, args)? {
        Scope::Global => file.global,
        Scope::Context(name) => file.effective(Some(&name)),
    };
    let lines: Vec<String> = settings
        .list()
        .into_iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    result::print(&lines.join("\n"));
    Ok(())
}

fn read(path: &Path) -> Result<String, CommandError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => {
            let mut failure =
                CommandError::new(Kind::General, format!("cannot read {}", path.display()));
            failure.failures[0].causes.push(error.to_string());
            Err(failure)
        }
    }
}

/// The named or the current kube-context; without any, everywhere.
fn scope(call: &Call, args: &SettingScope) -> Result<Scope, CommandError> {
    if args.global {
        return Ok(Scope::Global);
    }
    let context = match &args.kube_context {
        Some(name) => Some(name.clone()),
        None => kubernetes::read(&call.env, None, None)?.and_then(|k| k.context),
    };
    Ok(context.map_or(Scope::Global, Scope::Context))
}

fn no_folder() -> CommandError {
    CommandError::new(Kind::General, "there is no folder for settings")
        .hint("set HOME or XDG_CONFIG_HOME, or name one with --settings-dir")
}
