//! Copies files into containers with tar over exec.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kiln_schemas::event::{Event, Events};
use kiln_schemas::image::BuiltImage;
use kube::Api;
use kube::api::{AttachParams, ListParams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::rule::Plan;
use crate::cluster::{Cluster, RequestError};

/// kube's own default of 1 KiB costs a third of the speed.
const STDIN_BUFFER: usize = 128 * 1024;

/// How many containers are written to at once.
const PARALLEL: usize = 8;

/// Why files were not copied; the caller builds instead.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// Nothing runs the image.
    #[error("no running container of {image} was found")]
    NoContainer {
        /// The artifact's name.
        image: String,
    },
    /// A changed file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A command in a container failed.
    #[error("{command} in container {container} of pod {pod} failed: {message}")]
    Command {
        /// `tar` or `rm`.
        command: &'static str,
        /// Pod.
        pod: String,
        /// Container.
        container: String,
        /// What it wrote to its standard error, or the server's words.
        message: String,
    },
    /// The connection to a container broke.
    #[error("cannot write to container {container} of pod {pod}")]
    Stream {
        /// Pod.
        pod: String,
        /// Container.
        container: String,
        /// Why.
        source: io::Error,
    },
    /// Pods cannot be listed, or a container cannot be entered.
    #[error("cannot {what}")]
    Request {
        /// `list pods of namespace shop`, `enter pod web-1`.
        what: String,
        /// Why.
        source: RequestError,
    },
}

/// Where a plan is carried out.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The folder that the plan's sources are below.
    pub context: &'a Path,
    /// Namespaces in which running containers of the image are looked for.
    pub namespaces: &'a BTreeSet<String>,
}

/// A running container.
struct Container {
    api: Api<Pod>,
    pod: String,
    name: String,
}

