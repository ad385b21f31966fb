//! Puts built images into manifests, by digest.

use std::collections::BTreeSet;

use kiln_schemas::image::BuiltImage;
use serde_json::Value;

use super::selector::Selector;
use crate::object::Object;

/// Replaces the name of every built image by its pinned reference. A
/// reference with a digest is what its writer meant and stays. Returns the
/// names of images that nothing uses, in the order of `images`.
pub(super) fn substitute(
    objects: &mut [Object],
    images: &[BuiltImage],
    selector: &Selector,
) -> Vec<String> {
    let mut used = BTreeSet::new();
    for object in objects {
        let group_kind = object.group_kind();
        let mut visit = |path: &[&str], text: &mut String| {
            if !selector.rewrites(&group_kind, path) {
                return;
            }
            if let Some(image) = images.iter().find(|image| refers_to(text, &image.name)) {
                used.insert(image.name.as_str());
                if !text.contains('@') {
                    *text = image.pinned();
                }
            }
        };
        strings(object.value_mut(), &mut Vec::new(), &mut visit);
    }
    images
        .iter()
        .map(|image| &image.name)
        .filter(|name| !used.contains(name.as_str()))
        .cloned()
        .collect()
}

/// The repository of a reference: without tag and digest.
pub(crate) fn repository(reference: &str) -> &str {
    let named = reference
        .split_once('@')
        .map_or(reference, |(name, _)| name);
    // A colon before the last slash belongs to the registry's port.
    let path = named.rfind('/').map_or(0, |slash| slash + 1);
    named[path..]
        .find(':')
        .map_or(named, |colon| &named[..path + colon])
}

/// Whether a manifest's reference names the artifact: its tag does not count,
/// unless the artifact's own name has one.
fn refers_to(reference: &str, artifact: &str) -> bool {
    reference == artifact || repository(reference) == artifact
}

fn strings<'a>(
    value: &'a mut Value,
    path: &mut Vec<&'a str>,
    visit: &mut impl FnMut(&[&str], &mut String),
) {
    match value {
        Value::String(text) => visit(path, text),
        Value::Array(items) => items.iter_mut().for_each(|item| strings(item, path, visit)),
        Value::Object(fields) => {
            for (key, field) in fields {
                path.push(key);
                strings(field, path, visit);
                path.pop();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kiln_schemas::image::ImageDigest;
    use kiln_schemas::model::ResourceSelector;
    use serde_json::json;

    use super::*;

    fn image(name: &str, reference: &str) -> BuiltImage {
        let digest = ImageDigest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        BuiltImage {
            name: name.into(),
            reference: reference.into(),
            digest: Some(digest),
            placed: BTreeMap::new(),
            workdir: None,
        }
    }

    fn run(value: Value, images: &[BuiltImage]) -> (Value, Vec<String>) {
        let mut objects = [Object::new(value).unwrap()];
        let selector = Selector::compile(&ResourceSelector::default()).unwrap();
        let unused = substitute(&mut objects, images, &selector);
        let [object] = objects;
        (object.into_value(), unused)
    }

    #[test]
    fn every_kind_of_container_gets_the_pinned_reference() {
        let pod = json!({
            "initContainers": [{"name": "i", "image": "app"}],
            "containers": [{"name": "a", "image": "app:dev"}, {"name": "b", "image": "nginx"}],
            "ephemeralContainers": [{"name": "e", "image": "app"}],
            "volumes": [{"name": "v", "image": {"reference": "app"}}],
        });
        let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"},
            "spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}});
        let (value, unused) = run(cron, &[image("app", "registry.example/app:v1")]);
        let pinned = format!("registry.example/app:v1@sha256:{}", "a".repeat(64));
        let spec = &value["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        assert_eq!(spec["initContainers"][0]["image"], pinned);
        assert_eq!(spec["containers"][0]["image"], pinned);
        assert_eq!(spec["containers"][1]["image"], "nginx");
        assert_eq!(spec["ephemeralContainers"][0]["image"], pinned);
        assert_eq!(spec["volumes"][0]["image"]["reference"], pinned);
        assert!(unused.is_empty());
    }

    #[test]
    fn a_reference_with_a_digest_stays_and_counts_as_used() {
        let theirs = format!("app:v0@sha256:{}", "b".repeat(64));
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "a", "image": theirs}]}});
        let (value, unused) = run(pod.clone(), &[image("app", "r/app:v1")]);
        assert_eq!(value, pod);
        assert!(unused.is_empty());
    }

    #[test]
    fn names_match_as_a_whole_and_ports_are_no_tags() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "a", "image": "localhost:5000/app"}, {"name": "b", "image": "my/app"},
            {"name": "c", "image": "app-two"}]}});
        let (value, unused) = run(
            pod,
            &[image("localhost:5000/app", "x/y:1"), image("app", "z:1")],
        );
        let at = |index: usize| {
            value["spec"]["containers"][index]["image"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert!(at(0).starts_with("x/y:1@sha256:"));
        assert_eq!((at(1), at(2)), ("my/app".into(), "app-two".into()));
        assert_eq!(unused, ["app"]);
    }

    #[test]
    fn labels_and_annotations_named_image_are_not_images() {
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "d", "labels": {"image": "app"}, "annotations": {"image": "app"}}});
        let (value, unused) = run(deployment.clone(), &[image("app", "r/app:v1")]);
        assert_eq!(value, deployment);
        assert_eq!(unused, ["app"]);
    }

    #[test]
    fn the_repository_is_what_stands_before_tag_and_digest() {
        for (reference, expected) in [
            ("app", "app"),
            ("app:1", "app"),
            ("h:5000/a/b", "h:5000/a/b"),
            ("h:5000/a/b:c@sha256:d", "h:5000/a/b"),
        ] {
            assert_eq!(repository(reference), expected);
        }
    }
}
