//! How registries are reached: kaniko's flags and variables as settings of the client.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_registry::credential::{Credential, Helpers};
use kiln_registry::settings::{
    AfterMirrors, ClientCertificate, Pem, Protocol, Proxies, Verification,
};
use kiln_registry::{Client, Keychain, Reference, Settings};

use super::{CliError, wrong};
use crate::cli::Env;
use crate::cli::args::Args;

/// The images of a build whose names are known before it starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Images<'i> {
    /// Where the result goes.
    pub(super) destinations: &'i [Reference],
    /// What the Dockerfile names.
    pub(super) sources: &'i [Reference],
}

/// The client for all registries of a build.
pub(super) fn client(
    args: &Args,
    env: &Env,
    images: Images<'_>,
    notes: &mut Vec<String>,
) -> Result<Client, CliError> {
    let mut settings = Settings::default();
    if let Some(caller) = env.get("UPSTREAM_CLIENT_TYPE") {
        settings.user_agent = format!("{},{caller}", settings.user_agent);
    }
    let retries = ["push-retry", "image-download-retry"].map(|flag| number(args, flag));
    let [push, pull] = retries;
    let tries = push?.max(pull?);
    for step in 0..tries {
        let pause = Duration::from_secs(1 << step.min(5));
        if settings.retry.pauses.len() <= step {
            settings.retry.pauses.push(pause);
        }
    }
    settings.proxies = proxies(env);
    security(args, images.destinations, &mut settings)?;
    mirrors(args, env, &mut settings)?;
    redirects(args, &mut settings)?;
    let keychain = google_key(keychain(env)?, env, &google_hosts(images), notes);
    Client::new(settings, keychain).map_err(|error| CliError::Registry {
        what: "the registry settings".to_owned(),
        source: error.into(),
    })
}

fn number(args: &Args, flag: &'static str) -> Result<usize, CliError> {
    args.one(flag).map_or(Ok(0), |text| {
        text.parse()
            .map_err(|_| wrong(flag, text, "expected a number"))
    })
}

fn proxies(env: &Env) -> Proxies {
    let get = |upper: &str, lower: &str| {
        env.get(lower)
            .or_else(|| env.get(upper))
            .filter(|value| !value.is_empty())
            .cloned()
    };
    Proxies {
        http: get("HTTP_PROXY", "http_proxy"),
        https: get("HTTPS_PROXY", "https_proxy"),
        except: get("NO_PROXY", "no_proxy"),
    }
}

/// http, certificates. In kaniko `--skip-tls-verify` also holds for pulls and
/// `--skip-tls-verify-pull` does nothing; here each does what its name says.
fn security(
    args: &Args,
    destinations: &[Reference],
    settings: &mut Settings,
) -> Result<(), CliError> {
    let pushed = |on: bool| -> Vec<String> {
        let hosts = destinations.iter().filter(|_| on);
        hosts
            .map(|destination| destination.registry().to_owned())
            .collect()
    };
    if args.is_on("insecure-pull") {
        settings.everywhere.protocol = Protocol::PlainAllowed;
    }
    if args.is_on("skip-tls-verify-pull") {
        settings.everywhere.verification = Verification::Skip;
    }
    let plain = pushed(args.is_on("insecure"));
    for host in plain.iter().chain(args.all("insecure-registry")) {
        settings.host_mut(host).connection.protocol = Protocol::PlainAllowed;
    }
    let unverified = pushed(args.is_on("skip-tls-verify"));
    for host in unverified
        .iter()
        .chain(args.all("skip-tls-verify-registry"))
    {
        settings.host_mut(host).connection.verification = Verification::Skip;
    }
    for text in args.all("registry-certificate") {
        let Some((host, file)) = text.split_once('=') else {
            return Err(wrong("registry-certificate", text, "expected HOST=FILE"));
        };
        settings
            .host_mut(host)
            .connection
            .certificates
            .push(pem(file)?);
    }
    for text in args.all("registry-client-cert") {
        let parts = text
            .split_once('=')
            .and_then(|(host, files)| Some((host, files.split_once(',')?)));
        let Some((host, (chain, key))) = parts else {
            return Err(wrong(
                "registry-client-cert",
                text,
                "expected HOST=CERT,KEY",
            ));
        };
        let certificate = ClientCertificate {
            chain: pem(chain)?,
            key: pem(key)?,
        };
        settings.host_mut(host).connection.client_certificate = Some(certificate);
    }
    Ok(())
}

