//! Others' clients against our server: crane, oci-client, and our own; TLS from a private authority, token login.

use kiln_registry::client::push::{BlobSource, Mount, Progress, Pushed};
use kiln_registry::server::{
    Access, Anonymous, Password, Protection, Registry, Rights, Scheme, Serving, User,
};
use kiln_registry::settings::Upload;
use kiln_registry::{Client, Descriptor, MediaType, Platform, Reference};
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, Config, ImageLayer};
use oci_client::secrets::RegistryAuth;

use super::{identity, serve};
use crate::certificates::Authority;
use crate::real::{client, crane, keychain, trusting};
use crate::{image, noise, reference};

const USER: (&str, &str) = ("builder", "secret");

/// Our registry with TLS and tokens.
struct Secured {
    _folder: tempfile::TempDir,
    authority: Authority,
    serving: Serving,
}

impl Secured {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::Protected(Protection {
            scheme: Scheme::Token,
            users: vec![User {
                name: USER.0.to_owned(),
                password: Password::Plain(USER.1.to_owned()),
                rights: Rights::All,
            }],
            anonymous: Anonymous::Nothing,
        });
        let registry = Registry::open(folder.path(), access).unwrap();
        let authority = Authority::new();
        let serving = serve(&registry, Some(&identity(&authority))).await;
        Self {
            _folder: folder,
            authority,
            serving,
        }
    }

    fn host(&self) -> String {
        self.serving.address().to_string()
    }

    fn reference(&self, name: &str) -> Reference {
        reference(&format!("{}/{name}", self.host()))
    }

    fn client(&self, upload: Upload) -> Client {
        let mut settings = trusting(&self.host(), &self.authority);
        settings.upload = upload;
        client(settings, keychain(&self.host(), USER))
    }

    async fn crane(&self, arguments: &[&str]) -> Option<String> {
        let (host, pem) = (self.host(), self.authority.pem());
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            crane(&host, Some(&pem), Some(USER), &arguments)
        })
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn crane_pushes_copies_lists_and_deletes() {
    let secured = Secured::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), noise(300_000)).unwrap();
    let layer = folder.path().join("layer.tar.gz");
    let packed = std::process::Command::new("tar")
        .arg("-czf")
        .arg(&layer)
        .arg("-C")
        .arg(folder.path())
        .arg("file")
        .status()
        .unwrap();
    assert!(packed.success());
    let name = |name: &str| format!("{}/{name}", secured.host());
    let layer = layer.display().to_string();
    let append = [
        "append",
        "--oci-empty-base",
        "-f",
        &layer,
        "-t",
        &name("app:v1"),
    ];
    if secured.crane(&append).await.is_none() {
        return;
    }
    secured
        .crane(&["validate", "--remote", &name("app:v1")])
        .await
        .unwrap();
    secured
        .crane(&["copy", &name("app:v1"), &name("team/copy:v2")])
        .await
        .unwrap();
    let digest = |text: Option<String>| text.unwrap().trim().to_owned();
    let first = digest(secured.crane(&["digest", &name("app:v1")]).await);
    let copied = digest(secured.crane(&["digest", &name("team/copy:v2")]).await);
    assert_eq!(first, copied);
    secured
        .crane(&["tag", &name("app:v1"), "v3"])
        .await
        .unwrap();
    assert_eq!(
        secured.crane(&["ls", &name("app")]).await.unwrap(),
        "v1\nv3\n"
    );
    assert_eq!(
        secured.crane(&["catalog", &secured.host()]).await.unwrap(),
        "app\nteam/copy\n"
    );
    secured
        .crane(&["delete", &name(&format!("app@{first}"))])
        .await
        .unwrap();
    assert_eq!(secured.crane(&["ls", &name("app")]).await.unwrap(), "");
}

#[tokio::test]
async fn our_own_client_pushes_whole_and_in_chunks_mounts_and_pulls() {
    let secured = Secured::start().await;
    let bytes = noise(2_500_000);
    let layer = Descriptor::of(MediaType::OciLayerGzip, &bytes);
    let (config, manifest) = image(std::slice::from_ref(&layer));
    for (name, upload) in [
        ("whole", Upload::Whole),
        ("chunks", Upload::Chunks(1 << 20)),
    ] {
        let client = secured.client(upload);
        let target = secured.reference(&format!("{name}:v1"));
        for blob in [bytes.clone(), config.clone()] {
            let sent = client
                .push_blob(&target, &BlobSource::bytes(blob), &Progress::silent())
                .await;
            assert_eq!(sent.unwrap(), Pushed::Uploaded, "{name}");
        }
        client.push_manifest(&target, &manifest).await.unwrap();
        let again = client
            .push_blob(
                &target,
                &BlobSource::bytes(bytes.clone()),
                &Progress::silent(),
            )
            .await;
        assert_eq!(again.unwrap(), Pushed::Present, "{name}");
        let got = client
            .image(&target, &Platform::new("linux", "amd64"))
            .await
            .unwrap();
        assert_eq!(got.manifest.digest(), manifest.digest());
        let path = tempfile::tempdir().unwrap();
        let path = path.path().join("layer");
        client.blob_to_file(&target, &layer, &path).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    let client = secured.client(Upload::Whole);
    let mounted = client
        .mount_blob(
            &secured.reference("third:v1"),
            &secured.reference("whole:v1"),
            &layer.digest,
        )
        .await;
    assert_eq!(mounted.unwrap(), Mount::Mounted);
}

#[tokio::test]
async fn oci_client_pushes_and_pulls() {
    let secured = Secured::start().await;
    let config = ClientConfig {
        extra_root_certificates: vec![Certificate {
            encoding: CertificateEncoding::Pem,
            data: secured.authority.pem().into_bytes(),
        }],
        ..ClientConfig::default()
    };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = oci_client::Client::new(config);
    let auth = RegistryAuth::Basic(USER.0.to_owned(), USER.1.to_owned());
    let target: oci_client::Reference = format!("{}/app:oci", secured.host()).parse().unwrap();
    let bytes = noise(1_200_000);
    let layer = ImageLayer::oci_v1_gzip(bytes.clone(), None);
    let configuration = Config::oci_v1(b"{}".to_vec(), None);
    client
        .push(&target, &[layer], configuration, &auth, None)
        .await
        .unwrap();
    let media_types = vec![MediaType::OciLayerGzip.as_str()];
    let image = client.pull(&target, &auth, media_types).await.unwrap();
    assert_eq!(image.layers[0].data, bytes);
    let tags = client.list_tags(&target, &auth, None, None).await.unwrap();
    assert_eq!(tags.tags, ["oci"]);
    let referrers = client
        .pull_referrers(&target.clone_with_digest(image.digest.unwrap()), None)
        .await
        .unwrap();
    assert!(referrers.manifests.is_empty());
}
