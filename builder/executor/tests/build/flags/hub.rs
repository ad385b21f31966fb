//! A registry with TLS and token login, directories, and runs of the executor.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kiln_registry::credential::Credential;
use kiln_registry::server::{
    Access, Anonymous, Identity, Password, Protection, Registry, Rights, Scheme, Serving, User,
};
use kiln_registry::settings::Pem;
use kiln_registry::{Client, Keychain, Manifest, Reference, Settings};
use serde_json::{Value, json};

pub const USER: &str = "builder";
pub const PASSWORD: &str = "secret";

pub struct Hub {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    _serving: Serving,
    pub host: String,
}

/// How a run ended.
pub struct Run {
    pub code: i32,
    pub output: String,
    pub log: String,
}

impl Run {
    /// A run that has to succeed.
    #[track_caller]
    pub fn good(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.log);
        self
    }

    /// A run that has to fail, and whose log has to say this.
    #[track_caller]
    pub fn fails(self, with: &str) -> Self {
        assert_ne!(self.code, 0, "{}", self.log);
        assert!(self.log.contains(with), "{}", self.log);
        self
    }
}

/// A certificate for this machine, signed by an authority whose PEM text comes first.
pub fn certified() -> (String, Identity) {
    certified_for(&["localhost", "127.0.0.1"])
}

/// A certificate for these names and addresses, and its authority, as [`certified`].
pub fn certified_for(names: &[&str]) -> (String, Identity) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = names.iter().map(|name| (*name).to_owned());
    let certificate = CertificateParams::new(names.collect::<Vec<_>>())
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let identity = Identity {
        certificates: certificate.pem().into_bytes(),
        key: key.serialize_pem().into_bytes(),
    };
    (issuer.pem(), identity)
}

impl Hub {
    pub fn start() -> Self {
        Self::with_user(USER, PASSWORD)
    }

    /// With another user than the one of `config.json`.
    pub fn with_user(name: &str, password: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let access = Access::Protected(Protection {
            scheme: Scheme::Token,
            users: vec![User {
                name: name.to_owned(),
                password: Password::Plain(password.to_owned()),
                rights: Rights::All,
            }],
            anonymous: Anonymous::Nothing,
        });
        let registry = Registry::open(&dir.path().join("registry"), access).unwrap();
        let (authority, identity) = certified();
        fs::write(dir.path().join("ca.pem"), authority).unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let serving = runtime
            .block_on(Serving::start(registry, address, Some(&identity)))
            .unwrap();
        let host = serving.address().to_string();
        fs::create_dir(dir.path().join("docker")).unwrap();
        let login = json!({"auths": {&host: {"username": USER, "password": PASSWORD}}});
        fs::write(dir.path().join("docker/config.json"), login.to_string()).unwrap();
        Self {
            dir,
            runtime,
            _serving: serving,
            host,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// `--registry-certificate` for this registry.
    pub fn trust(&self) -> String {
        format!(
            "--registry-certificate={}={}",
            self.host,
            self.text("ca.pem")
        )
    }

    /// A directory with these files.
    pub fn context(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.path(name);
        for (file, text) in files {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    /// A directory whose image has one file.
    pub fn simple(&self) -> PathBuf {
        self.context(
            "simple",
            &[
                ("Dockerfile", "FROM scratch\nCOPY file /file\n"),
                ("file", "content"),
            ],
        )
    }

    /// Runs a program with exactly these arguments, these variables besides the usual ones, and this input.
    pub fn program(&self, program: &str, args: &[&str], env: &[(&str, &str)], input: &[u8]) -> Run {
        let mut child = Command::new(program)
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("KANIKO_DIR", self.path("kaniko"))
            .env("DOCKER_CONFIG", self.path("docker"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(env.iter().copied())
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Who does not read its input may close it.
        let _ = stdin.write_all(input);
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        Run {
            code: output.status.code().unwrap(),
            output: String::from_utf8(output.stdout).unwrap(),
            log: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub fn executor(&self, args: &[&str], env: &[(&str, &str)]) -> Run {
        self.program(env!("CARGO_BIN_EXE_executor"), args, env, b"")
    }

    /// Builds `context` for `image`, with further flags.
    pub fn build(&self, context: &Path, image: &str, more: &[&str]) -> Run {
        self.build_with(context, image, more, &[])
    }

    pub fn build_with(
        &self,
        context: &Path,
        image: &str,
        more: &[&str],
        env: &[(&str, &str)],
    ) -> Run {
        let (context, image, trust) = (
            context.display().to_string(),
            self.image(image),
            self.trust(),
        );
        let args: Vec<&str> = ["-c", &context, "-d", &image, &trust]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        self.executor(&args, env)
    }

    fn client(&self) -> Client {
        let mut settings = Settings::default();
        let pem = Pem::from_file(&self.path("ca.pem")).unwrap();
        settings
            .host_mut(&self.host)
            .connection
            .certificates
            .push(pem);
        let keychain = [(USER, PASSWORD)].into_iter().fold(
            Keychain::anonymous(),
            |keychain, (user, password)| {
                let credential = Credential::Basic {
                    username: user.to_owned(),
                    password: password.to_owned(),
                };
                keychain.with_credential(&self.host, credential, "test")
            },
        );
        Client::new(settings, keychain).unwrap()
    }

    fn reference(&self, image: &str) -> Reference {
        Reference::parse(&self.image(image)).unwrap()
    }

    pub fn pulled(&self, image: &str) -> Manifest {
        let client = self.client();
        self.runtime
            .block_on(client.manifest(&self.reference(image)))
            .unwrap()
    }

    pub fn exists(&self, image: &str) -> bool {
        let client = self.client();
        let found = self
            .runtime
            .block_on(client.head_manifest(&self.reference(image)));
        found.unwrap().is_some()
    }

    pub fn manifest(&self, image: &str) -> Value {
        serde_json::from_slice(self.pulled(image).bytes()).unwrap()
    }

    pub fn digest(&self, image: &str) -> String {
        self.pulled(image).digest().to_string()
    }

    /// The bytes of a blob that a descriptor in a manifest names.
    pub fn blob(&self, image: &str, descriptor: &Value) -> Vec<u8> {
        let descriptor = serde_json::from_value(descriptor.clone()).unwrap();
        let client = self.client();
        let bytes =
            self.runtime
                .block_on(client.blob_bytes(&self.reference(image), &descriptor, 1 << 30));
        bytes.unwrap().to_vec()
    }

    pub fn config(&self, image: &str) -> Value {
        let manifest = self.manifest(image);
        serde_json::from_slice(&self.blob(image, &manifest["config"])).unwrap()
    }

    /// The files of an image's last layer with their contents.
    pub fn files(&self, image: &str) -> Vec<(String, String)> {
        let manifest = self.manifest(image);
        let layer = manifest["layers"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .clone();
        let bytes = self.blob(image, &layer);
        let mut tar = Vec::new();
        std::io::copy(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut tar).unwrap();
        let mut archive = tar::Archive::new(&tar[..]);
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.header().entry_type() == tar::EntryType::Regular {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
                found.push((entry.path().unwrap().display().to_string(), text));
            }
        }
        found
    }
}

/// The bytes of a gzipped tar of a directory.
pub fn archive(dir: &Path) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    {
        let mut tar = tar::Builder::new(&mut gzip);
        tar.append_dir_all(".", dir).unwrap();
        tar.finish().unwrap();
    }
    gzip.finish().unwrap()
}
