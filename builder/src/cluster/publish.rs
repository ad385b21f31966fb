//! Kiln's executor as an image: assembled here from a program of this host,
//! and pushed once per content into the artifact's own repository, so that
//! nothing has to be downloaded from anywhere else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::write::GzEncoder;
use kiln_registry::manifest::{Descriptor, Manifest};
use kiln_registry::{BlobSource, Client, Digest, MediaType, Reference};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};
use tempfile::NamedTempFile;

use super::ExecutorBinary;
use super::elf::{self, ElfError};
use super::pod::EXECUTOR;

/// Reserved: no artifact gets a tag that starts like this.
const TAG_PREFIX: &str = "kiln-executor-";
/// Raised when the image's layout changes.
const LAYOUT: &str = "kiln executor image 1";
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";
const COMPRESSION: u32 = 3;

/// The executor's image could not be made or pushed.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No program for the platform.
    #[error("this installation of Kiln has no executor for {arch}; it has {}", have.join(", "))]
    Architecture {
        /// What was asked for.
        arch: String,
        /// What there is.
        have: Vec<String>,
    },
    /// The program cannot be taken along.
    #[error(transparent)]
    Program(#[from] ElfError),
    /// A file of the image cannot be read or written.
    #[error("cannot put {} into the executor's image", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The repository has no valid name.
    #[error("`{repository}` is not a repository")]
    Repository {
        /// The text.
        repository: String,
        /// Why.
        #[source]
        source: kiln_registry::reference::ReferenceError,
    },
    /// The task that assembles it ended abnormally.
    #[error("assembling the executor's image stopped")]
    Stopped(#[source] tokio::task::JoinError),
}

/// Where the executor's image can be had from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// In the registry, under this reference.
    Published(String),
    /// Nowhere: this host may not push, for this reason.
    Unpublished(String),
}

/// The files of the image: path in it to path on this host.
#[derive(Debug, Clone)]
pub(super) struct ExecutorFiles {
    files: BTreeMap<String, PathBuf>,
    arch: String,
    /// Over layout, paths and contents.
    key: String,
}

impl ExecutorFiles {
    /// Finds what the program needs and hashes it. Blocks.
    pub(super) fn collect(binary: &ExecutorBinary) -> Result<Self, PublishError> {
        let mut files = BTreeMap::from([(relative(EXECUTOR), binary.path.clone())]);
        for (path, source) in elf::closure(&binary.path)? {
            files.insert(relative(&path.display().to_string()), source);
        }
        let mut hash = blake3::Hasher::new();
        hash.update(LAYOUT.as_bytes());
        hash.update(certificates().as_bytes());
        for (path, source) in &files {
            let mut file = open(source)?;
            let mut one = blake3::Hasher::new();
            io::copy(&mut file, &mut one).map_err(|error| failed(source, error))?;
            hash.update(&(path.len() as u64).to_le_bytes());
            hash.update(path.as_bytes());
            hash.update(one.finalize().as_bytes());
        }
        let key = hash.finalize().to_hex()[..32].to_owned();
        Ok(Self {
            files,
            arch: binary.arch.clone(),
            key,
        })
    }

    /// `kiln-executor-<32 hexadecimal digits>`
    pub(super) fn tag(&self) -> String {
        format!("{TAG_PREFIX}{}", self.key)
    }

    /// Writes the layer's archive: the same bytes for the same files.
    pub(super) fn write_layer<W: Write>(&self, writer: W) -> Result<W, PublishError> {
        let mut archive = Builder::new(writer);
        let mut folders: BTreeMap<String, u32> = BTreeMap::from([
            ("kaniko/".into(), 0o777),
            ("kaniko/.docker/".into(), 0o777),
            ("kaniko/store/".into(), 0o777),
            ("root/".into(), 0o700),
            ("tmp/".into(), 0o1777),
            ("workspace/".into(), 0o777),
        ]);
        for path in self.files.keys().map(String::as_str).chain([CERTIFICATES]) {
            for (end, _) in path.match_indices('/') {
                folders.entry(path[..=end].to_owned()).or_insert(0o755);
            }
        }
        for (path, mode) in &folders {
            let mut header = header(EntryType::Directory, *mode, 0);
            archive
                .append_data(&mut header, path, io::empty())
                .map_err(|error| failed(Path::new(path), error))?;
        }
        let certificates = certificates();
        let mut entry = header(EntryType::Regular, 0o644, certificates.len() as u64);
        archive
            .append_data(&mut entry, CERTIFICATES, certificates.as_bytes())
            .map_err(|error| failed(Path::new(CERTIFICATES), error))?;
        for (path, source) in &self.files {
            let file = open(source)?;
            let size = file
                .metadata()
                .map_err(|error| failed(source, error))?
                .len();
            let mut entry = header(EntryType::Regular, 0o755, size);
            archive
                .append_data(&mut entry, path, BufReader::new(file).take(size))
                .map_err(|error| failed(source, error))?;
        }
        archive
            .into_inner()
            .map_err(|error| failed(Path::new("layer"), error))
    }

