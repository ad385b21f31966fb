//! How registries are reached: kaniko's flags and variables as settings of the client.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_registry::credential::Helpers;
use kiln_registry::credential::cloud::{Helper, HelperName};
use kiln_registry::settings::{
    AfterMirrors, AfterRefusal, ClientCertificate, Pem, Protocol, Proxies, Verification,
};
use kiln_registry::{Client, Keychain, Reference, Settings};

use super::{CliError, wrong};
use crate::base_cache::BaseCache;
use crate::cli::Env;
use crate::cli::args::Args;

/// Where a warmer's images are without `--cache-dir` (kaniko).
const WARMED: &str = "/cache";

/// The client for all registries of a build.
pub(super) fn client(
    args: &Args,
    env: &Env,
    destinations: &[Reference],
) -> Result<Client, CliError> {
    let mut settings = Settings::default();
    if let Some(caller) = env.get("UPSTREAM_CLIENT_TYPE") {
        settings.user_agent = format!("{},{caller}", settings.user_agent);
    }
    let retries = ["push-retry", "image-download-retry"].map(|flag| number(args, flag));
    let [push, pull] = retries;
    let tries = push?.max(pull?);
    if tries > 0 {
        // kaniko tries again whatever the failure.
        settings.retry.after_refusal = AfterRefusal::TryAgain;
    }
    for step in 0..tries {
        let pause = Duration::from_secs(1 << step.min(5));
        if settings.retry.pauses.len() <= step {
            settings.retry.pauses.push(pause);
        }
    }
    settings.proxies = proxies(env);
    let warmed = args.one("cache-dir").filter(|dir| !dir.is_empty());
    if let Some(dir) = warmed.or_else(|| args.is_on("cache").then_some(WARMED)) {
        settings.local_blobs = BaseCache::new(PathBuf::from(dir), super::ttl(args)?).blobs();
    }
    settings.authorities = authorities(env);
    security(args, destinations, &mut settings)?;
    mirrors(args, env, &mut settings)?;
    redirects(args, &mut settings)?;
    let keychain = keychain(env)?.with_built_ins(&helpers(args)?, env.clone());
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

/// `--credential-helpers`: all that are built in without, none when it is empty.
fn helpers(args: &Args) -> Result<Vec<Helper>, CliError> {
    if !args.is_given("credential-helpers") {
        return Ok(Helper::ALL.to_vec());
    }
    args.all("credential-helpers")
        .iter()
        .flat_map(|text| text.split(','))
        .filter(|name| !name.is_empty())
        .map(|name| {
            name.parse()
                .map_err(|error: HelperName| wrong("credential-helpers", name, error.to_string()))
        })
        .collect()
}

/// `SSL_CERT_FILE` and the folders of `SSL_CERT_DIR` (OpenSSL's and Go's variables): authorities
/// besides the built-in ones.
fn authorities(env: &Env) -> Vec<PathBuf> {
    let file = env.get("SSL_CERT_FILE").map(PathBuf::from);
    let folders = env.get("SSL_CERT_DIR");
    let folders = folders.iter().flat_map(|list| list.split(':'));
    let paths = file.into_iter().chain(folders.map(PathBuf::from));
    paths.filter(|path| path.is_absolute()).collect()
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
    use crate::cli::flags::FLAGS;

    fn of(words: &[&str]) -> Result<Vec<Helper>, CliError> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        helpers(&Args::parse(&words, &FLAGS).unwrap())
    }

    #[test]
    fn all_helpers_some_or_none() {
        assert_eq!(of(&[]).unwrap(), Helper::ALL);
        assert_eq!(of(&["--credential-helpers="]).unwrap(), []);
        let some = of(&["--credential-helpers=ecr", "--credential-helpers=env"]).unwrap();
        assert_eq!(some, [Helper::Ecr, Helper::Env]);
        let error = of(&["--credential-helpers=ecx"]).unwrap_err().to_string();
        assert!(error.contains("google, ecr, acr or gitlab"), "{error}");
    }
}
