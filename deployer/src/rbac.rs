//! Rights that are missing, and the smallest Role that grants them.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

/// One thing that someone must be allowed to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// Where; absent for cluster-scoped resources.
    pub namespace: Option<String>,
    /// API group; empty for the core group.
    pub group: String,
    /// Plural, with its subresource: `pods/log`.
    pub resource: String,
    /// `get`, `create`, ….
    pub verb: &'static str,
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

/// Asks the API server which of these rights the user lacks. A right that
/// cannot be asked about is not reported.
pub async fn missing(client: &Client, rights: &BTreeSet<Right>) -> Vec<Right> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    // Collected first: a lazy map over references hides from the compiler that
    // the future may move between threads (rust-lang/rust#102211).
    let reviews: Vec<_> = rights
        .iter()
        .map(|right| {
            let api = api.clone();
            async move {
                let answer = api
                    .create(&PostParams::default(), &review(right))
                    .await
                    .ok()?;
                let allowed = answer.status.is_none_or(|status| status.allowed);
                (!allowed).then(|| right.clone())
            }
        })
        .collect();
    // In the order of the question, so that messages are stable.
    stream::iter(reviews)
        .buffered(16)
        .filter_map(std::future::ready)
        .collect()
        .await
}

fn review(right: &Right) -> SelfSubjectAccessReview {
    let (resource, subresource) = right
        .resource
        .split_once('/')
        .map_or((right.resource.as_str(), None), |(r, s)| (r, Some(s)));
    let attributes = ResourceAttributes {
        namespace: right.namespace.clone(),
        group: Some(right.group.clone()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(str::to_owned),
        verb: Some(right.verb.to_owned()),
        ..ResourceAttributes::default()
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

/// Verbs by group and resource.
type Grants<'a> = BTreeMap<(&'a str, &'a str), BTreeSet<&'a str>>;

/// YAML of the smallest Role per namespace, and ClusterRole for what has no
/// namespace, that grants exactly these rights. Empty for no rights.
pub fn smallest_role(name: &str, rights: &[Right]) -> String {
    let mut roles: BTreeMap<Option<&str>, Grants<'_>> = BTreeMap::new();
    for right in rights {
        let rules = roles.entry(right.namespace.as_deref()).or_default();
        rules
            .entry((&right.group, &right.resource))
            .or_default()
            .insert(right.verb);
    }
    let roles = roles
        .into_iter()
        .map(|(namespace, resources)| role(name, namespace, resources));
    roles.collect::<Vec<_>>().join("---\n")
}

fn role(name: &str, namespace: Option<&str>, resources: Grants<'_>) -> String {
    // Resources of a group with the same verbs share a rule.
    let mut rules: BTreeMap<(&str, BTreeSet<&str>), Vec<&str>> = BTreeMap::new();
    for ((group, resource), verbs) in resources {
        rules.entry((group, verbs)).or_default().push(resource);
    }
    let kind = if namespace.is_some() {
        "Role"
    } else {
        "ClusterRole"
    };
    let place = namespace.map_or(String::new(), |namespace| {
        format!("  namespace: {namespace}\n")
    });
    let mut text = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: {name}\n{place}rules:\n"
    );
    for ((group, verbs), resources) in rules {
        let verbs: Vec<_> = verbs.into_iter().collect();
        text.push_str(&format!(
            "- apiGroups: [\"{group}\"]\n  resources: [{}]\n  verbs: [{}]\n",
            resources.join(", "),
            verbs.join(", ")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(namespace: Option<&str>, group: &str, resource: &str, verb: &'static str) -> Right {
        Right {
            namespace: namespace.map(str::to_owned),
            group: group.into(),
            resource: resource.into(),
            verb,
        }
    }

    #[test]
    fn a_right_reads_as_a_sentence() {
        assert_eq!(
            right(Some("shop"), "apps", "deployments", "create").to_string(),
            "create deployments.apps in namespace shop"
        );
        assert_eq!(
            right(None, "", "namespaces", "patch").to_string(),
            "patch namespaces"
        );
    }

    #[test]
    fn the_smallest_role_groups_rights_and_grants_nothing_else() {
        let rights = [
            right(Some("shop"), "", "services", "patch"),
            right(Some("shop"), "", "configmaps", "patch"),
            right(Some("shop"), "apps", "deployments", "create"),
            right(Some("shop"), "apps", "deployments", "patch"),
            right(None, "", "namespaces", "create"),
        ];
        assert_eq!(
            smallest_role("kiln", &rights),
            r#"apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: kiln
rules:
- apiGroups: [""]
  resources: [namespaces]
  verbs: [create]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: kiln
  namespace: shop
rules:
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [patch]
- apiGroups: ["apps"]
  resources: [deployments]
  verbs: [create, patch]
"#
        );
        assert_eq!(smallest_role("kiln", &[]), "");
    }
}
