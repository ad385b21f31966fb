//! `ADD` of repositories.

use std::sync::Arc;

use super::copy::{Given, Owner};
use super::{Built, Session, StepError};
use crate::git::{Address, Extent, Git, History, Login, Submodules};
use crate::layer::view::View;
use crate::plan;

/// The secret with a token for repositories, perhaps with a dot and the host behind
/// (<https://docs.docker.com/build/building/secrets/#git-authentication-for-remote-contexts>).
const TOKEN: &str = "GIT_AUTH_TOKEN";
/// The user that such a token is given for (BuildKit's).
const USER: &str = "x-access-token";

impl Session<'_> {
    /// Fetches a repository and returns its files.
    pub(super) fn checkout(
        &self,
        address: &Address,
        (history, op): (History, &plan::Copy),
        built: &mut Built,
    ) -> Result<Given, StepError> {
        let mut address = address.clone();
        if let Some(checksum) = &op.checksum {
            address.checksum = Some(checksum.clone());
        }
        let extent = Extent {
            depth: Some(1),
            submodules: match address.submodules {
                Some(false) => Submodules::Empty,
                _ => Submodules::Recursive,
            },
            history,
            ..Extent::default()
        };
        let mut env = self.request.sandbox.git.clone();
        if let Some(socket) = self.request.sandbox.agents.get("default") {
            env.insert("SSH_AUTH_SOCK".to_owned(), socket.display().to_string());
        }
        let mut git = Git::new(&env);
        if let Some(login) = address.login.clone().or_else(|| self.token(&address)) {
            git = git.with_login(login);
        }
        let scratch = Arc::new(self.store.scratch()?);
        git.fetch(&address, &extent, scratch.path())?;
        let view = View::plain(scratch.path().to_owned());
        built.scratch.push(scratch);
        let owner = Owner::Root;
        Ok(Given::Tree { view, owner })
    }

    fn token(&self, address: &Address) -> Option<Login> {
        let host = url::Url::parse(&address.url).ok()?.host_str()?.to_owned();
        let secrets = &self.request.sandbox.secrets;
        let secret = secrets
            .get(&format!("{TOKEN}.{host}"))
            .or_else(|| secrets.get(TOKEN))?;
        Some(Login {
            username: USER.to_owned(),
            password: String::from_utf8_lossy(&secret.0).trim().to_owned(),
        })
    }
}
