//! Registries as this user reaches them: user-level settings, docker's
//! credentials, the configuration's own words about insecure hosts.

use std::path::{Path, PathBuf};

use kiln_builder::cluster::RegistryReach;
use kiln_registry::credential::Helpers;
use kiln_registry::settings::{Endpoint, Pem, Protocol, Proxies, SettingsError, Verification};
use kiln_registry::{Client, Keychain};
use kiln_schemas::event::{Event, Events};
use kiln_schemas::model::Project;
use kiln_schemas::settings::{Settings, SettingsFile};

use super::Choices;
use crate::args::Global;
use crate::env::Environment;
use crate::error::{CommandError, Kind};

/// Where the user-level settings are.
pub fn settings_file(env: &Environment, global: &Global) -> Option<PathBuf> {
    let dir = global.settings_dir.clone().or_else(|| env.config_dir())?;
    Some(dir.join("config.yaml"))
}

/// The settings for a kube-context: Kiln's own file, and skaffold's behind it.
pub fn settings(
    env: &Environment,
    global: &Global,
    context: Option<&str>,
    events: &Events,
) -> Result<Settings, CommandError> {
    let mut effective = Settings::default();
    if let Some((path, text)) = settings_file(env, global).and_then(read) {
        let file = SettingsFile::parse(&text, &path.display().to_string())
            .map_err(|found| CommandError::config(&found))?;
        effective = file.effective(context);
    }
    let skaffold = env.home.as_ref().map(|home| home.join(".skaffold/config"));
    if let Some((path, text)) = skaffold.and_then(read) {
        match SettingsFile::parse_skaffold(&text, &path.display().to_string()) {
            Ok(file) => effective = effective.over(&file.effective(context)),
            // It is not ours: what is wrong in it must not stop Kiln.
            Err(found) => {
                for diagnostic in found {
                    let message = format!("skaffold's settings are ignored: {diagnostic}");
                    events.emit(Event::Warning {
                        message,
                        hint: diagnostic.help,
                    });
                }
            }
        }
    }
    Ok(effective)
}

fn read(path: PathBuf) -> Option<(PathBuf, String)> {
    let text = std::fs::read_to_string(&path).ok()?;
    Some((path, text))
}

/// The repository to push to: the command line's, else the settings'.
pub fn default_repo(choices: &Choices, settings: &Settings) -> Option<String> {
    match &choices.default_repo {
        Some(given) => Some(given.clone()).filter(|repo| !repo.is_empty()),
        None => settings
            .default_repo
            .clone()
            .filter(|repo| !repo.is_empty()),
    }
}

/// Docker's own credentials of this user.
pub fn docker_config(env: &Environment) -> Option<Vec<u8>> {
    std::fs::read(env.docker_config()?).ok()
}

/// Hosts without TLS, from everywhere that names some.
pub fn insecure(project: &Project, choices: &Choices, settings: &Settings) -> Vec<String> {
    let mut hosts = choices.insecure_registries.clone();
    hosts.extend(
        project
            .modules
            .iter()
            .flat_map(|m| m.build.insecure_registries.clone()),
    );
    hosts.extend(settings.insecure_registries.clone());
    for (name, host) in settings.registries.iter().filter(|(_, host)| host.insecure) {
        hosts.push(host.host.clone().unwrap_or_else(|| name.clone()));
    }
    hosts.sort();
    hosts.dedup();
    hosts
}

/// A client for this host.
pub fn client(
    env: &Environment,
    project: &Project,
    choices: &Choices,
    settings: &Settings,
    docker_config: Option<&[u8]>,
) -> Result<Client, CommandError> {
    let wrong = |error: SettingsError| CommandError::from_error(Kind::Config, &error);
    let mut reach = kiln_registry::Settings {
        proxies: proxies(env),
        ..kiln_registry::Settings::default()
    };
    for host in insecure(project, choices, settings) {
        reach.host_mut(&host).connection.protocol = Protocol::PlainAllowed;
    }
    for (name, host) in &settings.registries {
        let called = host.host.clone().unwrap_or_else(|| name.clone());
        if host.host.is_some() {
            reach.host_mut(name).connect_to = Some(called.parse::<Endpoint>().map_err(wrong)?);
        }
        let connection = &mut reach.host_mut(&called).connection;
        if host.skip_tls_verify {
            connection.verification = Verification::Skip;
        }
        if let Some(path) = &host.certificate {
            connection
                .certificates
                .push(Pem::from_file(&expand_home(env, path)).map_err(wrong)?);
        }
    }
    let mut keychain = Keychain::anonymous().with_helpers(Helpers {
        search_path: env
            .var("PATH")
            .map(|p| std::env::split_paths(p).collect())
            .unwrap_or_default(),
        ..Helpers::default()
    });
    if let Some(bytes) = docker_config {
        let origin = env
            .docker_config()
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        keychain = keychain
            .with_docker_config(&origin, bytes)
            .map_err(|error| CommandError::from_error(Kind::Config, &error))?;
    }
    Client::new(reach, keychain).map_err(wrong)
}

/// The same settings as the executor in the pod needs them.
pub fn reach(
    env: &Environment,
    choices: &Choices,
    project: &Project,
    settings: &Settings,
    pull_config: Option<Vec<u8>>,
) -> Result<RegistryReach, std::io::Error> {
    let mut reach = RegistryReach {
        insecure: insecure(project, choices, settings),
        pull_config,
        ..RegistryReach::default()
    };
    for (name, host) in &settings.registries {
        let called = host.host.clone().unwrap_or_else(|| name.clone());
        if host.host.is_some() {
            reach.hosts.insert(name.clone(), called.clone());
        }
        if let Some(path) = &host.certificate {
            reach
                .certificates
                .insert(called, std::fs::read(expand_home(env, path))?);
        }
    }
    Ok(reach)
}

fn proxies(env: &Environment) -> Proxies {
    let either =
        |lower: &str, upper: &str| env.var(lower).or_else(|| env.var(upper)).map(str::to_owned);
    Proxies {
        http: either("http_proxy", "HTTP_PROXY"),
        https: either("https_proxy", "HTTPS_PROXY"),
        except: either("no_proxy", "NO_PROXY"),
    }
}

fn expand_home(env: &Environment, path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), &env.home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => Path::new(path).to_owned(),
    }
}
