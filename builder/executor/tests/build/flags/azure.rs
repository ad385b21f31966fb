//! Contexts in Azure's storage, on Azurite (Microsoft's own emulator): the program asks for the address of a real
//! account, which leads to Azurite in a mount namespace with a hosts file of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kiln_registry::credential::cloud::hmac_sha256;
use kiln_registry::settings::Pem;
use kiln_registry::{Client, Keychain, ServiceRequest, Settings};
use serde_json::json;

use super::hub::{Hub, Run, archive, certified_for};
use super::web::{Request, Web, reply};
use crate::world::{skip, tool};

const ACCOUNT: &str = "team";
const HOST: &str = "team.blob.core.windows.net";
/// Decoded.
const KEY: &[u8] = b"the key of an account, which has sixty-four bytes in the cloud..";
/// The version of the protocol that decides how shared access signatures are made.
const VERSION: &str = "2019-12-12";
const EXPIRY: &str = "2999-01-01T00:00:00Z";

struct Storage {
    server: Child,
    port: u16,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Drop for Storage {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Storage {
    /// With these further arguments; `None` with a reason on standard error where it cannot run.
    fn start(hub: &Hub, more: &[&str]) -> Option<Self> {
        let azurite = tool("azurite-blob")?;
        if !rustix::process::geteuid().is_root() {
            skip("not root");
            return None;
        }
        let (authority, identity) = certified_for(&[HOST, "127.0.0.1"]);
        let hosts = fs::read_to_string("/etc/hosts").unwrap();
        for (name, text) in [
            ("azure.pem", authority.as_bytes()),
            ("certificate.pem", &identity.certificates),
            ("key.pem", &identity.key),
            ("hosts", format!("127.0.0.1 {HOST}\n{hosts}").as_bytes()),
        ] {
            fs::write(hub.path(name), text).unwrap();
        }
        let mut server = Command::new(azurite)
            .args(["--blobPort", "0", "--cert", "certificate.pem"])
            .args(["--key", "key.pem", "--inMemoryPersistence"])
            .args(["--disableTelemetry", "--silent"])
            .args(more)
            .env(
                "AZURITE_ACCOUNTS",
                format!("{ACCOUNT}:{}", STANDARD.encode(KEY)),
            )
            .current_dir(hub.path(""))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let port = lines
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, port) = line.split_once("listens on https://127.0.0.1:")?;
                port.trim().parse().ok()
            })
            .expect("Azurite has to start");
        let mut settings = Settings::default();
        let pem = Pem::from_file(&hub.path("azure.pem")).unwrap();
        let connection = &mut settings.host_mut(&format!("127.0.0.1:{port}")).connection;
        connection.certificates.push(pem);
        Some(Self {
            server,
            port,
            client: Client::new(settings, Keychain::anonymous()).unwrap(),
            runtime: tokio::runtime::Runtime::new().unwrap(),
        })
    }

    /// Creates a container, a blob or a snapshot of one; the answer's `header`.
    fn put(&self, path: &str, (name, value): (&'static str, &str), body: &[u8]) -> Option<String> {
        let with = if path.contains('?') { '&' } else { '?' };
        let signed = account_signature();
        let url = format!(
            "https://127.0.0.1:{}/{ACCOUNT}/{path}{with}{signed}",
            self.port
        );
        let request = ServiceRequest::new(http::Method::PUT, url.parse().unwrap())
            .header(name, value)
            .body(body.to_vec());
        let answer = self.runtime.block_on(self.client.service_once(&request));
        let answer = answer.unwrap();
        assert_eq!(answer.status().as_u16(), 201, "{path}: {answer:?}");
        answer.header("x-ms-snapshot").map(str::to_owned)
    }

    /// Two containers, of which `open` is for everyone, with the same context in both.
    fn fill(&self, context: &[u8]) {
        let block = ("x-ms-blob-type", "BlockBlob");
        self.put("closed?restype=container", ("x-ms-meta-a", "b"), b"");
        self.put(
            "open?restype=container",
            ("x-ms-blob-public-access", "blob"),
            b"",
        );
        for path in [
            "closed/path/to/context.tar.gz",
            "closed/a%20caf%C3%A9%2B1.tar.gz",
            "open/context.tar.gz",
        ] {
            self.put(path, block, context);
        }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{HOST}:{}/{path}", self.port)
    }

    fn build(&self, hub: &Hub, path: &str, env: &[(&str, &str)]) -> Run {
        let (context, image, trust) = (self.url(path), hub.image("app:v1"), hub.trust());
        let authority = hub.text("azure.pem");
        let script = "mount --bind hosts /etc/hosts; exec \"$@\"";
        let program = env!("CARGO_BIN_EXE_executor");
        let namespace = [
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            script,
            "sh",
        ];
        let args = [program, "-c", &context, "-d", &image, &trust];
        let args: Vec<&str> = namespace.into_iter().chain(args).collect();
        let env: Vec<_> = [
            ("SSL_CERT_FILE", authority.as_str()),
            // A machine of Azure's may have an identity.
            ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1/"),
        ]
        .into_iter()
        .chain(env.iter().copied())
        .collect();
        hub.program("unshare", &args, &env, b"")
    }

    #[track_caller]
    fn built(&self, hub: &Hub, path: &str, env: &[(&str, &str)]) {
        self.build(hub, path, env).good();
        assert_eq!(
            hub.files("app:v1"),
            [("file".to_owned(), "content".to_owned())]
        );
    }
}

