//! Credentials in variables: kaniko's for any host, and those of a GitLab job.

use super::{Credential, Variables, basic, variable};

/// `KANIKO_<HOST>_USER` and `KANIKO_<HOST>_PASSWORD`, where dots, dashes and colons of the host become `_`; the names
/// of its parent domains count as well, the nearest first.
pub(super) fn of_host(variables: &Variables, registry: &str) -> Option<(Credential, String)> {
    let mut rest = registry;
    loop {
        let name = rest.replace(['.', '-', ':'], "_");
        for name in [name.to_uppercase(), name] {
            let user = variable(variables, &format!("KANIKO_{name}_USER"));
            let password = variable(variables, &format!("KANIKO_{name}_PASSWORD"));
            if let (Some(user), Some(password)) = (user, password) {
                return Some((basic(user, password), format!("env (KANIKO_{name}_USER)")));
            }
        }
        let (_, parent) = rest.split_once('.')?;
        // A top-level domain is nobody's.
        if !parent.contains('.') {
            return None;
        }
        rest = parent;
    }
}

/// The registry and the dependency proxy of the job's project (GitLab, "Predefined CI/CD variables").
pub(super) fn gitlab(variables: &Variables, registry: &str) -> Option<(Credential, String)> {
    for (host, user, password) in [
        ("CI_REGISTRY", "CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD"),
        (
            "CI_DEPENDENCY_PROXY_SERVER",
            "CI_DEPENDENCY_PROXY_USER",
            "CI_DEPENDENCY_PROXY_PASSWORD",
        ),
    ] {
        let named = variable(variables, host).map(|text| text.trim_end_matches('/'));
        let named = named.map(|text| text.strip_suffix(":443").unwrap_or(text));
        if named != Some(registry) {
            continue;
        }
        if let (Some(name), Some(secret)) =
            (variable(variables, user), variable(variables, password))
        {
            return Some((basic(name, secret), format!("gitlab ({user})")));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_host_or_its_parent_domain_names_the_variable() {
        let variables = variables(&[
            ("KANIKO_EXAMPLE_COM_USER", "parent"),
            ("KANIKO_EXAMPLE_COM_PASSWORD", "p"),
            ("KANIKO_MY_REG_EXAMPLE_COM_5000_USER", "own"),
            ("KANIKO_MY_REG_EXAMPLE_COM_5000_PASSWORD", "p"),
            ("KANIKO_COM_USER", "nobody"),
            ("KANIKO_COM_PASSWORD", "p"),
        ]);
        for (host, expected) in [
            ("my-reg.example.com:5000", Some("own")),
            ("other.example.com", Some("parent")),
            ("example.com", Some("parent")),
            ("another.com", None),
            ("badexample.com", None),
        ] {
            let found = of_host(&variables, host).map(|(credential, _)| credential);
            assert_eq!(found, expected.map(|user| basic(user, "p")), "{host}");
        }
    }

    #[test]
    fn a_job_knows_its_registry_and_no_other() {
        let variables = variables(&[
            ("CI_REGISTRY", "registry.example.com"),
            ("CI_REGISTRY_USER", "gitlab-ci-token"),
            ("CI_REGISTRY_PASSWORD", "t"),
            ("CI_DEPENDENCY_PROXY_SERVER", "gitlab.example.com:443"),
            ("CI_DEPENDENCY_PROXY_USER", "gitlab-ci-token"),
            ("CI_DEPENDENCY_PROXY_PASSWORD", "t"),
        ]);
        for (host, expected) in [
            ("registry.example.com", true),
            ("gitlab.example.com", true),
            ("registry.example.com.evil", false),
            ("docker.io", false),
        ] {
            assert_eq!(gitlab(&variables, host).is_some(), expected, "{host}");
        }
    }
}
