//! The storage folder of a distribution registry, written without one: blobs, and
//! links from repositories to them (distribution, registry/storage/paths.go).

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::layer::digest_text;
use super::recipes::Image;
use crate::error::{AtPath, Error};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub(super) struct Storage {
    root: PathBuf,
}

impl Storage {
    pub(super) fn create(folder: &Path) -> Self {
        Self {
            root: folder.join("docker/registry/v2"),
        }
    }

    /// Adds an image under all its names.
    pub(super) fn add(&self, image: &Image) -> Result<(), Error> {
        let incoming = self.root.join("incoming");
        fs::create_dir_all(&self.root).at("create", &self.root)?;
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for layer in &image.layers {
            let written = layer.write(&incoming)?;
            let data = self.blob(&written.digest)?;
            fs::rename(&incoming, &data).at("rename", &incoming)?;
            layers
                .push(json!({"mediaType": LAYER, "digest": written.digest, "size": written.size}));
            diff_ids.push(written.diff_id);
        }
        let history: Vec<_> = diff_ids
            .iter()
            .map(|_| json!({"created": "2024-01-01T00:00:00Z", "created_by": "kiln-test-cluster"}))
            .collect();
        let config = json!({
            "created": "2024-01-01T00:00:00Z",
            "architecture": architecture(),
            "os": "linux",
            "config": image.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        let config = config.to_string();
        let config_digest = self.put(config.as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config_digest, "size": config.len()},
            "layers": layers,
        });
        let manifest = self.put(manifest.to_string().as_bytes())?;
        for name in image.names {
            let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
            let repository = self.root.join("repositories").join(repository);
            let blobs = layers.iter().filter_map(|layer| layer["digest"].as_str());
            for digest in blobs.chain([config_digest.as_str()]) {
                link(&repository, &format!("_layers/{}", path_of(digest)), digest)?;
            }
            let hex = path_of(&manifest);
            for place in [
                format!("_manifests/revisions/{hex}"),
                format!("_manifests/tags/{tag}/current"),
                format!("_manifests/tags/{tag}/index/{hex}"),
            ] {
                link(&repository, &place, &manifest)?;
            }
        }
        Ok(())
    }

    fn put(&self, bytes: &[u8]) -> Result<String, Error> {
        let mut hash = Sha256::new();
        hash.update(bytes);
        let digest = digest_text(hash);
        let data = self.blob(&digest)?;
        fs::write(&data, bytes).at("write", &data)?;
        Ok(digest)
    }

    /// The file of a blob; its folder is made.
    fn blob(&self, digest: &str) -> Result<PathBuf, Error> {
        let hex = digest.trim_start_matches("sha256:");
        let folder = self.root.join("blobs/sha256").join(&hex[..2]).join(hex);
        fs::create_dir_all(&folder).at("create", &folder)?;
        Ok(folder.join("data"))
    }
}

fn path_of(digest: &str) -> String {
    digest.replace(':', "/")
}

fn link(repository: &Path, place: &str, digest: &str) -> Result<(), Error> {
    let folder = repository.join(place);
    fs::create_dir_all(&folder).at("create", &folder)?;
    let path = folder.join("link");
    fs::write(&path, digest).at("write", &path)
}

/// The machine's architecture as Go and OCI call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
