//! Runs a command in a container over the exec WebSocket, feeding its stdin
//! and hearing its stdout.

use bytes::Bytes;
use futures_util::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use kube::client::UpgradeConnectionError;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

/// kube's default of 1 KiB makes exec three times slower; from 32 KiB on it no
/// longer matters.
const BUFFER: usize = 256 * 1024;
/// As much of stderr as an error shows.
const STDERR_MAX: usize = 4096;

/// A command in a container did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It could not be started.
    #[error("cannot run `{command}` in container {container}")]
    Start {
        /// The command.
        command: String,
        /// Where.
        container: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// It ended with an error.
    #[error("`{command}` in container {container} failed: {message}")]
    Failed {
        /// The command.
        command: String,
        /// Where.
        container: String,
        /// What it wrote to stderr, or the status.
        message: String,
        /// Whether it had begun; otherwise the container was not there, or it
        /// has no such program.
        ran: bool,
    },
    /// The connection broke.
    #[error("the connection to `{command}` in container {container} broke")]
    Broken {
        /// The command.
        command: String,
        /// Where.
        container: String,
        /// Why, where known.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl ExecError {
    /// Whether the same may work in a moment, when the container runs.
    pub(super) fn is_early(&self) -> bool {
        match self {
            Self::Start { source, .. } => match source.as_ref() {
                kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)) => {
                    code.is_server_error() || code.as_u16() == 404
                }
                _ => false,
            },
            Self::Failed { ran, .. } => !ran,
            Self::Broken { .. } => true,
        }
    }
}

/// The reason of a status that carries an exit code.
const EXITED: &str = "NonZeroExitCode";

/// A container of a pod.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) pods: Api<Pod>,
    pub(super) pod: String,
    pub(super) container: String,
}

impl Target {
    /// Runs `command`, feeds it everything from `stdin` until the sender is
    /// gone, calls `hear` with each line that it writes to stdout, and waits
    /// for its end.
    pub(super) async fn run(
        &self,
        command: &[String],
        mut stdin: mpsc::Receiver<Bytes>,
        hear: impl FnMut(&str),
    ) -> Result<(), ExecError> {
        let params = AttachParams::default()
            .container(&self.container)
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .max_stdin_buf_size(BUFFER);
        let mut process = self
            .pods
            .exec(&self.pod, command, &params)
            .await
            .map_err(|source| ExecError::Start {
                command: command.join(" "),
                container: self.container.clone(),
                source: Box::new(source),
            })?;
        let status = process.take_status();
        let writer = process.stdin();
        let stdout = lines(process.stdout(), hear);
        let stderr = keep_start(process.stderr()).boxed();
        let feed = async {
            if let Some(mut writer) = writer {
                while let Some(chunk) = stdin.recv().await {
                    // A process that ends early says why by its status.
                    if writer.write_all(&chunk).await.is_err() {
                        break;
                    }
                }
                let _ = writer.shutdown().await;
            }
            // Whoever still fills the pipe learns that nobody reads it.
            stdin.close();
        };
        let outcome = async {
            match status {
                Some(status) => status.await,
                None => None,
            }
        };
        // A command that ends before its input does must not leave the feeder
        // waiting for a pipe that nobody empties.
        let finish = async {
            let mut outcome = std::pin::pin!(outcome);
            let mut feed = std::pin::pin!(feed);
            tokio::select! {
                status = &mut outcome => status,
                () = &mut feed => outcome.await,
            }
        };
        let (status, _, errors) = tokio::join!(finish, stdout, stderr);
        self.judge(command, status, &errors, process).await
    }

    async fn judge(
        &self,
        command: &[String],
        status: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Status>,
        errors: &str,
        process: AttachedProcess,
    ) -> Result<(), ExecError> {
        let (command, container) = (command.join(" "), self.container.clone());
        match status {
            Some(status) if status.status.as_deref() == Some("Success") => Ok(()),
            Some(status) => {
                let message = match errors.trim() {
                    "" => status.message.clone().unwrap_or_default(),
                    errors => errors.to_owned(),
                };
                Err(ExecError::Failed {
                    command,
                    container,
                    message,
                    ran: status.reason.as_deref() == Some(EXITED),
                })
            }
            None => {
                let source = process
                    .join()
                    .await
                    .err()
                    .map(|error| error.to_string().into());
                Err(ExecError::Broken {
                    command,
                    container,
                    source,
                })
            }
        }
    }
}

/// Reads a stream line by line to its end.
async fn lines(stream: Option<impl AsyncRead + Unpin>, mut hear: impl FnMut(&str)) {
    let Some(stream) = stream else { return };
    let (mut reader, mut line) = (BufReader::new(stream), Vec::new());
    while let Ok(1..) = reader.read_until(b'\n', &mut line).await {
        hear(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        line.clear();
    }
}

/// Reads a stream to its end and keeps the start.
async fn keep_start(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else {
        return String::new();
    };
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        let room = STDERR_MAX.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&buffer[..room]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
