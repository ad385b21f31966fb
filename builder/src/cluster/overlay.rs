//! Lays the `pod_template` of kiln.yaml over a finished pod, the way a
//! strategic merge patch does (Kubernetes, "Update API Objects in Place Using
//! kubectl patch"): maps merge, `null` removes, lists merge by the name of
//! their items where items have one and are replaced otherwise.

use serde_json::{Map, Value};

/// Lists whose items are told apart by a field (`patchMergeKey` in the API's
/// own types for PodSpec and Container).
const MERGE_KEYS: [(&str, &str); 11] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("ports", "containerPort"),
    ("hostAliases", "ip"),
    ("resourceClaims", "name"),
    ("topologySpreadConstraints", "topologyKey"),
];

/// The pod with the template laid over it.
pub fn overlay(pod: Value, template: &Value) -> Value {
    merge(pod, template)
}

fn merge(base: Value, patch: &Value) -> Value {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => Value::Object(merge_maps(base, patch)),
        (_, patch) => patch.clone(),
    }
}

fn merge_maps(mut base: Map<String, Value>, patch: &Map<String, Value>) -> Map<String, Value> {
    for (name, value) in patch {
        if value.is_null() {
            base.shift_remove(name);
            continue;
        }
        let old = base.get_mut(name).map(Value::take);
        let merged = match (old, value) {
            (Some(Value::Array(items)), Value::Array(patches)) => match merge_key(name) {
                Some(key) => Value::Array(merge_items(items, patches, key)),
                None => value.clone(),
            },
            (Some(old), value) => merge(old, value),
            // An empty map takes up nulls that have nothing to remove.
            (None, Value::Object(_)) => merge(Value::Object(Map::new()), value),
            (None, value) => value.clone(),
        };
        base.insert(name.clone(), merged);
    }
    base
}

fn merge_key(list: &str) -> Option<&'static str> {
    MERGE_KEYS
        .iter()
        .find(|(name, _)| *name == list)
        .map(|(_, key)| *key)
}

/// Items with the same key merge in place, `$patch: delete` removes one, and
/// others are added at the end.
fn merge_items(mut items: Vec<Value>, patches: &[Value], key: &str) -> Vec<Value> {
    for patch in patches {
        let wanted = patch.get(key);
        let place = items
            .iter()
            .position(|item| wanted.is_some() && item.get(key) == wanted);
        let deletes = patch.get("$patch").and_then(Value::as_str) == Some("delete");
        match place {
            Some(place) if deletes => {
                items.remove(place);
            }
            Some(place) => items[place] = merge(items[place].take(), patch),
            None if deletes => {}
            None => items.push(patch.clone()),
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({
            "metadata": {"labels": {"a": "1"}},
            "spec": {
                "restartPolicy": "Never",
                "tolerations": [{"key": "old"}],
                "containers": [{
                    "name": "kaniko", "image": "x",
                    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                    "volumeMounts": [{"name": "ctx", "mountPath": "/kaniko/buildcontext"}],
                }],
                "volumes": [{"name": "ctx", "emptyDir": {}}],
            },
        })
    }

    #[test]
    fn maps_merge_and_null_removes() {
        let template = json!({
            "metadata": {"labels": {"b": "2"}},
            "spec": {"restartPolicy": null, "priorityClassName": "low"},
        });
        let merged = overlay(pod(), &template);
        assert_eq!(merged["metadata"]["labels"], json!({"a": "1", "b": "2"}));
        assert_eq!(merged["spec"].get("restartPolicy"), None);
        assert_eq!(merged["spec"]["priorityClassName"], "low");
    }

    #[test]
    fn containers_volumes_and_variables_merge_by_name() {
        let template = json!({"spec": {
            "containers": [{
                "name": "kaniko",
                "env": [{"name": "B", "value": "other"}, {"name": "C", "value": "3"}],
                "securityContext": {"seccompProfile": {"type": "Unconfined"}},
            }, {"name": "sidecar", "image": "y"}],
            "volumes": [{"name": "ctx", "emptyDir": {"medium": "Memory"}}],
            "tolerations": [{"key": "new"}],
        }});
        let merged = overlay(pod(), &template);
        let spec = &merged["spec"];
        assert_eq!(spec["containers"][0]["image"], "x");
        assert_eq!(
            spec["containers"][0]["env"],
            json!([
                {"name": "A", "value": "1"}, {"name": "B", "value": "other"},
                {"name": "C", "value": "3"},
            ])
        );
        assert_eq!(
            spec["containers"][0]["volumeMounts"],
            pod()["spec"]["containers"][0]["volumeMounts"]
        );
        assert_eq!(spec["containers"][1]["name"], "sidecar");
        assert_eq!(
            spec["volumes"],
            json!([{"name": "ctx", "emptyDir": {"medium": "Memory"}}])
        );
        assert_eq!(spec["tolerations"], json!([{"key": "new"}]));
    }

    #[test]
    fn an_item_is_deleted_by_its_directive() {
        let template = json!({"spec": {"containers": [{"name": "kaniko", "env": [{"name": "A", "$patch": "delete"}]}]}});
        let merged = overlay(pod(), &template);
        assert_eq!(
            merged["spec"]["containers"][0]["env"],
            json!([{"name": "B", "value": "2"}])
        );
    }
}