/// Carries a plan out in every running container of the image, says it with
/// `Event::Synced`, and returns how many containers there are.
///
/// # Errors
/// Some containers may have been written to; a build repairs that.
pub async fn copy(
    cluster: &Cluster,
    place: &Place<'_>,
    image: &BuiltImage,
    plan: &Plan,
    events: &Events,
) -> Result<usize, SyncError> {
    let began = Instant::now();
    let containers = containers(cluster, place.namespaces, image).await?;
    if containers.is_empty() {
        return Err(SyncError::NoContainer {
            image: image.name.clone(),
        });
    }
    let archive = archive(place.context, plan)?;
    // Collected first: a lazy map over references hides from the compiler that
    // the future may move between threads (rust-lang/rust#102211).
    let written: Vec<_> = containers
        .iter()
        .map(|container| container.carry_out(plan, &archive))
        .collect();
    stream::iter(written)
        .buffer_unordered(PARALLEL)
        .try_collect::<Vec<()>>()
        .await?;
    events.emit(Event::Synced {
        image: image.name.clone(),
        copied: plan.copies.len(),
        deleted: plan.deletions.len(),
        containers: containers.len(),
        ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    Ok(containers.len())
}

/// Every running container whose image is exactly the one that was deployed.
async fn containers(
    cluster: &Cluster,
    namespaces: &BTreeSet<String>,
    image: &BuiltImage,
) -> Result<Vec<Container>, SyncError> {
    let wanted = image.pinned();
    let mut found = Vec::new();
    for namespace in namespaces {
        let api: Api<Pod> = Api::namespaced(cluster.client().clone(), namespace);
        let pods = api
            .list(&ListParams::default())
            .await
            .map_err(|error| SyncError::Request {
                what: format!("list pods of namespace {namespace}"),
                source: error.into(),
            })?;
        for pod in pods
            .items
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        {
            let running = running(&pod);
            let containers = pod.spec.iter().flat_map(|spec| {
                spec.containers
                    .iter()
                    .chain(spec.init_containers.iter().flatten())
            });
            let of_image = containers
                .filter(|c| c.image.as_deref() == Some(&wanted) && running.contains(&c.name));
            found.extend(of_image.map(|container| Container {
                api: api.clone(),
                pod: pod.metadata.name.clone().unwrap_or_default(),
                name: container.name.clone(),
            }));
        }
    }
    Ok(found)
}

fn running(pod: &Pod) -> BTreeSet<String> {
    let Some(status) = &pod.status else {
        return BTreeSet::new();
    };
    let all = [&status.container_statuses, &status.init_container_statuses]
        .into_iter()
        .flatten()
        .flatten();
    let running = all.filter(|status| {
        status
            .state
            .as_ref()
            .is_some_and(|state| state.running.is_some())
    });
    running.map(|status| status.name.clone()).collect()
}

/// The files of a plan as a tar archive, by their absolute destinations
/// without the leading slash. Modes and times are those of the files.
fn archive(context: &Path, plan: &Plan) -> Result<Vec<u8>, SyncError> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.follow_symlinks(false);
    for (source, place) in &plan.copies {
        let path = context.join(source);
        let inside = place.strip_prefix("/").unwrap_or(place);
        archive
            .append_path_with_name(&path, inside)
            .map_err(|error| SyncError::Read {
                path: path.clone(),
                source: error,
            })?;
    }
    archive.into_inner().map_err(|error| SyncError::Read {
        path: context.to_owned(),
        source: error,
    })
}

impl Container {
    async fn carry_out(&self, plan: &Plan, archive: &[u8]) -> Result<(), SyncError> {
        if !plan.deletions.is_empty() {
            let paths = plan
                .deletions
                .iter()
                .map(|path| path.to_string_lossy().into_owned());
            let command = ["rm", "-rf", "--"]
                .into_iter()
                .map(str::to_owned)
                .chain(paths);
            self.run("rm", command.collect(), &[]).await?;
        }
        if !plan.copies.is_empty() {
            let command = ["tar", "xmf", "-", "-C", "/", "--no-same-owner"].map(str::to_owned);
            self.run("tar", command.into(), archive).await?;
        }
        Ok(())
    }

    async fn run(
        &self,
        name: &'static str,
        command: Vec<String>,
        input: &[u8],
    ) -> Result<(), SyncError> {
        let params = AttachParams::default()
            .container(&self.name)
            .stdin(!input.is_empty())
            .stdout(false)
            .stderr(true)
            .max_stdin_buf_size(STDIN_BUFFER);
        let mut process = self
            .api
            .exec(&self.pod, command, &params)
            .await
            .map_err(|error| SyncError::Request {
                what: format!("enter container {} of pod {}", self.name, self.pod),
                source: error.into(),
            })?;
        let status = process.take_status();
        let stdin = process.stdin();
        let stderr = process.stderr();
        let write = async {
            if let Some(mut stdin) = stdin {
                stdin.write_all(input).await?;
                stdin.shutdown().await?;
            }
            Ok::<(), io::Error>(())
        };
        let read = async {
            let mut text = Vec::new();
            if let Some(stderr) = stderr {
                // What cannot be read is not worth failing for: the status counts.
                drop(stderr.take(64 * 1024).read_to_end(&mut text).await);
            }
            String::from_utf8_lossy(&text).trim().to_owned()
        };
        let end = async {
            match status {
                Some(status) => status.await,
                None => None,
            }
        };
        let (written, said, ended) = tokio::join!(write, read, end);
        match ended {
            Some(status) if status.status.as_deref() == Some("Success") => Ok(()),
            // A command that fails closes its input, so its words come first.
            Some(status) => Err(SyncError::Command {
                command: name,
                pod: self.pod.clone(),
                container: self.name.clone(),
                message: if said.is_empty() {
                    status.message.unwrap_or_default()
                } else {
                    said
                },
            }),
            None => {
                let source = written
                    .err()
                    .unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                Err(SyncError::Stream {
                    pod: self.pod.clone(),
                    container: self.name.clone(),
                    source,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_files_at_their_destinations() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.txt"), "hello").unwrap();
        let plan = Plan {
            copies: vec![("a.txt".into(), "/srv/b.txt".into())],
            deletions: vec![],
        };
        let bytes = archive(dir.path(), &plan).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().into_owned())
            .collect();
        assert_eq!(names, [PathBuf::from("srv/b.txt")]);
    }

    #[test]
    fn a_file_that_vanished_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan {
            copies: vec![("gone".into(), "/gone".into())],
            deletions: vec![],
        };
        let error = archive(dir.path(), &plan).unwrap_err();
        assert!(error.to_string().ends_with("/gone"), "{error}");
    }
}
