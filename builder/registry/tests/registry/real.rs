//! Starts distribution's `registry` and runs `crane`, which the cluster harness builds.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kiln_registry::settings::Pem;
use kiln_registry::{Client, Keychain, Settings};

use crate::certificates::{Authority, Certified};
use crate::token_server::{ISSUER, SERVICE, TokenServer};

/// bcrypt of `secret`, made with libxcrypt.
const HTPASSWD: &str = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// Where the harness keeps its programs; `None` skips the test, with the reason on standard error.
///
/// With `KILN_REQUIRE_ALL=1` nothing may be skipped.
#[allow(
    clippy::disallowed_methods,
    reason = "a test is told by its caller where things are"
)]
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
pub fn program(name: &str) -> Option<PathBuf> {
    // As the harness prints it (`kiln-test-cluster env`), or where it is without being told.
    let folder = std::env::var_os("KILN_TEST_BIN");
    let path = folder
        .map_or_else(
            || PathBuf::from("/var/lib/kiln-test-cluster/bin"),
            PathBuf::from,
        )
        .join(name);
    if path.is_file() {
        return Some(path);
    }
    let required = std::env::var_os("KILN_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(
        !required,
        "{} is missing and KILN_REQUIRE_ALL=1 is set",
        path.display()
    );
    eprintln!("skipped: {} is missing", path.display());
    None
}

pub enum Login<'a> {
    None,
    Password,
    Token(&'a TokenServer),
}

#[derive(Default)]
pub struct Tls<'a> {
    pub server: Option<Certified>,
    /// Whose client certificates are asked for.
    pub clients: Option<&'a Authority>,
}

/// A running registry with a folder of its own.
pub struct Registry {
    child: Child,
    folder: tempfile::TempDir,
    pub host: String,
}

impl Registry {
    /// `None` when there is no registry to start.
    pub fn start(login: &Login<'_>, tls: &Tls<'_>) -> Option<Self> {
        let program = program("registry")?;
        let folder = tempfile::tempdir().unwrap();
        let config = configuration(folder.path(), login, tls);
        let path = folder.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let mut child = Command::new(program)
            .arg("serve")
            .arg(&path)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut read = String::new();
        let host = loop {
            let start = read.len();
            assert_ne!(
                log.read_line(&mut read).unwrap(),
                0,
                "the registry did not start:\n{read}"
            );
            if let Some((_, address)) = read[start..].split_once("listening on ") {
                let end = address.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ':')));
                break address[..end.unwrap_or(address.len())].to_owned();
            }
        };
        // The log is read on, so that the registry never waits for it.
        std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(drop));
        Some(Self {
            child,
            folder,
            host,
        })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs crane against this registry, trusting `authority`, logged in as `login`; gives what it printed.
    pub fn crane(
        &self,
        authority: Option<&Authority>,
        login: Option<(&str, &str)>,
        arguments: &[&str],
    ) -> Option<String> {
        let authority = authority.map(Authority::pem);
        crane(&self.host, authority.as_deref(), login, arguments)
    }
}

/// Runs crane against the registry at `host`, trusting an authority in PEM format.
pub fn crane(
    host: &str,
    authority: Option<&str>,
    login: Option<(&str, &str)>,
    arguments: &[&str],
) -> Option<String> {
    let program = program("crane")?;
    let folder = tempfile::tempdir().unwrap();
    let mut auths = serde_json::json!({});
    if let Some((username, password)) = login {
        auths[host] = serde_json::json!({"username": username, "password": password});
    }
    std::fs::write(
        folder.path().join("config.json"),
        serde_json::json!({"auths": auths}).to_string(),
    )
    .unwrap();
    let mut command = Command::new(program);
    command.args(arguments).env("DOCKER_CONFIG", folder.path());
    if let Some(authority) = authority {
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, authority).unwrap();
        command.env("SSL_CERT_FILE", &path);
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "crane {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The registry reads YAML, of which JSON is a part.
fn configuration(folder: &Path, login: &Login<'_>, tls: &Tls<'_>) -> serde_json::Value {
    let file = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let mut config = serde_json::json!({
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": folder.join("data")}, "delete": {"enabled": true}},
        "http": {"addr": "127.0.0.1:0", "secret": "one"},
    });
    if let Some(server) = &tls.server {
        config["http"]["tls"] = serde_json::json!({
            "certificate": file("server.pem", &server.certificate),
            "key": file("server.key", &server.key),
        });
    }
    if let Some(clients) = tls.clients {
        config["http"]["tls"]["clientcas"] =
            serde_json::json!([file("clients.pem", &clients.pem())]);
    }
    match login {
        Login::None => {}
        Login::Password => {
            config["auth"] = serde_json::json!({"htpasswd": {"realm": "test", "path": file("htpasswd", HTPASSWD)}});
        }
        Login::Token(server) => {
            config["auth"] = serde_json::json!({"token": {
                "realm": format!("http://{}/token", server.address),
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": file("tokens.pem", &server.certificate),
            }});
        }
    }
    config
}

/// Settings that trust `authority` for `host`.
pub fn trusting(host: &str, authority: &Authority) -> Settings {
    let mut settings = Settings::default();
    settings.host_mut(host).connection.certificates =
        vec![Pem::new("test authority", authority.pem())];
    settings
}

/// A keychain from a Docker configuration with one user.
pub fn keychain(host: &str, (username, password): (&str, &str)) -> Keychain {
    let config = serde_json::json!({"auths": {host: {"username": username, "password": password}}});
    Keychain::anonymous()
        .with_docker_config("test.json", config.to_string().as_bytes())
        .unwrap()
}

pub fn client(settings: Settings, keychain: Keychain) -> Client {
    Client::new(settings, keychain).unwrap()
}
