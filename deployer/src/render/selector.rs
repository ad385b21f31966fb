//! Which fields of which kinds carry images: the built-in kinds and the
//! user's `resourceSelector`.

use kiln_schemas::model::{KindRule, ResourceSelector};
use regex::Regex;

/// Kinds whose `image` fields are rewritten unless the user denies it
/// (skaffold's allow-list, `pkg/skaffold/kubernetes/manifest/visitor.go`, and
/// the scalable kinds that followed it). `*` stands for every kind of a group.
const BUILT_IN: &[(&str, &[&str])] = &[
    ("", &["Pod", "PodTemplate", "ReplicationController"]),
    (
        "apps",
        &["DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"],
    ),
    ("extensions", &["DaemonSet", "Deployment", "ReplicaSet"]),
    ("batch", &["CronJob", "Job"]),
    (
        "serving.knative.dev",
        &["Configuration", "Revision", "Service"],
    ),
    ("run.googleapis.com", &["Job", "WorkerPool"]),
    ("agones.dev", &["Fleet", "GameServer", "GameServerSet"]),
    (
        "argoproj.io",
        &[
            "AnalysisTemplate",
            "ClusterWorkflowTemplate",
            "CronWorkflow",
            "Rollout",
            "Workflow",
            "WorkflowTemplate",
        ],
    ),
    ("platform.confluent.io", &["*"]),
    ("kafka.strimzi.io", &["*"]),
    ("jobset.x-k8s.io", &["JobSet"]),
    ("leaderworkerset.x-k8s.io", &["LeaderWorkerSet"]),
];

/// Groups of Config Connector end in this.
const CONFIG_CONNECTOR: &str = ".cnrm.cloud.google.com";

/// The user's rules, compiled.
pub(super) struct Selector {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

/// A rule of the user's that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum SelectorError {
    /// `groupKind` is not a regular expression.
    #[error("resourceSelector: groupKind `{group_kind}` is not a regular expression")]
    GroupKind {
        /// As written.
        group_kind: String,
        /// Why.
        source: Box<regex::Error>,
    },
    /// A path does not begin with a dot.
    #[error(
        "resourceSelector: path `{path}` of `{group_kind}` must begin with a dot, as in .spec.image"
    )]
    Path {
        /// The rule's kind.
        group_kind: String,
        /// As written.
        path: String,
    },
}

struct Rule {
    group_kind: Regex,
    image: Vec<Path>,
    labels: Vec<Path>,
    pod_spec: Vec<Path>,
}

/// `.spec.template`: keys from the top; lists add no key of their own.
struct Path(Vec<String>);

impl Path {
    /// Whether the pattern names exactly this path. `*` stands for one key,
    /// and for any number of them at the end.
    fn covers(&self, path: &[&str]) -> bool {
        let Some((last, front)) = self.0.split_last() else {
            return false;
        };
        let same = |pattern: &String, key: &&str| pattern == "*" || pattern == key;
        if last == "*" {
            return path.len() >= front.len() && front.iter().zip(path).all(|(p, k)| same(p, k));
        }
        self.0.len() == path.len() && self.0.iter().zip(path).all(|(p, k)| same(p, k))
    }
}

