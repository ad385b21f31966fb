//! Takes over what client-side tools applied: their managed fields become
//! Kiln's, so that a field which leaves the manifests leaves the object
//! (the migration of k8s.io/client-go `util/csaupgrade`).

use serde_json::{Map, Value, json};

use super::FIELD_MANAGER;

/// Managers of kubectl's and skaffold's client-side apply, of skaffold's
/// labels, and of objects that are older than managed fields.
const CLIENT_SIDE: [&str; 5] = [
    "kubectl-client-side-apply",
    "kubectl-last-applied",
    "kubectl",
    "skaffold",
    "before-first-apply",
];

/// The annotation in which client-side apply remembers the last manifest.
const LAST_APPLIED: &str = "f:kubectl.kubernetes.io/last-applied-configuration";

/// The JSON patch that makes client-side managers' fields Kiln's, or `None`
/// when there is nothing to take over. It applies to this version of the
/// object only.
pub(super) fn takeover(live: &Value) -> Option<Value> {
    let entries = live["metadata"]["managedFields"].as_array()?;
    let migrated = migrate(entries)?;
    Some(json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": migrated},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
    ]))
}

fn migrate(entries: &[Value]) -> Option<Vec<Value>> {
    if !entries.iter().any(is_client_side) {
        return None;
    }
    let mut entries = entries.to_vec();
    let ours = |entry: &Value| {
        entry["manager"] == FIELD_MANAGER && entry["operation"] == "Apply" && no_subresource(entry)
    };
    let target = match entries.iter().position(ours) {
        Some(index) => index,
        None => {
            let index = entries.iter().position(is_client_side)?;
            entries[index]["manager"] = FIELD_MANAGER.into();
            entries[index]["operation"] = "Apply".into();
            index
        }
    };
    // Field paths of another version mean other fields: those are dropped.
    let version = entries[target]["apiVersion"].clone();
    let theirs: Vec<Value> = entries
        .iter()
        .filter(|entry| is_client_side(entry) && entry["apiVersion"] == version)
        .map(|entry| entry["fieldsV1"].clone())
        .collect();
    for fields in theirs {
        unite(&mut entries[target]["fieldsV1"], fields);
    }
    entries.retain(|entry| !is_client_side(entry));
    Some(entries)
}

fn is_client_side(entry: &Value) -> bool {
    let manager = entry["manager"].as_str().unwrap_or_default();
    let remembers = !entry["fieldsV1"]["f:metadata"]["f:annotations"][LAST_APPLIED].is_null();
    entry["operation"] == "Update"
        && no_subresource(entry)
        && (CLIENT_SIDE.contains(&manager) || remembers)
}

fn no_subresource(entry: &Value) -> bool {
    entry["subresource"].as_str().is_none_or(str::is_empty)
}

/// A field set is a tree of keys; a union has the keys of both.
fn unite(into: &mut Value, from: Value) {
    let Value::Object(from) = from else { return };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (key, fields) in from {
        unite(&mut into[key.as_str()], fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsV1": fields})
    }

    #[test]
    fn the_fields_of_client_side_managers_become_kilns() {
        let live = json!({"metadata": {"resourceVersion": "7", "managedFields": [
            entry("kubectl-client-side-apply", "Update", json!({"f:spec": {"f:replicas": {}}})),
            entry("kube-controller-manager", "Update", json!({"f:status": {}})),
            entry("skaffold", "Update", json!({"f:metadata": {"f:labels": {"f:skaffold.dev/run-id": {}}}})),
        ]}});
        let patch = takeover(&live).unwrap();
        assert_eq!(patch[1]["value"], "7");
        assert_eq!(
            patch[0]["value"],
            json!([
                entry(
                    "kiln",
                    "Apply",
                    json!({
                    "f:spec": {"f:replicas": {}},
                    "f:metadata": {"f:labels": {"f:skaffold.dev/run-id": {}}}})
                ),
                entry("kube-controller-manager", "Update", json!({"f:status": {}})),
            ])
        );
    }

    #[test]
    fn an_unknown_manager_that_left_the_annotation_is_client_side_too() {
        let fields = json!({"f:metadata": {"f:annotations": {LAST_APPLIED: {}}}});
        let live = json!({"metadata": {"managedFields": [entry("deploy.sh", "Update", fields)]}});
        assert_eq!(takeover(&live).unwrap()[0]["value"][0]["manager"], "kiln");
    }

    #[test]
    fn fields_of_another_version_are_dropped() {
        let mut old = entry("kubectl-client-side-apply", "Update", json!({"f:old": {}}));
        old["apiVersion"] = "apps/v1beta1".into();
        let live = json!({"metadata": {"managedFields": [
            entry("kiln", "Apply", json!({"f:spec": {}})), old]}});
        assert_eq!(
            takeover(&live).unwrap()[0]["value"],
            json!([entry("kiln", "Apply", json!({"f:spec": {}}))])
        );
    }

    #[test]
    fn edits_server_side_applies_and_controllers_stay_theirs() {
        let live = json!({"metadata": {"managedFields": [
            entry("kubectl-edit", "Update", json!({"f:spec": {}})),
            entry("kubectl", "Apply", json!({"f:spec": {}})),
            entry("hpa", "Update", json!({"f:spec": {"f:replicas": {}}})),
        ]}});
        assert_eq!(takeover(&live), None);
    }
}
