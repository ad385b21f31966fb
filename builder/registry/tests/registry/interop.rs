//! Against distribution's registry with TLS from a private authority and token login, and against crane.

use std::collections::BTreeMap;
use std::io::Read as _;

use kiln_registry::client::push::{BlobSource, Mount, Progress, Pushed};
use kiln_registry::error::TransportError;
use kiln_registry::settings::{ClientCertificate, Pem, Upload, Verification};
use kiln_registry::{
    Client, Descriptor, Digest, Error, Index, Keychain, Manifest, MediaType, Platform, Reference,
    Settings,
};
use serde_json::json;

use crate::certificates::Authority;
use crate::real::{Login, Registry, Tls, client, keychain, trusting};
use crate::token_server::{ADMIN, READER, REFRESH, TokenServer};
use crate::{image, noise, reference};

/// A registry with TLS and token login.
struct Secured {
    authority: Authority,
    tokens: TokenServer,
    registry: Registry,
}

impl Secured {
    async fn start() -> Option<Self> {
        let authority = Authority::new();
        let tokens = TokenServer::start().await;
        let tls = Tls {
            server: Some(authority.server()),
            clients: None,
        };
        let registry = Registry::start(&Login::Token(&tokens), &tls)?;
        Some(Self {
            authority,
            tokens,
            registry,
        })
    }

    fn client_as(&self, user: (&str, &str)) -> Client {
        client(self.settings(), keychain(&self.registry.host, user))
    }

    fn settings(&self) -> Settings {
        trusting(&self.registry.host, &self.authority)
    }

    fn reference(&self, name: &str) -> Reference {
        reference(&format!("{}/{name}", self.registry.host))
    }

    fn crane(&self, arguments: &[&str]) -> Option<String> {
        self.registry
            .crane(Some(&self.authority), Some(ADMIN), arguments)
    }
}

/// A gzip layer with one file, as a file and its descriptor; made by the system's own tar.
fn layer(folder: &std::path::Path, content: &[u8]) -> (std::path::PathBuf, Descriptor, Digest) {
    std::fs::write(folder.join("file"), content).unwrap();
    let run = |arguments: &[&str]| {
        assert!(
            std::process::Command::new("tar")
                .current_dir(folder)
                .args(arguments)
                .status()
                .unwrap()
                .success()
        );
    };
    run(&["-cf", "layer.tar", "file"]);
    run(&["-czf", "layer.tar.gz", "file"]);
    let tar = std::fs::read(folder.join("layer.tar")).unwrap();
    let path = folder.join("layer.tar.gz");
    let descriptor = Descriptor::of(MediaType::OciLayerGzip, &std::fs::read(&path).unwrap());
    (path, descriptor, Digest::sha256(&tar))
}

