//! Manifests that are read from a cluster (`manifests.remoteManifests`).

use serde_json::Value;

use crate::cluster::{Cluster, RequestError, Served};
use crate::object::{NotAnObject, Object};

/// Why an object was not read from the cluster.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Not `[namespace:]kind/name`.
    #[error("`{manifest}` does not name an object; write [namespace:]kind/name")]
    Name {
        /// As written.
        manifest: String,
    },
    /// The server serves no such kind.
    #[error("the cluster serves no kind `{kind}`")]
    Kind {
        /// As written.
        kind: String,
    },
    /// The request failed.
    #[error("cannot read {manifest} from the cluster")]
    Request {
        /// As written.
        manifest: String,
        /// Why.
        source: RequestError,
    },
    /// The answer is not an object.
    #[error("{manifest} is not a Kubernetes object")]
    Answer {
        /// As written.
        manifest: String,
        /// What it lacks.
        source: NotAnObject,
    },
}

/// Reads the object named by `[namespace:]kind/name`, without what only the
/// server sets. The kind is a kind, a plural or `plural.group`.
pub async fn fetch(cluster: &Cluster, manifest: &str) -> Result<Object, RemoteError> {
    let (namespace, rest) = manifest
        .split_once(':')
        .map_or((None, manifest), |(namespace, rest)| {
            (Some(namespace), rest)
        });
    let (kind, name) = rest
        .split_once('/')
        .filter(|(kind, name)| !kind.is_empty() && !name.is_empty())
        .ok_or_else(|| RemoteError::Name {
            manifest: manifest.to_owned(),
        })?;
    let failed = |source| RemoteError::Request {
        manifest: manifest.to_owned(),
        source,
    };
    let served: Served = cluster
        .find_by_word(kind)
        .await
        .map_err(failed)?
        .ok_or_else(|| RemoteError::Kind {
            kind: kind.to_owned(),
        })?;
    let live = cluster
        .api(&served, namespace)
        .get(name)
        .await
        .map_err(|e| failed(e.into()))?;
    let mut value = serde_json::to_value(live).unwrap_or(Value::Null);
    strip_server_fields(&mut value);
    Object::new(value).map_err(|source| RemoteError::Answer {
        manifest: manifest.to_owned(),
        source,
    })
}

/// Removes what only the server writes and what it refuses to be given.
fn strip_server_fields(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in [
            "creationTimestamp",
            "generation",
            "managedFields",
            "resourceVersion",
            "selfLink",
            "uid",
        ] {
            metadata.shift_remove(field);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_only_the_server_sets_is_removed() {
        let mut object = json!({"kind": "X", "spec": {"a": 1}, "status": {},
            "metadata": {"name": "n", "uid": "u", "resourceVersion": "1", "managedFields": [], "labels": {}}});
        strip_server_fields(&mut object);
        assert_eq!(
            object,
            json!({"kind": "X", "spec": {"a": 1}, "metadata": {"name": "n", "labels": {}}})
        );
    }
}
