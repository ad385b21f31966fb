//! Which executor builds an order, and how it gets into the pod.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use kiln_schemas::event::Event;
use kiln_schemas::model::UploadLimits;
use tokio::sync::mpsc;

use super::context::ContextError;
use super::error::BuildError;
use super::exec::{ExecError, Target};
use super::pod::{Executor, Init, STREAMED_ARCHIVE};
use super::publish::{self, Availability, ExecutorFiles, PublishError};
use super::{ClusterBackend, ExecutorPolicy};
use crate::order::{Order, split_tag};

/// The project that was archived in June 2025; its images of all kinds.
const ARCHIVED: &str = "gcr.io/kaniko-project/executor";
/// skaffold's default `initImage`.
const DEFAULT_INIT_IMAGE: &str = "gcr.io/k8s-skaffold/skaffold-helpers/busybox";
const CHUNK: usize = 64 * 1024;

/// The executor of one build.
pub(super) struct Chosen {
    pub(super) executor: Executor,
    /// The architecture that it needs, where it is Kiln's own.
    pub(super) arch: Option<String>,
    /// To be streamed, where no registry has its image.
    pub(super) archive: Option<Archive>,
}

/// The executor's files, to be sent as an archive.
#[derive(Clone)]
pub(super) struct Archive(Arc<ExecutorFiles>);

/// Whose executor an artifact gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose<'a> {
    Kilns,
    /// Kiln's, in place of the archived one.
    Instead(&'a str),
    Named(&'a str),
}

fn whose(named: Option<&str>, policy: ExecutorPolicy) -> Whose<'_> {
    match named {
        None => Whose::Kilns,
        Some(image) if image.starts_with(ARCHIVED) && policy == ExecutorPolicy::Kiln => {
            Whose::Instead(image)
        }
        Some(image) => Whose::Named(image),
    }
}

impl ClusterBackend {
    /// Decides which executor an order gets, and publishes Kiln's own if that
    /// is needed.
    pub(super) async fn executor(&self, order: &Order) -> Result<Chosen, BuildError> {
        let choice = &order.artifact.executor;
        let init_image = choice.init_image.as_deref();
        match whose(choice.image.as_deref(), self.supply.policy) {
            Whose::Named(image) => {
                let init = match init_image {
                    Some(init) => Init::Shell {
                        image: init.to_owned(),
                    },
                    None => self.own_init(order).await?,
                };
                let executor = Executor::AsWritten {
                    image: image.to_owned(),
                    init,
                };
                Ok(Chosen {
                    executor,
                    arch: None,
                    archive: None,
                })
            }
            Whose::Instead(image) => {
                self.say_once(format!(
                    "{image} is archived; Kiln's own executor builds instead \
                     (--executor=as-written keeps it)"
                ));
                self.own_executor(order, init_image).await
            }
            Whose::Kilns => self.own_executor(order, init_image).await,
        }
    }

    /// Kiln's own executor, in its image or streamed.
    pub(super) async fn own_executor(
        &self,
        order: &Order,
        init_image: Option<&str>,
    ) -> Result<Chosen, BuildError> {
        let (files, arch) = self.files(order).await?;
        let arch = Some(arch);
        match self.available(order, &files).await? {
            Availability::Published(image) => Ok(Chosen {
                executor: Executor::Kiln { image },
                arch,
                archive: None,
            }),
            Availability::Unpublished(reason) => {
                let image = init_image.unwrap_or(DEFAULT_INIT_IMAGE).to_owned();
                self.say_once(format!(
                    "the executor is streamed into {image}, since its image cannot be pushed \
                     from here: {reason}"
                ));
                let executor = Executor::Streamed { image };
                Ok(Chosen {
                    executor,
                    arch,
                    archive: Some(Archive(files)),
                })
            }
        }
    }

    /// Kiln's image as init container, or skaffold's where it has no registry.
    async fn own_init(&self, order: &Order) -> Result<Init, BuildError> {
        let shell = || Init::Shell {
            image: DEFAULT_INIT_IMAGE.to_owned(),
        };
        if self.supply.binaries.is_empty() {
            return Ok(shell());
        }
        let (files, _) = self.files(order).await?;
        Ok(match self.available(order, &files).await? {
            Availability::Published(image) => Init::Kiln { image },
            Availability::Unpublished(_) => shell(),
        })
    }