fn signature(fields: &[&str]) -> String {
    let mac = hmac_sha256(KEY, fields.join("\n").as_bytes());
    url::form_urlencoded::byte_serialize(STANDARD.encode(mac).as_bytes()).collect()
}

/// "Create an account SAS": everything may be created.
fn account_signature() -> String {
    let fields = [
        ACCOUNT, "rwdlac", "b", "sco", "", EXPIRY, "", "https", VERSION, "",
    ];
    let signature = signature(&fields);
    format!("sv={VERSION}&ss=b&srt=sco&sp=rwdlac&se={EXPIRY}&spr=https&sig={signature}")
}

/// "Create a service SAS": one blob may be read.
fn blob_signature(path: &str) -> String {
    let resource = format!("/blob/{ACCOUNT}/{path}");
    let fields = [
        "r", "", EXPIRY, &resource, "", "", "", VERSION, "b", "", "", "", "", "", "",
    ];
    let signature = signature(&fields);
    format!("sv={VERSION}&sr=b&sp=r&se={EXPIRY}&sig={signature}")
}

const CONTEXT: &str = "closed/path/to/context.tar.gz";

#[test]
fn a_blob_of_azures_storage() {
    let hub = Hub::start();
    let Some(storage) = Storage::start(&hub, &[]) else {
        return;
    };
    storage.fill(&archive(&hub.simple()));
    let key = STANDARD.encode(KEY);
    let env = [("AZURE_STORAGE_ACCESS_KEY", key.as_str())];
    storage.built(&hub, CONTEXT, &env);
    storage.built(&hub, "closed/a%20caf%C3%A9%2B1.tar.gz", &env);
    storage.built(&hub, "closed/a café+1.tar.gz", &env);
    let snapshot = storage.put(
        &format!("{CONTEXT}?comp=snapshot"),
        ("x-ms-meta-a", "b"),
        b"",
    );
    // What the address asks for is signed, too.
    let of_then = format!("{CONTEXT}?snapshot={}", snapshot.unwrap());
    storage.put(CONTEXT, ("x-ms-blob-type", "BlockBlob"), b"no archive");
    storage.built(&hub, &of_then, &env);
    storage.build(&hub, CONTEXT, &env).fails("cannot unpack");
    storage.built(&hub, "open/context.tar.gz", &[]);
}

#[test]
fn a_blob_of_azures_storage_with_a_signature_in_its_address_or_a_token() {
    let hub = Hub::start();
    let Some(storage) = Storage::start(&hub, &["--oauth", "basic"]) else {
        return;
    };
    storage.fill(&archive(&hub.simple()));
    let signed = format!("{CONTEXT}?{}", blob_signature(CONTEXT));
    storage.built(&hub, &signed, &[]);
    // It comes before the key of whatever account.
    let other = STANDARD.encode("another account's key");
    storage.built(&hub, &signed, &[("AZURE_STORAGE_ACCESS_KEY", &other)]);

    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!(
        "{}.{}.{}",
        part(json!({"alg": "none", "typ": "JWT"})),
        part(json!({
            "aud": "https://storage.azure.com", "iss": "https://sts.windows.net/tenant/",
            "iat": 1, "nbf": 1, "exp": 32_472_144_000_u64,
        })),
        URL_SAFE_NO_PAD.encode("signed")
    );
    let entra = Web::start(move |request: &Request| match request.target.as_str() {
        "/tenant/oauth2/v2.0/token" => {
            assert!(
                String::from_utf8_lossy(&request.body).contains("storage.azure.com%2F.default")
            );
            reply(
                200,
                json!({"access_token": token, "expires_in": 3599}).to_string(),
            )
        }
        _ => reply(404, ""),
    });
    let env = [
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_CLIENT_ID", "id"),
        ("AZURE_CLIENT_SECRET", "pw"),
        ("AZURE_AUTHORITY_HOST", &entra.url("")),
    ];
    storage.built(&hub, CONTEXT, &env);
}

#[test]
fn what_azures_storage_refuses_is_named() {
    let hub = Hub::start();
    let Some(storage) = Storage::start(&hub, &[]) else {
        return;
    };
    storage.fill(&archive(&hub.simple()));
    let (key, other) = (STANDARD.encode(KEY), STANDARD.encode("another key"));
    let wrong = "the storage answered AuthorizationFailure (status 403) to a request ";
    for (path, key, expected) in [
        (
            CONTEXT,
            other.as_str(),
            format!("{wrong}signed with AZURE_STORAGE_ACCESS_KEY"),
        ),
        (
            CONTEXT,
            "no base 64",
            "AZURE_STORAGE_ACCESS_KEY is not base64".to_owned(),
        ),
        (CONTEXT, "", format!("{wrong}without a login; set AZURE_")),
        (
            "closed/none",
            &key,
            "the storage answered BlobNotFound (status 404)".to_owned(),
        ),
        (
            "none/none",
            &key,
            "the storage answered ContainerNotFound (status 404)".to_owned(),
        ),
        (
            "open/none",
            "",
            "the storage answered BlobNotFound (status 404)".to_owned(),
        ),
    ] {
        storage
            .build(&hub, path, &[("AZURE_STORAGE_ACCESS_KEY", key)])
            .fails(&expected);
    }
    let of_another = blob_signature("closed/another");
    let run = storage
        .build(&hub, &format!("{CONTEXT}?{of_another}"), &[])
        .fails(&format!("{wrong}with the signature of its address"));
    // A log is read by more people than may read the blob.
    assert!(!run.log.contains("sig="), "{}", run.log);
}