fn pem(file: &str) -> Result<Pem, CliError> {
    Pem::from_file(Path::new(file)).map_err(|error| CliError::Registry {
        what: "a certificate".to_owned(),
        source: error.into(),
    })
}

/// `--registry-host a=b`: unlike a mirror it holds for pushes too, and there is no way back.
fn redirects(args: &Args, settings: &mut Settings) -> Result<(), CliError> {
    for text in args.all("registry-host") {
        let Some((host, address)) = text.split_once('=') else {
            return Err(wrong("registry-host", text, "expected HOST=ADDRESS"));
        };
        let endpoint = address
            .parse()
            .map_err(|error| wrong("registry-host", text, format!("{error}")))?;
        settings.host_mut(host).connect_to = Some(endpoint);
    }
    Ok(())
}

/// `--registry-map a=b;a=c`, and `--registry-mirror m` for Docker Hub; each has a variable.
fn mirrors(args: &Args, env: &Env, settings: &mut Settings) -> Result<(), CliError> {
    let mut given: Vec<(String, String)> = Vec::new();
    let maps = values(args.all("registry-map"), env.get("KANIKO_REGISTRY_MAP"));
    for text in &maps {
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let Some((host, mirror)) = pair.split_once('=') else {
                return Err(wrong(
                    "registry-map",
                    text,
                    "expected HOST=MIRROR[;HOST=MIRROR…]",
                ));
            };
            given.push((host.to_owned(), mirror.to_owned()));
        }
    }
    for text in values(
        args.all("registry-mirror"),
        env.get("KANIKO_REGISTRY_MIRROR"),
    ) {
        for mirror in text.split([',', ';']).filter(|mirror| !mirror.is_empty()) {
            given.push(("docker.io".to_owned(), mirror.to_owned()));
        }
    }
    for (host, mirror) in given {
        let endpoint = mirror
            .parse()
            .map_err(|error| wrong("registry-map", &mirror, format!("{error}")))?;
        settings.host_mut(&host).mirrors.push(endpoint);
    }
    if args.is_on("skip-default-registry-fallback") {
        settings.after_mirrors = AfterMirrors::Fail;
    }
    Ok(())
}

fn values(flag: &[String], variable: Option<&String>) -> Vec<String> {
    flag.iter()
        .chain(variable.filter(|_| flag.is_empty()))
        .cloned()
        .collect()
}

/// Credentials, the first that fits counts: the variable `DOCKER_AUTH_CONFIG`, then the files
/// that docker and podman read.
fn keychain(env: &Env) -> Result<Keychain, CliError> {
    let mut keychain = Keychain::anonymous().with_helpers(Helpers {
        search_path: env.get("PATH").map_or_else(Vec::new, |path| {
            path.split(':')
                .filter(|dir| !dir.is_empty())
                .map(PathBuf::from)
                .collect()
        }),
        ..Helpers::default()
    });
    let failed = |what: &str, source: Box<dyn Error + Send + Sync>| CliError::Registry {
        what: what.to_owned(),
        source,
    };
    if let Some(text) = env
        .get("DOCKER_AUTH_CONFIG")
        .filter(|text| !text.is_empty())
    {
        let origin = "DOCKER_AUTH_CONFIG";
        keychain = keychain
            .with_docker_config(origin, text.as_bytes())
            .map_err(|error| failed(origin, error.into()))?;
    }
    for path in credential_files(env) {
        let Ok(bytes) = fs::read(&path) else { continue };
        let origin = path.display().to_string();
        keychain = keychain
            .with_docker_config(&origin, &bytes)
            .map_err(|error| failed(&origin, error.into()))?;
    }
    Ok(keychain)
}

/// The registries of Google that a build talks to.
fn google_hosts(images: Images<'_>) -> BTreeSet<&str> {
    let all = images.destinations.iter().chain(images.sources);
    all.map(Reference::registry)
        .filter(|host| *host == "gcr.io" || host.ends_with(".gcr.io") || host.ends_with(".pkg.dev"))
        .collect()
}