impl Rule {
    fn compile(rule: &KindRule) -> Result<Self, SelectorError> {
        let paths = |paths: &[String]| {
            paths
                .iter()
                .map(|path| match path.strip_prefix('.') {
                    Some(rest) => Ok(Path(rest.split('.').map(str::to_owned).collect())),
                    None => Err(SelectorError::Path {
                        group_kind: rule.group_kind.clone(),
                        path: path.clone(),
                    }),
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let group_kind = Regex::new(&format!("^(?:{})$", rule.group_kind)).map_err(|source| {
            SelectorError::GroupKind {
                group_kind: rule.group_kind.clone(),
                source: Box::new(source),
            }
        })?;
        Ok(Self {
            group_kind,
            image: paths(&rule.image)?,
            labels: paths(&rule.labels)?,
            pod_spec: paths(&rule.pod_spec)?,
        })
    }

    fn covers_image(&self, group_kind: &str, path: &[&str]) -> bool {
        self.group_kind.is_match(group_kind)
            && (self.image.iter().any(|pattern| pattern.covers(path))
                || pod_spec_of(path)
                    .is_some_and(|spec| self.pod_spec.iter().any(|pattern| pattern.covers(spec))))
    }

    fn covers_labels(&self, group_kind: &str, path: &[&str]) -> bool {
        self.group_kind.is_match(group_kind)
            && self.labels.iter().any(|pattern| pattern.covers(path))
    }
}

/// The pod spec that a container's image field belongs to.
fn pod_spec_of<'a>(image: &'a [&'a str]) -> Option<&'a [&'a str]> {
    match image {
        [
            spec @ ..,
            "containers" | "initContainers" | "ephemeralContainers",
            "image",
        ]
        | [spec @ .., "volumes", "image", "reference"] => Some(spec),
        _ => None,
    }
}

impl Selector {
    pub(super) fn compile(rules: &ResourceSelector) -> Result<Self, SelectorError> {
        let compile =
            |rules: &[KindRule]| rules.iter().map(Rule::compile).collect::<Result<_, _>>();
        Ok(Self {
            allow: compile(&rules.allow)?,
            deny: compile(&rules.deny)?,
        })
    }

    /// Whether the string at `path` of such an object may be an image that is
    /// rewritten. The user's denial wins over the user's permission, and both
    /// win over the built-in kinds.
    pub(super) fn rewrites(&self, group_kind: &str, path: &[&str]) -> bool {
        if self
            .deny
            .iter()
            .any(|rule| rule.covers_image(group_kind, path))
        {
            return false;
        }
        self.allow
            .iter()
            .any(|rule| rule.covers_image(group_kind, path))
            || (is_image_field(path) && is_built_in(group_kind))
    }

    /// Whether the object itself gets labels.
    pub(super) fn labels_object(&self, group_kind: &str) -> bool {
        !self
            .deny
            .iter()
            .any(|rule| rule.covers_labels(group_kind, &["metadata", "labels"]))
    }

    /// Whether the mapping at `path` was named by the user as one for labels.
    /// `.*` names the object's own labels only.
    pub(super) fn labels_below(&self, group_kind: &str, path: &[&str]) -> bool {
        let named = |rule: &Rule| {
            rule.group_kind.is_match(group_kind)
                && rule
                    .labels
                    .iter()
                    .any(|pattern| pattern.0 != ["*"] && pattern.covers(path))
        };
        self.allow.iter().any(named)
            && !self
                .deny
                .iter()
                .any(|rule| rule.covers_labels(group_kind, path))
    }
}

fn is_image_field(path: &[&str]) -> bool {
    match path {
        // Free-form maps whose keys are the user's.
        [
            ..,
            "labels" | "annotations" | "matchLabels" | "nodeSelector",
            "image",
        ] => false,
        [.., "image"] | [.., "volumes", "image", "reference"] => true,
        _ => false,
    }
}

fn is_built_in(group_kind: &str) -> bool {
    let (kind, group) = group_kind.split_once('.').unwrap_or((group_kind, ""));
    format!(".{group}").ends_with(CONFIG_CONNECTOR)
        || BUILT_IN.iter().any(|(known, kinds)| {
            *known == group && kinds.iter().any(|known| *known == "*" || *known == kind)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(group_kind: &str, image: &[&str], pod_spec: &[&str]) -> KindRule {
        let owned = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        KindRule {
            group_kind: group_kind.into(),
            image: owned(image),
            pod_spec: owned(pod_spec),
            ..KindRule::default()
        }
    }

    fn selector(allow: Vec<KindRule>, deny: Vec<KindRule>) -> Selector {
        Selector::compile(&ResourceSelector { allow, deny }).unwrap()
    }

    #[test]
    fn the_built_in_kinds_are_rewritten_and_others_are_not() {
        let selector = selector(vec![], vec![]);
        let image = ["spec", "template", "spec", "containers", "image"];
        for kind in [
            "Deployment.apps",
            "CronJob.batch",
            "Service.serving.knative.dev",
            "Rollout.argoproj.io",
        ] {
            assert!(selector.rewrites(kind, &image), "{kind}");
        }
        for kind in ["ConfigMap", "Service", "Widget.example.com"] {
            assert!(!selector.rewrites(kind, &image), "{kind}");
        }
    }

    #[test]
    fn the_users_rules_win_over_the_built_in_ones() {
        let selector = selector(
            vec![rule("Widget.example.com", &[".spec.engine.picture"], &[])],
            vec![rule("Deployment.apps", &[".*"], &[])],
        );
        assert!(selector.rewrites("Widget.example.com", &["spec", "engine", "picture"]));
        assert!(!selector.rewrites("Widget.example.com", &["spec", "image"]));
        assert!(!selector.rewrites(
            "Deployment.apps",
            &["spec", "template", "spec", "containers", "image"]
        ));
    }

    #[test]
    fn a_pod_spec_path_covers_the_images_of_its_containers() {
        let selector = selector(vec![rule(r".+\.example\.com", &[], &[".spec.pod"])], vec![]);
        assert!(selector.rewrites(
            "Widget.example.com",
            &["spec", "pod", "initContainers", "image"]
        ));
        assert!(!selector.rewrites(
            "Widget.example.com",
            &["spec", "other", "containers", "image"]
        ));
    }

    #[test]
    fn a_rule_that_cannot_be_understood_names_itself() {
        let bad = ResourceSelector {
            allow: vec![rule("X", &["spec.image"], &[])],
            deny: vec![],
        };
        assert_eq!(
            Selector::compile(&bad).err().unwrap().to_string(),
            "resourceSelector: path `spec.image` of `X` must begin with a dot, as in .spec.image"
        );
        let bad = ResourceSelector {
            allow: vec![rule("X(", &[], &[])],
            deny: vec![],
        };
        assert!(matches!(
            Selector::compile(&bad),
            Err(SelectorError::GroupKind { .. })
        ));
    }
}