/// A configuration and manifest that `crane validate` accepts.
fn valid_image(layer: &Descriptor, diff_id: &Digest) -> (Vec<u8>, Manifest) {
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]}, "history": [{"created_by": "test"}]});
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = json!({"schemaVersion": 2, "mediaType": MediaType::OciManifest,
        "config": Descriptor::of(MediaType::OciConfig, &config), "layers": [layer]});
    (
        config,
        Manifest::new(
            MediaType::OciManifest,
            serde_json::to_vec(&manifest).unwrap(),
        ),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn crane_reads_what_we_push() {
    let Some(secured) = Secured::start().await else {
        return;
    };
    let client = secured.client_as(ADMIN);
    let folder = tempfile::tempdir().unwrap();
    let (path, descriptor, diff_id) = layer(folder.path(), &noise(3 << 20));
    let (config, manifest) = valid_image(&descriptor, &diff_id);
    let target = secured.reference("team/app:v1");

    client.check_push(&target).await.unwrap();
    assert_eq!(client.head_manifest(&target).await.unwrap(), None);
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = sent.clone();
    let progress =
        Progress::new(move |bytes| counter.store(bytes, std::sync::atomic::Ordering::Relaxed));
    let blob = BlobSource::file(&path, &descriptor);
    assert_eq!(
        client.push_blob(&target, &blob, &progress).await.unwrap(),
        Pushed::Uploaded
    );
    assert_eq!(
        sent.load(std::sync::atomic::Ordering::Relaxed),
        descriptor.size
    );
    assert_eq!(
        client.push_blob(&target, &blob, &progress).await.unwrap(),
        Pushed::Present
    );
    client
        .push_blob(&target, &BlobSource::bytes(config), &Progress::silent())
        .await
        .unwrap();
    client.push_manifest(&target, &manifest).await.unwrap();
    client
        .push_manifest(&target.with_tag("v2").unwrap(), &manifest)
        .await
        .unwrap();

    let Some(shown) = secured.crane(&["manifest", &target.to_string()]) else {
        return;
    };
    assert_eq!(shown.as_bytes(), manifest.bytes());
    secured.crane(&["validate", "--remote", &target.to_string()]);
    let digest = secured
        .crane(&["digest", &target.with_tag("v2").unwrap().to_string()])
        .unwrap();
    assert_eq!(digest.trim(), manifest.digest().to_string());
    assert_eq!(
        client.head_manifest(&target).await.unwrap(),
        Some(manifest.descriptor())
    );
    assert_eq!(client.tags(&target).await.unwrap(), ["v1", "v2"]);
    assert!(
        client
            .blob_exists(&target, &descriptor.digest)
            .await
            .unwrap()
    );
    assert!(
        !client
            .blob_exists(&target, &Digest::sha256(b"no"))
            .await
            .unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn we_read_what_crane_pushes() {
    let Some(secured) = Secured::start().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let content = noise(1 << 20);
    layer(folder.path(), &content);
    let tar = folder.path().join("layer.tar.gz");
    let name = secured.reference("base/one:v1");
    if secured
        .crane(&[
            "append",
            "--oci-empty-base",
            "-f",
            tar.to_str().unwrap(),
            "-t",
            &name.to_string(),
        ])
        .is_none()
    {
        return;
    }
    let reader = secured.client_as(READER);
    let image = reader
        .image(&name, &Platform::new("linux", "amd64"))
        .await
        .unwrap();
    let shown = secured.crane(&["manifest", &name.to_string()]).unwrap();
    assert_eq!(image.manifest.bytes(), shown.as_bytes());
    assert_eq!(
        secured
            .crane(&["config", &name.to_string()])
            .unwrap()
            .as_bytes(),
        image.config
    );
    assert_eq!(image.reference.digest(), Some(image.manifest.digest()));

    let descriptor = image.body.layers[0].clone();
    let blob = reader
        .blob(&image.reference, &descriptor)
        .await
        .unwrap()
        .into_blocking();
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        { blob }.read_to_end(&mut bytes).map(|_| bytes)
    });
    let bytes = read.await.unwrap().unwrap();
    assert_eq!(bytes, std::fs::read(&tar).unwrap());
    let copy = folder.path().join("copy");
    reader
        .blob_to_file(&image.reference, &descriptor, &copy)
        .await
        .unwrap();
    assert_eq!(std::fs::read(copy).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_leads_to_the_image_of_the_platform() {
    let Some(secured) = Secured::start().await else {
        return;
    };
    let client = secured.client_as(ADMIN);
    let target = secured.reference("multi:v1");
    let mut entries = Vec::new();
    for platform in ["linux/amd64", "linux/arm/v6", "unknown/unknown"] {
        let (config, manifest) = image(&[]);
        // Different bytes for each platform.
        let mut text = String::from_utf8(manifest.bytes().to_vec()).unwrap();
        text.push_str(&" ".repeat(entries.len()));
        let manifest = Manifest::new(MediaType::OciManifest, text);
        client
            .push_blob(&target, &BlobSource::bytes(config), &Progress::silent())
            .await
            .unwrap();
        client
            .push_manifest(&target.at_digest(manifest.digest().clone()), &manifest)
            .await
            .unwrap();
        entries.push(Descriptor {
            platform: Some(platform.parse().unwrap()),
            ..manifest.descriptor()
        });
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        artifact_type: None,
        manifests: entries.clone(),
        subject: None,
        annotations: BTreeMap::new(),
    };
    let index = Manifest::new(MediaType::OciIndex, serde_json::to_vec(&index).unwrap());
    client.push_manifest(&target, &index).await.unwrap();

    let chosen = client
        .image(&target, &"linux/arm/v7".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(chosen.manifest.digest(), &entries[1].digest);
    assert_eq!(chosen.root.digest, *index.digest());
    if let Some(crane) =
        secured.crane(&["digest", "--platform", "linux/arm/v6", &target.to_string()])
    {
        assert_eq!(crane.trim(), entries[1].digest.to_string());
    }
    let missing = client
        .image(&target, &"linux/s390x".parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        missing.to_string(),
        format!("{target} has no image for linux/s390x: it has linux/amd64, linux/arm/v6")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_mounted_across_repositories() {
    let Some(secured) = Secured::start().await else {
        return;
    };
    let client = secured.client_as(ADMIN);
    let blob = BlobSource::bytes(noise(100_000));
    let (origin, target) = (
        secured.reference("from/here"),
        secured.reference("to/there"),
    );
    client
        .push_blob(&origin, &blob, &Progress::silent())
        .await
        .unwrap();
    let mountable = blob.clone().mountable_from(&origin);
    assert_eq!(
        client
            .push_blob(&target, &mountable, &Progress::silent())
            .await
            .unwrap(),
        Pushed::Mounted(origin.name())
    );
    assert!(client.blob_exists(&target, blob.digest()).await.unwrap());
    let third = secured.reference("third");
    assert_eq!(
        client
            .mount_blob(&third, &origin, blob.digest())
            .await
            .unwrap(),
        Mount::Mounted
    );
    // A blob that is not there is not mounted but sent.
    let other = BlobSource::bytes(noise(1000)).mountable_from(&origin);
    assert_eq!(
        client
            .push_blob(&target, &other, &Progress::silent())
            .await
            .unwrap(),
        Pushed::Uploaded
    );
    assert!(client.blob_exists(&target, other.digest()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_arrive_in_order() {
    let Some(secured) = Secured::start().await else {
        return;
    };
    let mut settings = secured.settings();
    settings.upload = Upload::Chunks(100_000);
    let client = client(settings, keychain(&secured.registry.host, ADMIN));
    let target = secured.reference("chunked");
    for length in [0, 1, 99_999, 100_000, 100_001, 350_000] {
        let bytes = noise(length);
        let blob = BlobSource::bytes(bytes.clone());
        assert_eq!(
            client
                .push_blob(&target, &blob, &Progress::silent())
                .await
                .unwrap(),
            Pushed::Uploaded
        );
        let descriptor = Descriptor::of(MediaType::OciLayer, &bytes);
        assert_eq!(
            client
                .blob_bytes(&target, &descriptor, 1 << 20)
                .await
                .unwrap(),
            bytes,
            "{length}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_serves_many_requests() {
    let Some(secured) = Secured::start().await else {
        return;
    };
    let client = secured.client_as(ADMIN);
    let target = secured.reference("app:v1");
    let pushes = (0..8).map(|number| {
        let (client, target) = (client.clone(), target.clone());
        tokio::spawn(async move {
            client
                .push_blob(
                    &target,
                    &BlobSource::bytes(noise(1000 + number)),
                    &Progress::silent(),
                )
                .await
                .unwrap()
        })
    });
    for push in pushes.collect::<Vec<_>>() {
        assert_eq!(push.await.unwrap(), Pushed::Uploaded);
    }
    let requests = secured.tokens.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(
        requests[0].contains("scope=repository%3Aapp%3Apull%2Cpush"),
        "{requests:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_token_logs_in() {
    let Some(secured) = Secured::start().await else {
        return;
    };
    let config = json!({"auths": {&secured.registry.host: {"identitytoken": REFRESH}}}).to_string();
    let keychain = Keychain::anonymous()
        .with_docker_config("c", config.as_bytes())
        .unwrap();
    client(secured.settings(), keychain)
        .check_push(&secured.reference("app"))
        .await
        .unwrap();
    assert!(
        secured
            .tokens
            .requests()
            .iter()
            .all(|request| request.starts_with("POST"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_the_credentials_that_were_used() {
    let Some(secured) = Secured::start().await else {
        return;
    };
    let target = secured.reference("app");
    let host = &secured.registry.host;

    let wrong = secured
        .client_as(("admin", "wrong"))
        .check_push(&target)
        .await
        .unwrap_err();
    let Error::Unauthorized { credential, .. } = &wrong else {
        panic!("{wrong:?}")
    };
    assert_eq!(
        credential.as_deref(),
        Some(format!("\"{host}\" in test.json").as_str())
    );

    let anonymous = client(secured.settings(), Keychain::anonymous())
        .check_push(&target)
        .await
        .unwrap_err();
    assert!(
        matches!(
            &anonymous,
            Error::Unauthorized {
                credential: None,
                ..
            }
        ),
        "{anonymous:?}"
    );
    assert!(
        anonymous
            .hint()
            .unwrap()
            .contains("no credentials were found")
    );

    let reader = secured
        .client_as(READER)
        .check_push(&target)
        .await
        .unwrap_err();
    assert!(reader.is_access(), "{reader:?}");

    let port = host.rsplit(':').next().unwrap();
    let config =
        json!({"auths": {"127.0.0.1": {"username": "admin", "password": "secret"}}}).to_string();
    let keychain = Keychain::anonymous()
        .with_docker_config("c.json", config.as_bytes())
        .unwrap();
    let error = client(secured.settings(), keychain)
        .check_push(&target)
        .await
        .unwrap_err();
    let hint = error.hint().unwrap();
    assert!(
        hint.contains("\"127.0.0.1\" in c.json") && hint.contains(port),
        "{hint}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_authority_is_an_error_with_a_way_out() {
    let Some(secured) = Secured::start().await else {
        return;
    };
    let (host, target) = (secured.registry.host.clone(), secured.reference("app"));
    let stranger = client(Settings::default(), keychain(&host, ADMIN));
    let error = stranger.check_push(&target).await.unwrap_err();
    let Error::Transport { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(**source, TransportError::UnknownAuthority { .. }),
        "{error:?}"
    );
    assert_eq!(
        source.to_string(),
        format!("the certificate of {host} is signed by an unknown authority")
    );
    assert!(error.hint().unwrap().contains("certificate"));

    let mut settings = Settings::default();
    settings.host_mut(&host).connection.verification = Verification::Skip;
    client(settings, keychain(&host, ADMIN))
        .check_push(&target)
        .await
        .unwrap();

    let mut settings = Settings::default();
    settings.everywhere.certificates = vec![Pem::new("ca", secured.authority.pem())];
    client(settings, keychain(&host, ADMIN))
        .check_push(&target)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let authority = Authority::new();
    let tls = Tls {
        server: Some(authority.server()),
        clients: Some(&authority),
    };
    let Some(registry) = Registry::start(&Login::None, &tls) else {
        return;
    };
    let target = reference(&format!("{}/app", registry.host));
    let mut settings = trusting(&registry.host, &authority);
    let refused = client(settings.clone(), Keychain::anonymous())
        .check_push(&target)
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::Transport { .. }), "{refused:?}");
    let own = authority.client();
    settings
        .host_mut(&registry.host)
        .connection
        .client_certificate = Some(ClientCertificate {
        chain: Pem::new("client.pem", own.certificate),
        key: Pem::new("client.key", own.key),
    });
    client(settings, Keychain::anonymous())
        .check_push(&target)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_sent_as_basic() {
    let authority = Authority::new();
    let tls = Tls {
        server: Some(authority.server()),
        clients: None,
    };
    let Some(registry) = Registry::start(&Login::Password, &tls) else {
        return;
    };
    let target = reference(&format!("{}/app:v1", registry.host));
    let settings = trusting(&registry.host, &authority);
    let client_as = |user| client(settings.clone(), keychain(&registry.host, user));
    let client = client_as(("user", "secret"));
    let (config, manifest) = image(&[]);
    client
        .push_blob(&target, &BlobSource::bytes(config), &Progress::silent())
        .await
        .unwrap();
    client.push_manifest(&target, &manifest).await.unwrap();
    if let Some(shown) = registry.crane(
        Some(&authority),
        Some(("user", "secret")),
        &["manifest", &target.to_string()],
    ) {
        assert_eq!(shown.as_bytes(), manifest.bytes());
    }
    let wrong = client_as(("user", "wrong"))
        .manifest(&target)
        .await
        .unwrap_err();
    assert!(
        matches!(
            wrong,
            Error::Unauthorized {
                credential: Some(_),
                ..
            }
        ),
        "{wrong:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_is_spoken_to_in_plain_http() {
    let Some(registry) = Registry::start(&Login::None, &Tls::default()) else {
        return;
    };
    assert!(registry.folder().is_dir());
    let client = client(Settings::default(), Keychain::anonymous());
    let target = reference(&format!("{}/app:v1", registry.host));
    let (config, manifest) = image(&[]);
    client
        .push_blob(&target, &BlobSource::bytes(config), &Progress::silent())
        .await
        .unwrap();
    client.push_manifest(&target, &manifest).await.unwrap();
    assert_eq!(client.manifest(&target).await.unwrap(), manifest);
    let missing = client
        .manifest(&target.with_tag("none").unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        missing.to_string(),
        format!("{}/app:none does not exist on {0}", registry.host)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapped_host_and_a_mirror_keep_the_name() {
    let Some(secured) = Secured::start().await else {
        return;
    };
    let mut settings = secured.settings();
    settings.host_mut("registry.example.com").connect_to =
        Some(secured.registry.host.parse().unwrap());
    settings.host_mut("docker.io").mirrors =
        vec![format!("{}/hub", secured.registry.host).parse().unwrap()];
    let keychain = keychain("registry.example.com", ADMIN).with_credential(
        &secured.registry.host,
        kiln_registry::credential::Credential::Basic {
            username: READER.0.into(),
            password: READER.1.into(),
        },
        "mirror",
    );
    let client = client(settings, keychain);
    let (config, manifest) = image(&[]);
    // Pushed under the mapped name into the folder that the mirror serves.
    let target = reference("registry.example.com/hub/library/alpine:3");
    client
        .push_blob(&target, &BlobSource::bytes(config), &Progress::silent())
        .await
        .unwrap();
    client.push_manifest(&target, &manifest).await.unwrap();
    assert_eq!(client.manifest(&target).await.unwrap(), manifest);

    let pulled = client
        .image(&reference("alpine:3"), &Platform::new("linux", "amd64"))
        .await
        .unwrap();
    assert_eq!(pulled.reference.registry(), "docker.io");
    assert_eq!(pulled.manifest, manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_are_found_by_tag_where_there_is_no_api() {
    let Some(secured) = Secured::start().await else {
        return;
    };
    let client = secured.client_as(ADMIN);
    let target = secured.reference("signed:v1");
    let (config, subject) = image(&[]);
    client
        .push_blob(&target, &BlobSource::bytes(config), &Progress::silent())
        .await
        .unwrap();
    client.push_manifest(&target, &subject).await.unwrap();
    assert_eq!(
        client.referrers(&target, subject.digest()).await.unwrap(),
        []
    );
    let empty = BlobSource::bytes(&b"{}"[..]);
    client
        .push_blob(&target, &empty, &Progress::silent())
        .await
        .unwrap();
    let referrer = json!({"schemaVersion": 2, "mediaType": MediaType::OciManifest, "artifactType": "application/x.test",
        "config": Descriptor::of(MediaType::OciEmpty, b"{}"), "layers": [], "subject": subject.descriptor()});
    let referrer = Manifest::new(
        MediaType::OciManifest,
        serde_json::to_vec(&referrer).unwrap(),
    );
    client
        .push_manifest(&target.at_digest(referrer.digest().clone()), &referrer)
        .await
        .unwrap();
    let found = client.referrers(&target, subject.digest()).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (&found[0].digest, found[0].artifact_type.as_deref()),
        (referrer.digest(), Some("application/x.test"))
    );
}
