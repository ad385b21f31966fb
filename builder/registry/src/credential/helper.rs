//! Runs `docker-credential-*` programs.
//!
//! Protocol: docker/docker-credential-helpers: the verb `get`, the server's URL on stdin, JSON on stdout.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{Credential, Helpers};

/// What a helper says (on stdout, with exit code 1) when it has nothing for a server.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user name under which a helper hands out an identity token.
const TOKEN_USER: &str = "<token>";

/// What is wrong with a credential helper.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// The name would lead out of the search path.
    #[error("\"{0}\" is not the name of a credential helper")]
    Name(String),
    /// There is no such program.
    #[error("{program} is not installed{}", if searched.is_empty() { " (no folder was given to search)".to_owned() } else { format!(" in any of {}", searched.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")) })]
    Missing {
        /// The program's file name.
        program: String,
        /// The folders that were searched.
        searched: Vec<PathBuf>,
    },
    /// It cannot be started or talked to.
    #[error("{program} cannot be run")]
    Run {
        /// The program's file name.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("{program} did not answer within {} seconds", timeout.as_secs())]
    Timeout {
        /// The program's file name.
        program: String,
        /// The limit.
        timeout: Duration,
    },
    /// It failed.
    #[error("{program} failed with {status}: {message}")]
    Failed {
        /// The program's file name.
        program: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// What it printed.
        message: String,
    },
    /// It printed something else than the JSON of the protocol.
    #[error("{program} printed something else than {{\"ServerURL\", \"Username\", \"Secret\"}}")]
    Output {
        /// The program's file name.
        program: String,
        /// Where and what.
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Asks helper `name` for `server`; `None` when it has nothing, which means anonymous access.
pub(super) async fn get(
    name: &str,
    server: &str,
    helpers: &Helpers,
) -> Result<Option<Credential>, HelperError> {
    let program = format!("docker-credential-{name}");
    if name.is_empty() || name.contains(['/', '\\', '\0']) {
        return Err(HelperError::Name(name.to_owned()));
    }
    let path = helpers
        .search_path
        .iter()
        .map(|folder| folder.join(&program))
        .find(|path| path.is_file())
        .ok_or_else(|| HelperError::Missing {
            program: program.clone(),
            searched: helpers.search_path.clone(),
        })?;
    let run = |source| HelperError::Run {
        program: program.clone(),
        source,
    };
    let mut child = Command::new(path)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(run)?;
    let exchange = async {
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read its input may close it early; its answer decides.
            let _ = stdin.write_all(server.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(helpers.timeout, exchange)
        .await
        .map_err(|_| HelperError::Timeout {
            program: program.clone(),
            timeout: helpers.timeout,
        })?
        .map_err(run)?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        if [&stdout, &stderr]
            .iter()
            .any(|text| text.contains(NOT_FOUND))
        {
            return Ok(None);
        }
        let message = if stdout.trim().is_empty() {
            stderr.trim()
        } else {
            stdout.trim()
        }
        .to_owned();
        return Err(HelperError::Failed {
            program,
            status: output.status,
            message,
        });
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|source| HelperError::Output { program, source })?;
    Ok(match answer {
        Answer { secret, .. } if secret.is_empty() => None,
        Answer { username, secret } if username == TOKEN_USER => Some(Credential::Identity(secret)),
        Answer { username, secret } => Some(Credential::Basic {
            username,
            password: secret,
        }),
    })
}

#[cfg(test)]
mod tests;
