//! Which containers' logs are followed.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kiln_schemas::image::BuiltImage;

use crate::apply::Applied;
use crate::render::substitute::repository;

/// Whose logs are followed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Namespaces that are watched.
    pub namespaces: BTreeSet<String>,
    /// Containers that run one of these images, in this version or another.
    pub images: Vec<BuiltImage>,
    /// All containers of pods with these labels, whatever their image; see
    /// [`pods_of`].
    pub pods: Vec<PodLabels>,
}

/// Pods by their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLabels {
    /// Their namespace.
    pub namespace: String,
    /// Every one of these must be there.
    pub labels: BTreeMap<String, String>,
}

/// The pods of every workload that was applied.
pub fn pods_of(applied: &Applied) -> Vec<PodLabels> {
    let labels = |object: &crate::apply::AppliedObject| {
        let spec = &object.live.value()["spec"];
        let labels = match object.live.kind() {
            // Its own labels: a pod that stands alone.
            "Pod" => &object.live.value()["metadata"]["labels"],
            "CronJob" => &spec["jobTemplate"]["spec"]["template"]["metadata"]["labels"],
            _ => &spec["template"]["metadata"]["labels"],
        };
        let labels: BTreeMap<String, String> = serde_json::from_value(labels.clone()).ok()?;
        let namespace = object.name.namespace.clone()?;
        (!labels.is_empty()).then_some(PodLabels { namespace, labels })
    };
    applied.objects.iter().filter_map(labels).collect()
}

/// The containers of a pod that are followed, init containers first, each
/// with the artifact that its image comes from.
pub(super) fn containers(selection: &Selection, pod: &Pod) -> Vec<(String, Option<String>)> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    if is_build(pod) {
        return Vec::new();
    }
    let whole = selection.pods.iter().any(|wanted| has_labels(pod, wanted));
    let regular = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let mut found: Vec<_> = regular
        .map(|c| (c.name.clone(), c.image.as_deref()))
        .collect();
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    found.extend(ephemeral.map(|c| (c.name.clone(), c.image.as_deref())));
    found
        .into_iter()
        .map(|(name, image)| (name, image.and_then(|image| artifact(selection, image))))
        .filter(|(_, artifact)| whole || artifact.is_some())
        .collect()
}

/// The label of pods that build an image. Kiln's executor lies in the image's own repository, so
/// its pods look like the image's.
const BUILD_POD: &str = "kiln.dev/role";

fn is_build(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key(BUILD_POD))
}

fn artifact(selection: &Selection, image: &str) -> Option<String> {
    let of = |built: &&BuiltImage| repository(&built.reference) == repository(image);
    selection
        .images
        .iter()
        .find(of)
        .map(|built| built.name.clone())
}

fn has_labels(pod: &Pod, wanted: &PodLabels) -> bool {
    let labels = pod.metadata.labels.as_ref();
    pod.metadata.namespace.as_deref() == Some(&wanted.namespace)
        && wanted
            .labels
            .iter()
            .all(|(key, value)| labels.is_some_and(|all| all.get(key) == Some(value)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "shop", "labels": {"app": "web", "x": "y"}},
            "spec": {"initContainers": [{"name": "setup", "image": "r/app:old@sha256:0"}],
                "containers": [{"name": "app", "image": "r/app:1"}, {"name": "proxy", "image": "envoy"}]}}))
        .unwrap()
    }

    #[test]
    fn a_pod_that_builds_the_image_is_not_one_that_runs_it() {
        let selection = Selection {
            images: vec![image()],
            ..Selection::default()
        };
        let mut building = pod();
        let labels = building.metadata.labels.get_or_insert_default();
        labels.insert(BUILD_POD.into(), "build".into());
        assert!(!containers(&selection, &pod()).is_empty());
        assert!(containers(&selection, &building).is_empty());
    }

    fn image() -> BuiltImage {
        BuiltImage {
            name: "app".into(),
            reference: "r/app:2".into(),
            digest: None,
            placed: BTreeMap::new(),
            workdir: None,
        }
    }

    #[test]
    fn containers_of_a_built_image_are_followed_init_containers_too() {
        let selection = Selection {
            images: vec![image()],
            ..Selection::default()
        };
        assert_eq!(
            containers(&selection, &pod()),
            [
                ("setup".into(), Some("app".into())),
                ("app".into(), Some("app".into()))
            ]
        );
        assert!(containers(&Selection::default(), &pod()).is_empty());
    }

    #[test]
    fn all_containers_of_a_workload_are_followed_when_asked() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let of = |namespace: &str| Selection {
            pods: vec![PodLabels {
                namespace: namespace.into(),
                labels: labels.clone(),
            }],
            ..Selection::default()
        };
        assert_eq!(containers(&of("shop"), &pod()).len(), 3);
        assert!(containers(&of("other"), &pod()).is_empty());
    }
}
