//! What RUN sees of the pod, and what it must not see.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kiln_sandbox::Rung;
use kiln_sandbox::mounts::{self, Mount};

use super::{CliError, jobs, kaniko_dir, registry, secrets, wrong};
use crate::cli::Env;
use crate::cli::args::Args;
use crate::ignore_path::IgnoredPaths;
use crate::request::Sandbox;

/// Where a pod's service account token is mounted, under both of its names.
const SERVICE_ACCOUNT: [&str; 2] = [
    "/var/run/secrets/kubernetes.io",
    "/run/secrets/kubernetes.io",
];
/// Variables that name a file with credentials: Google's, AWS' and Azure's SDKs read them.
const CREDENTIAL_FILES: [&str; 4] = [
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_FEDERATED_TOKEN_FILE",
];
/// Where the same SDKs look without such a variable, below the home directory.
const HOME_CREDENTIALS: [&str; 2] = [
    ".aws/credentials",
    ".config/gcloud/application_default_credentials.json",
];

pub(super) fn sandbox(
    args: &Args,
    env: &Env,
    (store_dir, context): (&Path, &Path),
    notes: &mut Vec<String>,
) -> Result<Sandbox, CliError> {
    let isolation = match args.one("isolation") {
        None | Some("" | "auto") => None,
        Some(name) => Some(Rung::from_name(name).ok_or_else(|| {
            let names: Vec<&str> = Rung::ALL.iter().map(|rung| rung.name()).collect();
            wrong(
                "isolation",
                name,
                format!("expected one of {}", names.join(", ")),
            )
        })?),
    };
    let mut hidden = vec![kaniko_dir(args, env), store_dir.to_owned()];
    hidden.extend(SERVICE_ACCOUNT.map(PathBuf::from));
    for file in credential_files(env) {
        let places = hiding_places(&file, context);
        let is_news = places
            .iter()
            .any(|place| place.exists() && !hidden.iter().any(|hidden| place.starts_with(hidden)));
        if is_news {
            notes.push(format!(
                "credentials of this pod, kept from RUN where the isolation can: {}",
                file.display()
            ));
        }
        hidden.extend(places);
    }
    hidden.sort();
    hidden.dedup();
    let volumes = volumes(env, &hidden, context, notes);
    Ok(Sandbox {
        isolation,
        jobs: Some(jobs::jobs(args, &volumes)?),
        volumes,
        hidden,
        ignored: ignored(args)?,
        secrets: secrets::secrets(args, env)?,
        git: env.clone(),
        agents: agents(args, env)?,
    })
}

/// `--ignore-path`
fn ignored(args: &Args) -> Result<IgnoredPaths, CliError> {
    const FLAG: &str = "ignore-path";
    let mut ignored = IgnoredPaths::default();
    for text in args.all(FLAG) {
        let added = ignored.add(text);
        added.map_err(|error| wrong(FLAG, text, error.to_string()))?;
    }
    Ok(ignored)
}

/// What the pod has mounted for the build. On a machine that is no container its own mounts are
/// none of the build's business.
fn volumes(env: &Env, hidden: &[PathBuf], context: &Path, notes: &mut Vec<String>) -> Vec<PathBuf> {
    let Ok(mounted) = mounts::read() else {
        return Vec::new();
    };
    let root_is_overlay = mounted
        .iter()
        .rfind(|mount| mount.mount_point == Path::new("/"))
        .is_some_and(|mount| mount.fs_type == "overlay");
    if !root_is_overlay && !env.contains_key("KUBERNETES_SERVICE_HOST") {
        return Vec::new();
    }
    let own: Vec<PathBuf> = hidden.iter().cloned().chain([context.to_owned()]).collect();
    let mut volumes = mounts::volumes(&mounted, &own);
    // The volume that holds the context is not shown as such: where a stage names the context's
    // path it sees a copy, and an image's own files at that path are not covered.
    volumes.retain(|volume| !context.starts_with(volume));
    // A mount that another one covers is still listed, but nothing is there any more.
    volumes.retain(|volume| volume.exists());
    for volume in &volumes {
        let kind = if is_secret(&mounted, volume) {
            "secret volume"
        } else {
            "volume"
        };
        notes.push(format!("RUN sees the {kind} {}", volume.display()));
    }
    volumes
}

/// Files of this pod that identify it to someone, as far as its environment names them.
fn credential_files(env: &Env) -> Vec<PathBuf> {
    let named = CREDENTIAL_FILES.iter().filter_map(|name| env.get(*name));
    let home = env.get("HOME").map(PathBuf::from);
    let at_home = home
        .iter()
        .flat_map(|home| HOME_CREDENTIALS.map(|file| home.join(file)));
    let mut files: Vec<PathBuf> = named
        .map(PathBuf::from)
        .chain(registry::credential_files(env))
        .chain(at_home)
        .filter(|file| file.is_absolute() && file.exists())
        .collect();
    files.sort();
    files.dedup();
    files
}

