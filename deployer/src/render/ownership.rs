//! Namespace and labels that the user wants on everything.

use std::collections::BTreeMap;

use kiln_schemas::event::ObjectName;
use serde_json::Value;

use super::selector::Selector;
use crate::object::Object;

/// An object names a namespace that is not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object} is in namespace `{}`, but `{wanted}` was asked for", .object.namespace.as_deref().unwrap_or_default())]
pub struct NamespaceConflict {
    /// The object with the namespace that its manifest names.
    pub object: ObjectName,
    /// The namespace that was asked for.
    pub wanted: String,
}

/// Built-in kinds without a namespace. A kind that comes with a
/// CustomResourceDefinition says so there.
const CLUSTER_SCOPED: &[&str] = &[
    "APIService.apiregistration.k8s.io",
    "CertificateSigningRequest.certificates.k8s.io",
    "ClusterRole.rbac.authorization.k8s.io",
    "ClusterRoleBinding.rbac.authorization.k8s.io",
    "ClusterTrustBundle.certificates.k8s.io",
    "CSIDriver.storage.k8s.io",
    "CSINode.storage.k8s.io",
    "CustomResourceDefinition.apiextensions.k8s.io",
    "DeviceClass.resource.k8s.io",
    "FlowSchema.flowcontrol.apiserver.k8s.io",
    "GatewayClass.gateway.networking.k8s.io",
    "IngressClass.networking.k8s.io",
    "IPAddress.networking.k8s.io",
    "MutatingAdmissionPolicy.admissionregistration.k8s.io",
    "MutatingAdmissionPolicyBinding.admissionregistration.k8s.io",
    "MutatingWebhookConfiguration.admissionregistration.k8s.io",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass.scheduling.k8s.io",
    "PriorityLevelConfiguration.flowcontrol.apiserver.k8s.io",
    "ResourceSlice.resource.k8s.io",
    "RuntimeClass.node.k8s.io",
    "ServiceCIDR.networking.k8s.io",
    "StorageClass.storage.k8s.io",
    "ValidatingAdmissionPolicy.admissionregistration.k8s.io",
    "ValidatingAdmissionPolicyBinding.admissionregistration.k8s.io",
    "ValidatingWebhookConfiguration.admissionregistration.k8s.io",
    "VolumeAttachment.storage.k8s.io",
    "VolumeAttributesClass.storage.k8s.io",
];

/// Puts every namespaced object into `namespace`. Cluster-scoped ones are the
/// built-in kinds and those that a definition among `objects` declares so.
pub(super) fn put_into_namespace(
    objects: &mut [Object],
    namespace: &str,
) -> Result<(), NamespaceConflict> {
    let defined: Vec<String> = objects
        .iter()
        .filter_map(cluster_scoped_definition)
        .collect();
    for object in objects {
        let group_kind = object.group_kind();
        if CLUSTER_SCOPED.contains(&group_kind.as_str()) || defined.contains(&group_kind) {
            continue;
        }
        match object.namespace() {
            Some(own) if own != namespace => {
                return Err(NamespaceConflict {
                    object: object.object_name(),
                    wanted: namespace.to_owned(),
                });
            }
            Some(_) => {}
            None => object.set_namespace(namespace),
        }
    }
    Ok(())
}

/// The group and kind that a definition makes cluster-scoped.
fn cluster_scoped_definition(object: &Object) -> Option<String> {
    let spec = &object.value()["spec"];
    let defines = object.group_kind() == "CustomResourceDefinition.apiextensions.k8s.io";
    (defines && spec["scope"] == "Cluster").then(|| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        crate::object::group_kind(&text(&spec["group"]), &text(&spec["names"]["kind"]))
    })
}

/// Adds labels to the objects themselves, and below them only where the user
/// named a path: a label in a pod template would restart every pod.
pub(super) fn add_labels(
    objects: &mut [Object],
    labels: &BTreeMap<String, String>,
    selector: &Selector,
) {
    if labels.is_empty() {
        return;
    }
    for object in objects {
        let group_kind = object.group_kind();
        if selector.labels_object(&group_kind) {
            for (key, value) in labels {
                if object.label(key).is_none() {
                    object.set_label(key, value);
                }
            }
        }
        let named = |path: &[&str]| selector.labels_below(&group_kind, path);
        add_below(object.value_mut(), &mut Vec::new(), &named, labels);
    }
}

fn add_below<'a>(
    value: &'a mut Value,
    path: &mut Vec<&'a str>,
    named: &impl Fn(&[&str]) -> bool,
    labels: &BTreeMap<String, String>,
) {
    match value {
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| add_below(item, path, named, labels)),
        Value::Object(fields) if named(path) => {
            for (key, value) in labels {
                fields
                    .entry(key.as_str())
                    .or_insert_with(|| value.as_str().into());
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                path.push(key);
                add_below(field, path, named, labels);
                path.pop();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use kiln_schemas::model::{KindRule, ResourceSelector};
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        Object::new(value).unwrap()
    }

    fn labels() -> BTreeMap<String, String> {
        BTreeMap::from([("team".to_owned(), "blue".to_owned())])
    }

    #[test]
    fn namespaced_objects_move_and_cluster_scoped_ones_do_not() {
        let mut objects = [
            object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})),
            object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})),
            object(
                json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": "zones.example.com"},
                "spec": {"group": "example.com", "scope": "Cluster", "names": {"kind": "Zone"}}}),
            ),
            object(
                json!({"apiVersion": "example.com/v1", "kind": "Zone", "metadata": {"name": "z"}}),
            ),
        ];
        put_into_namespace(&mut objects, "shop").unwrap();
        let namespaces: Vec<_> = objects.iter().map(Object::namespace).collect();
        assert_eq!(namespaces, [Some("shop"), None, None, None]);
    }

    #[test]
    fn a_conflict_names_both_namespaces() {
        let own = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "theirs"}});
        let error = put_into_namespace(&mut [object(own)], "mine").unwrap_err();
        assert_eq!(
            error.to_string(),
            "ConfigMap theirs/a is in namespace `theirs`, but `mine` was asked for"
        );
    }

    #[test]
    fn labels_go_on_the_object_never_into_the_pod_template_or_over_its_own() {
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"template": {"metadata": {"labels": {"app": "d"}}}}});
        let own = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "labels": {"team": "red"}}});
        let mut objects = [object(deployment), object(own)];
        let selector = Selector::compile(&ResourceSelector::default()).unwrap();
        add_labels(&mut objects, &labels(), &selector);
        assert_eq!(objects[0].label("team"), Some("blue"));
        assert_eq!(
            objects[0].value()["spec"]["template"]["metadata"]["labels"],
            json!({"app": "d"})
        );
        assert_eq!(objects[1].label("team"), Some("red"));
    }

    #[test]
    fn the_user_may_name_other_places_for_labels_and_deny_the_usual_one() {
        let rule = |kind: &str, path: &str| KindRule {
            group_kind: kind.into(),
            labels: vec![path.into()],
            ..KindRule::default()
        };
        let rules = ResourceSelector {
            allow: vec![rule("Widget.example.com", ".spec.tags")],
            deny: vec![rule("ConfigMap", ".*")],
        };
        let mut objects = [
            object(
                json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"},
                "spec": {"tags": {}}}),
            ),
            object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})),
        ];
        add_labels(&mut objects, &labels(), &Selector::compile(&rules).unwrap());
        assert_eq!(objects[0].value()["spec"]["tags"], json!({"team": "blue"}));
        assert_eq!(objects[1].label("team"), None);
    }
}
