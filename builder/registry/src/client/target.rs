//! Where one operation goes: the host that is called and the repository's name there.

use crate::reference::Reference;
use crate::settings::{Endpoint, Settings};

/// A repository on the host that is really called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The host.
    pub(super) endpoint: Endpoint,
    /// The repository's path there, with the endpoint's prefix.
    pub(super) repository: String,
    /// The repository as credentials are kept for it.
    pub(super) named_repository: String,
    /// Whose credentials count, best first.
    pub(super) credential_hosts: Vec<String>,
}

impl Target {
    /// Where a push of `reference` goes.
    pub(super) fn for_push(settings: &Settings, reference: &Reference) -> Self {
        let endpoint = settings.push_endpoint(reference.registry());
        Self::new(endpoint, reference, reference.registry())
    }

    /// Where a pull of `reference` goes, in the order to be tried.
    pub(super) fn for_pull(settings: &Settings, reference: &Reference) -> Vec<Self> {
        let origin = Self::for_push(settings, reference);
        settings
            .pull_endpoints(reference.registry())
            .into_iter()
            .map(|endpoint| {
                if endpoint == origin.endpoint {
                    return origin.clone();
                }
                // A mirror gets the mirror's own credentials, never those of the registry that it stands for.
                let host = endpoint.host().to_owned();
                Self::new(endpoint, reference, &host)
            })
            .collect()
    }

    fn new(endpoint: Endpoint, reference: &Reference, credentials_of: &str) -> Self {
        let repository = match endpoint.prefix() {
            "" => reference.repository().to_owned(),
            prefix => format!("{prefix}/{}", reference.repository()),
        };
        let mut credential_hosts = vec![credentials_of.to_owned()];
        if Endpoint::of_registry(credentials_of).host() != endpoint.host() {
            credential_hosts.push(endpoint.host().to_owned());
        }
        let mirrored = credentials_of == endpoint.host() && credentials_of != reference.registry();
        let named_repository = if mirrored {
            repository.clone()
        } else {
            reference.repository().to_owned()
        };
        Self {
            endpoint,
            repository,
            named_repository,
            credential_hosts,
        }
    }

    /// Equal for targets that get the same credentials.
    pub(super) fn credential_key(&self) -> String {
        format!(
            "{} {}",
            self.credential_hosts.join(","),
            self.named_repository
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> Reference {
        Reference::parse(text).unwrap()
    }

    #[test]
    fn a_mirror_keeps_library_and_has_its_own_credentials() {
        let mut settings = Settings::default();
        settings.host_mut("docker.io").mirrors = vec!["cache:5000/hub".parse().unwrap()];
        let targets = Target::for_pull(&settings, &reference("golang"));
        let shown: Vec<_> = targets
            .iter()
            .map(|target| {
                (
                    target.endpoint.host(),
                    target.repository.as_str(),
                    target.credential_hosts.join(" "),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("cache:5000", "hub/library/golang", "cache:5000".to_owned()),
                (
                    "registry-1.docker.io",
                    "library/golang",
                    "docker.io".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn a_mapped_host_takes_the_credentials_of_the_name_first() {
        let mut settings = Settings::default();
        settings.host_mut("registry.example.com").connect_to =
            Some("10.0.0.5:5000".parse().unwrap());
        let target = Target::for_push(&settings, &reference("registry.example.com/team/app"));
        assert_eq!(target.endpoint.host(), "10.0.0.5:5000");
        assert_eq!(
            target.credential_hosts,
            ["registry.example.com", "10.0.0.5:5000"]
        );
        assert_eq!(target.repository, "team/app");
    }
}