/// What has to be hidden for a file not to be seen: its directory, because the files of a
/// Kubernetes secret are links into a neighbour (`..data`); where that directory holds the
/// context, the file alone. Each also by the path that its links lead to.
fn hiding_places(file: &Path, context: &Path) -> Vec<PathBuf> {
    let dir = file
        .parent()
        .filter(|dir| !context.starts_with(dir) && !holds(dir, context));
    let place = dir.unwrap_or(file).to_owned();
    let real = [file.canonicalize(), place.canonicalize()];
    let mut places: Vec<PathBuf> = real.into_iter().flatten().chain([place]).collect();
    places.sort();
    places.dedup();
    places
}

/// Whether the directory, links followed, holds the context.
fn holds(dir: &Path, context: &Path) -> bool {
    dir.canonicalize()
        .is_ok_and(|real| context.starts_with(real))
}

/// The kubelet keeps secrets in memory, and their content behind the link `..data`.
fn is_secret(mounted: &[Mount], volume: &Path) -> bool {
    let mount = mounted.iter().rfind(|mount| mount.mount_point == volume);
    mount.is_some_and(|mount| mount.fs_type == "tmpfs")
        && volume.join("..data").symlink_metadata().is_ok()
}

/// `--ssh ID[=SOCKET]`; without a socket that of `SSH_AUTH_SOCK`.
fn agents(args: &Args, env: &Env) -> Result<BTreeMap<String, PathBuf>, CliError> {
    use std::os::unix::fs::FileTypeExt;
    let mut agents = BTreeMap::new();
    for text in args.all("ssh") {
        let (id, socket) = match text.split_once('=') {
            Some((id, socket)) => (id, PathBuf::from(socket)),
            None => {
                let why = "SSH_AUTH_SOCK is not set: write --ssh ID=SOCKET";
                let socket = env
                    .get("SSH_AUTH_SOCK")
                    .ok_or_else(|| wrong("ssh", text, why))?;
                (text.as_str(), PathBuf::from(socket))
            }
        };
        let metadata = fs::metadata(&socket).map_err(|source| CliError::Read {
            what: "the socket of the agent",
            path: socket.clone(),
            source,
        })?;
        if !metadata.file_type().is_socket() {
            let why = "it is no socket: load the key into an agent (ssh-add) and name its socket";
            return Err(wrong("ssh", text, why));
        }
        let id = if id.is_empty() { "default" } else { id };
        agents.insert(id.to_owned(), socket);
    }
    Ok(agents)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_directory_of_a_mounted_secret_is_hidden_whole() {
        let pod = tempfile::tempdir().unwrap();
        let root = pod.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("secret/..2026")).unwrap();
        fs::write(root.join("secret/..2026/key"), "k").unwrap();
        symlink("..2026", root.join("secret/..data")).unwrap();
        symlink("..data/key", root.join("secret/key")).unwrap();
        let places = hiding_places(&root.join("secret/key"), &root.join("workspace"));
        assert_eq!(
            places,
            [root.join("secret"), root.join("secret/..2026/key")]
        );
    }

    #[test]
    fn a_key_beside_the_context_does_not_hide_the_context() {
        let pod = tempfile::tempdir().unwrap();
        let root = pod.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("workspace/app")).unwrap();
        fs::write(root.join("workspace/key"), "k").unwrap();
        symlink("workspace", root.join("link")).unwrap();
        let context = root.join("workspace/app");
        let key = root.join("workspace/key");
        assert_eq!(hiding_places(&key, &context), vec![key.clone()]);
        let linked = root.join("link/key");
        assert_eq!(hiding_places(&linked, &context), [linked.clone(), key]);
    }

    #[test]
    fn credentials_are_found_by_their_variables_and_at_home() {
        let pod = tempfile::tempdir().unwrap();
        let home = pod.path();
        for file in [
            "key",
            ".docker/config.json",
            ".aws/credentials",
            "unrelated",
        ] {
            fs::create_dir_all(home.join(file).parent().unwrap()).unwrap();
            fs::write(home.join(file), "{}").unwrap();
        }
        let env = Env::from([
            ("HOME".to_owned(), home.display().to_string()),
            (
                "GOOGLE_APPLICATION_CREDENTIALS".to_owned(),
                home.join("key").display().to_string(),
            ),
            (
                "AWS_WEB_IDENTITY_TOKEN_FILE".to_owned(),
                "relative".to_owned(),
            ),
        ]);
        assert_eq!(
            credential_files(&env),
            [".aws/credentials", ".docker/config.json", "key"].map(|file| home.join(file))
        );
    }
}