    /// The image, its layer in a temporary file. Blocks.
    fn assemble(&self) -> Result<Assembled, PublishError> {
        let layer_file = |error| failed(Path::new("layer"), error);
        let file = NamedTempFile::new().map_err(layer_file)?;
        let outer = Hashing::new(BufWriter::new(file));
        let gzip = GzEncoder::new(outer, flate2::Compression::new(COMPRESSION));
        let inner = self.write_layer(Hashing::new(gzip))?;
        let diff_id = inner.digest();
        let outer = inner.writer.finish().map_err(layer_file)?;
        let (digest, size) = (outer.digest(), outer.size);
        let file = outer
            .writer
            .into_inner()
            .map_err(|error| layer_file(error.into_error()))?;
        let layer = Descriptor::new(MediaType::DockerLayerGzip, digest, size);
        let config = self.config(&diff_id).to_string().into_bytes();
        let config_descriptor = Descriptor::of(MediaType::DockerConfig, &config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::DockerManifest.as_str(),
            "config": config_descriptor,
            "layers": [layer],
        });
        let manifest = Manifest::new(MediaType::DockerManifest, manifest.to_string().into_bytes());
        Ok(Assembled {
            file,
            layer,
            config,
            manifest,
        })
    }

    fn config(&self, diff_id: &Digest) -> Value {
        json!({
            "architecture": self.arch,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Env": [
                    "PATH=/usr/local/bin:/kaniko",
                    "HOME=/root",
                    "USER=root",
                    "SSL_CERT_DIR=/etc/ssl/certs",
                    "DOCKER_CONFIG=/kaniko/.docker/",
                ],
                "Entrypoint": [EXECUTOR],
                "WorkingDir": "/workspace",
                "Volumes": {"/kaniko/store": {}},
            },
            "rootfs": {"type": "layers", "diff_ids": [diff_id.to_string()]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "kiln"}],
        })
    }
}

struct Assembled {
    file: NamedTempFile,
    layer: Descriptor,
    config: Vec<u8>,
    manifest: Manifest,
}

/// Picks the program for a platform's architecture; the first one where none
/// is asked for.
pub(super) fn choose<'a>(
    binaries: &'a [ExecutorBinary],
    arch: Option<&str>,
) -> Result<&'a ExecutorBinary, PublishError> {
    let found = match arch {
        Some(arch) => binaries.iter().find(|binary| binary.arch == arch),
        None => binaries.first(),
    };
    found.ok_or_else(|| PublishError::Architecture {
        arch: arch.unwrap_or("this machine").to_owned(),
        have: binaries.iter().map(|binary| binary.arch.clone()).collect(),
    })
}

/// Makes sure that the repository has the executor's image. A registry that
/// refuses or cannot be reached is an answer, not an error.
pub(super) async fn publish(
    registry: &Client,
    repository: &str,
    files: &ExecutorFiles,
) -> Result<Availability, PublishError> {
    let bad = |source| PublishError::Repository {
        repository: repository.to_owned(),
        source,
    };
    let target = Reference::parse(repository)
        .and_then(|name| name.with_tag(&files.tag()))
        .map_err(bad)?;
    let published = || Availability::Published(format!("{repository}:{}", files.tag()));
    match crate::cache::head(registry, &target).await {
        Ok(Some(_)) => return Ok(published()),
        Ok(None) => {}
        Err(error) => return Ok(Availability::Unpublished(reason(&error))),
    }
    let files = files.clone();
    let image = tokio::task::spawn_blocking(move || files.assemble())
        .await
        .map_err(PublishError::Stopped)??;
    match push(registry, &target, &image).await {
        Ok(()) => Ok(Availability::Published(target_name(repository, &target))),
        Err(error) => Ok(Availability::Unpublished(reason(&error))),
    }
}

fn target_name(repository: &str, target: &Reference) -> String {
    format!("{repository}:{}", target.tag_or_latest())
}

async fn push(
    registry: &Client,
    target: &Reference,
    image: &Assembled,
) -> Result<(), kiln_registry::Error> {
    let silent = kiln_registry::Progress::silent();
    let layer = BlobSource::file(image.file.path(), &image.layer);
    registry.push_blob(target, &layer, &silent).await?;
    registry
        .push_blob(target, &BlobSource::bytes(image.config.clone()), &silent)
        .await?;
    registry.push_manifest(target, &image.manifest).await
}

fn reason(error: &kiln_registry::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn relative(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}

fn open(path: &Path) -> Result<File, PublishError> {
    File::open(path).map_err(|error| failed(path, error))
}

fn failed(path: &Path, source: io::Error) -> PublishError {
    PublishError::File {
        path: path.to_owned(),
        source,
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Mozilla's roots as PEM, for a file system that has no other.
fn certificates() -> String {
    let mut pem = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = BASE64.encode(certificate.as_ref());
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}

/// Hashes and counts what passes through.
struct Hashing<W> {
    writer: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Hashing<W> {
    fn new(writer: W) -> Self {
        Self {
            writer,
            hash: Sha256::new(),
            size: 0,
        }
    }

    fn digest(&self) -> Digest {
        Digest::from_sha256(self.hash.clone().finalize().into())
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests;