/// Adds the key file of `GOOGLE_APPLICATION_CREDENTIALS`, behind the files of docker, for these
/// registries: its content is a password of the user `_json_key`
/// (<https://cloud.google.com/artifact-registry/docs/docker/authentication#json-key>). No other
/// kind of file (a user's own login, workload identity federation) is one.
fn google_key(
    keychain: Keychain,
    env: &Env,
    hosts: &BTreeSet<&str>,
    notes: &mut Vec<String>,
) -> Keychain {
    const NAME: &str = "GOOGLE_APPLICATION_CREDENTIALS";
    let Some(path) = env.get(NAME).filter(|path| !path.is_empty()) else {
        return keychain;
    };
    if hosts.is_empty() {
        return keychain;
    }
    match service_account_key(Path::new(path)) {
        Ok(password) => hosts.iter().fold(keychain, |keychain, host| {
            let credential = Credential::Basic {
                username: "_json_key".to_owned(),
                password: password.clone(),
            };
            keychain.with_credential(host, credential, NAME)
        }),
        Err(why) => {
            notes.push(format!(
                "{NAME}={path} is not used for registries: {why}; config.json works for any credential"
            ));
            keychain
        }
    }
}

fn service_account_key(path: &Path) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    // serde's own message may quote the file.
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|_| "it is not JSON".to_owned())?;
    match value.get("type").and_then(serde_json::Value::as_str) {
        Some("service_account") => Ok(text),
        Some(other) => Err(format!("its type is {other}, not service_account")),
        None => Err("it is not the key of a service account".to_owned()),
    }
}

/// The files of docker and podman that may hold credentials, whether they exist or not.
pub(super) fn credential_files(env: &Env) -> Vec<PathBuf> {
    let below = |name: &str, rest: &str| env.get(name).map(|dir| Path::new(dir).join(rest));
    let files = [
        below("DOCKER_CONFIG", "config.json"),
        below("HOME", ".docker/config.json"),
        env.get("REGISTRY_AUTH_FILE").map(PathBuf::from),
        below("XDG_RUNTIME_DIR", "containers/auth.json"),
        below("HOME", ".config/containers/auth.json"),
    ];
    files.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = r#"{"type": "service_account", "private_key": "p"}"#;

    /// User and password for `host`, with a config.json for gcr.io and this key file.
    async fn found(key: &str, host: &str, notes: &mut Vec<String>) -> Option<Credential> {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config.json");
        // echo -n me:pw | base64
        fs::write(config, r#"{"auths": {"gcr.io": {"auth": "bWU6cHc="}}}"#).unwrap();
        let file = home.path().join("key");
        fs::write(&file, key).unwrap();
        let env = Env::from([
            (
                "DOCKER_CONFIG".to_owned(),
                home.path().display().to_string(),
            ),
            (
                "GOOGLE_APPLICATION_CREDENTIALS".to_owned(),
                file.display().to_string(),
            ),
        ]);
        let parse = |name: &str| Reference::parse(name).unwrap();
        let images = Images {
            destinations: &[parse("gcr.io/p/app"), parse("evil-gcr.io/p/app")],
            sources: &[
                parse("europe-north1-docker.pkg.dev/p/r/base"),
                parse("eu.gcr.io/p/base"),
                parse("alpine"),
            ],
        };
        let keychain = google_key(keychain(&env).unwrap(), &env, &google_hosts(images), notes);
        keychain.lookup(host, "p/app").await.unwrap().credential
    }

    fn basic(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Basic {
            username: username.to_owned(),
            password: password.to_owned(),
        })
    }

    #[tokio::test]
    async fn a_service_account_key_is_a_password_for_google_alone() {
        let mut notes = Vec::new();
        for (host, expected) in [
            ("europe-north1-docker.pkg.dev", basic("_json_key", KEY)),
            ("eu.gcr.io", basic("_json_key", KEY)),
            ("gcr.io", basic("me", "pw")),
            ("evil-gcr.io", None),
            ("docker.io", None),
        ] {
            assert_eq!(found(KEY, host, &mut notes).await, expected, "{host}");
        }
        assert_eq!(notes, [""; 0]);
    }

    #[tokio::test]
    async fn other_files_are_named_and_not_sent() {
        for (file, why) in [
            (
                r#"{"type": "authorized_user"}"#,
                "its type is authorized_user",
            ),
            (r#"["service_account"]"#, "it is not the key of a service"),
            ("s3cret", "it is not JSON"),
        ] {
            let mut notes = Vec::new();
            assert_eq!(found(file, "eu.gcr.io", &mut notes).await, None, "{file}");
            assert_eq!(notes.len(), 1);
            assert!(notes[0].contains(why), "{}", notes[0]);
            assert!(!notes[0].contains("s3cret"), "{}", notes[0]);
        }
    }
}
