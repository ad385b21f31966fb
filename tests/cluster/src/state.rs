//! What a cluster consists of, on disk: enough for another process to use it, or to
//! clean up after one that was killed.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::error::{AtPath, Error};
use crate::layout::Layout;
use crate::network::Network;
use crate::process::Process;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) network: Network,
    /// In the order in which they were started.
    pub(crate) processes: Vec<Process>,
    /// Set when everything was up; a state without it is the rest of a failed start.
    pub(crate) complete: bool,
}

impl State {
    pub(crate) fn new(network: Network) -> Self {
        Self {
            network,
            processes: Vec::new(),
            complete: false,
        }
    }

    pub(crate) fn load(layout: &Layout) -> Result<Option<Self>, Error> {
        let path = layout.state();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| Error::State { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(source).at("read", &path),
        }
    }

    pub(crate) fn save(&self, layout: &Layout) -> Result<(), Error> {
        let path = layout.state();
        let text = serde_json::to_string_pretty(self).map_err(|source| Error::State {
            path: path.clone(),
            source,
        })?;
        let next = path.with_extension("next");
        fs::write(&next, text).at("write", &next)?;
        fs::rename(&next, &path).at("rename", &next)
    }

    /// Whether everything that was started still runs.
    pub(crate) fn is_running(&self) -> bool {
        self.complete && self.processes.iter().all(Process::is_alive)
    }
}

/// A lock that is free again when this value, or its process, is gone.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock.
    pub(crate) fn take(path: &Path) -> Result<Self, Error> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).at("create", folder)?;
        }
        let file = File::create(path).at("create", path)?;
        flock(&file, FlockOperation::LockExclusive).map_err(|source| Error::System {
            action: format!("lock {}", path.display()),
            source,
        })?;
        Ok(Self { _file: file })
    }
}