    async fn files(&self, order: &Order) -> Result<(Arc<ExecutorFiles>, String), PublishError> {
        let wanted = order
            .platform
            .as_ref()
            .map(|platform| platform.arch.as_str());
        let binary = publish::choose(&self.supply.binaries, wanted)?.clone();
        let mut known = self.files.lock().await;
        if let Some(files) = known.get(&binary.path) {
            return Ok((files.clone(), binary.arch));
        }
        let (path, arch) = (binary.path.clone(), binary.arch.clone());
        let files = tokio::task::spawn_blocking(move || ExecutorFiles::collect(&binary))
            .await
            .map_err(PublishError::Stopped)??;
        let files = Arc::new(files);
        known.insert(path, files.clone());
        Ok((files, arch))
    }

    /// Asks once per repository and content in the life of this backend.
    async fn available(
        &self,
        order: &Order,
        files: &ExecutorFiles,
    ) -> Result<Availability, PublishError> {
        let (repository, _) = split_tag(&order.reference);
        let mut published = self.published.lock().await;
        let name = format!("{repository}:{}", files.tag());
        if let Some(known) = published.get(&name) {
            return Ok(known.clone());
        }
        let availability = publish::publish(&self.supply.registry, repository, files).await?;
        published.insert(name, availability.clone());
        Ok(availability)
    }

    fn say_once(&self, message: String) {
        let mut said = self
            .said
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if said.insert(message.clone()) {
            self.events.emit(Event::Note { message });
        }
    }
}

/// Sends the executor's files to a pod that waits for them with a shell.
pub(super) async fn stream(
    target: &Target,
    archive: &Archive,
    limits: &UploadLimits,
) -> Result<(), ContextError> {
    let (sender, stdin) = mpsc::channel(16);
    let files = archive.0.clone();
    let writing = tokio::task::spawn_blocking(move || {
        let mut pipe = files.write_layer(Pipe {
            sender,
            buffer: Vec::with_capacity(CHUNK),
        })?;
        pipe.flush().map_err(|source| PublishError::File {
            path: STREAMED_ARCHIVE.into(),
            source,
        })
    });
    let script = format!("cat > {STREAMED_ARCHIVE} && touch {STREAMED_ARCHIVE}.complete");
    let command = ["sh", "-c", script.as_str()].map(str::to_owned);
    let sending = async {
        let (sent, written) = tokio::join!(target.run(&command, stdin, |_| {}), writing);
        sent?;
        written.map_err(broken)?.map_err(broken)
    };
    let attempt = 1;
    match tokio::time::timeout(limits.timeout, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(source)) => Err(ContextError::Send {
            attempt,
            attempts: 1,
            source,
        }),
        Err(_) => Err(ContextError::Timeout {
            attempt,
            attempts: 1,
            after: limits.timeout,
        }),
    }
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> ExecError {
    ExecError::Broken {
        command: "cat".into(),
        container: super::pod::CONTAINER.into(),
        source: Some(Box::new(error)),
    }
}

/// The blocking end of the channel to the connection.
struct Pipe {
    sender: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender
            .blocking_send(Bytes::from(chunk))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archived_executor_is_replaced_unless_told_otherwise() {
        let (kiln, as_written) = (ExecutorPolicy::Kiln, ExecutorPolicy::AsWritten);
        let archived = "gcr.io/kaniko-project/executor:v1.9.2-debug";
        let fork = "registry.example/kaniko-fork/executor:v1";
        for (named, policy, expected) in [
            (None, kiln, Whose::Kilns),
            (None, as_written, Whose::Kilns),
            (Some(archived), kiln, Whose::Instead(archived)),
            (Some(archived), as_written, Whose::Named(archived)),
            (Some(fork), kiln, Whose::Named(fork)),
        ] {
            assert_eq!(whose(named, policy), expected);
        }
    }
}
