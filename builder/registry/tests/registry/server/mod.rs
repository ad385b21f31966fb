//! Our own registry, started in process.

mod access;
mod collect;
mod interop;
mod protocol;
mod uploads;

use std::path::Path;

use kiln_registry::server::{Access, Identity, Registry, Serving};
use kiln_registry::{Descriptor, Digest, MediaType};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::certificates::Authority;

/// A registry on plain http without login, spoken to by hand.
struct Plain {
    folder: tempfile::TempDir,
    registry: Registry,
    serving: Serving,
    http: reqwest::Client,
}

impl Plain {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path(), Access::Open).unwrap();
        let serving = serve(&registry, None).await;
        Self {
            folder,
            registry,
            serving,
            http: http(),
        }
    }

    fn url(&self, path: &str) -> String {
        if path.starts_with("http") {
            return path.to_owned();
        }
        format!("http://{}{path}", self.serving.address())
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Response {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.call("GET", path, &[], "").await
    }

    /// Sends a blob in one PUT.
    async fn blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let started = self
            .call("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], "")
            .await;
        assert_eq!(started.status(), StatusCode::ACCEPTED);
        let place = format!("{}?digest={digest}", header(&started, "location"));
        let done = self.call("PUT", &place, &[], bytes.to_vec()).await;
        assert_eq!(done.status(), StatusCode::CREATED);
        digest
    }

    async fn manifest(
        &self,
        repository: &str,
        reference: &str,
        value: &Value,
    ) -> (Response, Digest) {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = Digest::sha256(&bytes);
        let media_type = value["mediaType"].as_str().unwrap();
        let path = format!("/v2/{repository}/manifests/{reference}");
        let answer = self
            .call("PUT", &path, &[("content-type", media_type)], bytes)
            .await;
        (answer, digest)
    }

    /// An image of one layer under a tag; gives the manifest's digest and the layer's.
    async fn image(&self, repository: &str, tag: &str, layer: &[u8]) -> (Digest, Digest) {
        let config = b"{}";
        self.blob(repository, config).await;
        let layer_digest = self.blob(repository, layer).await;
        let value = manifest(config, layer);
        let (answer, digest) = self.manifest(repository, tag, &value).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        (digest, layer_digest)
    }
}

async fn serve(registry: &Registry, identity: Option<&Identity>) -> Serving {
    let address = "127.0.0.1:0".parse().unwrap();
    Serving::start(registry.clone(), address, identity)
        .await
        .unwrap()
}

fn http() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn identity(authority: &Authority) -> Identity {
    let own = authority.server();
    Identity {
        certificates: own.certificate.into_bytes(),
        key: own.key.into_bytes(),
    }
}

fn manifest(config: &[u8], layer: &[u8]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OciManifest,
        "config": Descriptor::of(MediaType::OciConfig, config),
        "layers": [Descriptor::of(MediaType::OciLayerGzip, layer)],
    })
}

fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    let missing = || panic!("no {name} in {response:?}");
    response
        .headers()
        .get(name)
        .unwrap_or_else(missing)
        .to_str()
        .unwrap()
}

/// The code of an error.
async fn code(response: Response) -> String {
    let value: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    value["errors"][0]["code"].as_str().unwrap().to_owned()
}

async fn body(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}
